"""One run at a time on a shard: a lock that dies with the run that holds it.

On a server it belongs to the session that migrates, so that lock and work end together. It is asked for again and
again, never waited for inside the server: a waiting session has a snapshot, and `CREATE INDEX CONCURRENTLY` waits for
those.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from shardctl.errors import Interrupted, Locked, Refused
from shardctl.fleet import LiveShard
from shardctl.fleet.backends.sqlite import database_file
from shardctl.schema.events import LockWaited, OnEvent
from shardctl.schema.file_lock import FileLock, Holder
from shardctl.schema.history import read_running

GRACE_S = 0.3
"""A session that was closed, or whose client died, lets go a moment later."""
LONGEST_POLL_S = 1.0

# In one statement, and so in one session even behind a pooler.
_KEY_OF = "hashtextextended('shardctl ' || current_database() || '.' || coalesce({}, ''), 0)"
_KEY = _KEY_OF.format("current_schema()")
_PG_HELD = """
FROM pg_catalog.pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND (classid::bigint << 32) | objid::bigint = :key"""
_PG_TAKE = text(f"SELECT {_KEY} AS key, pg_try_advisory_lock({_KEY}) AS taken")
_PG_IS_OURS = text(f"SELECT count(*) {_PG_HELD} AND pid = pg_backend_pid()")
_PG_IS_HELD = text(
    f"SELECT count(*) {_PG_HELD}".replace(":key", _KEY_OF.format("cast(:schema AS text), current_schema()"))
)
_PG_HOLDER = text(f"""
SELECT pid, usename, application_name, client_addr, backend_start
FROM pg_catalog.pg_stat_activity WHERE pid IN (SELECT pid {_PG_HELD})""")


class ShardLock(Protocol):
    """The lock of one shard."""

    def take(self, connection: Connection) -> bool:
        """Take it if it is free."""
        ...

    def holder(self, connection: Connection) -> Holder | None:
        """Return who has it; None if that cannot be known, or it is free by now."""
        ...

    def release(self, connection: Connection) -> None:
        """Let go of it."""
        ...


@contextmanager
def held(
    shard: LiveShard,
    connection: Connection,
    *,
    wait_s: float = 0.0,
    stop: threading.Event | None = None,
    on_event: OnEvent | None = None,
) -> Iterator[None]:
    """Hold a shard's lock.

    Args:
        shard: The shard.
        connection: The connection that works on it, outside a transaction.
        wait_s: Seconds to wait for the lock.
        stop: Ends the waiting.
        on_event: Told when it is waited for.

    Raises:
        Locked: Another run holds it.
        Refused: A pooler gives the session of one transaction to the next.
        Interrupted: `stop` was set.
    """
    lock = _lock_of(shard)
    _wait(shard, lock, connection, wait_s, stop or threading.Event(), on_event)
    try:
        yield
    finally:
        _release(shard, lock, connection)


def is_held(shard: LiveShard, connection: Connection, schema: str | None = None) -> bool:
    """Say whether a run is at work on a shard; nothing is locked for it that a run would wait for.

    Args:
        shard: The shard.
        connection: A connection to its server.
        schema: The shard's schema, or on MySQL its database; None: that of the connection.
    """
    if shard.backend.name == "postgresql":
        return bool(connection.execute(_PG_IS_HELD, {"schema": schema}).scalar())
    if shard.backend.name == "sqlite":
        return FileLock(database_file(shard.engine.url)).is_held()
    database = schema or str(connection.exec_driver_sql("SELECT database()").scalar())
    return connection.execute(text("SELECT IS_USED_LOCK(:name)"), {"name": _mysql_name(database)}).scalar() is not None


def _wait(
    shard: LiveShard,
    lock: ShardLock,
    connection: Connection,
    wait_s: float,
    stop: threading.Event,
    on_event: OnEvent | None,
) -> None:
    deadline = time.monotonic() + max(wait_s, GRACE_S)
    is_told, poll_s = False, 0.05
    while not _take(shard, lock, connection):
        holder = _holder(shard, lock, connection)
        if time.monotonic() >= deadline:
            raise _locked(holder, wait_s)
        if wait_s > GRACE_S and not is_told and on_event is not None:
            is_told = True
            on_event(LockWaited(shard.shard_id, str(holder or "another run"), wait_s))
        if stop.wait(min(poll_s * random.uniform(0.5, 1.0), max(0.0, deadline - time.monotonic()))):
            raise Interrupted("stopped while it waited for another run")
        poll_s = min(LONGEST_POLL_S, poll_s * 2)


def _take(shard: LiveShard, lock: ShardLock, connection: Connection) -> bool:
    with shard.backend.autocommit(connection):
        return lock.take(connection)


def _holder(shard: LiveShard, lock: ShardLock, connection: Connection) -> Holder | None:
    with shard.backend.autocommit(connection):
        return lock.holder(connection)


def _release(shard: LiveShard, lock: ShardLock, connection: Connection) -> None:
    if isinstance(lock, FileLock):
        lock.release(connection)
    elif not connection.closed and not connection.invalidated:
        # Not left to the end of the session: servers notice it some time later.
        with suppress(SQLAlchemyError), shard.backend.autocommit(connection):
            lock.release(connection)


def _locked(holder: Holder | None, wait_s: float) -> Locked:
    waited = f" after {wait_s:g} s" if wait_s else ""
    return Locked(
        f"another run is at work on it{waited}: {holder or 'it does not say who it is'}",
        hint="wait for it with `--lock-wait 60`; of a run that died, a statement may go on in the server for a while",
    )


def _lock_of(shard: LiveShard) -> ShardLock:
    if shard.backend.name == "postgresql":
        return _PostgreSQLLock()
    if shard.backend.name == "sqlite":
        return FileLock(database_file(shard.engine.url))
    return _MySQLLock()


@dataclass(slots=True)
class _PostgreSQLLock:
    """An advisory lock: one for each schema of a database."""

    key: int = 0

    def take(self, connection: Connection) -> bool:
        row = connection.execute(_PG_TAKE).one()
        self.key = row.key
        if not row.taken:
            return False
        if not connection.execute(_PG_IS_OURS, {"key": self.key}).scalar():
            raise Refused(
                "the shard's lock was lost with the first transaction: a pooler (PgBouncer's `pool_mode = transaction`)"
                " gives every transaction another session",
                hint="give shardctl a URL that leads to the server itself, or to a pool in session mode",
            )
        return True

    def holder(self, connection: Connection) -> Holder | None:
        row = connection.execute(_PG_HOLDER, {"key": self.key}).first()
        if row is None:
            return None
        name, _, pid = row.application_name.rpartition(" pid ")
        if name.startswith("shardctl ") and pid.isdigit():
            return Holder(name.removeprefix("shardctl "), int(pid), row.backend_start)
        place = f" at {row.client_addr}" if row.client_addr else ""
        return Holder(f"a session of `{row.usename}`{place}, server process {row.pid}", None, row.backend_start)

    def release(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": self.key})


def _mysql_name(database: str) -> str:
    digest = hashlib.sha256(database.encode()).hexdigest()
    return f"shardctl {database[:30]} {digest[:16]}"  # 64 characters at most, whatever their case


@dataclass(slots=True)
class _MySQLLock:
    """A lock of the server's, named after the database."""

    name: str = ""

    def take(self, connection: Connection) -> bool:
        if not self.name:
            database = str(connection.exec_driver_sql("SELECT database()").scalar())
            self.name = _mysql_name(database)
        return bool(connection.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": self.name}).scalar())

    def holder(self, connection: Connection) -> Holder | None:
        session = connection.execute(text("SELECT IS_USED_LOCK(:name)"), {"name": self.name}).scalar()
        if session is None:
            return None
        # The server does not know the client's process: the run itself has written it down, unless it only starts.
        running = read_running(connection)
        if running is not None:
            return Holder(running.who, running.pid, running.started_at)
        return Holder(f"session {session} of the server", None, None)

    def release(self, connection: Connection) -> None:
        connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": self.name})
