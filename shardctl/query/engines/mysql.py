"""Merging for MySQL and MariaDB: on one of the shards, read-only, over JSON that comes with the statement."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused
from shardctl.query.engines.values import HasCursor, Relation, Row, ValueType, run_as_written
from shardctl.query.probes import Probe

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.fleet.live_shard import LiveShard

# Of the protocol: field types and flags as mysql_com.h numbers them.
_INTEGERS = {1, 2, 3, 8, 9, 13}
_DECIMALS = {0, 246}
_TEXTS = {15, 249, 250, 251, 252, 253, 254}
_UNSIGNED, _ENUM, _SET = 32, 256, 2048
_BINARY_CHARSET = 63
_MAX_VARCHAR = 16_383  # characters of four bytes in one row
_AGGREGATES = frozenset(
    """
    bit_and bit_or bit_xor group_concat json_arrayagg json_objectagg std stddev stddev_pop stddev_samp var_pop var_samp
    variance any_value approx_count_distinct median percentile_cont percentile_disc st_collect row_number rank
    dense_rank ntile lag lead first_value last_value nth_value cume_dist percent_rank
    """.split()
)
_PER_CONNECTION = frozenset({"found_rows", "row_count", "last_insert_id", "get_lock", "release_lock", "nextval"})
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class MySQL:
    """The rules of MySQL and MariaDB."""

    name: str = "mysql"
    nulls_low: bool = True

    def types(self, result: HasCursor) -> tuple[ValueType, ...]:
        cursor = result.cursor
        if cursor is None:
            return ()
        fields = getattr(getattr(cursor, "_result", None), "fields", None)
        if fields is None:
            return tuple(ValueType("a type that this driver hides", is_known=False) for _ in cursor.description)
        return tuple(_type(field.type_code, field.flags, field.charsetnr, field.scale) for field in fields)

    def collation(self, expression: str, source: str) -> Probe:
        sql = f"SELECT COLLATION({expression}) {source} LIMIT 1"
        return Probe(sql, lambda rows: str(rows[0][0]) if rows and rows[0][0] is not None else None)

    def database_collation(self) -> Probe:
        return Probe(run=lambda _: None)

    def not_scalar(self, names: Sequence[str]) -> Probe:
        found = [name for name in names if name in _AGGREGATES or name in _PER_CONNECTION]
        listed = ", ".join(f"'{name}'" for name in names)
        sql = (
            "SELECT routine_name FROM information_schema.routines WHERE routine_schema = database()"
            f" AND routine_type = 'FUNCTION' AND lower(routine_name) IN ({listed})"
        )
        return Probe(sql, lambda rows: found + [str(row[0]) for row in rows])

    def prepare_stream(self, connection: Connection) -> None:
        # The server hangs up on a client that does not read for a minute.
        run_as_written(connection, f"SET SESSION net_write_timeout = {_DAY_S}")

    def aggregate(self, kind: str, columns: Sequence[str], types: Sequence[ValueType]) -> str:
        match kind:
            case "count":
                return f"CAST(COALESCE(sum({columns[0]}), 0) AS SIGNED)"
            case "avg":
                return f"(sum({columns[0]}) / sum({columns[1]}))"
        return f"{kind}({columns[0]})"

    def plan(self, connection: Connection, sql: str) -> list[str]:
        rows = run_as_written(connection, f"EXPLAIN {sql}").mappings()
        return [", ".join(f"{name} {value}" for name, value in row.items() if value not in (None, "")) for row in rows]

    def expected_rows(self, connection: Connection, sql: str) -> tuple[int | None, int | None]:
        read = planned_rows(connection, sql)
        return None, sum(read) if read else None

    def evaluate(self, shard: LiveShard, relation: Relation, sql: str) -> list[Row]:
        declared: list[str] = []
        listed: list[str] = []
        for i, name in enumerate(relation.names):
            declared.append(f"{name} {_declared(relation, i)} PATH '$[{i}]'")
            is_binary = relation.types[i].name == "varbinary"
            listed.append(f"UNHEX({name}) AS {name}" if is_binary else name)
        document = json.dumps([[_json(value) for value in row] for row in relation.rows], ensure_ascii=False)
        table = f"JSON_TABLE(%s, '$[*]' COLUMNS ({', '.join(declared)})) AS __j"
        text = f"WITH __p AS (SELECT {', '.join(listed)} FROM {table}) {sql.replace('%', '%%')}"
        with shard.connect(read_only=True) as connection:
            if connection.dialect.paramstyle not in {"format", "pyformat"}:
                raise QueryRefused(f"answers cannot be merged through the driver `{connection.dialect.driver}` yet")
            return [tuple(row) for row in connection.exec_driver_sql(text, (document,))]


def planned_rows(connection: Connection, sql: str) -> list[int]:
    """Return how many rows the server expects to read of each table of a statement; none of one that it reads not."""
    rows = run_as_written(connection, f"EXPLAIN {sql}").mappings()
    # MariaDB's "1 (50%)" says also how many of them a filter by another index leaves.
    return [int(str(row["rows"]).split(" ")[0]) for row in rows if row.get("rows") is not None]


def _type(code: int, flags: int, charset: int, scale: int) -> ValueType:  # a table
    if flags & (_ENUM | _SET):
        return ValueType("ENUM or SET", is_known=False)
    if code in _INTEGERS:
        return ValueType("BIGINT UNSIGNED" if flags & _UNSIGNED else "BIGINT")
    if code in _DECIMALS:
        return ValueType(f"DECIMAL(65,{min(scale, 30)})")
    if code == 5:  # a double
        return ValueType("DOUBLE")
    if code in {10, 14}:
        return ValueType("DATE")
    if code in {7, 12}:
        return ValueType("DATETIME(6)")
    if code in _TEXTS:
        return ValueType("varbinary") if charset == _BINARY_CHARSET else ValueType("VARCHAR", is_text=True)
    names = {4: "FLOAT, which the server shows rounded", 11: "TIME", 16: "BIT", 245: "JSON", 255: "GEOMETRY", 6: "NULL"}
    return ValueType(names.get(code, f"type {code}"), is_known=False)


def _declared(relation: Relation, index: int) -> str:
    value_type = relation.types[index]
    if not value_type.is_text and value_type.name != "varbinary":
        return value_type.name
    values = (row[index] for row in relation.rows)
    length = max((len(value) for value in values if value is not None), default=1) or 1
    if value_type.name == "varbinary":
        return f"{'LONGTEXT' if length * 2 > _MAX_VARCHAR else f'VARCHAR({length * 2})'} CHARACTER SET ascii"
    if length > _MAX_VARCHAR:
        raise QueryRefused(f"a text of {length} characters cannot be compared over several shards")
    collation = relation.collations[index] or "utf8mb4_bin"
    return f"VARCHAR({length}) CHARACTER SET {collation.partition('_')[0]} COLLATE {collation}"


def _json(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, decimal.Decimal | datetime.date):  # a datetime is a date
        return str(value)
    return value


MYSQL = MySQL()
