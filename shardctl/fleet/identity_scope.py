"""Within what a primary key names one row: on its shard, or in the whole fleet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.orm import Mapper

from shardctl.fleet.fleet import Fleet
from shardctl.fleet.rules import Reference, Sharded
from shardctl.topology.model import FollowingTable, IdentityScope, ReferenceTable, ShardedTable


def identity_scope(fleet: Fleet, target: Mapper[Any] | Table) -> tuple[IdentityScope, str]:
    """Return the scope of a table's primary keys, and why it is this one.

    The shard map says it with `identity`. Otherwise integers that each database counts by itself name a row on their
    shard only, unless rows are placed by them, and so do keys that contain one of these; all others name one row of
    the fleet.
    """
    table: Any = target if isinstance(target, Table) else target.base_mapper.local_table
    declared = _declared(fleet, table)
    if declared is not None:
        return declared, f"declared {declared.value}"
    rule = fleet.placement.rule(table) if fleet.placement is not None else None
    if isinstance(rule, Sharded) and any(column in set(table.primary_key) for column in rule.columns):
        return IdentityScope.FLEET, "rows are placed by it"
    counted = table.autoincrement_column if isinstance(table, Table) else None
    if counted is not None:
        return IdentityScope.SHARD, f"each shard counts {counted.name} by itself"
    for column, referred in _referred_to(table) if isinstance(table, Table) else ():
        parent = fleet.models.mapper_of(referred.table) or referred.table
        is_copied = fleet.placement is not None and isinstance(fleet.placement.rule(parent), Reference)
        if not is_copied and identity_scope(fleet, parent)[0] is IdentityScope.SHARD:
            return IdentityScope.SHARD, f"{column.name} is of {referred.table.name}, which each shard counts by itself"
    return IdentityScope.FLEET, "no database counts its key"


def _referred_to(table: Table) -> Iterator[tuple[Column[Any], Column[Any]]]:
    """Yield the columns of a primary key that refer to those of a table that can be made before, with these."""
    tables = table.metadata.sorted_tables  # none refers to itself by way of others, in this direction
    earlier = tables[: tables.index(table)]
    for column in table.primary_key:
        for foreign_key in column.foreign_keys:
            if foreign_key.column.table in earlier and foreign_key.column.primary_key:
                yield column, foreign_key.column


def _declared(fleet: Fleet, table: Any) -> IdentityScope | None:
    for name, rule in fleet.shard_map.tables.items():
        if isinstance(rule, ReferenceTable):
            continue
        found = fleet.models.find(name)
        if (found if isinstance(found, Table) else found.local_table) is table:
            assert isinstance(rule, ShardedTable | FollowingTable)
            return rule.identity
    return None
