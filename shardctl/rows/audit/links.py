"""Which rows have a parent, and whether it is meant to live beside its child.

A database checks a foreign key on its own shard only, and a relationship without one not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BinaryExpression, Column, ForeignKeyConstraint, Table
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.orm.interfaces import MANYTOONE
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BooleanClauseList

from shardctl.fleet import Fleet
from shardctl.fleet.identity_scope import identity_scope
from shardctl.fleet.rules import Reference, Rule, Sharded
from shardctl.rows.identities import Target
from shardctl.topology.model import IdentityScope
from shardctl.topology.strategies import Directory, Strategy

Pairs = tuple[tuple[Column[Any], Column[Any]], ...]
"""Columns of a child, each with that of the parent which it equals."""


@dataclass(frozen=True, slots=True)
class Link:
    """What leads from a child to its parent."""

    pairs: Pairs
    is_foreign_key: bool

    @property
    def child(self) -> Table:
        return self.pairs[0][0].table

    @property
    def parent(self) -> Table:
        return self.pairs[0][1].table

    @property
    def text(self) -> str:
        """How it is written in a finding."""
        own = ", ".join(child.name for child, _ in self.pairs)
        others = ", ".join(parent.name for _, parent in self.pairs)
        if len(self.pairs) == 1:
            return f"{own} -> {self.parent.name}.{others}"
        return f"({own}) -> {self.parent.name}({others})"


def links_of(fleet: Fleet, tables: Iterable[Table]) -> list[Link]:
    """Return the links of some tables to their parents, each once.

    A relationship counts if it says no more than that columns are equal: with another condition, a row without a parent
    may be meant to have none. Those that are for viewing only promise nothing.
    """
    found: dict[frozenset[tuple[Any, Any]], Link] = {}
    for table in tables:
        for constraint in sorted(table.foreign_key_constraints, key=_position):
            pairs = tuple((element.parent, element.column) for element in constraint.elements)
            found.setdefault(frozenset(pairs), Link(pairs, is_foreign_key=True))
    wanted = set(tables)
    for mapper in fleet.models.mappers.values():
        for relationship in mapper.relationships:
            for pairs in _pairs_of(relationship):
                if pairs and pairs[0][0].table in wanted and _is_of_two_tables(pairs):
                    found.setdefault(frozenset(pairs), Link(pairs, is_foreign_key=False))
    return list(found.values())


def _position(constraint: ForeignKeyConstraint) -> tuple[int, ...]:
    """Order constraints, which SQLAlchemy keeps in a set, as their columns are in the table."""
    known = list(constraint.table.columns)
    return tuple(known.index(column) for column in constraint.columns)


def _pairs_of(relationship: RelationshipProperty[Any]) -> Iterator[Pairs]:
    if relationship.viewonly:
        return
    if relationship.secondary is not None:
        if _is_plain(relationship.primaryjoin, len(relationship.synchronize_pairs)):
            yield tuple((own, parent) for parent, own in relationship.synchronize_pairs)  # type: ignore[misc]
        if _is_plain(relationship.secondaryjoin, len(relationship.secondary_synchronize_pairs or ())):
            yield tuple((own, parent) for parent, own in relationship.secondary_synchronize_pairs or ())  # type: ignore[misc]
        return
    pairs = relationship.local_remote_pairs or []
    if not _is_plain(relationship.primaryjoin, len(pairs)):
        return
    if relationship.direction is MANYTOONE:
        yield tuple(pairs)  # type: ignore[arg-type]
    else:
        yield tuple((remote, local) for local, remote in pairs)  # type: ignore[misc]


def _is_plain(join: Any, pairs: int) -> bool:
    """Say whether a condition is that so many pairs of columns are equal, and nothing else."""
    parts = list(join.clauses) if isinstance(join, BooleanClauseList) else [join]
    if isinstance(join, BooleanClauseList) and join.operator is not operators.and_:
        return False
    return len(parts) == pairs and all(
        isinstance(part, BinaryExpression)
        and part.operator is operators.eq
        and isinstance(part.left, Column)
        and isinstance(part.right, Column)
        for part in parts
    )


def _is_of_two_tables(pairs: Pairs) -> bool:
    tables = {child.table for child, _ in pairs}, {parent.table for _, parent in pairs}
    return all(len(side) == 1 and isinstance(next(iter(side)), Table) for side in tables)


def tables_of(target: Target) -> list[Table]:
    """Return a class's table, and those of its subclasses, or the table."""
    if isinstance(target, Table):
        return [target]
    return [mapper.local_table for mapper in target.self_and_descendants if isinstance(mapper.local_table, Table)]


def target_of(fleet: Fleet, table: Table) -> Target:
    """Return the mapper of a table, or the table if no class is mapped to it."""
    return fleet.models.mapper_of(table) or table


def is_colocated(fleet: Fleet, link: Link) -> bool:
    """Say whether a parent is meant to be on its child's shard.

    So it is if the shard map says it: the child follows it, or the other way round, it is in a reference table, or both
    are placed alike by the columns that the link is made of. Where no rule says anything of one of the two, as in an
    application with choosers of its own, a foreign key does: its database would refuse a child without a parent.
    """
    if fleet.placement is None:
        return link.is_foreign_key
    child, parent = (fleet.placement.rule(target_of(fleet, table)) for table in (link.child, link.parent))
    if isinstance(parent, Reference) or _inherits(fleet, link):
        return True
    ties = [frozenset(follow.relationship.local_remote_pairs or ()) for follow in fleet.placement.follows()]
    if frozenset(link.pairs) in ties or frozenset((there, here) for here, there in link.pairs) in ties:
        return True
    if child is None or parent is None:
        return link.is_foreign_key
    return _are_placed_alike(child, parent, link)


def _inherits(fleet: Fleet, link: Link) -> bool:
    """Say whether parent and child are one object, in two tables."""
    for mapper in fleet.models.mappers.values():
        base = mapper.inherits
        if mapper.local_table is link.child and base is not None and link.parent in base.tables:
            return {child for child, _ in link.pairs} == set(link.child.primary_key)
    return False


def _are_placed_alike(child: Rule, parent: Rule, link: Link) -> bool:
    if not isinstance(child, Sharded) or not isinstance(parent, Sharded) or len(child.columns) != len(parent.columns):
        return False
    pairs = set(link.pairs)
    keys = zip(child.columns, parent.columns, strict=True)
    return _bare(child.strategy) == _bare(parent.strategy) and all(pair in pairs for pair in keys)


def _bare(strategy: Strategy) -> Strategy:
    """Return a strategy without what reads its directory, which is made anew for each rule."""
    return replace(strategy, read=None) if isinstance(strategy, Directory) else strategy


def is_ambiguous(fleet: Fleet, link: Link) -> bool:
    """Say whether an equal value on another shard may be another parent, because each shard counts keys by itself."""
    counted = link.parent.autoincrement_column
    if counted is None or all(parent is not counted for _, parent in link.pairs):
        return False
    target = target_of(fleet, link.parent)
    if fleet.placement is not None and isinstance(fleet.placement.rule(target), Reference):
        return False
    return identity_scope(fleet, target)[0] is IdentityScope.SHARD
