"""Scripts instead of runs: what they do when another tool runs them, and which revisions have none."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

from shardctl.errors import ShardError
from shardctl.fleet import Fleet, LiveShard
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.offline import grouped, opening_statement, render, render_scripts
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.projects import (
    GENERIC_ENV,
    KINDS,
    Project,
    create_places,
    in_shard,
    migrate_fleet,
    place_shards,
    plan_fleet,
)

CONNECTION_ENV = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
OWN_ENV = "from shardctl.schema.environment import run_migrations\n\nrun_migrations()\n"
CREATE = """
cities = op.create_table(
    "cities",
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
)
op.bulk_insert(cities, [{"id": 1, "name": "it's; one"}])
"""


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def databases_of_kind(kind: str, tmp_path: Path) -> Iterator[Databases]:
    made = Databases(kind.partition(" ")[0], tmp_path)
    if made.engine != "sqlite":
        server_url(made.engine)
    yield made
    made.drop_all()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, CREATE)
    made.write_revision("r2", "r1", "op.create_index('ix_cities_name', 'cities', ['name'])")
    return made


def placed(project: Project, kind: str, databases: Databases) -> Fleet:
    place_shards(project, kind, databases, ["asia", "Mid_East" if kind.endswith("schemas") else "mid_east"])
    fleet = project.open()
    create_places(fleet, databases)
    return fleet


def scripts_of(fleet: Fleet, project: Project, goal: Goal) -> dict[str, str]:
    scripts = project.scripts()
    return {
        outcome.shard_id: outcome.result
        for outcome in render_scripts(fleet, plan_fleet(fleet, scripts, goal=goal), scripts)
    }


def run_elsewhere(live: LiveShard, script: str) -> None:
    """Run a script as another tool would: on a plain connection to the database, all of it at once."""
    if live.backend.name == "sqlite":
        connection = sqlite3.connect(str(live.engine.url.database))
        connection.executescript(script)
        connection.close()
    elif live.backend.name == "postgresql":
        import psycopg

        url = live.engine.url.set(drivername="postgresql", query={})
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as session:
            session.execute(script)
    else:
        _run_on_mysql(live, script)


def _run_on_mysql(live: LiveShard, script: str) -> None:
    import pymysql
    from pymysql.constants import CLIENT

    url = live.engine.url
    options: dict[str, Any] = {"host": url.host, "port": url.port or 3306, "user": url.username}
    session = pymysql.connect(**options, password=url.password or "", client_flag=CLIENT.MULTI_STATEMENTS)
    with session, session.cursor() as cursor:
        cursor.execute(script)
        while cursor.nextset():
            pass
        session.commit()


@pytest.mark.parametrize("env", [GENERIC_ENV, CONNECTION_ENV, OWN_ENV], ids=["generic", "connection", "own"])
def test_a_script_does_what_the_run_would(env: str, kind: str, databases_of_kind: Databases, project: Project) -> None:
    fleet = placed(project, kind, databases_of_kind)
    project.write_env(env)
    up = scripts_of(fleet, project, Goal())
    for name, live in fleet.shards.items():
        with live.engine.connect() as connection:
            assert inspect(connection).get_table_names() == []  # rendering wrote nothing
        run_elsewhere(live, up[name])
        assert in_shard(live, "select id, name from cities") == [(1, "it's; one")]
        assert in_shard(live, "select version_num from alembic_version") == [("r2",)]
    assert {outcome.result.outcome for outcome in migrate_fleet(fleet, project.scripts())} == {"at head"}


def test_a_script_for_a_part_of_the_way(kind: str, databases_of_kind: Databases, project: Project) -> None:
    fleet = placed(project, kind, databases_of_kind)
    for outcome in migrate_fleet(fleet, project.scripts(), goal=Goal(target="r1")):
        assert outcome.is_ok
    up = scripts_of(fleet, project, Goal())
    assert all("CREATE INDEX" in text and "CREATE TABLE" not in text for text in up.values())
    for name, live in fleet.shards.items():
        run_elsewhere(live, up[name])
        assert in_shard(live, "select version_num from alembic_version") == [("r2",)]
    stamp = scripts_of(fleet, project, Goal(Direction.STAMP, "r1"))
    for name, live in fleet.shards.items():
        run_elsewhere(live, stamp[name])
        assert in_shard(live, "select version_num from alembic_version") == [("r1",)]


def test_a_script_for_a_shard_that_was_downgraded_to_base(
    kind: str, databases_of_kind: Databases, project: Project
) -> None:
    fleet = placed(project, kind, databases_of_kind)
    for name, live in fleet.shards.items():
        in_shard(live, "create table alembic_version (version_num varchar(32) not null primary key)")
        run_elsewhere(live, scripts_of(fleet, project, Goal())[name])
        assert in_shard(live, "select version_num from alembic_version") == [("r2",)]


def test_scripts_go_to_their_own_shard(kind: str, databases_of_kind: Databases, project: Project) -> None:
    fleet = placed(project, kind, databases_of_kind)
    engine, _, what = kind.partition(" ")
    opening = {name: opening_statement(live) for name, live in fleet.shards.items()}
    texts = scripts_of(fleet, project, Goal())
    scripts = project.scripts()
    joined = grouped(texts, plan_fleet(fleet, scripts))
    if engine == "mysql":
        assert opening["asia"] == f"USE `{fleet.shards['asia'].engine.url.database}`"
    elif what == "schemas":
        assert opening == {"asia": 'SET search_path TO "s_asia"', "Mid_East": 'SET search_path TO "s_Mid_East"'}
    else:
        assert set(opening.values()) == {None}
    has_own = engine == "mysql" or what == "schemas"
    assert [len(script.shard_ids) for script in joined] == ([1, 1] if has_own else [2])
    assert all(str(script).startswith(f"-- {', '.join(script.shard_ids)}: base -> r2\n") for script in joined)
    if engine == "sqlite":
        assert texts["asia"].startswith("-- an error has to end it: sqlite3 -bail\n\nBEGIN;\n")
        assert texts["asia"].endswith("COMMIT;\n")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("rows = op.get_bind().execute(sa.text('select 1')).all()", "it reads from the database: AttributeError"),
        ("sa.inspect(op.get_bind()).get_table_names()", "NoInspectionAvailable"),
        ("raise LookupError('no such thing')", "LookupError: no such thing"),
    ],
)
def test_what_has_no_script_is_named(body: str, reason: str, databases: Databases, project: Project) -> None:
    project.write_revision("r3", "r2", "op.execute('select 1')\n" + body, name="0003_look")
    kind = "files" if databases.engine == "sqlite" else "databases"
    fleet = placed(project, f"{databases.engine} {kind}", databases)
    with pytest.raises(ShardError, match=r"no SQL for revision `r3` \(`0003_look.py`\)") as caught:
        render(fleet.shards["asia"], project.scripts(), Goal(), ())
    assert reason in caught.value.facts[0]


def test_batches_that_copy_a_table_have_no_script_on_sqlite(project: Project, tmp_path: Path) -> None:
    project.shards["asia"] = {"url": f"sqlite:///{tmp_path}/asia.db"}
    (tmp_path / "asia.db").touch()
    project.write_revision(
        "r3", "r2", "with op.batch_alter_table('cities', recreate='always') as batch:\n    batch.drop_column('name')"
    )
    with pytest.raises(ShardError, match="no SQL for revision `r3`") as caught:
        render(project.open().shards["asia"], project.scripts(), Goal(), ())
    assert "requires a live database connection" in caught.value.facts[0]


def test_env_py_that_fails_or_runs_nothing(project: Project, tmp_path: Path) -> None:
    project.shards["asia"] = {"url": f"sqlite:///{tmp_path}/asia.db"}
    shard = project.open().shards["asia"]
    project.write_env("raise RuntimeError('no settings')\n")
    with pytest.raises(ShardError, match=r"no SQL: env\.py failed: RuntimeError: no settings"):
        render(shard, project.scripts(), Goal(), ())
    project.write_env("from alembic import context\n")
    with pytest.raises(ShardError, match=r"no SQL: env.py ended without `context.run_migrations\(\)`"):
        render(shard, project.scripts(), Goal(), ())
