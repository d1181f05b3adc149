"""Where shards stand, and what ran on them last: read with few statements, right for each shard."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert, make_url, text

from shardctl.errors import ShardError, ShardUnreachable
from shardctl.fleet import Fleet, Outcome
from shardctl.schema.apply import upgrade
from shardctl.schema.goals import Goal
from shardctl.schema.half_applied import LeftRevision
from shardctl.schema.history import HISTORY
from shardctl.schema.locks import held
from shardctl.schema.results import MigrationFailed
from shardctl.schema.revisions import DEFAULT_VERSION_TABLE, Scripts, ShardRevision, Standing
from shardctl.schema.run_env import shard_revision
from shardctl.schema.status import ShardStatus, read_all_revisions, read_status
from tests.fixtures.cli import Workspace
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.projects import GENERIC_ENV, KINDS, Project, create_places, in_shard, place_shards

NAMES = ["asia", "europe", "africa", "oceania", "arctic"]
HALF = """
op.create_table("cities", sa.Column("id", sa.Integer(), primary_key=True))
op.create_index("ix", "cities", ["id"])
op.execute("insert into nowhere values (1)")
"""
NOON = datetime.datetime(2026, 5, 4, 12, tzinfo=datetime.UTC)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, "pass")
    made.write_revision("r2", "r1", "pass")
    return made


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def of_kind(kind: str, tmp_path: Path) -> Iterator[Databases]:
    made = Databases(kind.partition(" ")[0], tmp_path)
    if made.engine != "sqlite":
        server_url(made.engine)
    yield made
    made.drop_all()


def revisions(fleet: Fleet, scripts: Scripts) -> dict[str, Outcome[ShardRevision]]:
    return {outcome.shard_id: outcome for outcome in read_all_revisions(fleet, fleet.shards.values(), scripts)}


def status(fleet: Fleet, scripts: Scripts) -> dict[str, Outcome[ShardStatus]]:
    return {outcome.shard_id: outcome for outcome in read_status(fleet, fleet.shards.values(), scripts)}


def stamp(fleet: Fleet, shard_id: str, *stamped: str, table: str = DEFAULT_VERSION_TABLE) -> None:
    live = fleet.shards[shard_id]
    in_shard(live, f"create table {table} (version_num varchar(32) not null primary key)")
    for revision in stamped:
        in_shard(live, f"insert into {table} values ('{revision}')")


def ran(fleet: Fleet, shard_id: str, revision: str, outcome: str, **values: Any) -> None:
    """Write a line of history."""
    row = {
        "run_id": uuid.uuid4().hex,
        "revision": revision,
        "direction": "upgrade",
        "started_at": NOON.replace(tzinfo=None),
        "finished_at": None if outcome == "running" else NOON.replace(tzinfo=None, second=2),
        "outcome": outcome,
        "who": "eve@host",
        "pid": 42,
        "error": None,
    }
    with fleet.shards[shard_id].engine.begin() as connection:
        HISTORY.create(connection, checkfirst=True)
        connection.execute(insert(HISTORY), [row | values])


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """Count what is sent to servers, of all engines."""
    seen: list[str] = []

    def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", count)


@contextmanager
def counted_connections() -> Iterator[list[object]]:
    made: list[object] = []

    def count(dialect: object, record: object, args: object, params: object) -> None:
        made.append(params)

    event.listen(Engine, "do_connect", count)
    try:
        yield made
    finally:
        event.remove(Engine, "do_connect", count)


def test_says_of_each_shard_what_it_says_alone(project: Project, kind: str, of_kind: Databases) -> None:
    place_shards(project, kind, of_kind, NAMES)
    fleet = project.open()
    create_places(fleet, of_kind)
    stamp(fleet, "asia", "r2")
    in_shard(fleet.shards["asia"], "create table towns (id int)")
    stamp(fleet, "europe", "r1")
    in_shard(fleet.shards["africa"], "create table towns (id int)")
    in_shard(fleet.shards["africa"], "create view big_towns as select * from towns")
    stamp(fleet, "oceania", "future")
    in_shard(fleet.shards["arctic"], "create view one as select 1 as x")
    scripts = project.scripts()

    found = {name: outcome.result for name, outcome in revisions(fleet, scripts).items()}
    assert found == {name: shard_revision(live, scripts) for name, live in fleet.shards.items()}
    assert {name: revision.standing for name, revision in found.items()} == {
        "asia": Standing.AT_HEAD,
        "europe": Standing.BEHIND,
        "africa": Standing.UNVERSIONED,
        "oceania": Standing.UNKNOWN,
        "arctic": Standing.EMPTY,
    }
    assert found["asia"].tables == found["africa"].tables == ("towns",)
    assert found["europe"].pending == ("r2",)


def test_shows_the_last_run_of_each_shard(project: Project, kind: str, of_kind: Databases) -> None:
    place_shards(project, kind, of_kind, NAMES)
    fleet = project.open()
    create_places(fleet, of_kind)
    ran(fleet, "asia", "r1", "failed", error="no such table: stones")
    ran(fleet, "asia", "r1", "done")
    ran(fleet, "europe", "r1", "done")
    ran(fleet, "europe", "r2", "failed", error="no such table: ströme")
    ran(fleet, "africa", "r1", "running", who="root@far", pid=7)
    found = {name: outcome.result for name, outcome in status(fleet, project.scripts()).items()}

    last = {name: shard.last for name, shard in found.items()}
    assert last["oceania"] is last["arctic"] is None
    assert (last["asia"].outcome, last["asia"].started_at, last["asia"].error) == ("done", NOON, None)
    assert (last["europe"].revision, last["europe"].outcome) == ("r2", "failed")
    assert last["europe"].error == "no such table: ströme"
    assert (last["africa"].outcome, last["africa"].who, last["africa"].pid) == ("killed", "root@far", 7)
    assert last["africa"].finished_at is None
    assert {shard.revision.standing for shard in found.values()} == {Standing.EMPTY}
    assert {shard.revision.tables for shard in found.values()} == {()}


def test_a_run_at_work_is_running_and_a_dead_one_was_killed(project: Project, kind: str, of_kind: Databases) -> None:
    place_shards(project, kind, of_kind, NAMES)
    fleet = project.open()
    create_places(fleet, of_kind)
    for name in NAMES[:3]:
        ran(fleet, name, "r1", "running")
    asia = fleet.shards["asia"]
    with asia.connect(read_only=False) as connection, held(asia, connection):
        found = status(fleet, project.scripts())
        alone = next(read_status(fleet, [asia], project.scripts())).result
    assert {name: shard.result.last and shard.result.last.outcome for name, shard in found.items()} == {
        "asia": "running",
        "europe": "killed",
        "africa": "killed",
        "oceania": None,
        "arctic": None,
    }
    assert alone.last.outcome == "running"
    assert next(read_status(fleet, [asia], project.scripts())).result.last.outcome == "killed"


def test_history_of_another_shape_hides_no_revision(project: Project, kind: str, of_kind: Databases) -> None:
    place_shards(project, kind, of_kind, NAMES)
    fleet = project.open()
    create_places(fleet, of_kind)
    ran(fleet, "europe", "r1", "done")
    stamp(fleet, "asia", "r1")
    in_shard(fleet.shards["asia"], "create table shardctl_history (id int)")
    found = {name: outcome.result for name, outcome in status(fleet, project.scripts()).items()}
    assert (found["asia"].revision.revisions, found["asia"].last) == (("r1",), None)
    assert found["asia"].problem.startswith("its history cannot be read: ")
    assert found["europe"].last is not None
    assert found["europe"].problem == ""


def test_version_tables_of_other_names(project: Project, kind: str, of_kind: Databases) -> None:
    place_shards(project, kind, of_kind, NAMES)
    named = 'target_metadata=None, version_table="v-" + config.attributes["shard"]\n'
    project.write_env(GENERIC_ENV.replace("target_metadata=target_metadata\n", named))
    fleet = project.open()
    create_places(fleet, of_kind)
    quote = "`" if of_kind.engine == "mysql" else '"'
    for name in NAMES[:3]:
        stamp(fleet, name, "r2", table=f"{quote}v-{name}{quote}")
    stamp(fleet, "arctic", "r2")  # not what env.py calls it
    found = revisions(fleet, project.scripts())
    assert {name: outcome.result.standing for name, outcome in found.items()} == {
        **dict.fromkeys(NAMES[:3], Standing.AT_HEAD),
        "oceania": Standing.EMPTY,
        "arctic": Standing.UNVERSIONED,
    }


def test_several_heads(project: Project, kind: str, of_kind: Databases) -> None:
    project.write_revision("r3", "r1", "pass")
    place_shards(project, kind, of_kind, ["asia", "europe"])
    fleet = project.open()
    create_places(fleet, of_kind)
    stamp(fleet, "asia", "r3", "r2")
    stamp(fleet, "europe", "r3")
    found = revisions(fleet, project.scripts())
    assert found["asia"].result.revisions == ("r2", "r3")
    assert found["asia"].result.standing is Standing.AT_HEAD
    assert (found["europe"].result.standing, found["europe"].result.pending) == (Standing.BEHIND, ("r2",))


@pytest.mark.slow
def test_two_hundred_schemas_cost_four_statements(project: Project, postgresql: Databases) -> None:
    names = [f"n{number}" for number in range(200)]
    place_shards(project, "postgresql schemas", postgresql, names)
    fleet = project.open()
    postgresql.create("shared")
    with fleet.shards["n0"].engine.begin() as connection:
        for name in names:
            connection.execute(text(f"create schema s_{name}"))
            connection.execute(text(f"create table s_{name}.alembic_version (version_num varchar(32) primary key)"))
            connection.execute(text(f"insert into s_{name}.alembic_version values ('r2')"))
            HISTORY.to_metadata(type(HISTORY.metadata)(), schema=f"s_{name}").create(connection)
    scripts = project.scripts()
    with counted_statements() as statements, counted_connections() as connections:
        found = revisions(fleet, scripts)
    assert {outcome.result.standing for outcome in found.values()} == {Standing.AT_HEAD}
    assert (len(found), len(connections)) == (200, 1)
    assert len(statements) <= 3, statements
    with counted_statements() as statements, counted_connections() as connections:
        assert len(status(fleet, scripts)) == 200
    assert len(connections) == 1
    assert len(statements) <= 4, statements


def test_databases_of_one_mysql_server_are_read_together(project: Project, mysql: Databases) -> None:
    place_shards(project, "mysql databases", mysql, NAMES)
    fleet = project.open()
    create_places(fleet, mysql)
    for number, live in enumerate(fleet.shards.values()):  # as databases of one server may have been made
        collation = ["latin1_swedish_ci", "utf8mb4_unicode_ci", "utf8mb4_general_ci"][number % 3]
        in_shard(live, f"alter database collate {collation}")
    for name in NAMES:
        stamp(fleet, name, "r2")
        ran(fleet, name, "r2", "done")
    with counted_statements() as statements, counted_connections() as connections:
        found = status(fleet, project.scripts())
    assert {outcome.result.revision.standing for outcome in found.values()} == {Standing.AT_HEAD}
    assert {outcome.result.last is not None for outcome in found.values()} == {True}
    assert len(connections) == 1
    assert len([statement for statement in statements if "SELECT" in statement]) <= 3, statements


def half_applied(project: Project, databases: Databases) -> Fleet:
    """Return a fleet whose first two shards were left in the middle of `r2`, in databases of two collations."""
    project.write_revision("r2", "r1", HALF)
    place_shards(project, "mysql databases", databases, NAMES)
    fleet = project.open()
    create_places(fleet, databases)
    for number, live in enumerate(fleet.shards.values()):
        in_shard(live, f"alter database collate {['utf8mb4_unicode_ci', 'utf8mb4_general_ci'][number % 2]}")
    for name in NAMES[:2]:
        with pytest.raises(MigrationFailed):
            upgrade(fleet.shards[name], project.scripts())
    upgrade(fleet.shards[NAMES[2]], project.scripts(), Goal(target="r1"))
    return fleet


def test_a_revision_left_in_the_middle(project: Project, mysql: Databases) -> None:
    fleet = half_applied(project, mysql)
    asia, scripts = fleet.shards["asia"], project.scripts()
    with counted_statements() as statements, counted_connections() as connections:
        found = {name: outcome.result for name, outcome in status(fleet, scripts).items()}
    assert len(connections) == 1
    assert len([statement for statement in statements if "SELECT" in statement]) <= 4, statements
    left = LeftRevision("upgrade", "r2", 2, is_done=True)
    assert {name: of.left for name, of in found.items()} == dict.fromkeys(NAMES) | {"asia": left, "europe": left}
    assert str(left) == "half-applied: revision `r2`, statement 2"
    alone = next(read_status(fleet, [asia], scripts)).result
    assert alone == found["asia"]

    ran(fleet, "asia", "r2", "running")
    with asia.connect(read_only=False) as connection, held(asia, connection):
        assert status(fleet, scripts)["asia"].result.left is None  # it goes on
    ran(fleet, "asia", "r2", "failed")
    in_shard(asia, "update shardctl_journal set state = 'started' where statement = 2")
    assert str(status(fleet, scripts)["asia"].result.left) == "half-applied: revision `r2`, statement 2"
    in_shard(asia, "update alembic_version set version_num = 'r2'")  # finished by hand
    assert status(fleet, scripts)["asia"].result.left is None


@pytest.mark.slow
def test_what_to_do_about_a_revision_left_in_the_middle(
    project: Project, mysql: Databases, workspace: Workspace
) -> None:
    half_applied(project, mysql)
    for arguments in ("status", "status --summary"):
        said = workspace.shardctl(f"{arguments} --config {project.folder / 'shardctl.toml'}")
        assert said.code == 0
        assert (
            "asia: half-applied: revision `r2`, statement 2; `shardctl migrate --shard asia` goes on behind it\n"
        ) in said.stderr
    said = workspace.shardctl(f"status --format json --config {project.folder / 'shardctl.toml'}")
    rows = {row["shard"]: row["half_applied"] for row in json.loads(said.stdout)["rows"]}
    left = {"direction": "upgrade", "revision": "r2", "statement": 2, "is_done": True}
    assert rows == dict.fromkeys(NAMES) | {"asia": left, "europe": left}


def test_other_logins_are_read_on_their_own(project: Project, postgresql: Databases) -> None:
    place_shards(project, "postgresql schemas", postgresql, NAMES)
    for name in NAMES[3:]:
        project.shards[name]["url"] += "?application_name=other"
    fleet = project.open()
    create_places(fleet, postgresql)
    with counted_connections() as connections:
        assert len(revisions(fleet, project.scripts())) == len(NAMES)
    assert len(connections) == 2


def test_a_missing_schema_is_one_shards_trouble(project: Project, postgresql: Databases) -> None:
    place_shards(project, "postgresql schemas", postgresql, NAMES)
    fleet = project.open()
    create_places(fleet, postgresql)
    in_shard(fleet.shards["asia"], "drop schema s_asia")
    found = revisions(fleet, project.scripts())
    assert [name for name, outcome in found.items() if not outcome.is_ok] == ["asia"]
    assert found["asia"].error.message == "there is no schema `s_asia`"
    alone = next(read_all_revisions(fleet, [fleet.shards["asia"]], project.scripts()))
    assert alone.error.message == "there is no schema `s_asia`"


def test_a_missing_database_is_one_shards_trouble(project: Project, databases: Databases) -> None:
    place_shards(
        project, f"{databases.engine} {'files' if databases.engine == 'sqlite' else 'databases'}", databases, NAMES
    )
    fleet = project.open()
    create_places(fleet, databases)
    if databases.engine == "sqlite":
        Path(str(fleet.shards["asia"].engine.url.database)).unlink()
    else:
        databases._on_server(f"drop database {fleet.shards['asia'].engine.url.database}")
    found = revisions(fleet, project.scripts())
    assert [name for name, outcome in found.items() if not outcome.is_ok] == ["asia"]
    assert isinstance(found["asia"].error, ShardUnreachable)


@contextmanager
def login(engine: str, grants: list[str], fleet: Fleet) -> Iterator[str]:
    """Make a login with a few rights, and take it away again."""
    name = f"u_{uuid.uuid4().hex[:10]}"
    quoted = f"'{name}'@'%'" if engine == "mysql" else name
    admin = fleet.shards["asia"].engine
    password = "identified by 'pw'" if engine == "mysql" else "login password 'pw'"
    with admin.begin() as connection:
        connection.execute(text(f"create user {quoted} {password}"))
        for grant in grants:
            connection.execute(text(f"{grant} to {quoted}"))
    try:
        yield name
    finally:
        with admin.begin() as connection:
            if engine == "postgresql":
                connection.execute(text(f"drop owned by {name}"))
            connection.execute(text(f"drop user {quoted}"))


def as_login(project: Project, name: str) -> Fleet:
    for entry in project.shards.values():
        url = make_url(entry["url"]).set(username=name, password="pw")
        entry["url"] = url.render_as_string(hide_password=False)
    return project.open()


def test_a_schema_that_the_login_may_not_read_fails_alone(project: Project, postgresql: Databases) -> None:
    place_shards(project, "postgresql schemas", postgresql, NAMES)
    fleet = project.open()
    create_places(fleet, postgresql)
    for name in NAMES:
        stamp(fleet, name, "r2")
        ran(fleet, name, "r2", "done")
    grants = [f"grant usage on schema s_{name}" for name in NAMES if name != "asia"]
    grants += [f"grant select on all tables in schema s_{name}" for name in NAMES[2:4]]
    grants += ["grant select on s_arctic.alembic_version"]
    with login("postgresql", grants, fleet) as name:
        limited = as_login(project, name)
        found = status(limited, project.scripts())
    assert found["asia"].error.message == "permission denied for schema `s_asia`"
    assert found["europe"].error.message == "permission denied for table alembic_version"
    assert found["arctic"].result.problem.endswith("permission denied for table shardctl_history")
    assert found["arctic"].result.revision.standing is Standing.AT_HEAD
    for name in ("africa", "oceania"):
        assert found[name].result.last is not None


def test_a_database_that_the_login_may_not_read_fails_alone(project: Project, mysql: Databases) -> None:
    place_shards(project, "mysql databases", mysql, NAMES)
    fleet = project.open()
    create_places(fleet, mysql)
    for name in NAMES:
        stamp(fleet, name, "r2")
    databases_of = {name: live.engine.url.database for name, live in fleet.shards.items()}
    grants = [f"grant select on {databases_of[name]}.*" for name in NAMES[2:]]
    grants += [f"grant insert on {databases_of['europe']}.*"]
    with login("mysql", grants, fleet) as name:
        found = revisions(as_login(project, name), project.scripts())
    assert "Access denied" in found["asia"].error.message
    assert "denied" in found["europe"].error.message
    assert {found[name].result.standing for name in NAMES[2:]} == {Standing.AT_HEAD}


def test_a_locked_version_table_holds_up_one_shard(project: Project, postgresql: Databases) -> None:
    project.more = "timeout_s = 4"
    place_shards(project, "postgresql schemas", postgresql, NAMES)
    fleet = project.open()
    create_places(fleet, postgresql)
    for name in NAMES:
        stamp(fleet, name, "r2")
    with fleet.shards["asia"].engine.begin() as connection:
        connection.execute(text("lock table alembic_version in access exclusive mode"))
        found = revisions(fleet, project.scripts())
    assert found["asia"].error.message == "no answer within 4 s; its statement was cancelled"
    assert {found[name].result.standing for name in NAMES[1:]} == {Standing.AT_HEAD}


def test_a_server_that_is_down_is_said_of_each_shard(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("pymysql")
    for name in ("asia", "europe"):
        project.shards[name] = {"url": "postgresql://app@127.0.0.1:9/shop", "schema": name}
        project.shards[f"my_{name}"] = {"url": f"mysql://app@127.0.0.1:9/{name}"}
    (tmp_path / "here.db").touch()
    project.shards["here"] = {"url": f"sqlite:///{tmp_path}/here.db"}
    with counted_connections() as connections:
        found = revisions(project.open(), project.scripts())
    assert found["here"].result.standing is Standing.EMPTY
    assert len(connections) == 3
    for name in ("my_asia", "my_europe"):
        assert f"127.0.0.1:9/{name.removeprefix('my_')}: " in found[name].error.message
    assert {type(outcome.error) for name, outcome in found.items() if name != "here"} == {ShardUnreachable}


def test_schemas_that_an_application_translates_to_are_read_together(
    project: Project, postgresql: Databases, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = postgresql.create("app")
    schemas = {name: f"s {name}" for name in NAMES[:3]}
    engine = create_engine(url)
    with engine.begin() as connection:
        for schema in schemas.values():
            connection.execute(text(f'create schema "{schema}"'))
        connection.execute(text('create table "s asia".alembic_version (version_num varchar(32) primary key)'))
        connection.execute(text("insert into \"s asia\".alembic_version values ('r2')"))
        connection.execute(text("create table public.alembic_version (version_num varchar(32) primary key)"))
        connection.execute(text("insert into public.alembic_version values ('r2')"))
    engine.dispose()
    (tmp_path / "translated_app.py").write_text(
        f"""
