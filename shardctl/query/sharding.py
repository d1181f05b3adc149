"""Tables as the rules of the shard map see them: what of a row says on which shard it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, Dialect, Table

from shardctl.fleet.models import Models
from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import (
    Follow,
    Reference,
    Sharded,
    constant_type,
    is_compared_exactly,
    is_ordered_exactly,
)
from shardctl.query.gatherers.shapes import ColumnShape, TableShape
from shardctl.topology.routing import RoutingKey


@dataclass(frozen=True, slots=True)
class KeyedTable:
    """A table that the shard map has a rule for."""

    name: str
    types: Mapping[str, type | None]
    """Each column, and what `constant_type` says of it."""
    exact: frozenset[str]
    """Columns whose values the database holds equal when Python does."""
    never_null: frozenset[str]
    identity: tuple[str, ...] = ()
    """The primary key."""
    key: RoutingKey | None = None
    """The columns that say on which shard a row is: the sharding key, or those that refer to the parent's."""
    parent: str | None = None
    """The table whose rows its rows live with."""
    ties: tuple[tuple[str, str], ...] = ()
    """Its own columns, and the parent's, by which these are found."""
    is_reference: bool = False

    @property
    def shape(self) -> TableShape:
        return TableShape(self.name, tuple(ColumnShape(name, "") for name in self.types))


def keyed_table(models: Models, placement: Placement, table: Table, dialects: Sequence[Dialect]) -> KeyedTable | None:
    """Return what the rules say of a table; None if there is no rule for it.

    Args:
        models: The classes and tables.
        placement: The rules.
        table: One of the tables.
        dialects: Of every shard.
    """
    rule = placement.rule(models.mapper_of(table) or table)
    if rule is None:
        return None
    columns = list(table.columns)
    keyed = KeyedTable(
        name=table.key,
        types={column.name: constant_type(column, dialects) for column in columns},
        exact=frozenset(column.name for column in columns if is_compared_exactly(column, dialects)),
        never_null=frozenset(column.name for column in columns if not column.nullable),
        identity=tuple(column.name for column in table.primary_key),
        is_reference=isinstance(rule, Reference),
    )
    parent, ties = _parent(table, rule)
    return replace(
        keyed,
        key=_key(models, placement, table, dialects),
        parent=None if parent is None else parent.key,
        ties=tuple((own.name, other.name) for own, other in ties),
    )


def _key(models: Models, placement: Placement, table: Table, dialects: Sequence[Dialect]) -> RoutingKey | None:
    found = _carried(models, placement, table)
    if found is None:
        return None
    rule, columns = found
    originals = zip(columns, rule.columns, strict=True)
    if any(constant_type(own, dialects) is not constant_type(other, dialects) for own, other in originals):
        return None
    return RoutingKey(
        rule.strategy,
        tuple(column.name for column in columns),
        is_exact=rule.routing.is_exact and all(is_compared_exactly(column, dialects) for column in columns),
        is_ordered=rule.routing.is_ordered and all(is_ordered_exactly(column, dialects) for column in columns),
    )


def _carried(models: Models, placement: Placement, table: Table) -> tuple[Sharded, tuple[Column[Any], ...]] | None:
    """Return the rule that a table's rows are placed by, and the columns in which each of them has the key."""
    rule = placement.rule(models.mapper_of(table) or table)
    if isinstance(rule, Sharded):
        return (rule, rule.columns) if all(column.table is table for column in rule.columns) else None
    parent, ties = _parent(table, rule)
    above = None if parent is None else _carried(models, placement, parent)
    if above is None:
        return None
    own = {other: column for column, other in ties}
    if not all(column in own for column in above[1]):
        return None
    return above[0], tuple(own[column] for column in above[1])


def _parent(table: Table, rule: Any) -> tuple[Table | None, Iterable[tuple[Column[Any], Column[Any]]]]:
    """Return the table that a table follows, and the pairs of columns that tie them."""
    if not isinstance(rule, Follow) or rule.relationship.secondary is not None:
        return None, ()
    parent = rule.parent.local_table
    pairs = rule.relationship.local_remote_pairs or []
    if not isinstance(parent, Table) or not pairs:
        return None, ()
    if any(own.table is not table or other.table is not parent for own, other in pairs):
        return None, ()
    return parent, [(own, other) for own, other in pairs if isinstance(own, Column) and isinstance(other, Column)]
