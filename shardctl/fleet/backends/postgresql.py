"""PostgreSQL: a shard is a database, or a schema of one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, text
from sqlalchemy.schema import CreateSchema

from shardctl.fleet.backends.server import on_server
from shardctl.fleet.quoting import quoted_name

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

    from shardctl.fleet.backends import EngineFor, Keeper

BEGIN_READ_ONLY = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
UNLOCK = "SELECT pg_catalog.pg_advisory_unlock_all()"
"""Of what a session holds until it ends, however its transactions end."""
IS_KEPT = "shardctl_is_kept"
"""The execution option of a connection that is shardctl's own, and kept."""


class _Keeper:
    """Keeping connections of psycopg."""

    def place(self, url: URL) -> Hashable:
        return None

    def prepare(self, connection: Connection) -> None:
        # Transactions are begun by a statement of our own: it shows whether the server is there, or goes with others.
        connection.execution_options(isolation_level="AUTOCOMMIT", **{IS_KEPT: True})
        driver: Any = connection.connection.driver_connection
        driver.prepare_threshold = None  # a statement that is prepared fails once a table has another column

    def begin(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(BEGIN_READ_ONLY)

    def end(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if driver.info.transaction_status != driver.info.transaction_status.IDLE:
            driver.execute(f"ROLLBACK; {UNLOCK}")  # in one go; settings are rolled back too
        connection.rollback()  # SQLAlchemy's own notion of a transaction: nothing is sent


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """The PostgreSQL backend."""

    name: str = "postgresql"
    extra: str | None = "postgresql"
    driver: str | None = "psycopg"
    is_transactional_ddl: bool = True
    is_interruptible: bool = True

    def server(self, url: URL) -> str:
        host = url.host or url.query.get("host") or "local"
        return f"postgresql:{host}:{url.port or 5432}"

    def connect_args(self, timeout_s: float) -> dict[str, Any]:
        return {"connect_timeout": max(1, round(min(timeout_s, 10.0)))}

    def limit_greeting(self, engine: Engine) -> None:
        """Do nothing: libpq's `connect_timeout` covers it."""

    def check_reachable(self, url: URL) -> None:
        """Leave it to the server to answer."""

    def lacks_database(self, url: URL, engine_for: EngineFor) -> str | None:
        with on_server(engine_for(url.set(database="postgres"))) as connection:
            exists = connection.execute(
                text("select 1 from pg_database where datname = :name"), {"name": url.database}
            ).scalar()
            return None if exists else "database"

    def create_database(self, url: URL, engine_for: EngineFor) -> str | None:
        if self.lacks_database(url, engine_for) is None:
            return None
        with on_server(engine_for(url.set(database="postgres"))) as connection:
            quoted = connection.dialect.identifier_preparer.quote(str(url.database))
            connection.exec_driver_sql(f"CREATE DATABASE {quoted}")
        return "database"

    def create_schema(self, connection: Connection, schema: str) -> bool:
        if inspect(connection).has_schema(schema):
            return False
        connection.execute(CreateSchema(schema, if_not_exists=True))
        return True

    def use_schema(self, dbapi_connection: Any, schema: str) -> None:
        """Set the search path to this schema alone.

        With any second schema in it, a version table found there would make an empty shard look migrated, and an ALTER
        of a missing table would fall through.
        """
        was_autocommit = dbapi_connection.autocommit
        dbapi_connection.autocommit = True
        cursor = dbapi_connection.cursor()
        cursor.execute(f"SET SESSION search_path TO {quoted_name(schema, 'postgresql')}")
        cursor.close()
        dbapi_connection.autocommit = was_autocommit

    def begin_read_only(self, connection: Connection) -> None:
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def end_read_only(self, connection: Connection) -> None:
        """Do nothing: connections to a server are closed after use, not returned."""

    def keeper(self, engine: Engine) -> Keeper | None:
        return _Keeper() if engine.driver == "psycopg" else None

    @contextmanager
    def autocommit(self, connection: Connection) -> Iterator[None]:
        connection.rollback()
        driver: Any = connection.connection.dbapi_connection  # `driver_connection` is None once it is detached
        was_autocommit, driver.autocommit = driver.autocommit, True
        try:
            yield
        finally:
            if not connection.closed and not connection.invalidated:
                connection.rollback()  # SQLAlchemy's own notion of a transaction: nothing is sent
                driver.autocommit = was_autocommit

    def cancel(self, engine: Engine, dbapi_connection: Any) -> None:
        with suppress(Exception):  # it may be closed by now
            getattr(dbapi_connection, "cancel_safe", dbapi_connection.cancel)()


POSTGRESQL = PostgreSQL()
