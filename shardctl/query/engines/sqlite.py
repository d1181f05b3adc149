"""Merging for SQLite: in a database in memory of this process, so that its rules of comparison are SQLite's own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused, ShardError
from shardctl.query.engines.values import HasCursor, Relation, Row, ValueType, run_as_written
from shardctl.query.probes import Probe

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.fleet.live_shard import LiveShard

_REGISTERED = """SELECT group_concat(name) FROM (SELECT name FROM pragma_collation_list
 WHERE name NOT IN ('BINARY', 'NOCASE', 'RTRIM') ORDER BY name)"""
_ANY = ValueType("any", is_text=True)


@dataclass(frozen=True, slots=True)
class SQLite:
    """The rules of SQLite."""

    name: str = "sqlite"
    nulls_low: bool = True

    def types(self, result: HasCursor) -> tuple[ValueType, ...]:
        description: Any = result.cursor.description if result.cursor is not None else ()
        return tuple(_ANY for _ in description)

    def collation(self, expression: str, source: str) -> Probe:
        """Ask for the collation of an expression, by how it compares; a subquery's column keeps it."""
        value = f"FROM (SELECT {expression} AS __v {source} WHERE 0 UNION ALL SELECT 'a')"
        return Probe(f"SELECT __v = 'A', __v = 'a ', ({_REGISTERED}) {value}", _read_collation)

    def database_collation(self) -> Probe:
        return Probe(run=lambda _: None)

    def not_scalar(self, names: Sequence[str]) -> Probe:
        listed = ", ".join(f"'{name}'" for name in names)
        sql = f"SELECT DISTINCT name FROM pragma_function_list WHERE type <> 's' AND lower(name) IN ({listed})"
        scalar_too = {"min", "max"}  # with several arguments; with one they are found as aggregates
        return Probe(sql, lambda rows: [str(row[0]) for row in rows if row[0] not in scalar_too])

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


def _read_collation(rows: Sequence[Any]) -> str:
    ignores_case, ignores_spaces, registered = rows[0]
    if registered:
        names = ", ".join(f"`{name}`" for name in registered.split(","))
        raise QueryRefused(f"the application adds collations to SQLite ({names}) that cannot be repeated here")
    return "NOCASE" if ignores_case else "RTRIM" if ignores_spaces else "BINARY"


SQLITE = SQLite()