from sqlalchemy import create_engine
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import sessionmaker

engine = create_engine({url!r}, pool_size=1, max_overflow=0, pool_timeout=5)
shards = {{
    name: engine.execution_options(schema_translate_map={{None: schema}}) for name, schema in {schemas!r}.items()
}}
Session = sessionmaker(
    class_=ShardedSession, shards=shards, shard_chooser=max, identity_chooser=max, execute_chooser=max
)
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    project.write_shard_map()
    (tmp_path / "shardctl.toml").write_text('app = "translated_app:Session"\nmigrations = "migrations"\n')
    import shardctl

    with shardctl.open(tmp_path / "shardctl.toml") as fleet, counted_connections() as connections:
        found = revisions(fleet, project.scripts())
        assert {name: outcome.result.standing for name, outcome in found.items()} == {
            "asia": Standing.AT_HEAD,
            "europe": Standing.EMPTY,
            "africa": Standing.EMPTY,
        }
        assert len(connections) == 1
        fleet.shards["asia"].bind.dispose()


def test_an_error_is_a_shard_error(project: Project, databases: Databases) -> None:
    place_shards(
        project, f"{databases.engine} {'files' if databases.engine == 'sqlite' else 'databases'}", databases, NAMES
    )
    fleet = project.open()
    create_places(fleet, databases)
    in_shard(fleet.shards["asia"], "create table alembic_version (x int)")
    stamp(fleet, "europe", "r2")
    found = revisions(fleet, project.scripts())
    assert isinstance(found["asia"].error, ShardError)
    assert "version_num" in found["asia"].error.message
    assert found["europe"].result.standing is Standing.AT_HEAD
