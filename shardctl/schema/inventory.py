"""Which tables shards have: of many schemas in one statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, text

from shardctl.errors import ShardctlError, ShardError
from shardctl.fleet.survey import Place

_OF_SCHEMAS = {
    "postgresql": """
        SELECT n.nspname, c.relname, c.relkind IN ('r', 'p'),
            NOT has_schema_privilege(n.oid, 'USAGE'), NOT has_table_privilege(c.oid, 'SELECT')
        FROM pg_catalog.pg_namespace n
        LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        WHERE n.nspname IN :schemas""",
    "mysql": """
        SELECT schema_name, NULL, false, false, false FROM information_schema.schemata WHERE schema_name IN :schemas
        UNION ALL
        SELECT table_schema, table_name, table_type = 'BASE TABLE', false, false
        FROM information_schema.tables WHERE table_schema IN :schemas""",
}

_OF_CONNECTION = {
    "postgresql": """
        SELECT NULL, c.relname, c.relkind IN ('r', 'p'), false, false
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON c.relnamespace = n.oid
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'pg_catalog'
            AND pg_catalog.pg_table_is_visible(c.oid)""",
    "mysql": """
        SELECT NULL, table_name, table_type = 'BASE TABLE', false, false
        FROM information_schema.tables WHERE table_schema = database()""",
    "sqlite": r"""
        SELECT NULL, name, type = 'table', false, false
        FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\_%' ESCAPE '\'""",
}


@dataclass(slots=True)
class Inventory:
    """What one shard has."""

    tables: set[str] = field(default_factory=set)
    views: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    """Those that this login may not read."""

    def has(self, name: str) -> bool:
        return name in self.tables or name in self.views


def read_inventories(connection: Connection, places: Sequence[Place]) -> Mapping[str, Inventory | ShardctlError]:
    """Return what shards have, by their names; of a schema that this login cannot see, nothing or an error."""
    dialect = connection.dialect.name
    dialect = "mysql" if dialect == "mariadb" else dialect
    if places[0].schema is None:
        rows = connection.execute(text(_OF_CONNECTION[dialect]))
        return {places[0].shard.shard_id: _inventory(rows)}
    query = text(_OF_SCHEMAS[dialect]).bindparams(bindparam("schemas", expanding=True))
    found = defaultdict(list)
    for row in connection.execute(query, {"schemas": [place.schema for place in places]}):
        found[row[0]].append(row)
    inventories: dict[str, Inventory | ShardctlError] = {}
    for place in places:
        schema_rows = found[place.schema]
        if schema_rows and schema_rows[0][3]:
            inventories[place.shard.shard_id] = ShardError(f"permission denied for schema `{place.schema}`")
        elif schema_rows:
            inventories[place.shard.shard_id] = _inventory(schema_rows)
        elif dialect == "postgresql":
            inventories[place.shard.shard_id] = ShardError(
                f"there is no schema `{place.schema}`", hint="`shardctl init` creates it"
            )
    return inventories


def _inventory(rows: Iterable[Any]) -> Inventory:
    inventory = Inventory()
    for _, name, is_table, _, is_denied in rows:
        if name is None:
            continue
        (inventory.tables if is_table else inventory.views).add(str(name))
        if is_denied:
            inventory.denied.add(str(name))
    return inventory
