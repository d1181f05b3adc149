"""Keys that rows of one table are known by in another: they must be unique over all shards, not only on each.

Shards that number their rows by themselves have the same numbers. Joined in one place, a row would meet the rows of
other shards as well; one database could not even hold them. So what the sharding key does not prove is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardctl.fleet.rules import Follow, Reference, Sharded
from shardctl.query.colocation import tables_by_name
from shardctl.query.parse import Statement

if TYPE_CHECKING:
    from sqlalchemy import Table

    from shardctl.fleet import Fleet
    from shardctl.fleet.models import Models

Key = tuple[Any, tuple[str, ...]]
"""A table, and its columns that others refer to."""


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """Columns of a table that must have no value twice."""

    table: str
    columns: tuple[str, ...]
    shard_ids: tuple[str, ...]


def doubtful_keys(fleet: Fleet, models: Models | None, statement: Statement) -> tuple[KeyCheck, ...]:
    """Return the keys to look at before rows of several shards may meet in a statement.

    Those that two of its tables have in common, or that one of them refers to in another, unless equal keys are on one
    shard by the rules of the shard map.
    """
    if models is None or fleet.placement is None:
        return ()
    known = tables_by_name(models)
    mentioned = [known[name] for table in statement.tables if (name := statement.fold(table.this)) in known]
    referred: Counter[Key] = Counter()
    for table in mentioned:
        referred.update(set(_references(fleet, models, table)))
    checks = []
    for (target, columns), count in referred.items():
        if (count > 1 or target in mentioned) and not _is_unique(fleet, models, target, columns):
            shard_ids = fleet.shard_ids(models.mapper_of(target) or target)
            checks.append(KeyCheck(target.name, columns, tuple(shard_ids)))
    return tuple(checks)


def _references(fleet: Fleet, models: Models, table: Table) -> Iterable[Key]:
    """Yield what a table's rows refer to: by foreign keys, and by the parent that they follow."""
    for constraint in table.foreign_key_constraints:
        yield constraint.referred_table, tuple(sorted(element.column.name for element in constraint.elements))
    mapper = models.mapper_of(table)
    rule = fleet.placement.rule(mapper or table) if fleet.placement is not None else None
    if isinstance(rule, Follow):
        remotes = [remote for _, remote in rule.relationship.local_remote_pairs or ()]
        if remotes:
            yield remotes[0].table, tuple(sorted(remote.name for remote in remotes))


def _is_unique(fleet: Fleet, models: Models, table: Table, columns: tuple[str, ...]) -> bool:
    """Whether the rules say that rows with equal keys are on one shard, where the database keeps them unique."""
    assert fleet.placement is not None
    rule = fleet.placement.rule(models.mapper_of(table) or table)
    if isinstance(rule, Reference):
        return True
    return isinstance(rule, Sharded) and {column.name for column in rule.columns} <= set(columns)
