"""One live shard: its engines, and connections that name it when they fail."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from shardctl.errors import ShardctlError, ShardError, ShardUnreachable
from shardctl.fleet.backends import Backend
from shardctl.fleet.kept import Kept
from shardctl.fleet.use import Use
from shardctl.topology.model import Shard, ShardState

T = TypeVar("T")

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
    kept: Kept | None = None
    """The server's connections that stay open for the next query; None: an application's engines keep their own."""
    _open: set[Any] = field(default_factory=set)
    _given_up: set[Any] = field(default_factory=set)
    """Of `_open`: what was cancelled, which may reach the server only when something else runs."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

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
    def connect(self, *, read_only: bool = True, keep: bool = False) -> Iterator[Connection]:
        """Open a connection; what is not committed is rolled back at the end.

        Args:
            read_only: Have the database refuse writes, and show one snapshot.
            keep: Take a connection that was kept for reading, if there is one, and keep it again if nothing fails.
                What runs on it must leave nothing behind but what a rollback undoes.

        Raises:
            ShardUnreachable: The shard does not answer, or the login is refused.
            ShardError: A statement failed; the message is the driver's.
        """
        self.check_reachable()
        with self._using(Use(self, read_only=read_only, keep=keep)) as connection:
            yield connection

    def read(self, run: Callable[[Connection], T]) -> T:
        """Run a function that only reads on a connection that is kept, and once more if that one had been lost.

        A transaction is begun by what the function sends first, or, on connections that cannot be kept, before.

        Raises:
            ShardUnreachable: As by `connect`, and so is ShardError.
        """
        self.check_reachable()
        use = Use(self, read_only=True, keep=True, begins=False)
        try:
            with self._using(use) as connection:
                return run(connection)
        except ShardUnreachable:
            if not use.was_kept:
                raise
        with self._using(Use(self, read_only=True, keep=True, begins=False, is_fresh=True)) as connection:
            return run(connection)

    @contextmanager
    def _using(self, use: Use) -> Iterator[Connection]:
        is_well = False
        try:
            use.begin()
            yield use.connection
            is_well = True
        except SQLAlchemyError as error:
            raise self.failure(error) from error
        except self.engine.dialect.loaded_dbapi.Error as error:
            in_transaction = "have the engine's event listeners commit what they begin"
            raise ShardError(
                driver_line(error), hint=in_transaction if _IN_TRANSACTION in str(error) else None
            ) from error
        finally:
            use.end(well=is_well)

    def note_open(self, connection: Connection) -> Any:
        """Have `cancel` know a connection, and return what the driver calls it."""
        driver_connection = connection.connection.dbapi_connection
        with self._lock:
            self._open.add(driver_connection)
        return driver_connection

    def is_given_up(self, driver_connection: Any) -> bool:
        """Say whether a connection was cancelled, and have `cancel` forget it."""
        with self._lock:
            self._open.discard(driver_connection)
            is_given_up = driver_connection in self._given_up
            self._given_up.discard(driver_connection)
        return is_given_up

    def cancel(self) -> None:
        """Stop what runs on this shard's open connections."""
        with self._lock:
            given_up = list(self._open)
            self._given_up.update(given_up)
        for driver_connection in given_up:
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
