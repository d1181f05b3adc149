"""Merging for SQLite: in a database in memory of this process, so that its rules of comparison are SQLite's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused, ShardError
from shardctl.query.engines.values import Relation, Row, ValueType, run_as_written

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult

    from shardctl.fleet.live_shard import LiveShard

_BUILT_IN = {"BINARY", "NOCASE", "RTRIM"}
_ANY = ValueType("any", is_text=True)


@dataclass(frozen=True, slots=True)
class SQLite:
    """The rules of SQLite."""

    name: str = "sqlite"
    nulls_low: bool = True

    def types(self, result: CursorResult[Any]) -> tuple[ValueType, ...]:
        description: Any = result.cursor.description if result.cursor is not None else ()
        return tuple(_ANY for _ in description)

    def collation(self, connection: Connection, expression: str, source: str) -> str | None:
        """Return the collation of an expression, by how it compares; a subquery's column keeps it."""
        registered = {str(row[1]) for row in _all(connection, "PRAGMA collation_list")}
        if registered - _BUILT_IN:
            names = ", ".join(f"`{name}`" for name in sorted(registered - _BUILT_IN))
            raise QueryRefused(f"the application adds collations to SQLite ({names}) that cannot be repeated here")
        sql = f"SELECT __v = 'A', __v = 'a ' FROM (SELECT {expression} AS __v {source} WHERE 0 UNION ALL SELECT 'a')"
        row = _all(connection, sql)[0]
        return "NOCASE" if row[0] else "RTRIM" if row[1] else "BINARY"

    def database_collation(self, connection: Connection) -> str | None:
        return None

    def not_scalar(self, connection: Connection, names: Sequence[str]) -> list[str]:
        listed = ", ".join(f"'{name}'" for name in names)
        sql = f"SELECT DISTINCT name FROM pragma_function_list WHERE type <> 's' AND lower(name) IN ({listed})"
        scalar_too = {"min", "max"}  # with several arguments; with one they are found as aggregates
        return [str(row[0]) for row in _all(connection, sql) if row[0] not in scalar_too]

    def prepare_stream(self, connection: Connection) -> None:
        """Do nothing: rows are computed as they are read."""

    def aggregate(self, kind: str, columns: Sequence[str], types: Sequence[ValueType]) -> str:
        match kind:
            case "count":
                return f"COALESCE(sum({columns[0]}), 0)"
            case "avg":
                return f"(total({columns[0]}) / NULLIF(sum({columns[1]}), 0))"
        return f"{kind}({columns[0]})"

    def plan(self, connection: Connection, sql: str) -> list[str]:
        depths = {0: -1}
        lines = []
        for row in run_as_written(connection, f"EXPLAIN QUERY PLAN {sql}"):
            number, parent, _, detail = tuple(row)
            depths[number] = depths.get(parent, -1) + 1
            lines.append("  " * depths[number] + str(detail))
        return lines

    def expected_rows(self, connection: Connection, sql: str) -> tuple[int | None, int | None]:
        return None, None  # it tells nobody what it expects

    def evaluate(self, shard: LiveShard, relation: Relation, sql: str) -> list[Row]:
        columns = ", ".join(
            f"{name} COLLATE {collation or 'BINARY'}"
            for name, collation in zip(relation.names, relation.collations, strict=True)
        )
        marks = ", ".join("?" for _ in relation.names)
        with closing(sqlite3.connect(":memory:")) as database:
            try:
                database.execute(f"CREATE TABLE __p ({columns})")
                database.executemany(f"INSERT INTO __p VALUES ({marks})", relation.rows)
                return database.execute(sql).fetchall()
            except sqlite3.Error as error:
                raise ShardError(f"merging the shards' answers failed: {error}") from error


def _all(connection: Connection, sql: str) -> Sequence[Any]:
    return run_as_written(connection, sql).fetchall()


SQLITE = SQLite()
