"""Upgrades of real shards: each lands where it belongs, or says what is left."""

from __future__ import annotations

import ctypes
import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from shardctl.errors import Abandoned, ConfigError, Refused
from shardctl.fleet import Fleet, Outcome
from shardctl.schema.apply import upgrade
from shardctl.schema.events import RevisionStarted
from shardctl.schema.goals import Goal
from shardctl.schema.results import MigrationFailed, MigrationResult
from shardctl.schema.revisions import Scripts, Standing, read_revisions
from shardctl.schema.run_env import env_url, shard_revision
from shardctl.schema.watch import Watch
from tests.fixtures.engines import Databases
from tests.fixtures.projects import (
    GENERIC_ENV,
    KINDS,
    Project,
    create_places,
    in_shard,
    migrate_fleet,
    place_shards,
    table_names,
)

CREATE = """
op.create_table(
    "cities",
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
)
"""
CONNECTION_ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
SWALLOWING_ENV = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection)
    try:
        with context.begin_transaction():
            context.run_migrations()
    except Exception as error:
        print("ignored", error, file=__import__("sys").stderr)
engine.dispose()
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    return made


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def databases_of_kind(kind: str, tmp_path: Path) -> Iterator[Databases]:
    from tests.fixtures.engines import server_url

    made = Databases(kind.partition(" ")[0], tmp_path)
    if made.engine != "sqlite":
        server_url(made.engine)
    yield made
    made.drop_all()


def run(fleet: Fleet, scripts: Scripts, **options: object) -> dict[str, Outcome[MigrationResult]]:
    return {outcome.shard_id: outcome for outcome in migrate_fleet(fleet, scripts, **options)}


def three_shards(project: Project, databases: Databases) -> Fleet:
    kind = "files" if databases.engine == "sqlite" else "databases"
    place_shards(project, f"{databases.engine} {kind}", databases, ["asia", "europe", "africa"])
    fleet = project.open()
    create_places(fleet, databases)
    return fleet


