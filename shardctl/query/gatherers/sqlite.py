"""Gathering for SQLite: in a database in memory of this process, with the same library that reads the shards."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.quoting import quoted_name
from shardctl.query.engines.sqlite import SQLITE as RULES
from shardctl.query.engines.values import run_as_written
from shardctl.query.gatherers.shapes import ColumnShape, TableShape
from shardctl.query.parameters import for_driver
from shardctl.query.probes import Probe
from shardctl.query.refusals import REFUSALS

if TYPE_CHECKING:
    from sqlalchemy import Connection

_BATCH = 5_000
_STORED = (int, float, str, bytes, type(None))
_ORDINARY, _GENERATED = {0}, {2, 3}  # of `hidden` in pragma table_xinfo
# Each connection, or each file, has values of its own for these.
_OF_CONNECTION = frozenset({"last_insert_rowid", "changes", "total_changes", "load_extension", "sqlite_offset"})
_quoted = partial(quoted_name, engine="sqlite")


@dataclass(frozen=True, slots=True)
class SQLite:
    """Gathering for SQLite."""

    # Batches come from the shards' threads, one at a time.
    own_place: str | None = "sqlite:///:memory:?check_same_thread=false"

    def begin(self, connection: Connection) -> None:
        # The driver begins no transaction for a SELECT.
        if not _raw(connection).in_transaction:
            connection.exec_driver_sql("BEGIN")

    def shapes(self, names: Sequence[str]) -> Probe:
        return Probe(run=lambda connection: [self._shape(connection, name) for name in names])

    def _shape(self, connection: Connection, name: str) -> TableShape | None:
        found = connection.exec_driver_sql(
            "SELECT type, sql, name FROM sqlite_master WHERE lower(name) = lower(?) AND type IN ('table', 'view')",
            (name,),
        ).first()
        if found is None:
            if name.lower().startswith("sqlite_"):
                REFUSALS["catalogue"].refuse(name)
            return None
        if found[0] == "view" or re.match(r"\s*create\s+virtual\b", str(found[1]), re.IGNORECASE):
            REFUSALS["view"].refuse(None, name, "view" if found[0] == "view" else "virtual table")
        strict = connection.exec_driver_sql(
            "SELECT strict FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?)", (name,)
        ).scalar()
        rows = connection.exec_driver_sql("SELECT name, type, hidden FROM pragma_table_xinfo(?)", (found[2],)).all()
        if any(row[2] not in _ORDINARY | _GENERATED for row in rows):
            raise QueryRefused(f"`{name}` has hidden columns")
        columns = tuple(self._column(connection, name, str(row[0]), str(row[1]), bool(strict)) for row in rows)
        return TableShape(name, columns)

    def _column(self, connection: Connection, table: str, name: str, kind: str, strict: bool) -> ColumnShape:  # noqa: FBT001
        affinity = _affinity(kind, is_strict=strict)
        collation = RULES.collation(_quoted(name), f"FROM {_quoted(table)}").ask(connection)
        return ColumnShape(name, f"{affinity} COLLATE {collation}".strip(), is_integer=affinity == "INTEGER")

    def views(self, names: Sequence[str]) -> Probe:
        def read(rows: Sequence[Any]) -> list[tuple[str, str]]:
            found = {str(row[0]) for row in rows}
            return [(name, "view") for name in names if name.lower() in found]

        return Probe("SELECT lower(name) FROM sqlite_master WHERE type = 'view'", read)

    def settings(self) -> Probe:
        return Probe(run=_settings)

    def foreign(self, names: Sequence[str], *, is_own: bool) -> Probe:
        def read(rows: Sequence[Any]) -> list[str]:
            found = {str(row[0]).lower() for row in rows}
            if is_own:
                found -= {"regexp", "floor"}  # SQLAlchemy adds them to every connection, to this place's as well
            return [name for name in names if name in found | _OF_CONNECTION or name.startswith("pragma_")]

        return Probe("SELECT name FROM pragma_function_list WHERE builtin = 0", read)

    def estimate(self, sql: str) -> Probe:
        return Probe(f"SELECT count(*) FROM ({sql})", lambda rows: int(rows[0][0]))

    @contextmanager
    def batches(self, connection: Connection, sql: str) -> Iterator[Iterator[tuple[int, Any]]]:
        def read() -> Iterator[tuple[int, Any]]:
            while rows := result.fetchmany(_BATCH):
                found = [tuple(row) for row in rows]
                if not all(type(value) in _STORED for row in found for value in row):
                    raise QueryRefused("the application's driver converts values, which cannot be gathered then")
                yield len(found), found

        result = run_as_written(connection, sql)
        yield read()

    def adopt(self, connection: Connection, settings: Mapping[str, str], words: frozenset[str]) -> None:
        """Do nothing: a database in memory is new."""

    def create(self, connection: Connection, table: TableShape) -> None:
        listed = ", ".join(f"{_quoted(column.name)} {column.declared}" for column in table.columns)
        connection.exec_driver_sql(f"CREATE TABLE {_quoted(table.name)} ({listed})")

    def load(self, connection: Connection, table: TableShape, batch: Any) -> None:
        marks = ", ".join("?" for _ in table.columns)
        _raw(connection).executemany(f"INSERT INTO {_quoted(table.name)} VALUES ({marks})", batch)

    def finish(self, connection: Connection, table: TableShape, indexed: Sequence[str]) -> None:
        for i, column in enumerate(indexed):
            name = _quoted(f"__i{i}_{table.name}")
            connection.exec_driver_sql(f"CREATE INDEX {name} ON {_quoted(table.name)} ({_quoted(column)})")
        connection.exec_driver_sql(f"ANALYZE {_quoted(table.name)}")

    def check(self, connection: Connection, sql: str) -> None:
        try:
            text, values = for_driver(connection, f"EXPLAIN {sql}")
            _raw(connection).execute(text, values or ()).close()
        except sqlite3.Error as error:
            line = str(error)
            if line.startswith("no such function") or line.startswith("no such collation"):
                raise QueryRefused(f"sqlite itself does not know this: {line}") from error
            raise ShardError(f"the statement is not understood: {line}") from error

    def seal(self, connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = ON")


def _settings(connection: Connection) -> Mapping[str, str]:
    one: Any = run_as_written(connection, "SELECT 'a' LIKE 'A', sqlite_version(), sqlite_source_id()").one()
    encoding = run_as_written(connection, "PRAGMA encoding").scalar()
    foreign = {"encoding": str(encoding), "LIKE ignores case": str(one[0])}
    return foreign | {"version": f"{one[1]} {one[2]}"}


def _raw(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection):
        raise QueryRefused(f"rows cannot be gathered through the driver `{connection.dialect.driver}` yet")
    return raw


def _affinity(declared: str, *, is_strict: bool) -> str:
    """Return the affinity of a declared type, as a type of that affinity: sqlite.org/datatype3.html, section 3.1."""
    kind = declared.upper()
    if is_strict:
        return {"INT": "INTEGER", "ANY": "BLOB"}.get(kind, kind)
    if "INT" in kind:
        return "INTEGER"
    if any(part in kind for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in kind or not kind:
        return "BLOB"
    if any(part in kind for part in ("REAL", "FLOA", "DOUB")):
        return "REAL"
    return "NUMERIC"


SQLITE = SQLite()
