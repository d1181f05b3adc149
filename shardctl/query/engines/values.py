"""Columns of partial results: their types as an engine declares them, and statements sent as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shardctl.errors import ShardError
from shardctl.fleet.live_shard import driver_line
from shardctl.query.parameters import with_values

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ValueType:
    """The type of one column, as far as merging must know it."""

    name: str
    """As the engine declares it, and as messages show it."""
    is_text: bool = False
    """Whether its order and equality depend on a collation."""
    is_known: bool = True
    """Whether values can be compared and sent back to the engine without loss."""


class HasCursor(Protocol):
    """A result: SQLAlchemy's, or one that is read by the driver's cursor alone."""

    @property
    def cursor(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Relation:
    """Rows with typed columns, to be read as a table by the engine that they came from."""

    names: tuple[str, ...]
    types: tuple[ValueType, ...]
    collations: tuple[str | None, ...]
    rows: Sequence[Row]


def run_as_written(connection: Connection, sql: str, **execution_options: Any) -> CursorResult[Any]:
    """Run SQL text as it is: no driver must take its `%` or `:` for a placeholder, unless a value is bound to it."""
    statement = with_values(sql)
    if statement is not None:
        return connection.execute(statement, execution_options=execution_options)
    return connection.exec_driver_sql(sql, execution_options={"no_parameters": True, **execution_options})


@contextmanager
def driver_errors(connection: Connection) -> Iterator[None]:
    """Name errors of a driver that is used past SQLAlchemy.

    Raises:
        ShardError: The driver raised an error.
    """
    try:
        yield
    except connection.dialect.loaded_dbapi.Error as error:
        raise ShardError(driver_line(error)) from error
