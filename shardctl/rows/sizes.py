"""How many rows and bytes the tables of shards have, as far as their engines know without counting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal, select, table, text, union_all
from sqlalchemy.exc import OperationalError

from shardctl.errors import ShardctlError, ShardError
from shardctl.fleet.survey import Place
from shardctl.rows import size_queries

COUNTED_BYTES = 64_000_000
"""SQLite estimates nothing by itself: tables of files up to this size are counted, which takes a moment only."""

_TABLES_AT_ONCE = 100
"""Tables in one statement that counts; SQLite takes 500."""


class Known(StrEnum):
    """How a number is known."""

    EXACT = "exact"
    ESTIMATE = "estimate"


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table on one shard."""

    rows: int | None
    """None: the engine has no estimate yet."""
    rows_are: Known
    bytes: int | None
    """With indexes; None: SQLite was built without the means to tell."""
    bytes_are: Known
    is_denied: bool = False
    """Whether this login may not read the table, so that it cannot be counted."""


@dataclass(frozen=True, slots=True)
class ShardSize:
    """The tables of one shard, by name."""

    tables: Mapping[str, TableSize] = field(default_factory=dict)
    file_bytes: int | None = None
    """SQLite's whole file, with what is free in it."""

    @property
    def bytes(self) -> int | None:
        """Return the bytes of SQLite's file, or of all tables; None if they are not known of each."""
        if self.file_bytes is not None:
            return self.file_bytes
        known = [size.bytes for size in self.tables.values() if size.bytes is not None]
        return sum(known) if len(known) == len(self.tables) else None

    @property
    def bytes_are(self) -> str:
        """Return what `bytes` is of: `file`, `exact` or `estimate`."""
        if self.file_bytes is not None:
            return "file"
        are = {size.bytes_are for size in self.tables.values()}
        return (Known.ESTIMATE if Known.ESTIMATE in are else Known.EXACT).value

    def rows(self, *, without: Iterable[str] = ()) -> tuple[int | None, Known]:
        """Return the rows of all tables but some, and how they are known; None if they are not known of each."""
        left_out = set(without)
        sizes = [size for name, size in self.tables.items() if name not in left_out]
        known = [size.rows for size in sizes if size.rows is not None]
        is_exact = all(size.rows_are is Known.EXACT for size in sizes)
        return (sum(known) if len(known) == len(sizes) else None), Known.EXACT if is_exact else Known.ESTIMATE


def read_sizes(connection: Connection, places: Sequence[Place]) -> Mapping[str, ShardSize | ShardctlError]:
    """Return the sizes of shards' tables, by the shards' names, with one statement on a server.

    A schema that this login cannot see is left out, or an error.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        return {places[0].shard.shard_id: _of_file(connection)}
    dialect = "mysql" if dialect == "mariadb" else dialect
    _look_now(connection)
    if places[0].schema is None:
        rows = connection.execute(text(size_queries.OF_CONNECTION[dialect]))
        return {places[0].shard.shard_id: _shard_size(rows)}
    query = text(size_queries.OF_SCHEMAS[dialect]).bindparams(bindparam("schemas", expanding=True))
    found = defaultdict(list)
    for row in connection.execute(query, {"schemas": [place.schema for place in places]}):
        found[row[0]].append(row)
    return {
        place.shard.shard_id: _of_schema(place.schema, found[place.schema])
        for place in places
        if found[place.schema] or dialect == "postgresql"  # MySQL says itself what is wrong with a missing one
    }


def count_rows(connection: Connection, names: Sequence[str], *, schema: str | None = None) -> dict[str, int]:
    """Count the rows of tables, many in one statement; each statement is a transaction of its own."""
    found: dict[str, int] = {}
    for start in range(0, len(names), _TABLES_AT_ONCE):
        some = names[start : start + _TABLES_AT_ONCE]
        counts = [
            select(literal(index, literal_execute=True).label("number"), func.count().label("rows")).select_from(
                table(name, schema=schema)
            )
            for index, name in enumerate(some)
        ]
        query = counts[0] if len(counts) == 1 else union_all(*counts)
        found |= {some[index]: rows for index, rows in connection.execute(query)}
        connection.rollback()
    return found


def counted(size: ShardSize, rows: Mapping[str, int]) -> ShardSize:
    """Return sizes with the rows that were counted."""
    exact = {name: replace(size.tables[name], rows=number, rows_are=Known.EXACT) for name, number in rows.items()}
    return replace(size, tables={**size.tables, **exact})


def _look_now(connection: Connection) -> None:
    """Have MySQL look, which otherwise answers with what it saw within the last day."""
    version = connection.dialect.server_version_info or ()
    is_mariadb = getattr(connection.dialect, "is_mariadb", False)
    if connection.dialect.name == "mysql" and not is_mariadb and version >= (8,):
        connection.exec_driver_sql("SET SESSION information_schema_stats_expiry = 0")


def _of_schema(schema: str | None, rows: Sequence[Any]) -> ShardSize | ShardctlError:
    if not rows:
        return ShardError(f"there is no schema `{schema}`", hint="`shardctl init` creates it")
    if rows[0][6]:
        return ShardError(f"permission denied for schema `{schema}`")
    return _shard_size(rows)


def _shard_size(rows: Iterable[Any]) -> ShardSize:
    return ShardSize(
        {
            str(name): TableSize(
                None if number is None else int(number),
                Known.ESTIMATE,
                None if size is None else int(size),
                Known.ESTIMATE if is_guess else Known.EXACT,
                bool(is_denied),
            )
            for _, name, number, size, is_guess, is_denied, _ in rows
            if name is not None
        }
    )


def _of_file(connection: Connection) -> ShardSize:
    """Return what a SQLite file has: counted if it is small, otherwise as ANALYZE counted it, if that was run."""
    file_bytes = int(connection.exec_driver_sql(size_queries.SQLITE_FILE).scalar_one())
    names = list(connection.exec_driver_sql(size_queries.SQLITE_TABLES).scalars())
    is_small = file_bytes <= COUNTED_BYTES
    rows = count_rows(connection, names) if is_small else _numbers(connection, size_queries.SQLITE_ESTIMATES)
    size = _numbers(connection, size_queries.SQLITE_BYTES) if is_small else {}
    known = Known.EXACT if is_small else Known.ESTIMATE
    return ShardSize(
        {name: TableSize(rows.get(name), known, size.get(name), Known.EXACT) for name in names}, file_bytes
    )


def _numbers(connection: Connection, query: str) -> dict[str, int]:
    """Return a number for each table, or nothing where SQLite has no such source: not all builds have `dbstat`."""
    try:
        return {str(name): int(number) for name, number in connection.exec_driver_sql(query)}
    except OperationalError as error:
        if "no such table" in str(error):
            return {}
        raise
