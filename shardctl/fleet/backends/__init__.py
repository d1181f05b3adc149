"""What differs between database engines, one module each.

A backend never holds a connection: it is given one, and says or does what its engine needs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from shardctl.fleet.backends.mysql import MYSQL
from shardctl.fleet.backends.postgresql import POSTGRESQL
from shardctl.fleet.backends.sqlite import SQLITE

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine


class Keeper(Protocol):
    """What keeping a connection needs of an engine."""

    def place(self, url: URL) -> Hashable:
        """Return what tells a database from another one that gets its name; None where no connection outlives it."""
        ...

    def prepare(self, connection: Connection) -> None:
        """Prepare a new connection that will be kept."""
        ...

    def begin(self, connection: Connection) -> None:
        """Begin to read one snapshot, read-only; this fails if the connection was lost since it was used."""
        ...

    def end(self, connection: Connection) -> None:
        """Roll back all that was done, so that the connection is as it was before."""
        ...


class Backend(Protocol):
    """The differences between engines that shardctl has to know."""

    @property
    def name(self) -> str:
        """The engine as people call it."""
        ...

    @property
    def extra(self) -> str | None:
        """The extra of shardctl that installs the default driver."""
        ...

    @property
    def driver(self) -> str | None:
        """The driver to use where the URL names none."""
        ...

    @property
    def is_transactional_ddl(self) -> bool:
        """Whether CREATE and ALTER can be rolled back."""
        ...

    @property
    def is_interruptible(self) -> bool:
        """Whether the default driver gives up waiting at ^C, and has the server do so too."""
        ...

    def server(self, url: URL) -> str:
        """Name the server, so that connections to it can be counted."""
        ...

    def connect_args(self, timeout_s: float) -> dict[str, Any]:
        """Return what limits the time to connect."""
        ...

    def limit_greeting(self, engine: Engine) -> None:
        """Limit what `connect_args` leaves without a limit."""
        ...

    def check_reachable(self, url: URL) -> None:
        """Raise ShardUnreachable for what a driver would paper over."""
        ...

    def lacks_database(self, url: URL, engine_for: EngineFor) -> str | None:
        """Say what is missing (`database`, `file`), or None if the database is there.

        Raises:
            ShardUnreachable: The server does not answer.
        """
        ...

    def create_database(self, url: URL, engine_for: EngineFor) -> str | None:
        """Create the database that the URL names, if it is missing; return what was created."""
        ...

    def create_schema(self, connection: Connection, schema: str) -> bool:
        """Create a schema if it is missing."""
        ...

    def use_schema(self, dbapi_connection: Any, schema: str) -> None:
        """Make unqualified names mean this schema, for good."""
        ...

    def begin_read_only(self, connection: Connection) -> None:
        """Make the database refuse writes on this connection; reads see one snapshot."""
        ...

    def end_read_only(self, connection: Connection) -> None:
        """Undo `begin_read_only`, for a connection that goes back to an application's pool."""
        ...

    def keeper(self, engine: Engine) -> Keeper | None:
        """Return how connections that only read stay open for the next query; None: they do not."""
        ...

    def autocommit(self, connection: Connection) -> AbstractContextManager[None]:
        """Commit what runs inside, with as few round trips as the engine allows; nothing is in a transaction after."""
        ...

    def cancel(self, engine: Engine, dbapi_connection: Any) -> None:
        """Stop the statement that runs on a connection, from another thread."""
        ...


class EngineFor(Protocol):
    """Makes an engine without a pool for a URL."""

    def __call__(self, url: URL) -> Engine: ...


BACKENDS: Mapping[str, Backend] = {
    "sqlite": SQLITE,
    "postgresql": POSTGRESQL,
    "mysql": MYSQL,
    "mariadb": MYSQL,
}
