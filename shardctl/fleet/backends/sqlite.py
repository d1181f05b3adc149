"""SQLite: a shard is a file, or a file attached as a schema."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardctl.errors import ShardError, ShardUnreachable
from shardctl.fleet.backends.server import committed

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

    from shardctl.fleet.backends import EngineFor, Keeper


class _Keeper:
    """Keeping connections to files."""

    def place(self, url: URL) -> Hashable:
        file = database_file(url)
        assert file is not None
        found = file.stat()
        return found.st_dev, found.st_ino  # no other file gets this number while the connection has it open

    def prepare(self, connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.rollback()

    def begin(self, connection: Connection) -> None:
        """Do nothing: a statement is one snapshot, and nothing can be lost."""

    def end(self, connection: Connection) -> None:
        connection.rollback()


@dataclass(frozen=True, slots=True)
class SQLite:
    """The SQLite backend."""

    name: str = "sqlite"
    extra: str | None = None
    driver: str | None = None
    is_transactional_ddl: bool = True
    is_interruptible: bool = False

    def server(self, url: URL) -> str:
        return f"sqlite:{url.database}"

    def connect_args(self, timeout_s: float) -> dict[str, Any]:
        return {"timeout": min(timeout_s, 5.0)}  # of waiting for another process's lock

    def limit_greeting(self, engine: Engine) -> None:
        """Do nothing: there is no server."""

    def check_reachable(self, url: URL) -> None:
        """Refuse a missing file: the driver would make an empty one."""
        file = database_file(url)
        if file is not None and not file.exists():
            raise ShardUnreachable(f"there is no file `{file}`", hint="`shardctl init` creates it")

    def lacks_database(self, url: URL, engine_for: EngineFor) -> str | None:
        file = database_file(url)
        return None if file is None or file.exists() else "file"

    def create_database(self, url: URL, engine_for: EngineFor) -> str | None:
        file = database_file(url)
        if file is None or file.exists():
            return None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(exist_ok=False)
        except OSError as error:
            if file.is_file():  # another shard of this file was quicker
                return None
            raise ShardError(f"cannot create `{file}`: {error.strerror}") from error
        return "file"

    def create_schema(self, connection: Connection, schema: str) -> bool:
        return False  # an attached file is opened as `main` and is a database of its own

    def use_schema(self, dbapi_connection: Any, schema: str) -> None:
        raise NotImplementedError("an attached file is opened as `main` instead")

    def begin_read_only(self, connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = ON")

    def end_read_only(self, connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = OFF")

    def keeper(self, engine: Engine) -> Keeper | None:
        return _Keeper() if engine.driver == "pysqlite" and database_file(engine.url) is not None else None

    def autocommit(self, connection: Connection) -> AbstractContextManager[None]:
        return committed(connection)

    def cancel(self, engine: Engine, dbapi_connection: Any) -> None:
        with suppress(Exception):  # it may be closed by now
            dbapi_connection.interrupt()


def database_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL, or None for a database in memory."""
    return _file(url.database)


@lru_cache(maxsize=4096)
def _file(database: str | None) -> Path | None:
    if not database or database == ":memory:" or "mode=memory" in database:
        return None
    return Path(database.removeprefix("file:"))


SQLITE = SQLite()