def test_upgrades_every_shard_and_then_has_nothing_to_do(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    project.write_revision("r1", None, CREATE)
    project.write_revision("r2", "r1", "op.add_column('cities', sa.Column('zip', sa.String(9)))")
    scripts = project.scripts()

    first = run(fleet, scripts)
    assert {name: outcome.result for name, outcome in first.items()} == dict.fromkeys(
        ["asia", "europe", "africa"], MigrationResult((), ("r2",), ("r1", "r2"))
    )
    assert {outcome.result.outcome for outcome in first.values()} == {"upgraded"}
    for live in fleet.shards.values():
        assert in_shard(live, "select id, name, zip from cities") == []

    project.write_revision("r3", "r2", "op.execute(\"insert into cities (id, name, zip) values (1, 'x', 'y')\")")
    scripts = project.scripts()
    assert [outcome.result for outcome in run(fleet, scripts).values()] == [
        MigrationResult(("r2",), ("r3",), ("r3",))
    ] * 3
    again = run(fleet, scripts)
    assert {outcome.result.outcome for outcome in again.values()} == {"at head"}
    for live in fleet.shards.values():
        assert in_shard(live, "select count(*) from cities") == [(1,)]


def write_five_revisions(project: Project) -> None:
    """Write what real projects do, with a pause in each so that the shards' runs overlap."""
    project.write_revision(
        "r1",
        None,
        """
        cities = op.create_table(
            "cities",
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("name", sa.String(64), nullable=False),
        )
        op.create_table(
            "reports",
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("city_id", sa.Integer(), sa.ForeignKey("cities.id", ondelete="CASCADE"), nullable=False),
        )
        shard = context.config.attributes["shard"]
        op.bulk_insert(cities, [{"id": number, "name": f"{shard} {number}"} for number in (1, 2, 3)])
        op.execute("insert into reports (id, city_id) values (1, 1), (2, 3)")
        """,
    )
    project.write_revision(
        "r2",
        "r1",
        """
        import time
        time.sleep(0.01)
        with op.batch_alter_table("cities", recreate="auto") as batch:
            batch.add_column(sa.Column("tag", sa.String(64)))
            batch.alter_column("name", existing_type=sa.String(64), type_=sa.String(80), existing_nullable=False)
        """,
    )
    project.write_revision(
        "r3",
        "r2",
        """
        import time
        bind = op.get_bind()
        rows = bind.execute(sa.text("select id, name from cities")).all()
        time.sleep(0.01)
        statement = sa.text("update cities set tag = :tag where id = :id")
        for row in rows:
            bind.execute(statement, {"tag": row.name.upper(), "id": row.id})
        """,
    )
    project.write_revision(
        "r4",
        "r3",
        """
        op.execute("insert into cities (id, name, tag) select 4, 'raw', max(tag) from cities where id < 3")
        op.rename_table("reports", "weather_reports")
        op.create_index("ix_cities_tag", "cities", ["tag"])
        """,
    )
    project.write_revision(
        "r5",
        "r4",
        """
        columns = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("cities")}
        assert columns == {"id", "name", "tag"}, columns
        cities = sa.table("cities", sa.column("id", sa.Integer), sa.column("name", sa.String))
        op.bulk_insert(cities, [{"id": 5, "name": context.get_x_argument(as_dictionary=True)["shard"]}])
        """,
    )


def assert_five_revisions(live: object, name: str) -> None:
    big = name.upper()
    assert in_shard(live, "select id, name, tag from cities order by id") == [
        (1, f"{name} 1", f"{big} 1"),
        (2, f"{name} 2", f"{big} 2"),
        (3, f"{name} 3", f"{big} 3"),
        (4, "raw", f"{big} 2"),
        (5, name, None),
    ]
    assert in_shard(live, "select id, city_id from weather_reports order by id") == [(1, 1), (2, 3)]
    assert in_shard(live, "select version_num from alembic_version") == [("r5",)]
    with live.engine.connect() as connection:
        inspector = inspect(connection)
        assert table_names(connection) == ["alembic_version", "cities", "weather_reports"]
        assert [index["name"] for index in inspector.get_indexes("cities")] == ["ix_cities_tag"]


@pytest.mark.slow
@pytest.mark.parametrize("env", [GENERIC_ENV, CONNECTION_ENV], ids=["generic env.py", "connection env.py"])
def test_many_shards_in_sixteen_threads(env: str, kind: str, databases_of_kind: Databases, project: Project) -> None:
    number = {"sqlite attached": 10, "postgresql databases": 8, "mysql databases": 12}.get(kind, 24)
    names = [f"n{index:02}" for index in range(number)]
    project.more = "connections_per_server = 16"
    place_shards(project, kind, databases_of_kind, names)
    fleet = project.open()
    create_places(fleet, databases_of_kind)
    project.write_env(env)
    write_five_revisions(project)

    outcomes = run(fleet, project.scripts(), jobs=16)

    assert {name: outcome.error for name, outcome in outcomes.items() if outcome.error} == {}
    assert sorted(outcomes) == names
    for name, live in fleet.shards.items():
        assert_five_revisions(live, name)


@pytest.mark.parametrize("with_ini", [False, True], ids=["no ini", "ini with logging"])
def test_unmodified_generic_template(
    with_ini: bool, kind: str, databases_of_kind: Databases, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = Project(tmp_path)
    project.init("generic")
    if not with_ini:
        (tmp_path / "alembic.ini").unlink()
    place_shards(project, kind, databases_of_kind, ["asia"])
    fleet = project.open()
    create_places(fleet, databases_of_kind)
    write_five_revisions(project)
    scripts = project.scripts()
    assert scripts.settings.ini == (tmp_path / "alembic.ini" if with_ini else None)

    root, own = logging.getLogger(), logging.getLogger("somebody.elses")
    before = list(root.handlers), root.level
    outcome = run(fleet, scripts)["asia"]

    assert outcome.error is None
    assert (list(root.handlers), root.level) == before
    assert not own.disabled
    assert_five_revisions(fleet.shards["asia"], "asia")


@pytest.mark.parametrize("kind", ["sqlite files", "sqlite attached", "postgresql schemas"])
def test_unmodified_async_template(kind: str, databases_of_kind: Databases, tmp_path: Path) -> None:
    pytest.importorskip("greenlet", reason="SQLAlchemy runs an async env.py with greenlet only")
    if databases_of_kind.engine == "sqlite":
        pytest.importorskip("aiosqlite", reason="an async env.py needs an async driver, here SQLite's")
    project = Project(tmp_path)
    project.init("async")
    place_shards(project, kind, databases_of_kind, ["asia", "europe"])
    fleet = project.open()
    create_places(fleet, databases_of_kind)
    write_five_revisions(project)
    for name, outcome in run(fleet, project.scripts()).items():
        assert outcome.error is None
        assert_five_revisions(fleet.shards[name], name)


def test_unmodified_multidb_template_is_refused(databases: Databases, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.init("multidb")
    fleet = three_shards(project, databases)
    project.write_revision("r1", None, CREATE)
    for outcome in run(fleet, project.scripts()).values():
        assert outcome.error is not None
        assert outcome.error.to == ()
        assert outcome.error.message.startswith("env.py: it migrates several databases in one run")
        assert outcome.error.hint == "write an env.py for one database: shardctl runs it on each shard"


def test_an_async_template_without_an_async_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("greenlet", reason="SQLAlchemy runs an async env.py with greenlet only")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    project = Project(tmp_path)
    project.init("async")
    databases = Databases("sqlite", tmp_path)
    place_shards(project, "sqlite files", databases, ["asia"])
    fleet = project.open()
    create_places(fleet, databases)
    project.write_revision("r1", None, CREATE)
    error = run(fleet, project.scripts())["asia"].error
    assert error.message.startswith("env.py: InvalidRequestError: The asyncio extension requires an async driver")
    assert error.hint == "env.py makes an asynchronous engine: pip install aiosqlite"


@pytest.mark.parametrize(
    "env",
    [
        "with context.config.attributes['connection'] as connection:\n    go(connection)",
        "connection = context.config.attributes['connection']\nwith connection.begin():\n    go(connection)",
        "connection = context.config.attributes['connection']\nconnection.execute(text('select 1'))\ngo(connection)",
        "connection = context.config.attributes['connection']\nconnection.close()\ngo(connection)",
    ],
    ids=["closes", "begins", "autobegins", "closed"],
)
def test_env_py_may_use_the_connection_it_is_given(env: str, project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    project.write_env(
        "from alembic import context\nfrom sqlalchemy import text\n\n"
        "def go(connection):\n"
        "    context.configure(connection, transaction_per_migration=False)\n"
        "    with context.begin_transaction():\n"
        "        context.run_migrations()\n\n" + env + "\n"
    )
    project.write_revision("r1", None, CREATE)
    project.write_revision("r2", "r1", "op.execute(\"insert into cities values (1, 'x')\")")
    for outcome in run(fleet, project.scripts()).values():
        assert outcome.result.to == ("r2",)
    for live in fleet.shards.values():
        assert in_shard(live, "select * from cities") == [(1, "x")]


@pytest.mark.parametrize("option", ["sqlalchemy.url", "attributes"])
def test_schemas_never_touch_the_default_schema(option: str, postgresql: Databases, project: Project) -> None:
    place_shards(project, "postgresql schemas", postgresql, ["asia", "Mid_East"])
    fleet = project.open()
    create_places(fleet, postgresql)
    admin = create_engine(fleet.shards["asia"].shard.url)
    with admin.begin() as connection:
        for statement in (
            "create table public.cities (id int primary key, name varchar(64))",
            "insert into public.cities values (1, 'decoy')",
            "create table public.places (id int)",
            "create table public.alembic_version (version_num varchar(32) primary key)",
            "insert into public.alembic_version values ('r2')",
        ):
            connection.execute(text(statement))
    project.write_env(GENERIC_ENV if option == "sqlalchemy.url" else CONNECTION_ENV)
    project.write_revision("r1", None, CREATE)
    project.write_revision(
        "r2",
        "r1",
        """
        op.add_column("cities", sa.Column("zip", sa.String(9)))
        op.alter_column("cities", "name", new_column_name="label", existing_type=sa.String(64))
        op.execute("insert into cities (id, label) values (7, 'raw')")
        op.bulk_insert(
            sa.table("cities", sa.column("id", sa.Integer), sa.column("label", sa.String)), [{"id": 8, "label": "bulk"}]
        )
        op.get_bind().execute(sa.text("update cities set zip = 'z'"))
        op.rename_table("cities", "towns")
        """,
    )

    outcomes = run(fleet, project.scripts())

    assert [outcome.result.to for outcome in outcomes.values()] == [("r2",), ("r2",)]
    for live in fleet.shards.values():
        schema = live.shard.schema
        assert in_shard(live, f'select * from "{schema}".towns order by id') == [(7, "raw", "z"), (8, "bulk", "z")]
        assert in_shard(live, f'select * from "{schema}".alembic_version') == [("r2",)]
    with admin.connect() as connection:
        assert connection.execute(text("select * from public.cities")).all() == [(1, "decoy")]
        assert table_names(connection, "public") == ["alembic_version", "cities", "places"]
    admin.dispose()


def test_env_py_that_moves_the_search_path_is_overruled(postgresql: Databases, project: Project) -> None:
    """As in Alembic's own recipe for tenants, but with a wrong tenant and an open transaction."""
    place_shards(project, "postgresql schemas", postgresql, ["asia"])
    fleet = project.open()
    create_places(fleet, postgresql)
    project.write_env(
        CONNECTION_ENV.replace(
            "context.configure",
            "from sqlalchemy import text\n"
            'context.config.attributes["connection"].execute(text("set search_path to public"))\n'
            "context.configure",
        )
    )
    project.write_revision("r1", None, CREATE)

    assert run(fleet, project.scripts())["asia"].result.to == ("r1",)
    assert in_shard(fleet.shards["asia"], "select count(*) from s_asia.cities") == [(0,)]
    assert in_shard(fleet.shards["asia"], "select to_regclass('public.cities') is null") == [(True,)]


def test_env_py_that_swallows_errors_is_found_out(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    project.write_env(SWALLOWING_ENV)
    project.write_revision("r1", None, CREATE)
    project.write_revision("r2", "r1", "op.execute('insert into nowhere values (1)')")

    for outcome in run(fleet, project.scripts()).values():
        assert isinstance(outcome.error, MigrationFailed)
        assert "revision `r2` failed: " in outcome.error.message
        assert "nowhere" in outcome.error.message
        assert outcome.error.revision == "r2"
        assert outcome.error.to == ("r1",)
        assert "still at `r1`" in outcome.error.facts[-1]


def test_env_py_that_runs_nothing_is_found_out(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    project.write_env("from alembic import context\n")
    project.write_revision("r1", None, CREATE)
    problems = {outcome.error.message for outcome in run(fleet, project.scripts()).values()}
    assert problems == {"env.py ended without `context.run_migrations()`"}


def test_env_py_that_fails_is_named(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    project.write_env("raise RuntimeError('no settings')\n")
    project.write_revision("r1", None, CREATE)
    for outcome in run(fleet, project.scripts()).values():
        assert outcome.error.message == "env.py failed: RuntimeError: no settings"
        assert outcome.error.facts == ("the shard is at no revision",)


def test_one_shard_fails_and_continues_after_the_fix(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    project.write_revision("r1", None, CREATE)
    project.write_revision("r2", "r1", "op.execute(\"insert into cities (id, name) values (1, 'x')\")")
    in_the_way = "create table cities_index (id int)"
    project.write_revision("r3", "r2", "op.create_table('cities_index', sa.Column('id', sa.Integer()))")
    in_shard(fleet.shards["africa"], "create table alembic_version (version_num varchar(32) not null primary key)")
    in_shard(fleet.shards["africa"], "insert into alembic_version values ('r1')")
    in_shard(fleet.shards["africa"], "create table cities (id int, name varchar(64))")
    in_shard(fleet.shards["africa"], in_the_way)

    outcomes = run(fleet, project.scripts())
    assert {name for name, outcome in outcomes.items() if outcome.is_ok} == {"asia", "europe"}
    error = outcomes["africa"].error
    assert isinstance(error, MigrationFailed)
    assert (error.revision, error.from_, error.to) == ("r3", ("r1",), ("r2",))
    assert "cities_index" in error.message
    assert "exist" in error.message
    assert not error.is_half_done

    in_shard(fleet.shards["africa"], "drop table cities_index")
    outcomes = run(fleet, project.scripts())
    assert outcomes["africa"].result == MigrationResult(("r2",), ("r3",), ("r3",))
    assert outcomes["asia"].result.outcome == "at head"
    assert in_shard(fleet.shards["africa"], "select count(*) from cities") == [(1,)]


@pytest.mark.parametrize("env", [GENERIC_ENV, CONNECTION_ENV], ids=["generic env.py", "connection env.py"])
def test_failed_revision_leaves_nothing(env: str, project: Project, databases: Databases) -> None:
    if databases.engine == "mysql":
        pytest.skip("MySQL cannot roll back DDL")
    fleet = three_shards(project, databases)
    project.write_env(env)
    project.write_revision("r1", None, CREATE + "op.execute(\"insert into cities values (1, 'one')\")")
    broken = project.write_revision(
        "r2",
        "r1",
        """
        op.create_table("first", sa.Column("id", sa.Integer()))
        op.execute("update cities set name = 'changed'")
        raise LookupError("at the third statement")
        """,
    )
    for outcome in run(fleet, project.scripts()).values():
        assert outcome.error.message == "revision `r2` failed: LookupError: at the third statement"
        assert outcome.error.facts == ("`r2.py`, line 11", "rolled back: still at `r1`")
    for live in fleet.shards.values():
        with live.engine.connect() as connection:
            assert table_names(connection) == ["alembic_version", "cities"]
        assert in_shard(live, "select * from cities") == [(1, "one")]

    broken.write_text(broken.read_text().replace("raise", "LookupError"))
    broken.write_text(broken.read_text().replace('LookupError LookupError("at the third statement")', "pass"))
    assert {outcome.result.to for outcome in run(fleet, project.scripts()).values()} == {("r2",)}


def test_mysql_says_how_much_of_a_failed_revision_is_done(project: Project, mysql: Databases) -> None:
    fleet = three_shards(project, mysql)
    project.write_revision("r1", None, CREATE + "op.execute('insert into nowhere values (1)')")
    for outcome in run(fleet, project.scripts()).values():
        assert outcome.error.is_half_done
        assert outcome.error.facts[-1] == (
            "the first statement is done, and the next run of `r1` goes on behind; still at no revision"
        )


def test_sqlite_keeps_child_rows_when_a_table_is_recreated(project: Project, tmp_path: Path) -> None:
    project.shards["asia"] = {"url": f"sqlite:///{tmp_path}/asia.db"}
    fleet = project.open()
    (tmp_path / "asia.db").touch()
    write_five_revisions(project)
    project.write_env(
        CONNECTION_ENV.replace(
            "context.configure",
            'context.config.attributes["connection"].exec_driver_sql("pragma foreign_keys = on")\ncontext.configure',
        )
    )
    assert run(fleet, project.scripts())["asia"].is_ok
    assert_five_revisions(fleet.shards["asia"], "asia")


def test_killed_sqlite_revision_leaves_nothing(project: Project, tmp_path: Path) -> None:
    project.shards["asia"] = {"url": f"sqlite:///{tmp_path}/asia.db"}
    (tmp_path / "asia.db").touch()
    project.write_revision("r1", None, CREATE + "import os\nos._exit(9)")
    code = """
        from shardctl.fleet import connect
        from shardctl.schema.apply import upgrade
        from shardctl.schema.revisions import load_scripts
        from shardctl.topology.load import load
        fleet = connect(load("shardctl.toml"))
        upgrade(fleet.shards["asia"], load_scripts(fleet.shard_map.migrations, where=""))
    """
    project.write_shard_map()
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=False, env=_environ())
    assert done.returncode == 9
    fleet = project.open()
    with fleet.shards["asia"].engine.connect() as connection:
        assert table_names(connection) == []
    project.write_revision("r1", None, CREATE)
    assert upgrade(fleet.shards["asia"], project.scripts()).to == ("r1",)


def _environ() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def test_version_table_of_another_name(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    project.write_env(
        GENERIC_ENV.replace("target_metadata=target_metadata\n", 'target_metadata=None, version_table="history"\n')
    )
    project.write_revision("r1", None, CREATE)
    scripts = project.scripts()
    asia = fleet.shards["asia"]
    assert shard_revision(asia, scripts).standing is Standing.EMPTY
    assert {outcome.result.to for outcome in run(fleet, scripts).values()} == {("r1",)}
    assert in_shard(asia, "select version_num from history") == [("r1",)]
    again = shard_revision(asia, project.scripts())
    assert (again.standing, again.tables) == (Standing.AT_HEAD, ("cities",))
    assert {outcome.result.outcome for outcome in run(fleet, project.scripts()).values()} == {"at head"}


def test_standing(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    asia = fleet.shards["asia"]
    project.write_revision("r1", None, CREATE)
    project.write_revision("r2", "r1", "pass")
    scripts = project.scripts()
    in_shard(asia, "create table strange (id int)")
    unversioned = shard_revision(asia, scripts)
    assert (unversioned.standing, unversioned.tables) == (Standing.UNVERSIONED, ("strange",))
    with pytest.raises(Refused, match="the shard has 1 table and no revision") as refusal:
        upgrade(asia, scripts)
    assert "shardctl migrate stamp head --shard asia" in str(refusal.value.hint)

    in_shard(asia, "create table alembic_version (version_num varchar(32) not null primary key)")
    in_shard(asia, "insert into alembic_version values ('r1')")
    behind = shard_revision(asia, scripts)
    assert (behind.standing, behind.pending, str(behind)) == (Standing.BEHIND, ("r2",), "r1")

    in_shard(asia, "update alembic_version set version_num = 'future'")
    assert shard_revision(asia, scripts).standing is Standing.UNKNOWN
    with pytest.raises(Refused, match="at revision `future`, which `migrations` does not have"):
        upgrade(asia, scripts)
    with asia.connect() as connection:
        assert read_revisions(connection) == ("future",)


def test_upgrade_to_a_revision_and_beyond(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    for number in (1, 2, 3):
        project.write_revision(f"r{number}", f"r{number - 1}" if number > 1 else None, "pass")
    scripts, asia = project.scripts(), fleet.shards["asia"]
    assert upgrade(asia, scripts, Goal(target="r2")) == MigrationResult((), ("r2",), ("r1", "r2"))
    assert upgrade(asia, scripts, Goal(target="r1")) == MigrationResult(("r2",), ("r2",))
    assert upgrade(asia, scripts, Goal(target="head")).to == ("r3",)
    with pytest.raises(ConfigError, match="no revision `r9`"):
        upgrade(asia, scripts, Goal(target="r9"))


def test_missing_schema_is_refused(project: Project, postgresql: Databases) -> None:
    place_shards(project, "postgresql schemas", postgresql, ["asia"])
    fleet = project.open()
    postgresql.create("shared")
    project.write_revision("r1", None, CREATE)
    error = run(fleet, project.scripts())["asia"].error
    assert error.message == "there is no schema `s_asia`"
    assert error.hint == "`shardctl init` creates it"


def test_password_with_signs(project: Project, postgresql: Databases) -> None:
    url = postgresql.create("asia")
    role = f"{postgresql.prefix}_role"
    admin = create_engine(url)
    with admin.begin() as connection:
        connection.execute(text(f"create role {role} login password 'p%40@:/%s'"))
        connection.execute(text(f"create schema own authorization {role}"))
    try:
        login = admin.url.set(username=role, password="p%40@:/%s").render_as_string(hide_password=False)
        project.shards["asia"] = {"url": login, "schema": "own"}
        project.write_revision("r1", None, CREATE)
        fleet = project.open()
        assert "%" in env_url(fleet.shards["asia"]).render_as_string(hide_password=False)
        assert run(fleet, project.scripts())["asia"].result.to == ("r1",)
        with admin.connect() as connection:
            assert table_names(connection, "own") == ["alembic_version", "cities"]
    finally:
        with admin.begin() as connection:
            connection.execute(text(f"drop owned by {role} cascade"))
            connection.execute(text(f"drop role {role}"))
        admin.dispose()


def test_autocommit_block(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    project.write_revision(
        "r1",
        None,
        CREATE
        + """
with op.get_context().autocommit_block():
    rare = {"sqlite": "vacuum", "postgresql": "vacuum cities", "mysql": "analyze table cities"}
    rare["mariadb"] = rare["mysql"]
    op.execute(rare[op.get_bind().dialect.name])
op.execute("insert into cities (id, name) values (1, 'x')")
""",
    )
    project.write_revision(
        "r2",
        "r1",
        """
        op.execute("insert into cities (id, name) values (2, 'x')")
        with op.get_context().autocommit_block():
            op.execute("insert into cities (id, name) values (3, 'x')")
        raise ValueError("after the block")
        """,
    )
    for outcome in run(fleet, project.scripts()).values():
        assert outcome.error.to == ("r1",)
        assert outcome.error.is_half_done
        assert "autocommit_block" in outcome.error.facts[-1]
    for live in fleet.shards.values():
        assert in_shard(live, "select id from cities order by id") == [(1,), (2,), (3,)]


def test_several_databases_in_one_env_py_are_refused(project: Project, tmp_path: Path) -> None:
    project.shards["asia"] = {"url": f"sqlite:///{tmp_path}/asia.db"}
    (tmp_path / "asia.db").touch()
    project.write_env(CONNECTION_ENV.replace('["connection"])', '["connection"], upgrade_token="one_upgrades")'))
    project.write_revision("r1", None, CREATE)
    error = run(project.open(), project.scripts())["asia"].error
    assert "several databases" in error.message


@pytest.mark.slow
def test_interrupt_waits_for_revisions_that_cannot_be_rolled_back(project: Project, databases: Databases) -> None:
    fleet = three_shards(project, databases)
    statement = {
        "postgresql": "select pg_sleep(600)",
        "mysql": "select sleep(4)",
        "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n",
    }[databases.engine]
    insert = "op.execute(\"insert into cities values (1, 'x')\")"
    project.write_revision("r1", None, f"{CREATE}\nop.execute({statement!r})\n{insert}")
    project.write_revision("r2", "r1", "op.execute(\"insert into cities values (2, 'x')\")")
    seen: list[object] = []
    waited: list[str] = []
    started = threading.Semaphore(0)

    def on_event(event: object) -> None:
        if isinstance(event, RevisionStarted):
            started.release()

    def consume() -> None:
        try:
            seen.extend(migrate_fleet(fleet, project.scripts(), on_wait=waited.extend, on_event=on_event))
        except KeyboardInterrupt:
            seen.append("interrupted")

    reader = threading.Thread(target=consume)
    reader.start()
    for _ in fleet.shards:
        started.acquire()
    time.sleep(1)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(reader.ident), ctypes.py_object(KeyboardInterrupt))
    reader.join(60)

    assert not reader.is_alive()
    assert seen == ["interrupted"]
    assert waited == (sorted(fleet.shards) if databases.engine == "mysql" else [])
    time.sleep(0.5)
    for live in fleet.shards.values():
        with live.engine.connect() as connection:
            tables = table_names(connection)
            revision = read_revisions(connection)
        if databases.engine == "mysql":
            assert in_shard(live, "select id from cities") == [(1,)]
            assert revision == ("r1",)
        else:
            assert (tables, revision) == ([], ())
            assert in_shard(live, "select outcome from shardctl_history") == [("interrupted",)]


def test_an_interrupt_while_waiting_names_what_is_abandoned(project: Project, mysql: Databases) -> None:
    fleet = three_shards(project, mysql)
    shard = next(iter(fleet.shards.values()))

    def interrupt(shard_ids: Sequence[str]) -> None:
        raise KeyboardInterrupt

    watch = Watch(interrupt)
    with watch.at_work(shard), pytest.raises(Abandoned) as caught:
        watch.wait()
    assert caught.value.shard_ids == (shard.shard_id,)
