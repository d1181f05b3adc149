"""Gathering for MySQL and MariaDB: in temporary tables of a database that the shard map names.

Values travel as the text that the server writes, and it is the server that reads it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.live_shard import driver_line
from shardctl.fleet.quoting import quoted_name
from shardctl.query.engines.mysql import planned_rows
from shardctl.query.engines.values import driver_errors, run_as_written
from shardctl.query.gatherers.shapes import ColumnShape, TableShape
from shardctl.query.parameters import for_driver
from shardctl.query.probes import Probe
from shardctl.query.refusals import REFUSALS

if TYPE_CHECKING:
    from sqlalchemy import Connection

_BATCH = 2_000
_INTEGERS = frozenset("tinyint smallint mediumint int bigint".split())
_TYPES = _INTEGERS | frozenset(
    """
    decimal float double date time datetime timestamp year bit enum set json char varchar tinytext text mediumtext
    longtext binary varbinary tinyblob blob mediumblob longblob
    """.split()
)
_SESSION_SETTINGS = """sql_mode time_zone collation_connection div_precision_increment group_concat_max_len
 lc_time_names default_week_format max_sort_length sql_auto_is_null""".split()
_SERVER_SETTINGS = """version character_set_client character_set_connection character_set_results system_time_zone
 lower_case_table_names old_mode""".split()
_OF_SERVER = frozenset(
    """
    found_rows row_count last_insert_id get_lock release_lock release_all_locks is_free_lock is_used_lock nextval
    lastval setval connection_id database schema user current_user session_user system_user current_role version
    load_file sleep benchmark master_pos_wait uuid_short default name_const ps_current_thread_id match
    """.split()
)
"""What each server or session answers for itself."""
_UNKNOWN = {1305: "function", 1630: "function", 1128: "function", 1273: "collation", 1115: "character set"}
_quoted = partial(quoted_name, engine="mysql")


@dataclass(frozen=True, slots=True)
class MySQL:
    """Gathering for MySQL and MariaDB."""

    own_place: str | None = None

    def begin(self, connection: Connection) -> None:
        _check_driver(connection)
        # Whatever the driver would make of values: text in, text out.
        raw: Any = connection.connection.driver_connection
        raw.decoders = {}

    def shapes(self, names: Sequence[str]) -> Probe:
        return Probe(run=lambda connection: [self._shape(connection, name) for name in names])

    def _shape(self, connection: Connection, name: str) -> TableShape | None:
        kind = connection.exec_driver_sql(
            "SELECT table_type FROM information_schema.tables WHERE table_schema = database() AND table_name = %s",
            (name,),
        ).scalar()
        if kind is None:
            return None
        if kind not in ("BASE TABLE", "SYSTEM VERSIONED"):
            REFUSALS["view"].refuse(None, name, str(kind).lower())
        rows = connection.exec_driver_sql(
            "SELECT column_name, column_type, data_type, character_set_name, collation_name, is_nullable"
            " FROM information_schema.columns WHERE table_schema = database() AND table_name = %s"
            " ORDER BY ordinal_position",
            (name,),
        ).all()
        zone = run_as_written(connection, "SELECT if(@@time_zone = 'SYSTEM', @@system_time_zone, @@time_zone)").scalar()
        has_fixed_zone = str(zone) in ("UTC", "Etc/UTC") or str(zone)[:1] in "+-"
        return TableShape(name, tuple(_column(row, has_fixed_zone=has_fixed_zone) for row in rows))

    def views(self, names: Sequence[str]) -> Probe:
        def read(rows: Sequence[Any]) -> list[tuple[str, str]]:
            found = {str(row[0]) for row in rows}
            return [(name, "view") for name in names if name in found]

        return Probe(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = database() AND table_type = 'VIEW'",
            read,
        )

    def settings(self) -> Probe:
        names = [*_SESSION_SETTINGS, *_SERVER_SETTINGS]
        listed = ", ".join(f"'{name}'" for name in names)
        return Probe(f"SHOW VARIABLES WHERE Variable_name IN ({listed})", _read_settings)

    def foreign(self, names: Sequence[str], *, is_own: bool) -> Probe:
        def read(rows: Sequence[Any]) -> list[str]:
            own = {str(row[0]).lower() for row in rows}
            return [name for name in names if name in own | _OF_SERVER]

        return Probe("SELECT routine_name FROM information_schema.routines WHERE routine_schema = database()", read)

    def estimate(self, sql: str) -> Probe:
        return Probe(run=lambda connection: next(iter(planned_rows(connection, sql)), 0))

    @contextmanager
    def batches(self, connection: Connection, sql: str) -> Iterator[Iterator[tuple[int, Any]]]:
        from pymysql.cursors import SSCursor

        def read() -> Iterator[tuple[int, Any]]:
            while rows := cursor.fetchmany(_BATCH):
                yield len(rows), rows

        raw: Any = connection.connection.driver_connection
        with driver_errors(connection), raw.cursor(SSCursor) as cursor:
            cursor.execute(*for_driver(connection, sql))
            yield read()

    def adopt(self, connection: Connection, settings: Mapping[str, str], words: frozenset[str]) -> None:
        _check_driver(connection)
        rows = run_as_written(
            connection, "SELECT table_name FROM information_schema.tables WHERE table_schema = database()"
        )
        taken = sorted({str(row[0]) for row in rows if str(row[0]).lower() in words})
        if taken:
            raise QueryRefused(
                f"the database that `gather` names has a table `{taken[0]}` of its own", hint="name an empty database"
            )
        for name in _SESSION_SETTINGS:
            if name in settings:
                value = settings[name]
                connection.exec_driver_sql(f"SET SESSION {name} = %s", (int(value) if value.isdigit() else value,))

    def create(self, connection: Connection, table: TableShape) -> None:
        listed = ", ".join(f"{_quoted(column.name)} {column.declared}" for column in table.columns)
        run_as_written(connection, f"CREATE TEMPORARY TABLE {_quoted(table.name)} ({listed})")

    def load(self, connection: Connection, table: TableShape, batch: Any) -> None:
        marks = ", ".join("%s" for _ in table.columns)
        name = _quoted(table.name).replace("%", "%%")
        raw: Any = connection.connection.driver_connection
        with driver_errors(connection), raw.cursor() as cursor:
            # The shards' values were right where they were: let no mode of today refuse them.
            cursor.execute("SET @__mode = @@sql_mode, SESSION sql_mode = 'ALLOW_INVALID_DATES'")
            cursor.executemany(f"INSERT INTO {name} VALUES ({marks})", batch)
            warnings = getattr(cursor, "warning_count", 0)
            cursor.execute("SET SESSION sql_mode = @__mode")
            if warnings:
                raise QueryRefused(f"rows of `{table.name}` do not fit into a copy of the table")

    def finish(self, connection: Connection, table: TableShape, indexed: Sequence[str]) -> None:
        connection.commit()
        for column in indexed:
            found = table.column(column)
            if found is not None and found.is_integer:  # of longer types only a part could be indexed
                run_as_written(connection, f"ALTER TABLE {_quoted(table.name)} ADD INDEX ({_quoted(column)})")

    def check(self, connection: Connection, sql: str) -> None:
        raw: Any = connection.connection.driver_connection
        with raw.cursor() as cursor:
            try:
                cursor.execute(*for_driver(connection, f"EXPLAIN {sql}"))
            except connection.dialect.loaded_dbapi.Error as error:
                line = driver_line(error)
                if error.args[0] == 1137:
                    REFUSALS["twice"].refuse(None, line)
                if error.args[0] == 1055:  # a primary key would allow it, and copies have none
                    REFUSALS["dependent"].refuse(None, line)
                if error.args[0] in _UNKNOWN:
                    raise QueryRefused(f"only the shards' own databases may know this: {line}") from error
                raise ShardError(f"the statement is not understood: {line}") from error

    def seal(self, connection: Connection) -> None:
        connection.commit()
        connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
        connection.commit()


def _read_settings(rows: Sequence[Any]) -> Mapping[str, str]:
    found = {str(name): str(value) for name, value in rows}
    is_maria = "mariadb" in found["version"].lower()
    numbers = found["version"].split("-")[0].split(".")
    found["version"] = f"{'MariaDB' if is_maria else 'MySQL'} {'.'.join(numbers[:2])}"
    if found.get("character_set_results", "").lower() != "utf8mb4":
        raise QueryRefused("rows can be gathered over connections of utf8mb4 only", hint="`?charset=utf8mb4`")
    return found


def _column(row: Any, *, has_fixed_zone: bool) -> ColumnShape:
    name, declared, kind, charset, collation, nullable = (None if value is None else str(value) for value in row)
    assert name is not None
    assert declared is not None
    kind = str(kind).lower()
    if kind not in _TYPES:
        return ColumnShape(name, f"!type `{declared}`")
    if kind == "timestamp" and not has_fixed_zone:  # an hour of autumn is there twice
        return ColumnShape(name, "!type `timestamp` in a time zone with summer time")
    text = declared
    if charset:
        text += f" CHARACTER SET {charset} COLLATE {collation}"
    text += " NULL" if nullable == "YES" else " NOT NULL"
    # The server shows a FLOAT with six digits, and a DOUBLE with all of them.
    read_as = f"({_quoted(name)} + 0e0)" if kind == "float" else ""
    return ColumnShape(name, text, is_integer=kind in _INTEGERS, read_as=read_as)


def _check_driver(connection: Connection) -> None:
    if connection.dialect.driver != "pymysql":
        raise QueryRefused(f"rows cannot be gathered through the driver `{connection.dialect.driver}` yet")


MYSQL = MySQL()
