"""What `init` creates on real shards, and what it leaves alone."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, create_engine, inspect, make_url

from examples.weather.models import Base
from shardctl.errors import ShardUnreachable
from shardctl.fleet import Fleet, Outcome, connect
from shardctl.schema.apply import upgrade
from shardctl.schema.create import InitResult, init, plan_init
from shardctl.schema.goals import Goal
from shardctl.schema.needs import survey_needs
from shardctl.schema.results import MigrationFailed
from shardctl.schema.revisions import Scripts, Standing, load_scripts
from shardctl.schema.run_env import shard_revision
from shardctl.topology.model import Shard, ShardedTable, ShardMap
from shardctl.topology.strategies import Directory
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.projects import KINDS, Project, in_shard, place_shards, table_names

ROOT = Path(__file__).parents[2]
MIGRATIONS = ROOT / "migrations"
NAMES = ["asia", "europe", "africa", "oceania"]
CREATED = {
    "sqlite files": ("file", "2 tables"),
    "sqlite attached": ("file", "2 tables"),
    "postgresql databases": ("database", "2 tables"),
    "mysql databases": ("database", "2 tables"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def databases(kind: str, tmp_path: Path) -> Iterator[Databases]:
    made = Databases(kind.partition(" ")[0], tmp_path)
    if made.engine != "sqlite":
        server_url(made.engine)
    yield made
    made.drop_all()


@pytest.fixture
def fleet(kind: str, databases: Databases, tmp_path: Path) -> Fleet:
    """Return four shards of which nothing exists."""
    project = Project(tmp_path)
    place_shards(project, kind, databases, NAMES)
    return project.open()


def weather(shard_id: str) -> Sequence[Table]:
    return Base.metadata.sorted_tables


def scripts() -> Scripts:
    return load_scripts(MIGRATIONS, where="pyproject.toml")


def run(fleet: Fleet, own: Scripts | None, **options: object) -> dict[str, Outcome[InitResult]]:
    options.setdefault("tables_on", weather)
    plan = plan_init(fleet, own, **options)
    return {outcome.shard_id: outcome for outcome in init(fleet, fleet.shards.values(), plan)}


def results(outcomes: dict[str, Outcome[InitResult]]) -> dict[str, InitResult]:
    return {name: outcome.result for name, outcome in sorted(outcomes.items())}


def tables_of(fleet: Fleet, shard_id: str) -> list[str]:
    with fleet.shards[shard_id].engine.connect() as connection:
        return table_names(connection)


@pytest.mark.parametrize("source", ["migrations", "models"])
def test_creates_everything_once(source: str, kind: str, fleet: Fleet) -> None:
    own = scripts() if source == "migrations" else None
    revision = ("0002",) if own else ()

    first = results(run(fleet, own))
    if kind == "postgresql schemas":
        # The four share one database: whichever comes first makes it.
        made = sorted(result.created for result in first.values())
        assert made == [("database", "schema", "2 tables")] + [("schema", "2 tables")] * 3
    else:
        assert {result.created for result in first.values()} == {CREATED[kind]}
    assert {(result.revision, result.outcome, result.notes) for result in first.values()} == {(revision, "created", ())}

    again = results(run(fleet, own))
    assert again == dict.fromkeys(sorted(NAMES), InitResult((), revision, "unchanged"))
    for name in NAMES:
        found = ["alembic_version"] * bool(own) + ["weather_locations", "weather_reports"]
        assert tables_of(fleet, name) == found
        in_shard(fleet.shards[name], f"insert into weather_locations (id, continent, city) values (1, 'x', '{name}')")
    for name in NAMES:
        assert in_shard(fleet.shards[name], "select city from weather_locations") == [(name,)]


def test_schemas_only_stops_before_the_tables(kind: str, fleet: Fleet) -> None:
    first = results(run(fleet, scripts(), schemas_only=True))
    assert {result.outcome for result in first.values()} == {"created"}
    assert not any("table" in word for result in first.values() for word in result.created)
    assert [tables_of(fleet, name) for name in NAMES] == [[]] * 4
    assert {result.outcome for result in results(run(fleet, scripts(), schemas_only=True)).values()} == {"unchanged"}
    assert {result.created for result in results(run(fleet, scripts())).values()} == {("2 tables",)}


def test_two_runs_at_once(kind: str, databases: Databases, tmp_path: Path) -> None:
    project = Project(tmp_path)
    place_shards(project, kind, databases, NAMES)
    fleets = [project.open(), project.open()]
    seen: list[dict[str, Outcome[InitResult]]] = []
    together = threading.Barrier(2)

    def create(fleet: Fleet) -> None:
        together.wait()
        seen.append(run(fleet, None, schemas_only=True))

    threads = [threading.Thread(target=create, args=(fleet,)) for fleet in fleets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.problem for outcomes in seen for outcome in outcomes.values() if not outcome.is_ok] == []
    assert [tables_of(fleets[0], name) for name in NAMES] == [[]] * 4


def test_unversioned_shard_is_left_alone_and_can_be_adopted(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(fleet, None)
    in_shard(fleet.shards["asia"], "insert into weather_locations (id, continent, city) values (1, 'Asia', 'Tokyo')")
    monkeypatch.chdir(ROOT)

    asia = run(fleet, scripts())["asia"].result
    assert (asia.created, asia.revision, asia.outcome) == ((), (), "unversioned")
    command = "shardctl migrate stamp head --shard asia"
    assert asia.notes == (f"2 tables and no revision: if they are those of the head, adopt it by `{command}`",)
    assert tables_of(fleet, "asia") == ["weather_locations", "weather_reports"]

    file = tmp_path / "shardctl.toml"
    file.write_text(f"migrations = '{ROOT / 'migrations'}'\n" + file.read_text())
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command), "--yes"],
        env={**os.environ, "SHARDCTL_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shard_revision(fleet.shards["asia"], scripts()).standing is Standing.AT_HEAD
    assert results(run(fleet, scripts()))["asia"] == InitResult((), ("0002",), "unchanged")
    assert in_shard(fleet.shards["asia"], "select city from weather_locations") == [("Tokyo",)]
    assert results(run(fleet, scripts()))["europe"].outcome == "unversioned"


@pytest.mark.slow
def test_alembic_itself_on_one_shard(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run(fleet, None, schemas_only=True)

    def alembic(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "alembic", "-c", "migrations/alembic.ini", *arguments],
            env={**os.environ, "SHARDCTL_CONFIG": str(tmp_path / "shardctl.toml")},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    assert alembic("-x", "shard=asia", "upgrade", "head") == (0, "")
    assert shard_revision(fleet.shards["asia"], scripts()).standing is Standing.AT_HEAD
    assert shard_revision(fleet.shards["europe"], scripts()).standing is Standing.EMPTY
    assert alembic("-x", "shard=asia", "current") == (0, "0002 (head)\n")
    assert alembic("-x", "shard=asia", "check") == (0, "No new upgrade operations detected.\n")
    assert alembic("-x", "shard=asia", "downgrade", "base") == (0, "")
    assert tables_of(fleet, "asia") == ["alembic_version"]
    code, said = alembic("upgrade", "head")
    assert (code, "name one shard of `asia`, `europe`" in said) == (255, True)
    code, said = alembic("-x", "shard=asai", "upgrade", "head")
    assert (code, "no shard named `asai`" in said, "did you mean `asia`?" in said) == (255, True, True)
    code, said = alembic("-x", "shard=asia", "upgrade", "head", "--sql")
    assert (code, "CREATE TABLE weather_locations" in said) == (0, True)
    code, said = alembic("upgrade", "head", "--sql")
    assert (code, "name one shard of `asia`, `europe`" in said) == (255, True)


def test_tables_that_do_not_belong_on_a_shard_are_not_made(fleet: Fleet) -> None:
    metadata = MetaData()
    own = Table("own", metadata, Column("id", Integer, primary_key=True))
    child = Table("child", metadata, Column("id", Integer, primary_key=True), Column("own_id", ForeignKey("own.id")))
    central = Table("central", metadata, Column("id", Integer, primary_key=True))
    elsewhere = Table("log", metadata, Column("id", Integer, primary_key=True), schema="audit")
    other = Table("other", MetaData(), Column("name", String(9), primary_key=True))

    def tables_on(shard_id: str) -> Sequence[Table]:
        return [central, elsewhere] if shard_id == "asia" else [child, own, other]

    made = results(run(fleet, None, tables_on=tables_on))
    assert tables_of(fleet, "asia") == ["central"]
    assert made["asia"].notes == ("`audit.log` names a schema of its own and is left out",)
    assert made["asia"].created[-1] == "1 table"
    assert tables_of(fleet, "europe") == ["child", "other", "own"]
    assert made["europe"].created[-1] == "3 tables"


def test_continues_where_a_revision_failed(kind: str, databases: Databases, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write_env()
    project.write_revision("r1", None, "op.create_table('one', sa.Column('id', sa.Integer()))")
    project.write_revision("r2", "r1", "raise RuntimeError('not yet')")
    place_shards(project, kind, databases, ["asia"])
    fleet = project.open()
    error = run(fleet, project.scripts())["asia"].error
    assert isinstance(error, MigrationFailed)
    assert error.message == "revision `r2` failed: RuntimeError: not yet"

    project.write_revision("r2", "r1", "op.create_table('two', sa.Column('id', sa.Integer()))")
    assert run(fleet, project.scripts())["asia"].result == InitResult(("1 table",), ("r2",), "upgraded")
    assert tables_of(fleet, "asia") == ["alembic_version", "one", "two"]


def test_brings_a_shard_that_is_behind_to_the_head(fleet: Fleet) -> None:
    run(fleet, None, schemas_only=True)
    upgrade(fleet.shards["asia"], scripts(), Goal(target="0001"))
    assert run(fleet, scripts())["asia"].result == InitResult((), ("0002",), "upgraded")


def test_one_bad_server_does_not_stop_the_others(kind: str, databases: Databases, tmp_path: Path) -> None:
    if databases.engine == "sqlite":
        bad = f"sqlite:////proc/nowhere/{databases.prefix}.db"
    else:
        bad = make_url(databases.url("asia")).set(port=9).render_as_string(hide_password=False)
    project = Project(tmp_path)
    place_shards(project, kind, databases, ["europe"])
    project.shards["asia"] = {"url": bad}
    outcomes = run(project.open(), scripts())
    assert outcomes["europe"].result.outcome == "created"
    assert outcomes["asia"].error is not None
    if databases.engine != "sqlite":
        assert isinstance(outcomes["asia"].error, ShardUnreachable)


def write_app(folder: Path, name: str, code: str) -> Fleet:
    (folder / f"{name}.py").write_text(
        textwrap.dedent(
            """
            from sqlalchemy import create_engine, event
            from sqlalchemy.ext.horizontal_shard import ShardedSession
            from sqlalchemy.orm import sessionmaker
            from examples.weather.models import Base, WeatherLocation
            """
        )
        + textwrap.dedent(code)
        + textwrap.dedent(
            """
            Session = sessionmaker(
                class_=ShardedSession,
                shards=shards,
                shard_chooser=lambda mapper, instance, clause=None: "asia",
                identity_chooser=lambda mapper, primary_key, **options: list(shards),
                execute_chooser=lambda context: list(shards),
            )
            """
        )
    )
    return Project(folder, more=f'app = "{name}:Session"').open()


@pytest.mark.parametrize("kind", ["sqlite files"])
def test_application_with_attached_schemas(kind: str, databases: Databases, tmp_path: Path) -> None:
    fleet = write_app(
        tmp_path,
        f"attached_{databases.prefix}",
        f"""
        engine = create_engine("sqlite:///{tmp_path}/main.db")

        @event.listens_for(engine, "connect")
        def attach(connection, record):
            for name in ("asia", "europe"):
                connection.execute(f"attach database '{tmp_path}/{{name}}.db' as s_{{name}}")

        shards = {{
            name: engine.execution_options(schema_translate_map={{None: f"s_{{name}}"}}) for name in ("asia", "europe")
        }}
        """,
    )
    try:
        assert {result.created for result in results(run(fleet, None)).values()} == {("2 tables",)}
        assert {result.outcome for result in results(run(fleet, None)).values()} == {"unchanged"}
        for name in ("main", "asia", "europe"):
            file = create_engine(f"sqlite:///{tmp_path}/{name}.db")
            with file.connect() as connection:
                found = sorted(inspect(connection).get_table_names())
            file.dispose()
            assert found == ([] if name == "main" else ["weather_locations", "weather_reports"])
    finally:
        for live in fleet.shards.values():
            live.bind.dispose()


@pytest.mark.parametrize("kind", ["sqlite files"])
def test_application_with_table_prefixes(kind: str, databases: Databases, tmp_path: Path) -> None:
    fleet = write_app(
        tmp_path,
        f"prefixed_{databases.prefix}",
        f"""
        engine = create_engine("sqlite:///{tmp_path}/one.db")

        @event.listens_for(engine, "before_cursor_execute", retval=True)
        def prefix(connection, cursor, statement, parameters, context, executemany):
            table_prefix = connection.get_execution_options().get("table_prefix", "")
            return statement.replace("weather_", f"{{table_prefix}}_weather_"), parameters

        shards = {{name: engine.execution_options(table_prefix=name) for name in ("asia", "europe")}}
        """,
    )
    try:
        assert {result.created[-1] for result in results(run(fleet, None)).values()} == {"2 tables"}
        assert {result.outcome for result in results(run(fleet, None)).values()} == {"unchanged"}
        plain = create_engine(f"sqlite:///{tmp_path}/one.db")
        with plain.connect() as connection:
            found = sorted(inspect(connection).get_table_names())
        plain.dispose()
        assert found == [f"{name}_weather_{what}" for name in ("asia", "europe") for what in ("locations", "reports")]
    finally:
        for live in fleet.shards.values():
            live.bind.dispose()


def test_a_directory_is_created_beside_the_migrations(databases):
    """A directory of sharding keys is in no migration: init makes it, on its own shard only, and once."""
    directory = Directory(shards=("asia", "europe"), on="europe", table="homes")
    shard_map = ShardMap(
        {name: Shard(name, databases.url(name)) for name in ("asia", "europe")},
        {"WeatherLocation": ShardedTable("WeatherLocation", directory, ("city",))},
        models=("examples.weather.models:Base",),
    )
    with connect(shard_map) as fleet:
        plan = plan_init(fleet, scripts())
        needs = {
            outcome.shard_id: outcome.result.missing for outcome in survey_needs(fleet, fleet.shards.values(), plan)
        }
        assert needs["europe"][1:] == ("2 revisions", "1 directory")

        made = results(run(fleet, scripts()))
        assert made["asia"].created[-1] == "2 tables"
        assert made["europe"].created[-2:] == ("2 tables", "1 directory")
        assert "homes" in tables_of(fleet, "europe")
        assert "homes" not in tables_of(fleet, "asia")
        assert results(run(fleet, scripts()))["europe"].outcome == "unchanged"
