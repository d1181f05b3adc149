"""Columns whose values say on which shard a row is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Dialect, Table

from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import Sharded, constant_type


@dataclass(frozen=True, slots=True)
class Anchor:
    """Columns of a table, and what decides the shard of a row by them."""

    columns: tuple[Any, ...]
    decider: Any
    """A strategy, or the columns of the parent that children refer to."""
    role: Literal["key", "parent", "child"]
    is_sure: bool
    """Whether rows that the database holds equal in them are on one shard, without a look at the parent's row."""
    dialect: Dialect | None = None


def anchors(placement: Placement, table: Table) -> Iterator[Anchor]:
    """Yield the columns by which the shard of a table's row is decided, its own or as a parent's."""
    rule = placement.rule(table)
    if isinstance(rule, Sharded):
        yield Anchor(rule.columns, rule.strategy, "key", rule.routing.is_exact, rule.dialect)
    for follow in placement.follows():
        pairs = sorted(follow.relationship.local_remote_pairs or (), key=lambda pair: str(pair[1]))
        remotes = tuple(remote for _, remote in pairs)
        if rule is follow:
            own = tuple(local for local, _ in pairs)
            # Without a foreign key there may be rows that have no parent, on any shard.
            has_parent = all(remote in {key.column for key in local.foreign_keys} for local, remote in pairs)
            yield Anchor(own, remotes, "child", has_parent)
        if pairs and hash(remotes[0].table) == hash(table):
            is_one_row = set(remotes[0].table.primary_key) <= set(remotes)
            yield Anchor(remotes, remotes, "parent", is_one_row)


def mean_one_shard(one: Anchor, other: Anchor) -> bool:
    """Whether rows of two tables whose anchors are equal, value by value, are on one shard."""
    if type(one.decider) is not type(other.decider) or one.decider != other.decider:
        return False
    if len(one.columns) != len(other.columns):
        return False
    if {one.role, other.role} == {"child", "parent"}:
        return True
    if not (one.is_sure and other.is_sure):
        return False
    dialects = [anchor.dialect for anchor in (one, other) if anchor.dialect is not None]
    return not dialects or all(
        own is their or constant_type(own, dialects) is constant_type(their, dialects) is not None
        for own, their in zip(one.columns, other.columns, strict=True)
    )
