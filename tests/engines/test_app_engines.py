"""Migrations by an application's own engines: whatever their pools, events and isolation levels are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, NullPool, create_engine, inspect, make_url, text

from shardctl.errors import ShardError
from shardctl.fleet import Fleet
from shardctl.schema.apply import upgrade
from shardctl.schema.results import MigrationFailed
from tests.fixtures.apps import Opener, open_app
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, in_shard

__all__ = ["open_app"]

APP = """
from sqlalchemy import StaticPool, create_engine, event
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

class Base(DeclarativeBase):
    pass

class City(Base):
    __tablename__ = "cities"
    id: Mapped[int] = mapped_column(primary_key=True)

def of_all(*args, **kw):
    return list(shards)

def application(engine):
    global shards
    shards = {{"asia": engine}}
    return sessionmaker(class_=ShardedSession, shards=shards, shard_chooser=lambda *args, **kw: "asia",
                        identity_chooser=of_all, execute_chooser=of_all)

url = {url!r}
"""
BEGINS = """
engine = create_engine(url)

@event.listens_for(engine, "connect")
def connect(dbapi_connection, record):
    dbapi_connection.isolation_level = None

@event.listens_for(engine, "begin")
def begin(connection):
    connection.exec_driver_sql("BEGIN")

made = application(engine)
"""
BODY = """
op.create_table('cities', sa.Column('id', sa.Integer(), primary_key=True))
op.execute('insert into cities values (1)')
op.create_table('streets', sa.Column('id', sa.Integer(), primary_key=True))
op.execute('update cities set id = id + 1')
"""

Migrated = Callable[[str, str], Fleet]
"""Takes the source of the application, and the URL of its engine."""


@pytest.fixture
def migrated(open_app: Opener, tmp_path: Path) -> Iterator[Migrated]:
    """Migrates an application's shard: the revision fails at its end, and then does not."""

    opened: list[Engine] = []

    def migrate(source: str, url: str) -> Fleet:
        fleet = open_app(source, base=APP.format(url=url))
        opened.append(fleet.shard("asia").bind)
        project, shard = Project(tmp_path), fleet.shard("asia")
        project.write_env()
        project.write_revision("r1", None, BODY + "raise LookupError('too late')")
        with pytest.raises(MigrationFailed, match="revision `r1` failed: LookupError: too late") as failed:
            upgrade(shard, project.scripts())
        assert failed.value.is_half_done is url.startswith("mysql")
        project.write_revision("r1", None, BODY)
        assert upgrade(shard, project.scripts()).applied == ("r1",)
        return fleet

    yield migrate
    for engine in opened:
        engine.dispose()


@pytest.mark.parametrize(
    "options",
    ["", "isolation_level='AUTOCOMMIT'", "isolation_level='SERIALIZABLE'", "poolclass=StaticPool", "pool_size=1"],
)
def test_a_revision_is_applied_once_and_whole(options: str, migrated: Migrated, databases: Databases) -> None:
    fleet = migrated(f"made = application(create_engine(url, {options}))", databases.create("asia"))
    assert in_shard(fleet.shard("asia"), "select id from cities") == [(2,)]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_an_engine_that_translates_and_commits_each_statement(
    engine: str, migrated: Migrated, request: pytest.FixtureRequest
) -> None:
    databases: Databases = request.getfixturevalue(engine)
    url = databases.create("asia")
    schema = make_url(databases.create("own")).database if engine == "mysql" else "own"
    if engine == "postgresql":
        server = create_engine(url, poolclass=NullPool)
        with server.begin() as connection:
            connection.execute(text("create schema own"))
    options = f"isolation_level='AUTOCOMMIT', execution_options={{'schema_translate_map': {{None: {schema!r}}}}}"
    fleet = migrated(f"made = application(create_engine(url, {options}))", url)
    assert in_shard(fleet.shard("asia"), f"select id from {schema}.cities") == [(2,)]


def test_an_engine_that_sends_its_own_begin(migrated: Migrated, tmp_path: Path) -> None:
    fleet = migrated(BEGINS, Databases("sqlite", tmp_path).create("asia"))
    assert in_shard(fleet.shard("asia"), "select id from cities") == [(2,)]


@pytest.mark.skipif(not hasattr(sqlite3, "LEGACY_TRANSACTION_CONTROL"), reason="since Python 3.12")
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_driver_that_controls_transactions(autocommit: bool, migrated: Migrated, tmp_path: Path) -> None:
    source = f"made = application(create_engine(url, connect_args={{'autocommit': {autocommit}}}))"
    fleet = migrated(source, Databases("sqlite", tmp_path).create("asia"))
    assert in_shard(fleet.shard("asia"), "select id from cities") == [(2,)]


def test_a_listener_that_leaves_a_transaction_open(open_app: Opener, postgresql: Databases) -> None:
    source = """
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def connect(dbapi_connection, record):
        dbapi_connection.cursor().execute("set search_path to public")

    made = application(engine)
    """
    fleet = open_app(source, base=APP.format(url=postgresql.create("asia")))
    with pytest.raises(ShardError, match="INTRANS") as failed, fleet.shard("asia").connect():
        pass
    assert failed.value.hint == "have the engine's event listeners commit what they begin"
    fleet.shard("asia").bind.dispose()


def test_a_search_path_of_transactions_alone_is_refused(open_app: Opener, postgresql: Databases) -> None:
    source = """
    engine = create_engine(url)

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("set local search_path to own")

    made = application(engine)
    """
    url = postgresql.create("asia")
    server = create_engine(url, poolclass=NullPool)
    with server.begin() as connection:
        connection.execute(text("create schema own"))
    fleet = open_app(source, base=APP.format(url=url))
    project = Project(postgresql.folder)
    project.write_env()
    project.write_revision("r1", None, BODY)
    with pytest.raises(ShardError, match=r"names lead to `.*\.own` in .* and to `.*\.public` otherwise"):
        upgrade(fleet.shard("asia"), project.scripts())
    with server.connect() as connection:
        assert inspect(connection).get_table_names("public") == inspect(connection).get_table_names("own") == []
    fleet.shard("asia").bind.dispose()
