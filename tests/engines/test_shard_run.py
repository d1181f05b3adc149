"""A run on one shard where others are in the way, or env.py has done something with the connection."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from shardctl.errors import Interrupted, ShardctlError
from shardctl.fleet import LiveShard
from shardctl.schema.apply import upgrade
from shardctl.schema.events import Event, Retried, RevisionFinished
from shardctl.schema.limits import Terms
from shardctl.schema.locks import _mysql_name
from shardctl.schema.results import MigrationFailed
from tests.fixtures.engines import Databases
from tests.fixtures.projects import GENERIC_ENV, Project, create_places, in_shard, place_shards

CREATE = "op.create_table('zips', sa.Column('id', sa.Integer(), primary_key=True))"
SHORT = Terms(lock_timeout_s=1, retries=1)

IN_ITS_OWN_TRANSACTION = """
from alembic import context

connection = context.config.attributes["connection"]
with connection.begin():
    context.configure(connection=connection)
    context.run_migrations()
"""
AFTER_A_LOOK = """
import sqlalchemy as sa
from alembic import context

connection = context.config.attributes["connection"]
connection.execute(sa.text("select count(*) from cities")).scalar()
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
AFTER_THE_SESSION_DIED = """
import sqlalchemy as sa
from alembic import context

connection = context.config.attributes["connection"]
kill = {"postgresql": "select pg_terminate_backend(pg_backend_pid())"}.get(connection.dialect.name)
try:
    connection.execute(sa.text(kill or f"kill {connection.execute(sa.text('select connection_id()')).scalar()}"))
except sa.exc.DBAPIError:
    connection.rollback()
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""
LIMIT = {
    "postgresql": "select extract(epoch from current_setting('lock_timeout')::interval)::int",
    "mysql": "select @@lock_wait_timeout",
    "sqlite": "select timeout / 1000 from pragma_busy_timeout",
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, "op.create_table('cities', sa.Column('id', sa.Integer(), primary_key=True))")
    return made


@pytest.fixture
def shard(project: Project, databases: Databases) -> LiveShard:
    """A shard at `r1`."""
    place_shards(
        project, f"{databases.engine} {'files' if databases.engine == 'sqlite' else 'databases'}", databases, ["n0"]
    )
    fleet = project.open()
    create_places(fleet, databases)
    upgrade(fleet.shards["n0"], project.scripts())
    return fleet.shards["n0"]


@contextmanager
def reading(shard: LiveShard) -> Iterator[None]:
    """Be in the middle of a long read of `cities`."""
    with shard.engine.connect() as connection, connection.execute(text("select * from cities")) as rows:
        rows.fetchone()
        yield


def found(shard: LiveShard, table: str) -> bool:
    try:
        in_shard(shard, f"select 1 from {table}")
    except Exception:
        return False
    return True


def test_a_commit_that_waits_for_a_reader_is_given_up_and_undone(project: Project, shard: LiveShard) -> None:
    if shard.backend.name != "sqlite":
        pytest.skip("elsewhere readers are in nobody's way")
    project.write_revision("r2", "r1", CREATE)
    in_shard(shard, "insert into cities values (1), (2)")
    seen: list[Event] = []

    def tell(event: Event) -> None:
        seen.append(event)
        if isinstance(event, Retried):  # the application may read meanwhile
            other = sqlite3.connect(str(shard.engine.url.database), timeout=0)
            assert other.execute("select count(*) from cities").fetchone() == (2,)
            other.close()

    stop = threading.Event()
    timer = threading.Timer(60, stop.set)
    timer.start()
    with reading(shard), pytest.raises(MigrationFailed) as caught:
        upgrade(shard, project.scripts(), terms=Terms(lock_timeout_s=0.05, retries=2), on_event=tell, stop=stop)
    timer.cancel()
    assert caught.value.facts[-1] == "rolled back: still at `r1`"
    assert caught.value.to == ("r1",)
    assert [event.attempt for event in seen if isinstance(event, Retried)] == [1, 2]
    assert not [event for event in seen if isinstance(event, RevisionFinished)]
    assert upgrade(shard, project.scripts()).to == ("r2",)


@pytest.mark.parametrize("env", [GENERIC_ENV, IN_ITS_OWN_TRANSACTION, AFTER_A_LOOK])
def test_limits_hold_whatever_env_py_began(env: str, project: Project, shard: LiveShard) -> None:
    project.write_env(env)
    limit = f"op.get_bind().execute(sa.text({LIMIT[shard.backend.name]!r})).scalar()"
    project.write_revision("r2", "r1", f"assert {limit} == 3\n{CREATE}")
    result = upgrade(shard, project.scripts(), terms=Terms(lock_timeout_s=3))
    assert (result.to, result.applied) == (("r2",), ("r2",))


def test_a_session_that_takes_the_place_of_another_takes_the_lock(project: Project, shard: LiveShard) -> None:
    if shard.backend.name == "sqlite":
        pytest.skip("the lock of a file is not the session's")
    project.write_env(AFTER_THE_SESSION_DIED)
    locked = {
        "postgresql": "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
        "mysql": f"select is_used_lock('{_mysql_name(str(shard.engine.url.database))}') = connection_id()",
    }[shard.backend.name]
    project.write_revision("r2", "r1", f"assert op.get_bind().execute(sa.text({locked!r})).scalar() == 1\n{CREATE}")
    assert upgrade(shard, project.scripts()).to == ("r2",)


def test_without_its_journal_a_shard_is_left_alone(project: Project, shard: LiveShard) -> None:
    if shard.backend.name != "mysql":
        pytest.skip("no other engine needs a journal")
    in_shard(shard, "alter table shardctl_journal rename column digest to digested")
    project.write_revision("r2", "r1", CREATE)
    with pytest.raises(ShardctlError, match="digest"):
        upgrade(shard, project.scripts())
    assert not found(shard, "zips")


def test_half_a_revision_is_not_called_whole(project: Project, shard: LiveShard) -> None:
    if shard.backend.name != "mysql":
        pytest.skip("elsewhere a revision is undone as a whole")
    project.write_revision("r2", "r1", f"{CREATE}\nop.add_column('cities', sa.Column('name', sa.String(9)))")
    in_shard(shard, "insert into cities values (1), (2)")
    stop = threading.Event()

    def tell(event: Event) -> None:
        if isinstance(event, Retried):
            stop.set()

    with reading(shard), pytest.raises(Interrupted) as caught:
        upgrade(shard, project.scripts(), terms=SHORT, stop=stop, on_event=tell)
    assert caught.value.facts == (
        "the first statement is done, and the next run of `r2` goes on behind; still at `r1`",
    )
    assert upgrade(shard, project.scripts()).to == ("r2",)
