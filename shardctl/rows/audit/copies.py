"""The rows of a table's copies, so that copies on different servers, and on different engines, can be compared.

Where all copies are on one engine, values are compared as they are stored: what an application's type makes of them
may hide a difference, or refuse them. Otherwise they are compared as the application reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Select,
    Table,
    Text,
    cast,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.types import CHAR, NCHAR, Date, DateTime, Float, Interval, NullType, Time

from shardctl.errors import ShardError
from shardctl.fleet import LiveShard
from shardctl.rows.audit.exact import Exact, exact, exact_json
from shardctl.rows.audit.finding import Scope, Trouble
from shardctl.rows.audit.keys import Key, Value, engine_of, plain_type, raw
from shardctl.rows.audit.lookup import BATCH
from shardctl.rows.audit.paging import Page, rounds, typed

AT_ONCE = 200_000
"""Rows that are in memory together at the most: pages of all shards, or a table without a primary key."""

_UTC = {"postgresql": "SET LOCAL TimeZone TO 'UTC'", "mysql": "SET time_zone = '+00:00'"}
"""Has times with a zone read as UTC; MySQL's connections are not kept, so that it holds for this one only."""

_TIMES = (Date, DateTime, Time, Interval)

Convert = Callable[[Any], Exact]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a copy."""

    key: Value
    """What the same row of another copy has too."""
    values: tuple[Exact, ...]
    sample: Value
    """Its primary key as a finding shows it, or all of it if it has none."""


@dataclass(frozen=True, slots=True)
class Copies:
    """How the copies of one table are read.

    Args:
        scope: How fast, and for how long.
        table: The table.
        name: What it is called.
        is_mixed: Whether the copies are on several engines.
    """

    scope: Scope
    table: Table
    name: str
    is_mixed: bool

    def pages(self, shards: Sequence[LiveShard]) -> Iterator[tuple[LiveShard, list[Row]] | Trouble]:
        """Yield the rows of copies, page by page; of copies that could not be read, that alone."""
        size = min(self.scope.chunk, max(500, AT_ONCE // len(shards)))
        for found in rounds(self.scope, self.name, shards, lambda *place: self._read(*place, size=size)):
            yield from found

    def again(self, shard: LiveShard, samples: Sequence[Value]) -> list[Row]:
        """Return the rows of a copy that have some keys, as the driver of one on the same engine gave these."""
        rows: list[Row] = []
        with shard.connect(keep=True) as connection:
            key = self._key(connection)
            for start in range(0, len(samples), BATCH):
                chosen = key.one_of(samples[start : start + BATCH])
                rows += self._fetch(connection, key, self._statement(key).where(chosen))[1]
        return rows

    def _read(self, connection: Connection, shard: LiveShard, last: Value | None, *, size: int) -> Page[list[Row]]:
        key = self._key(connection)
        statement = self._statement(key)
        if not key.columns:
            _, rows = self._fetch(connection, key, statement.limit(AT_ONCE + 1))
            return Page(rows, len(rows), None)
        statement = statement.where(*key.between(last, None)).order_by(*key.parts).limit(size)
        raw_rows, rows = self._fetch(connection, key, statement)
        return Page(rows, len(rows), tuple(raw_rows[-1][: len(key.columns)]) if len(rows) == size else None)

    def _key(self, connection: Connection) -> Key:
        return Key(tuple(self.table.primary_key), engine_of(connection.dialect))

    def _statement(self, key: Key) -> Select[Any]:
        return select(
            *(part.label(f"k{place}") for place, part in enumerate(key.parts)),
            *(self._part(column, key.engine).label(f"c{place}") for place, column in enumerate(self.table.columns)),
        )

    def _fetch(
        self, connection: Connection, key: Key, statement: Select[Any]
    ) -> tuple[Sequence[Sequence[Any]], list[Row]]:
        """Return rows as the driver gives them, and as other copies have them."""
        if key.engine in _UTC:
            connection.exec_driver_sql(_UTC[key.engine])
        result = connection.execute(statement)
        assert result.cursor is not None
        width = len(key.columns)
        codes = [entry[1] for entry in result.cursor.description][width:]
        pairs = zip(self.table.columns, codes, strict=True)
        converts = [self._convert(column, code, connection.dialect) for column, code in pairs]
        rows = result.all()
        if not width:
            return rows, self._without_key(rows, converts)
        places = {id(column): place for place, column in enumerate(self.table.columns)}
        in_key = [places[id(column)] for column in key.columns]
        found = []
        for row in rows:
            values = tuple(convert(value) for convert, value in zip(converts, row[width:], strict=True))
            found.append(Row(tuple(values[place] for place in in_key), values, tuple(row[:width])))
        return rows, found

    def _without_key(self, rows: Sequence[Sequence[Any]], converts: Sequence[Convert]) -> list[Row]:
        """Tell equal rows apart by counting them."""
        if len(rows) > AT_ONCE:
            raise ShardError(f"{self.name} has no primary key, and more than {AT_ONCE} rows: it cannot be compared")
        seen: Counter[tuple[Exact, ...]] = Counter()
        found = []
        for row in rows:
            values = tuple(convert(value) for convert, value in zip(converts, row, strict=True))
            seen[values] += 1
            found.append(Row((*values, str(seen[values])), values, tuple(row)))
        return found

    def _part(self, column: Column[Any], engine: str) -> ColumnElement[Any]:
        """Return what is selected for a column."""
        type_ = plain_type(column)
        if engine == "postgresql" and isinstance(type_, JSON):
            return cast(type_coerce(column, NullType()), Text)  # its driver takes JSON's null for NULL
        if self.is_mixed:
            return raw(column)
        if engine == "postgresql" and isinstance(type_, _TIMES):
            return cast(column, Text)  # Python has neither infinity nor years before Christ
        if engine == "mysql" and isinstance(type_, Float):
            return raw(column + literal_column("0e0"))  # a FLOAT by itself is shown with six digits
        return raw(column)

    def _convert(self, column: Column[Any], code: Any, dialect: Dialect) -> Convert:
        """Return what brings a column's values into a form that other copies' have too."""
        type_ = plain_type(column)
        if isinstance(type_, JSON):
            return exact_json
        is_of_sqlite = dialect.name == "sqlite" and isinstance(type_, _TIMES) and type_ is column.type
        if not (self.is_mixed or is_of_sqlite):
            return exact
        process = column.type.dialect_impl(dialect).result_processor(dialect, code)
        if process is None:
            return _exact_without_blanks if isinstance(type_, CHAR | NCHAR) else exact

        def convert(value: Any) -> Exact:
            try:
                return exact(process(value))
            except Exception:  # the application's own code, or a value that the type does not know
                return exact(value)

        return convert

    def shown(self, sample: Value, dialect: Dialect) -> Value:
        """Return a row's primary key as the application reads it."""
        columns = list(self.table.primary_key) or list(self.table.columns)
        return tuple(typed(column, value, dialect) for column, value in zip(columns, sample, strict=True))


def _exact_without_blanks(value: Any) -> Exact:
    """Return the form of a CHAR, which some engines fill up with blanks."""
    return exact(value.rstrip(" ") if isinstance(value, str) else value)
