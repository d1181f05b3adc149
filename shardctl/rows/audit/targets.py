"""The classes and tables that an audit looks at, which of their rows, and about how many they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, bindparam, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper

from shardctl.errors import ConfigError, UnknownName
from shardctl.fleet import Fleet, LiveShard
from shardctl.fleet.quoting import quoted_name
from shardctl.fleet.rules import columns_of
from shardctl.rows.audit.finding import Scope
from shardctl.rows.audit.keys import engine_of
from shardctl.rows.audit.reading import on_each, table_of
from shardctl.rows.audit.tally import known_as
from shardctl.rows.identities import Target, read_value

COUNTED = 1_000
"""Rows by which a table of SQLite's is judged; a smaller one makes no difference."""
_STATISTICS = {
    "postgresql": "SELECT relname, reltuples FROM pg_class WHERE relname IN :names AND pg_table_is_visible(oid)",
    "mysql": "SELECT table_name, table_rows FROM information_schema.tables"
    " WHERE table_schema = database() AND table_name IN :names",
}


def find_targets(fleet: Fleet, names: Sequence[str]) -> list[Target]:
    """Return what is named, or everything: of classes that inherit from one another the base, which has the identity.

    Raises:
        UnknownName: Nothing has one of the names.
        ConfigError: There is nothing, or a class is not mapped to a table.
    """
    if names:
        return list(dict.fromkeys(_base(fleet, name) for name in names))
    tables = [table for metadata in fleet.models.metadatas for table in metadata.sorted_tables]
    found: list[Target] = []
    for table in tables:
        mapper = fleet.models.mapper_of(table)
        if mapper is None or mapper.inherits is None or mapper.concrete:
            found.append(table if mapper is None else mapper)
    if not found:
        raise ConfigError(f"{fleet.shard_map.where}: the models have no tables")
    return found


def _base(fleet: Fleet, name: str) -> Target:
    target = fleet.models.find(name)
    while isinstance(target, Mapper) and target.inherits is not None and not target.concrete:
        target = target.inherits
    if isinstance(target, Mapper) and not isinstance(target.local_table, Table):
        raise ConfigError(f"{name} is not mapped to a table")
    return target


def read_since(targets: Sequence[Target], words: str) -> tuple[dict[str, ColumnElement[bool]], list[Target]]:
    """Read `column=value` into a condition on each table that has the column, and return the others too.

    Raises:
        ConfigError: It is not that, or the value is not of the column's type.
        UnknownName: No table has the column.
    """
    name, separator, value = words.partition("=")
    if not separator:
        raise ConfigError(
            f"`--since {words}` is not `column=value`", hint="for example `--since created_at=2026-01-31`"
        )
    conditions, others = {}, []
    for target in targets:
        column = _own_column(target, name)
        if column is None:
            others.append(target)
        else:
            conditions[table_of(target).key] = column >= read_value(column, value)
    if not conditions:
        known = {column for target in targets for column in columns_of(target)}
        raise UnknownName(f"no table has a column `{name}`", name=name, known=known)
    return conditions, others


def _own_column(target: Target, name: str) -> Column[Any] | None:
    column = columns_of(target).get(name)
    return column if isinstance(column, Column) and column.table is table_of(target) else None


def estimate_rows(scope: Scope) -> dict[str, int]:
    """Return about how many rows each table has on all shards together, by name, as far as the engines know."""
    names = {table_of(target).name: known_as(scope.fleet, target) for target in scope.targets}
    found, _ = on_each(scope, scope.shards, lambda shard: _estimates(shard, list(names)))
    totals: dict[str, int] = {}
    for by_table in found.values():
        for table, rows in by_table.items():
            totals[names[table]] = totals.get(names[table], 0) + max(0, round(rows or 0))
    return totals


def _estimates(shard: LiveShard, names: Sequence[str]) -> Mapping[str, float]:
    with shard.connect(keep=True) as connection:
        engine = engine_of(connection.dialect)
        if engine == "sqlite":
            return {name: _by_row_numbers(connection, name) for name in names}
        statement = text(_STATISTICS[engine]).bindparams(bindparam("names", expanding=True))
        found = {row[0]: row[1] for row in connection.execute(statement, {"names": list(names)})}
        return {name: found[name] for name in names if name in found}


def _by_row_numbers(connection: Connection, name: str) -> float:
    """Return about how many rows a table has by how dense its first row numbers are: SQLite counts nothing."""
    rowid = f"SELECT rowid FROM {quoted_name(name, 'sqlite')} ORDER BY rowid"
    try:
        first = connection.exec_driver_sql(f"{rowid} LIMIT 1").scalar()
        later = connection.exec_driver_sql(f"{rowid} LIMIT 1 OFFSET {COUNTED}").scalar()
        last = connection.exec_driver_sql(f"{rowid} DESC LIMIT 1").scalar()
    except SQLAlchemyError:  # no such table, or one without row numbers
        return 0
    return 0 if first is None or later is None or last is None else (last - first) * COUNTED / (later - first)
