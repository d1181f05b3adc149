"""Whether the shards of a table order its keys alike, so that equal keys of all of them come together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, DateTime, Enum, Integer, Numeric, Table, Uuid, text
from sqlalchemy.types import Date, String, TypeEngine

from shardctl.fleet import LiveShard
from shardctl.rows.audit.finding import Scope, Trouble
from shardctl.rows.audit.keys import Key, engine_of, is_plain, plain_type
from shardctl.rows.audit.reading import on_each, table_of
from shardctl.rows.identities import Target

_COLLATIONS = {
    "postgresql": """
        SELECT a.attname, c.collname, c.collprovider, d.datcollate,
               (SELECT max(pg_collation_actual_version(x.oid)) FROM pg_collation x
                WHERE x.collcollate IN (c.collcollate, d.datcollate))
        FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation, pg_database d
        WHERE a.attrelid = to_regclass(:table) AND d.datname = current_database() ORDER BY a.attnum""",
    "mysql": """
        SELECT column_name, collation_name FROM information_schema.columns
        WHERE table_schema = coalesce(:schema, database()) AND table_name = :name AND collation_name IS NOT NULL
        ORDER BY ordinal_position""",
    "sqlite": "SELECT sql FROM sqlite_master WHERE name = :name AND lower(sql) LIKE '%collate%'",
}


@dataclass(frozen=True, slots=True)
class Order:
    """How the keys of a table are read."""

    keys: Mapping[str, Key]
    """By shard."""
    is_by_python: bool = False
    """Whether Python orders the values as all these shards do."""
    is_common: bool = True
    """Whether the shards order them alike."""


@dataclass(frozen=True, slots=True)
class NoOrder:
    """The keys cannot be compared."""

    why: str


def find_order(
    scope: Scope, target: Target, shards: Sequence[LiveShard], name: str
) -> tuple[Order | NoOrder, list[Trouble]]:
    """Return how to read the keys of a table from shards: alike, if these are of one engine and have one collation."""
    table = table_of(target)
    columns = tuple(column for column in table.primary_key if isinstance(column, Column))
    types = [plain_type(column) for column in columns]
    engines = {shard.shard_id: engine_of(shard.engine.dialect) for shard in shards}
    several = len(set(engines.values())) > 1
    if several and not all(map(_is_same_everywhere, types)):
        return NoOrder("its keys are of types that its engines have each in its own way"), []
    keys = {shard_id: Key(columns, engine, is_typed=several) for shard_id, engine in engines.items()}
    if all(is_plain(type_, engine) for type_ in types for engine in set(engines.values())):
        return Order(keys, is_by_python=True), []
    if several:
        return Order(keys, is_common=False), []
    found, troubles = _collations(scope, table, shards, name)
    is_common = len(set(found.values())) < 2 and not any(isinstance(type_, Enum) for type_ in types)
    return Order({shard_id: keys[shard_id] for shard_id in found}, is_common=is_common), troubles


def _is_same_everywhere(type_: TypeEngine[Any]) -> bool:
    """Say whether a type's values are the same on every engine."""
    if isinstance(type_, DateTime):
        return not type_.timezone
    return isinstance(type_, Integer | Numeric | Date | Uuid | String) and not isinstance(type_, Enum)


def _collations(
    scope: Scope, table: Table, shards: Sequence[LiveShard], name: str
) -> tuple[dict[str, Hashable], list[Trouble]]:
    def read(shard: LiveShard) -> Hashable:
        with shard.connect(keep=True) as connection:
            quoted = connection.dialect.identifier_preparer.format_table(table)
            values = {"table": quoted, "schema": table.schema, "name": table.name}
            statement = text(_COLLATIONS[engine_of(connection.dialect)])
            given = {parameter: values[parameter] for parameter in statement._bindparams}
            return tuple(tuple(row) for row in connection.execute(statement, given))

    return on_each(scope, shards, read, name=name)
