"""One transaction per revision on SQLite, which has transactional DDL although Alembic and the driver do not use it.

Without it a revision that fails or is killed at its third statement leaves the first two behind, and running it again
dies on "already exists".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from shardctl.errors import ShardError
from shardctl.fleet.live_shard import driver_line


@contextmanager
def whole_revisions(connection: Connection) -> Iterator[None]:
    """Have a SQLite connection begin its transactions itself; do nothing on other engines."""
    if connection.dialect.name != "sqlite":
        yield
        return
    connection.rollback()
    driver: Any = connection.connection.driver_connection
    isolation_level, foreign_keys = driver.isolation_level, _foreign_keys(driver)
    driver.isolation_level = None
    # Recreating a table drops it: with foreign keys on, rows that refer to it would be deleted. Inside a transaction
    # this pragma does nothing.
    driver.execute("PRAGMA foreign_keys = OFF")
    event.listen(connection, "begin", _begin_immediate)
    try:
        yield
    finally:
        # Even with nothing to write, the COMMIT of a BEGIN IMMEDIATE waits for readers.
        event.remove(connection, "begin", _begin_immediate)
        if not connection.closed and not connection.invalidated:
            connection.rollback()
            # A COMMIT that a reader is in the way of leaves the transaction open, and SQLAlchemy takes it for over.
            driver.rollback()
            driver.execute(f"PRAGMA foreign_keys = {foreign_keys}")
            driver.isolation_level = isolation_level


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
    driver: Any = connection.connection.driver_connection
    if not is_autocommit and not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


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
