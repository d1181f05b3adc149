"""The statements of a connection, one by one, before they run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event

from shardctl.schema.mysql_statements import Kind, kind_of

OPTION = "shardctl_watcher"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that is about to run."""

    cursor: Any
    text: str
    parameters: Any
    context: Any
    run: Callable[[], None]

    @property
    def connection(self) -> Connection:
        return self.context.root_connection  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.text}\n{self.parameters!r}".encode()).hexdigest()

    @property
    def is_autocommit(self) -> bool:
        return self.connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"

    @property
    def kind(self) -> Kind:
        return kind_of(self.text)

    def is_disconnect(self, error: Any) -> bool:
        """Whether the server may not have said how the statement ended."""
        dialect, cursor = self.connection.dialect, self.cursor
        is_driver_error = isinstance(error, dialect.loaded_dbapi.Error)
        return is_driver_error and dialect.is_disconnect(error, self.connection.connection, cursor)

    def commit(self) -> None:
        self.connection.dialect.do_commit(self.connection.connection)


Watcher = Callable[[Statement], None]


def watch_statements(connection: Connection, watcher: Watcher | None) -> None:
    """Have a watcher run each statement of a connection, or not run it; None: as ever."""
    connection.execution_options(**{OPTION: watcher})
    if watcher is None:
        return
    # For good, and once: other threads may use the dialect.
    for name, listener in (
        ("do_execute", _do_execute),
        ("do_executemany", _do_executemany),
        ("do_execute_no_params", _do_execute_no_params),
    ):
        if not event.contains(connection.dialect, name, listener):
            event.listen(connection.dialect, name, listener)


def _do_execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    return _execute(cursor, statement, parameters, context, context.dialect.do_execute)


def _do_executemany(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    return _execute(cursor, statement, parameters, context, context.dialect.do_executemany)


def _do_execute_no_params(cursor: Any, statement: str, context: Any) -> bool:
    def run(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        context.dialect.do_execute_no_params(cursor, statement, context)

    return _execute(cursor, statement, None, context, run)


def _execute(cursor: Any, statement: str, parameters: Any, context: Any, run: Any) -> bool:
    watcher = context.root_connection.get_execution_options().get(OPTION) if context is not None else None
    if watcher is None:
        return False
    watcher(Statement(cursor, statement, parameters, context, lambda: run(cursor, statement, parameters, context)))
    return True
