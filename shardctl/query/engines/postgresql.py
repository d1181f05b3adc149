"""Merging for PostgreSQL: on one of the shards, read-only, over arrays that come with the statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused
from shardctl.query.engines.values import HasCursor, Relation, Row, ValueType, run_as_written
from shardctl.query.probes import Probe, ask

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.fleet.live_shard import LiveShard

# Object ids of built-in types are the same on every server: pg_type.dat of the server's source.
_TYPES = {
    16: ValueType("boolean"),
    17: ValueType("bytea"),
    20: ValueType("bigint"),
    21: ValueType("smallint"),
    23: ValueType("integer"),
    25: ValueType("text", is_text=True),
    700: ValueType("real"),
    701: ValueType("double precision"),
    1042: ValueType("bpchar", is_text=True),
    1043: ValueType("text", is_text=True),
    1082: ValueType("date"),
    1083: ValueType("time"),
    1114: ValueType("timestamp"),
    1184: ValueType("timestamptz"),
    1700: ValueType("numeric"),
    2950: ValueType("uuid"),
}
_UNKNOWN = {114: "json", 1186: "interval", 1266: "timetz", 2249: "row", 3802: "jsonb", 869: "inet", 790: "money"}
_DATABASE = """SELECT row_to_json(d)->>'datcollate', row_to_json(d)->>'datlocprovider', row_to_json(d)->>'daticulocale',
 row_to_json(d)->>'datlocale', pg_encoding_to_char(encoding) FROM pg_database d WHERE datname = current_database()"""


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """The rules of PostgreSQL."""

    name: str = "postgresql"
    nulls_low: bool = False

    def types(self, result: HasCursor) -> tuple[ValueType, ...]:
        description: Any = result.cursor.description if result.cursor is not None else ()
        return tuple(_TYPES.get(column[1]) or _unknown(column[1]) for column in description)

    def collation(self, expression: str, source: str) -> Probe:
        sql = f"SELECT pg_collation_for((SELECT {expression} {source} LIMIT 0))"
        return Probe(sql, lambda rows: str(rows[0][0] or '"default"'))

    def database_collation(self) -> Probe:
        return Probe(_DATABASE, lambda rows: " ".join(str(part) for part in rows[0] if part is not None))

    def not_scalar(self, names: Sequence[str]) -> Probe:
        listed = ", ".join(f"'{name}'" for name in names)
        sql = (
            f"SELECT DISTINCT proname FROM pg_proc p WHERE proname IN ({listed})"
            " AND (prokind IN ('a', 'w') OR proretset"
            # A function of the application's own may read other rows, unless it says that it does not.
            " OR (pronamespace <> 'pg_catalog'::regnamespace AND provolatile <> 'i' AND NOT EXISTS ("
            "SELECT 1 FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')))"
        )
        return Probe(sql, lambda rows: [str(row[0]) for row in rows])

    def prepare_stream(self, connection: Connection) -> None:
        # The rows come through a cursor, for which a plan is chosen that is quick to give a tenth of them.
        run_as_written(connection, "SET LOCAL cursor_tuple_fraction = 1")

    def aggregate(self, kind: str, columns: Sequence[str], types: Sequence[ValueType]) -> str:
        own = types[0].name
        match kind:
            case "count":
                return f"COALESCE(sum({columns[0]}), 0)::bigint"
            case "sum":
                return f"CAST(sum({columns[0]}) AS {own})"
            case "avg" if own == "real":
                raise QueryRefused(
                    "an average of `real` cannot be merged without loss",
                    hint="write `avg(column::double precision)`",
                )
            case "avg":
                exact = own if own == "double precision" else "numeric"
                return f"(CAST(sum({columns[0]}) AS {exact}) / NULLIF(CAST(sum({columns[1]}) AS {exact}), 0))"
        return f"{kind}({columns[0]})"

    def plan(self, connection: Connection, sql: str) -> list[str]:
        return [str(row[0]) for row in run_as_written(connection, f"EXPLAIN {sql}")]

    def expected_rows(self, connection: Connection, sql: str) -> tuple[int | None, int | None]:
        return planned_rows(sql).ask(connection), None

    def evaluate(self, shard: LiveShard, relation: Relation, sql: str) -> list[Row]:
        types = [value_type.name for value_type in relation.types]
        arrays = ", ".join(f"%s::{name}[]" for name in types)
        names = ", ".join(relation.names)
        listed = ", ".join(
            f"{name} COLLATE {collation} AS {name}".replace("%", "%%") if collation else name
            for name, collation in zip(relation.names, relation.collations, strict=True)
        )
        text = f"WITH __p AS (SELECT {listed} FROM unnest({arrays}) AS __u({names})) {sql.replace('%', '%%')}"
        columns = [[row[i] for row in relation.rows] for i in range(len(types))]

        def run(connection: Connection) -> list[Row]:
            if connection.dialect.paramstyle not in {"format", "pyformat"}:
                raise QueryRefused(f"answers cannot be merged through the driver `{connection.dialect.driver}` yet")
            rows: list[Row]
            (rows,) = ask(connection, Probe(text, lambda found: [tuple(row) for row in found], columns), ends=True)
            return rows

        return shard.read(run)


def planned_rows(sql: str) -> Probe:
    """Ask how many rows the planner expects of a statement."""

    def read(rows: Sequence[Any]) -> int:
        plan = json.loads(rows[0][0]) if isinstance(rows[0][0], str) else rows[0][0]
        return int(plan[0]["Plan"]["Plan Rows"])

    return Probe(f"EXPLAIN (FORMAT JSON) {sql}", read)


def _unknown(code: int) -> ValueType:
    return ValueType(f"type {_UNKNOWN.get(code, f'number {code}')}", is_known=False)


POSTGRESQL = PostgreSQL()
