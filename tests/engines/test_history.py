"""What a shard remembers of the runs on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text

from shardctl.errors import Refused, ShardError
from shardctl.fleet import LiveShard
from shardctl.schema.apply import upgrade
from shardctl.schema.events import Event, HistoryNotKept, RevisionFinished, RevisionStarted
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.history import HISTORY, who
from shardctl.schema.results import MigrationResult
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, create_places, in_shard, place_shards, table_names


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, "op.create_table('cities', sa.Column('id', sa.Integer(), primary_key=True))")
    made.write_revision("r2", "r1", "op.execute('insert into cities values (1)')")
    return made


@pytest.fixture
def asia(project: Project, databases: Databases) -> LiveShard:
    kind = "files" if databases.engine == "sqlite" else "databases"
    place_shards(project, f"{databases.engine} {kind}", databases, ["asia"])
    fleet = project.open()
    create_places(fleet, databases)
    return fleet.shards["asia"]


def rows(live: LiveShard, *names: str) -> list[tuple[object, ...]]:
    with live.engine.connect() as connection:
        query = select(*(HISTORY.c[name] for name in names)).order_by(HISTORY.c.id)
        return [tuple(row) for row in connection.execute(query)]


def test_each_revision_is_remembered(project: Project, asia: LiveShard) -> None:
    scripts = project.scripts()
    seen: list[Event] = []
    upgrade(asia, scripts, run_id="first", on_event=seen.append)
    upgrade(asia, scripts, run_id="nothing to do")
    upgrade(asia, scripts, Goal(Direction.DOWNGRADE, "r1"), run_id="second")
    upgrade(asia, scripts, Goal(Direction.STAMP, "r2"), run_id="third")

    assert rows(asia, "run_id", "revision", "direction", "outcome", "who", "pid", "error") == [
        ("first", "r1", "upgrade", "done", who(), os.getpid(), None),
        ("first", "r2", "upgrade", "done", who(), os.getpid(), None),
        ("second", "r2", "downgrade", "done", who(), os.getpid(), None),
        ("third", "r2", "stamp", "done", who(), os.getpid(), None),
    ]
    assert all(start <= end for start, end in rows(asia, "started_at", "finished_at"))
    assert [(type(event), event.revision, event.number, event.total) for event in seen] == [
        (RevisionStarted, "r1", 1, 2),
        (RevisionFinished, "r1", 1, 2),
        (RevisionStarted, "r2", 2, 2),
        (RevisionFinished, "r2", 2, 2),
    ]


def test_goals_and_their_results(project: Project, asia: LiveShard) -> None:
    scripts = project.scripts()
    stamp, down = Goal(Direction.STAMP, "r1"), Goal(Direction.DOWNGRADE, "base")
    in_shard(asia, "create table cities (id integer primary key)")
    assert upgrade(asia, scripts, stamp) == MigrationResult((), ("r1",), ("r1",), Direction.STAMP)
    assert upgrade(asia, scripts).outcome == "upgraded"
    assert upgrade(asia, scripts, Goal(Direction.DOWNGRADE, "r2")).outcome == "unchanged"
    result = upgrade(asia, scripts, down)
    assert (result.from_, result.to, result.applied, result.outcome) == (("r2",), (), ("r2", "r1"), "downgraded")


def test_a_failed_revision_is_remembered_with_its_error(project: Project, asia: LiveShard) -> None:
    project.write_revision("r3", "r2", "op.execute('insert into nowhere values (1)')")
    with pytest.raises(ShardError) as caught:
        upgrade(asia, project.scripts())
    assert rows(asia, "revision", "outcome", "error") == [
        ("r1", "done", None),
        ("r2", "done", None),
        ("r3", "failed", caught.value.message),
    ]


def test_a_plan_that_is_old_is_refused(project: Project, asia: LiveShard) -> None:
    scripts = project.scripts()
    upgrade(asia, scripts, Goal(target="r1"))
    with pytest.raises(Refused, match="changed since the plan: it was at no revision, and is at `r1`"):
        upgrade(asia, scripts, expected=())
    assert upgrade(asia, scripts, expected=("r1",)).to == ("r2",)


def test_who_may_not_create_tables_migrates_without_history(project: Project, postgresql: Databases) -> None:
    url = postgresql.create("asia")
    role = f"{postgresql.prefix}_role"
    admin = create_engine(url)
    with admin.begin() as connection:
        for statement in (
            f"create role {role} login",
            "create schema own",
            "create table own.alembic_version (version_num varchar(32) primary key)",
            "create table own.cities (id int)",
            "insert into own.alembic_version values ('r1')",
            f"grant usage on schema own to {role}",
            f"grant all on all tables in schema own to {role}",
        ):
            connection.execute(text(statement))
    try:
        login = admin.url.set(username=role).render_as_string(hide_password=False)
        project.shards["asia"] = {"url": login, "schema": "own"}
        seen: list[Event] = []
        live = project.open().shards["asia"]
        assert upgrade(live, project.scripts(), on_event=seen.append).to == ("r2",)
        assert seen[0] == HistoryNotKept("asia", "permission denied for schema own")
        with admin.connect() as connection:
            assert table_names(connection, "own") == ["alembic_version", "cities"]
            assert connection.scalar(text("select count(*) from own.cities")) == 1
    finally:
        with admin.begin() as connection:
            connection.execute(text(f"drop owned by {role} cascade"))
            connection.execute(text(f"drop role {role}"))
        admin.dispose()
