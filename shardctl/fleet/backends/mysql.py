"""MySQL and MariaDB: a shard is a database, which is what these servers call a schema."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, text

from shardctl.fleet.backends.server import committed, on_server
from shardctl.fleet.quoting import quoted_name

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

    from shardctl.fleet.backends import EngineFor, Keeper


@dataclass(frozen=True, slots=True)
class MySQL:
    """The MySQL and MariaDB backend."""

    name: str = "mysql"
    extra: str | None = "mysql"
    driver: str | None = "pymysql"
    is_transactional_ddl: bool = False
    is_interruptible: bool = False

    def server(self, url: URL) -> str:
        return f"mysql:{url.host or 'local'}:{url.port or 3306}"

    def connect_args(self, timeout_s: float) -> dict[str, Any]:
        return {"connect_timeout": max(1, round(min(timeout_s, 10.0)))}

    def limit_greeting(self, engine: Engine) -> None:
        """Also give up on a server that takes the connection and says nothing, which PyMySQL would wait for."""

        def connect(dialect: Any, record: object, args: Any, params: dict[str, Any]) -> Any:
            if "read_timeout" in params:
                return None  # the URL says how long
            connection = dialect.connect(*args, **params, read_timeout=params["connect_timeout"])
            connection._read_timeout = None  # statements may take longer
            return connection

        if engine.driver == "pymysql":
            event.listen(engine, "do_connect", connect)

    def check_reachable(self, url: URL) -> None:
        """Leave it to the server to answer."""

    def lacks_database(self, url: URL, engine_for: EngineFor) -> str | None:
        with on_server(engine_for(url.set(database=""))) as connection:
            exists = connection.execute(
                text("select 1 from information_schema.schemata where schema_name = :name"), {"name": url.database}
            ).scalar()
            return None if exists else "database"

    def create_database(self, url: URL, engine_for: EngineFor) -> str | None:
        if self.lacks_database(url, engine_for) is None:
            return None
        with on_server(engine_for(url.set(database=""))) as connection:
            quoted = connection.dialect.identifier_preparer.quote_identifier(str(url.database))
            connection.exec_driver_sql(f"CREATE DATABASE {quoted}")
        return "database"

    def create_schema(self, connection: Connection, schema: str) -> bool:
        return False  # the schema is the database

    def use_schema(self, dbapi_connection: Any, schema: str) -> None:
        with closing(dbapi_connection.cursor()) as cursor:
            cursor.execute(f"USE {quoted_name(schema, 'mysql')}")

    def begin_read_only(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.commit()  # it holds from the next transaction on

    def end_read_only(self, connection: Connection) -> None:
        """Do nothing: connections to a server are closed after use, not returned."""

    def keeper(self, engine: Engine) -> Keeper | None:
        return None  # a SELECT may leave variables and locks behind, which no rollback undoes

    def autocommit(self, connection: Connection) -> AbstractContextManager[None]:
        return committed(connection)

    def cancel(self, engine: Engine, dbapi_connection: Any) -> None:
        with suppress(Exception):  # it may be closed by now
            thread_id = dbapi_connection.thread_id()
            with engine.connect() as connection:
                connection.exec_driver_sql(f"KILL QUERY {thread_id:d}")


MYSQL = MySQL()
