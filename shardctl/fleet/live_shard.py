"""One live shard: its engines, and connections that name it when they fail."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from shardctl.errors import ShardctlError, ShardError, ShardUnreachable
from shardctl.fleet.backends import Backend
from shardctl.topology.model import Shard, ShardState

_IN_TRANSACTION = "connection in transaction status"
"""As psycopg says why it does not begin another one."""
_NO_DATABASE = re.compile(r'database ".*" does not exist|Unknown database ')
"""As PostgreSQL and MySQL say it, where they speak English."""


@dataclass(slots=True, eq=False)
class LiveShard:
    """A shard that can be connected to."""

    shard: Shard
    bind: Engine
    """What a ShardedSession uses for this shard."""
    database: Engine | None
    """For a schema of a database that other shards share: the engine that `bind` is an option of."""
    engine: Engine
    """What shardctl connects with: unqualified names are this shard's own."""
    backend: Backend
    server: str
    """Shards of one server share its connection budget."""
    prepare: Callable[[Connection], None] | None = None
    """Makes a connection of an application's own engine fit for `connect`."""
    may_be_autocommit: bool = False
    """Whether the engine is an application's, whose connections may commit each statement by itself."""
    is_thread_bound: bool = False
    """Whether only the thread that opened the application may connect, as with databases in memory."""
    _open: set[Any] = field(default_factory=set)

    @property
    def shard_id(self) -> str:
        return self.shard.shard_id

    @property
    def is_offline(self) -> bool:
        return self.shard.state is ShardState.OFFLINE

    @property
    def is_connected(self) -> bool:
        """Whether shardctl has a connection open."""
        return bool(self._open)

    def check_reachable(self) -> None:
        """Raise ShardUnreachable for what a driver would paper over, such as a missing file."""
        self.backend.check_reachable(self.engine.url)

    @contextmanager
    def connect(self, *, read_only: bool = True) -> Iterator[Connection]:
        """Open a connection; what is not committed is rolled back at the end.

        Args:
            read_only: Have the database refuse writes, and show one snapshot.

        Raises:
            ShardUnreachable: The shard does not answer, or the login is refused.
            ShardError: A statement failed; the message is the driver's.
        """
        self.check_reachable()
        try:
            connection = self.engine.connect()
        except SQLAlchemyError as error:
            raise self.unreachable(error) from error
        driver_connection = connection.connection.dbapi_connection
        self._open.add(driver_connection)
        try:
            if read_only:
                self.backend.begin_read_only(connection)
            elif self.may_be_autocommit:
                connection.execution_options(isolation_level=connection.default_isolation_level)
            if self.prepare is not None:  # afterwards: SQLAlchemy sets no isolation level on a detached connection
                self.prepare(connection)
            yield connection
        except SQLAlchemyError as error:
            raise self.failure(error) from error
        except self.engine.dialect.loaded_dbapi.Error as error:
            in_transaction = "have the engine's event listeners commit what they begin"
            raise ShardError(
                driver_line(error), hint=in_transaction if _IN_TRANSACTION in str(error) else None
            ) from error
        finally:
            self._open.discard(driver_connection)
            self._close(connection, read_only=read_only)

    def _close(self, connection: Connection, *, read_only: bool) -> None:
        try:
            if not connection.invalidated:
                connection.rollback()
                if read_only:
                    self.backend.end_read_only(connection)
            connection.close()
        except SQLAlchemyError:  # the server went away: the first error said so
            connection.invalidate()

    def cancel(self) -> None:
        """Stop what runs on this shard's open connections."""
        for driver_connection in list(self._open):
            self.backend.cancel(self.engine, driver_connection)

    def unreachable(self, error: SQLAlchemyError) -> ShardUnreachable:
        """Return the error for a connection that could not be made."""
        line = driver_line(error)
        hint = "`shardctl init` creates it" if _NO_DATABASE.search(line) else None
        return ShardUnreachable(f"cannot connect to {self.shard.safe_url}: {line}", hint=hint)

    def failure(self, error: SQLAlchemyError) -> ShardctlError:
        """Return the error for a statement that failed."""
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return ShardUnreachable(f"lost the connection: {driver_line(error)}")
        return ShardError(driver_line(error))


def driver_line(error: BaseException) -> str:
    """Return the driver's own words, on one line, without SQLAlchemy's additions."""
    original = getattr(error, "orig", None) or error
    args = original.args
    if len(args) == 2 and isinstance(args[0], int) and isinstance(args[1], str):
        return f"{args[1]} ({args[0]})"
    lines = [line.strip() for line in str(original).splitlines() if line.strip()]
    if not lines:
        return type(original).__name__
    # psycopg adds the statement with a caret, and one line for each address that it tried.
    return next((line for line in lines if "failed:" in line or "FATAL" in line), lines[0])
