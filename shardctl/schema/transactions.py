"""One transaction per revision on SQLite, which has transactional DDL although Alembic and the driver do not use it.

Without it a revision that fails or is killed at its third statement leaves the first two behind, and running it again
dies on "already exists".
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from shardctl.errors import ShardError
from shardctl.fleet.live_shard import driver_line

_BEGIN = re.compile(r"\s*BEGIN\b", re.IGNORECASE)


@contextmanager
def whole_revisions(connection: Connection) -> Iterator[None]:
    """Have a SQLite connection begin its transactions itself; do nothing on other engines."""
    if connection.dialect.name != "sqlite":
        yield
        return
    connection.rollback()
    driver: Any = connection.connection.dbapi_connection
    autocommit, isolation_level = getattr(driver, "autocommit", None), driver.isolation_level
    if autocommit is not None:  # since Python 3.12: `False` is always in a transaction, `True` ignores commit()
        driver.autocommit = True
        driver.autocommit = sqlite3.LEGACY_TRANSACTION_CONTROL  # type: ignore[attr-defined,unused-ignore]
    driver.isolation_level = None
    foreign_keys = _foreign_keys(driver)
    # Recreating a table drops it: with foreign keys on, rows that refer to it would be deleted. Inside a transaction
    # this pragma does nothing.
    driver.execute("PRAGMA foreign_keys = OFF")
    event.listen(connection, "begin", _begin_immediate)
    event.listen(connection, "before_cursor_execute", _begun_once, retval=True)
    try:
        yield
    finally:
        # Even with nothing to write, the COMMIT of a BEGIN IMMEDIATE waits for readers.
        event.remove(connection, "begin", _begin_immediate)
        event.remove(connection, "before_cursor_execute", _begun_once)
        if not connection.closed and not connection.invalidated:
            connection.rollback()
            # A COMMIT that a reader is in the way of leaves the transaction open, and SQLAlchemy takes it for over.
            driver.rollback()
            driver.execute(f"PRAGMA foreign_keys = {foreign_keys}")
            driver.isolation_level = isolation_level
            if autocommit is not None:
                driver.autocommit = autocommit


def whole_revision_options(connection: Connection) -> dict[str, bool]:
    """Return what `context.configure` has to be told for one transaction per revision."""
    options = {"transaction_per_migration": True}
    if connection.dialect.name == "sqlite":
        options["transactional_ddl"] = True
    return options


def _foreign_keys(driver: Any) -> int:
    return int(driver.execute("PRAGMA foreign_keys").fetchone()[0])


def _begin_immediate(connection: Connection) -> None:
    is_autocommit = connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    driver: Any = connection.connection.dbapi_connection
    if not is_autocommit and not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begun_once(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, is_many: Any
) -> tuple[str, Any]:
    """Take the place of a BEGIN that the application's own listener for `begin` sends, as SQLAlchemy tells it to."""
    is_beginning = getattr(connection, "_Connection__in_begin", False)
    if not is_beginning or not _BEGIN.match(statement):
        return statement, parameters
    driver: Any = connection.connection.dbapi_connection
    return ("SELECT 1" if driver.in_transaction else "BEGIN IMMEDIATE"), parameters


Violations = Counter[tuple[str, str]]
"""Rows without the row that they refer to, by table and table referred to."""


def read_violations(connection: Connection) -> Violations:
    """Count the rows of a SQLite database that break a foreign key; on other engines the server sees to it.

    Migrations run with foreign keys off, so that SQLite itself does not.
    """
    if connection.dialect.name != "sqlite":
        return Counter()
    try:
        rows = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    except OperationalError as error:  # a key refers to columns that are not unique
        return Counter({(driver_line(error), ""): 1})
    return Counter((table, parent) for table, _, parent, _ in rows)


def refuse_violations(before: Violations, after: Violations) -> None:
    """Refuse to commit a revision that leaves rows without the row that they refer to.

    Raises:
        ShardError: It leaves more of them than there were.
    """
    new = after - before
    if new:
        raise ShardError("it breaks foreign keys", facts=[_described(*pair, number) for pair, number in new.items()])


def _described(table: str, parent: str, number: int) -> str:
    if not parent:
        return table
    rows = "1 row refers to a row" if number == 1 else f"{number} rows refer to rows"
    return f"{table}: {rows} that `{parent}` does not have"
