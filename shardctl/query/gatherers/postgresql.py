"""Gathering for PostgreSQL: in temporary tables of a database that the shard map names.

Rows travel as COPY's binary format from one server to the other: nothing converts them on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.live_shard import driver_line
from shardctl.fleet.quoting import quoted_name
from shardctl.query.engines.copying import copied
from shardctl.query.engines.postgresql import planned_rows
from shardctl.query.engines.values import driver_errors, run_as_written
from shardctl.query.gatherers.shapes import ColumnShape, TableShape
from shardctl.query.parameters import for_driver
from shardctl.query.probes import Probe
from shardctl.query.refusals import REFUSALS

if TYPE_CHECKING:
    from sqlalchemy import Connection

_BATCH_BYTES = 1 << 20
# Of COPY's binary format: its signature, flags and an extension of no length; and what ends it.
_HEADER, _TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_KINDS = {"v": "view", "m": "materialized view", "f": "foreign table", "S": "sequence", "c": "type", "i": "index"}
_SESSION_SETTINGS = """TimeZone DateStyle IntervalStyle extra_float_digits bytea_output xmlbinary xmloption array_nulls
 default_text_search_config lc_monetary lc_numeric lc_time standard_conforming_strings transform_null_equals
 backslash_quote""".split()
_SETTINGS = """SELECT name, current_setting(name, true) FROM unnest(%s::text[]) AS n (name)
 UNION ALL SELECT 'version', current_setting('server_version_num')::int / 10000 || ''
 UNION ALL SELECT 'database ' || key, value FROM json_each_text((SELECT row_to_json(d) FROM pg_database d
  WHERE datname = current_database())) WHERE key IN
  ('encoding', 'datcollate', 'datctype', 'datlocprovider', 'daticulocale', 'datlocale', 'datcollversion')
 UNION ALL SELECT 'casts of its own', count(*)::text FROM pg_cast
  WHERE oid >= 16384 AND castsource < 16384 AND casttarget < 16384"""
_SHAPES = """SELECT n.number, r.relkind::text, rn.nspname,
  a.attname, format_type(a.atttypid, a.atttypmod), t.typtype, tn.nspname,
  coalesce(e.typtype, t.typtype), coalesce(en.nspname, tn.nspname),
  CASE WHEN a.attcollation NOT IN (0, 100) THEN cn.nspname || '.' || c.collname END,
  a.atttypid IN (20, 21, 23), a.attnotnull,
  (SELECT array_position(i.indkey::int2[], a.attnum) FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary)
 FROM unnest(%s::text[]) WITH ORDINALITY AS n (name, number)
  JOIN pg_class r ON r.oid = to_regclass(n.name) JOIN pg_namespace rn ON rn.oid = r.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_namespace tn ON tn.oid = t.typnamespace
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' LEFT JOIN pg_namespace en ON en.oid = e.typnamespace
  LEFT JOIN pg_collation c ON c.oid = a.attcollation LEFT JOIN pg_namespace cn ON cn.oid = c.collnamespace
 ORDER BY n.number, a.attnum"""
_FOREIGN = """SELECT lower(p.proname) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE p.proname = ANY(%s) AND (n.nspname <> 'pg_catalog' OR (p.provolatile = 'v' AND p.proname <> ALL(%s)))"""
_HARMLESS = ["random", "clock_timestamp", "timeofday", "gen_random_uuid"]
"""Of another value each time, in one database as well."""
_OF_SERVER = re.compile(
    r"pg_(?!typeof$)|has_|to_reg|inet_|txid_|lo_|version$|format_type$|current_(?!date$|time$|timestamp$)|"
    r"(col|obj|shobj)_description$|row_security|(query|table|cursor|schema|database)_to_xml|session_user$|user$|"
    r"(next|curr|set|last)val$|set_config$|getpgusername$|system_user$"
)
"""What each database answers for itself."""
_quoted = partial(quoted_name, engine="postgresql")


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """Gathering for PostgreSQL."""

    own_place: str | None = None

    def begin(self, connection: Connection) -> None:
        """Do nothing: a read-only connection is in a transaction of REPEATABLE READ."""

    def shapes(self, names: Sequence[str]) -> Probe:
        def read(rows: Sequence[Any]) -> list[TableShape | None]:
            found: dict[int, list[Any]] = {}
            for number, *row in rows:
                found.setdefault(number, []).append(row)
            return [self._shape(name, found.get(number)) for number, name in enumerate(names, 1)]

        return Probe(_SHAPES, read, ([*map(_quoted, names)],))

    def _shape(self, name: str, rows: Sequence[Any] | None) -> TableShape | None:
        if rows is None:
            return None
        kind, schema = rows[0][:2]
        if schema in ("pg_catalog", "information_schema"):
            REFUSALS["catalogue"].refuse(name)
        if kind not in ("r", "p"):
            REFUSALS["view"].refuse(None, name, _KINDS.get(kind, "relation"))
        columns = [row[2:] for row in rows if row[2] is not None]
        key = sorted((row[-1], row[0]) for row in columns if row[-1] is not None)
        return TableShape(name, tuple(map(self._column, columns)), tuple(column for _, column in key))

    def _column(self, row: Any) -> ColumnShape:
        name, declared, kind, schema, element_kind, element_schema, collation, is_integer, never_null, _ = row
        is_known = kind in "brm" and element_kind in "brm" and {schema, element_schema} == {"pg_catalog"}
        if not is_known or declared.startswith("reg"):
            return ColumnShape(name, f"!type `{declared}`")
        if collation is None:
            return ColumnShape(name, declared, is_integer=is_integer, never_null=never_null)
        schema, _, own = collation.partition(".")
        if schema != "pg_catalog":
            return ColumnShape(name, f"!collation `{own}`")
        return ColumnShape(name, f"{declared} COLLATE pg_catalog.{_quoted(own)}")

    def views(self, names: Sequence[str]) -> Probe:
        return Probe(
            "SELECT n.name, c.relkind::text FROM unnest(%s::text[]) AS n (name)"
            " JOIN pg_class c ON c.oid = to_regclass(quote_ident(n.name)) WHERE c.relkind NOT IN ('r', 'p')",
            lambda rows: [(str(name), _KINDS.get(kind, "relation")) for name, kind in rows],
            (list(names),),
        )

    def settings(self) -> Probe:
        return Probe(_SETTINGS, lambda rows: {str(name): str(value) for name, value in rows}, (_SESSION_SETTINGS,))

    def foreign(self, names: Sequence[str], *, is_own: bool) -> Probe:
        def read(rows: Sequence[Any]) -> list[str]:
            found = {str(row[0]) for row in rows}
            return [name for name in names if name in found or _OF_SERVER.match(name)]

        return Probe(_FOREIGN, read, (list(names), _HARMLESS))

    def estimate(self, sql: str) -> Probe:
        return planned_rows(sql)

    @contextmanager
    def batches(self, connection: Connection, sql: str) -> Iterator[Iterator[tuple[int, Any]]]:
        text, values = for_driver(connection, f"COPY ({sql}) TO STDOUT (FORMAT binary)")
        with driver_errors(connection), _cursor(connection) as cursor, cursor.copy(text, values):
            yield _batches(copied(connection.connection.driver_connection))

    def adopt(self, connection: Connection, settings: Mapping[str, str], words: frozenset[str]) -> None:
        # Unqualified names mean temporary tables, or what every PostgreSQL has; never what this database holds.
        connection.exec_driver_sql("SET SESSION search_path TO pg_temp, pg_catalog")
        named = [name for name in _SESSION_SETTINGS if name in settings]
        if named:
            calls = ", ".join("set_config(%s, %s, false)" for _ in named)
            connection.exec_driver_sql(
                f"SELECT {calls}", tuple(part for name in named for part in (name, settings[name]))
            )
        connection.commit()

    def create(self, connection: Connection, table: TableShape) -> None:
        listed = ", ".join(f"{_quoted(column.name)} {column.declared}" for column in table.columns)
        if table.primary_key:
            listed += f", PRIMARY KEY ({', '.join(map(_quoted, table.primary_key))})"
        run_as_written(connection, f"CREATE TEMPORARY TABLE {_quoted(table.name)} ({listed})")

    def load(self, connection: Connection, table: TableShape, batch: Any) -> None:
        text = f"COPY pg_temp.{_quoted(table.name)} FROM STDIN (FORMAT binary)"
        try:
            with driver_errors(connection), _cursor(connection) as cursor, cursor.copy(text) as copy:
                copy.write(batch)
        except ShardError as error:
            if getattr(error.__cause__, "sqlstate", "") == "23505":
                raise QueryRefused(f"rows of several shards have one primary key: {error.message}") from error
            raise

    def finish(self, connection: Connection, table: TableShape, indexed: Sequence[str]) -> None:
        for column in indexed:
            run_as_written(connection, f"CREATE INDEX ON pg_temp.{_quoted(table.name)} ({_quoted(column)})")
        run_as_written(connection, f"ANALYZE pg_temp.{_quoted(table.name)}")

    def check(self, connection: Connection, sql: str) -> None:
        connection.commit()
        with _cursor(connection) as cursor:
            try:
                cursor.execute(*for_driver(connection, f"EXPLAIN {sql}"))
            except connection.dialect.loaded_dbapi.Error as error:
                line = driver_line(error)
                # Undefined or mismatched: objects, functions, operators, collations, types.
                if getattr(error, "sqlstate", "") in ("42883", "42704", "42725"):
                    raise QueryRefused(f"only the shards' own databases may know this: {line}") from error
                if getattr(error, "sqlstate", "") == "42803":  # a primary key would allow it, and copies have none
                    REFUSALS["dependent"].refuse(None, line)
                raise ShardError(f"the statement is not understood: {line}") from error
        connection.rollback()

    def seal(self, connection: Connection) -> None:
        raw: Any = connection.connection.driver_connection
        raw.commit()  # what COPY began, of which SQLAlchemy does not know
        connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        connection.commit()


def _batches(messages: Iterator[list[memoryview]]) -> Iterator[tuple[int, bytes]]:
    """Put rows together: there is one message for each of them ("Message Formats" of PostgreSQL's protocol)."""
    rows: list[memoryview] = []
    size = 0
    for some in messages:
        rows += some
        size += sum(map(len, some))
        if size >= _BATCH_BYTES:
            yield from _packed(rows)
            rows, size = [], 0
    yield from _packed(rows)


def _packed(rows: list[memoryview]) -> Iterator[tuple[int, bytes]]:
    if rows and rows[0] == _HEADER:  # or it comes with the first row
        rows.pop(0)
    if rows and rows[-1] == _TRAILER:
        rows.pop()
    data = b"".join(rows).removeprefix(_HEADER)
    if data and data != _TRAILER:
        yield len(rows), b"".join((_HEADER, data, _TRAILER))


@contextmanager
def _cursor(connection: Connection) -> Iterator[Any]:
    if connection.dialect.driver != "psycopg":
        raise QueryRefused(f"rows cannot be gathered through the driver `{connection.dialect.driver}` yet")
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor:
        yield cursor


POSTGRESQL = PostgreSQL()
