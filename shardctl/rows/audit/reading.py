"""Short reads of many shards at a time, each in a transaction of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Select, Table, inspect

from shardctl.errors import ShardError
from shardctl.fleet import LiveShard
from shardctl.rows.audit.finding import Scope, Trouble
from shardctl.rows.identities import Target

T = TypeVar("T")


def on_each(
    scope: Scope, shards: Iterable[LiveShard], read: Callable[[LiveShard], T], *, name: str = ""
) -> tuple[dict[str, T], list[Trouble]]:
    """Run one read on each shard, and return what came of it by shard, in the order given.

    Args:
        scope: Has the time that each may take.
        shards: The shards.
        read: Opens and closes its own connection.
        name: The class or table that it is about.
    """
    shards = list(shards)
    found: dict[str, T] = {}
    troubles = []
    with closing(scope.fleet.fan_out(read, shards, timeout_s=scope.timeout_s)) as outcomes:
        for outcome in outcomes:
            if outcome.error is not None:
                troubles.append(Trouble(outcome.shard_id, outcome.error, name))
            else:
                found[outcome.shard_id] = outcome.result
    return {shard.shard_id: found[shard.shard_id] for shard in shards if shard.shard_id in found}, troubles


def rows_of(shard: LiveShard, statement: Select[Any]) -> Sequence[Any]:
    """Return all rows of a statement, in a transaction of its own."""
    with shard.connect(keep=True) as connection:
        return connection.execute(statement).all()


@dataclass(slots=True)
class Holders:
    """Which shards have which tables."""

    tables: Mapping[str, frozenset[str]]
    """By shard, the keys of the tables that it has."""
    troubles: list[Trouble] = field(default_factory=list)
    """Of shards that did not answer."""

    def of(self, scope: Scope, target: Target, name: str) -> tuple[list[LiveShard], list[Trouble]]:
        """Return the shards that have a table, and what is to say of those that should have it."""
        table = table_of(target)
        expected = set(scope.fleet.shard_ids(target))
        have, troubles = [], []
        for shard in scope.shards:
            tables = self.tables.get(shard.shard_id)
            if tables is not None and table.key in tables:
                have.append(shard)
            elif tables is not None and shard.shard_id in expected:
                error = ShardError(f"there is no table `{table.name}`", hint="`shardctl drift` shows what is missing")
                troubles.append(Trouble(shard.shard_id, error, name))
        return have, troubles


def find_holders(scope: Scope) -> Holders:
    """Ask each shard for the tables that it has."""
    tables = [table_of(target) for target in scope.targets]

    def read(shard: LiveShard) -> frozenset[str]:
        with shard.connect() as connection:
            translated = connection.get_execution_options().get("schema_translate_map") or {}
            return _tables_there(inspect(connection), tables, translated)

    found, troubles = on_each(scope, scope.shards, read)
    return Holders(found, troubles)


def _tables_there(
    inspector: Any, tables: Sequence[Table], translated: Mapping[str | None, str | None]
) -> frozenset[str]:
    by_schema = defaultdict(list)
    for table in tables:
        by_schema[translated.get(table.schema, table.schema)].append(table)
    there = set()
    for schema, members in by_schema.items():
        names = set(inspector.get_table_names(schema))
        # Views, foreign tables, and names that a server spells in another way are no names of plain tables.
        there |= {table.key for table in members if table.name in names or inspector.has_table(table.name, schema)}
    return frozenset(there)


def table_of(target: Target) -> Table:
    """Return the table that has a target's primary key."""
    table = target if isinstance(target, Table) else target.local_table
    assert isinstance(table, Table)
    return table
