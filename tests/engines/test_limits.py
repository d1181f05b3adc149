"""What migrations may wait for on a shard, and what they must not leave behind."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import text

from shardctl.fleet import LiveShard
from shardctl.schema.apply import upgrade
from shardctl.schema.events import Event, Retried
from shardctl.schema.goals import Goal
from shardctl.schema.limits import FIRST_PAUSE_S, LONGEST_PAUSE_S, Terms, pause_s
from shardctl.schema.results import MigrationFailed
from tests.fixtures.engines import Databases
from tests.fixtures.projects import GENERIC_ENV, Project, create_places, in_shard, place_shards

CREATE = "op.create_table('cities', sa.Column('id', sa.Integer(), primary_key=True))"
ALTER = "op.execute('insert into cities values (7)')\nop.add_column('cities', sa.Column('tag', sa.String(9)))"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, CREATE)
    made.write_revision("r2", "r1", ALTER)
    return made


@pytest.fixture
def asia(project: Project, databases: Databases) -> LiveShard:
    kind = "files" if databases.engine == "sqlite" else "databases"
    place_shards(project, f"{databases.engine} {kind}", databases, ["asia"])
    fleet = project.open()
    create_places(fleet, databases)
    upgrade(fleet.shards["asia"], project.scripts(), Goal(target="r1"))
    return fleet.shards["asia"]


class Application:
    """A session that has used the table, and has not ended its transaction."""

    def __init__(self, live: LiveShard) -> None:
        self.connection = live.engine.connect()
        if live.backend.name == "sqlite":
            self.connection.connection.driver_connection.isolation_level = None
            self.connection.exec_driver_sql("begin immediate")
        self.connection.execute(text("select * from cities")).all()

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        if self.connection.closed:
            return
        if self.connection.dialect.name == "sqlite":
            self.connection.exec_driver_sql("rollback")
        self.connection.close()


def test_gives_up_waiting_and_tries_again(project: Project, asia: LiveShard, databases: Databases) -> None:
    if databases.engine == "sqlite":
        pytest.skip("SQLite locks the whole file: shown apart")
    seen: list[Retried] = []
    with Application(asia) as application:

        def on_event(event: Event) -> None:
            if isinstance(event, Retried):
                seen.append(event)
                application.end()

        result = upgrade(asia, project.scripts(), terms=Terms(lock_timeout_s=0.2), on_event=on_event)
    assert result.to == ("r2",)
    assert [(event.revision, event.attempt) for event in seen] == [("r2", 1)]
    assert in_shard(asia, "select id, tag from cities") == [(7, None)]


def test_fails_when_a_lock_is_never_free(project: Project, asia: LiveShard, databases: Databases) -> None:
    if databases.engine == "sqlite":
        pytest.skip("SQLite locks the whole file: shown apart")
    seen: list[Event] = []
    terms = Terms(lock_timeout_s=0.2, retries=1)
    with Application(asia), pytest.raises(MigrationFailed) as caught:
        upgrade(asia, project.scripts(), terms=terms, on_event=seen.append)
    assert caught.value.revision == "r2"
    assert caught.value.facts[1] == ("locked by others, tried 2 times: ALTER TABLE cities ADD COLUMN tag VARCHAR(9)")
    assert sum(isinstance(event, Retried) for event in seen) == 1
    assert caught.value.to == ("r1",)
    assert upgrade(asia, project.scripts()).to == ("r2",)
    assert in_shard(asia, "select id, tag from cities") == [(7, None)]


def test_sqlite_tries_again_when_a_writer_was_there(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.shards["asia"] = {"url": f"sqlite:///{tmp_path}/asia.db"}
    (tmp_path / "asia.db").touch()
    asia = project.open().shards["asia"]
    upgrade(asia, project.scripts(), Goal(target="r1"))
    applications: list[Application] = []
    attempts: list[Retried] = []

    def come() -> None:
        if not attempts:
            applications.append(Application(asia))

    def on_event(event: Event) -> None:
        if isinstance(event, Retried):
            attempts.append(event)
            applications.pop().end()

    module = ModuleType("application_that_writes")
    module.come = come  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    project.write_env(f"import {module.__name__}\n\n{module.__name__}.come()\n{GENERIC_ENV}")
    assert upgrade(asia, project.scripts(), terms=Terms(lock_timeout_s=0.1), on_event=on_event).to == ("r2",)
    assert [(event.revision, event.attempt) for event in attempts] == [(None, 1)]  # reading the version table


def test_limits_of_the_session(project: Project, postgresql: Databases) -> None:
    place_shards(project, "postgresql databases", postgresql, ["asia"])
    fleet = project.open()
    create_places(fleet, postgresql)
    names = ("lock_timeout", "statement_timeout", "client_connection_check_interval", "application_name")
    shown = " || ' ' || ".join(f"current_setting('{name}')" for name in names)
    project.write_revision("r3", "r2", f'op.execute("create table seen as select {shown} as settings")')
    terms = Terms(lock_timeout_s=3, statement_timeout_s=90)
    upgrade(fleet.shards["asia"], project.scripts(), terms=terms)
    ((settings,),) = in_shard(fleet.shards["asia"], "select settings from seen")
    assert settings.startswith("3s 90s 1s shardctl ")
    assert " pid " in settings


def test_a_slow_statement_is_stopped(project: Project, asia: LiveShard, databases: Databases) -> None:
    if databases.engine == "sqlite":
        pytest.skip("SQLite has no such limit")
    columns = "information_schema.columns"
    slow = f"insert into cities (id) select count(*) from {columns} a, {columns} b, {columns} c"
    project.write_revision("r3", "r2", f"op.execute({slow!r})")
    with pytest.raises(MigrationFailed) as caught:
        upgrade(asia, project.scripts(), terms=Terms(statement_timeout_s=0.2))
    assert caught.value.revision == "r3"
    assert caught.value.to == ("r2",)


def test_pauses_grow_and_differ() -> None:
    assert FIRST_PAUSE_S / 2 <= pause_s(1) <= FIRST_PAUSE_S
    assert LONGEST_PAUSE_S / 2 <= pause_s(50) <= LONGEST_PAUSE_S
    assert len({pause_s(3) for _ in range(20)}) > 1


def test_sqlite_revision_that_breaks_foreign_keys_is_rolled_back(project: Project, tmp_path: Path) -> None:
    project.shards["asia"] = {"url": f"sqlite:///{tmp_path}/asia.db"}
    (tmp_path / "asia.db").touch()
    asia = project.open().shards["asia"]
    project.write_revision(
        "r3",
        "r2",
        """
        op.execute("create table reports (id integer primary key, city_id integer references cities (id))")
        op.execute("insert into reports values (1, 7), (2, 7)")
        """,
    )
    upgrade(asia, project.scripts())
    in_shard(asia, "insert into reports values (3, 99)")  # was there before, and is the application's own affair
    broken = project.write_revision("r4", "r3", "op.execute('delete from cities where id = 7')")
    with pytest.raises(MigrationFailed) as caught:
        upgrade(asia, project.scripts())
    assert caught.value.message == "revision `r4`: it breaks foreign keys"
    assert caught.value.facts == (
        "reports: 2 rows refer to rows that `cities` does not have",
        "rolled back: still at `r3`",
    )
    assert in_shard(asia, "select id from cities") == [(7,)]
    broken.write_text(broken.read_text().replace("delete from cities where id = 7", "delete from reports where id < 3"))
    assert upgrade(asia, project.scripts()).to == ("r4",)
