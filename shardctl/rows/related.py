"""What hangs off rows, and where: the children and parents of a relationship, counted on every shard.

A key that each shard counts by itself names another row on each shard. What refers to it is related to the row beside
it, and to one far away only where there is none beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Table
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.interfaces import MANYTOMANY, MANYTOONE
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList

from shardctl.errors import ConfigError, UnknownName
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.identity_scope import identity_scope
from shardctl.fleet.rules import Reference
from shardctl.rows.homes import Row, link_of, local_of, remote_of
from shardctl.rows.identities import Identity, Target, name_of
from shardctl.rows.reading import Reader
from shardctl.rows.source import Question, Source, source_of
from shardctl.rows.spellings import Answered
from shardctl.topology.model import IdentityScope

Counts = dict[Identity, dict[str, int]]
"""By the values that refer to rows, how many there are on each shard."""


@dataclass(frozen=True, slots=True)
class Related:
    """What one relationship of one row leads to."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Rows by shard."""
    elsewhere: tuple[str, ...] = ()
    """Shards that hold some of them, other than the row's own."""
    is_finding: bool = False
    """Whether rows are elsewhere, or missing, that belong beside the row."""

    @property
    def is_missing(self) -> bool:
        """Whether the row refers to a parent that is on no shard."""
        return self.is_finding and not self.counts


@dataclass(frozen=True, slots=True)
class Link:
    """One relationship, and how its rows are looked for."""

    name: str
    relationship: RelationshipProperty[Any]
    source: Source
    is_beside: bool
    """Whether its rows belong on the shard of the row that they are related to."""
    is_copied: bool
    """Whether every shard has a copy of its rows."""
    has_own_keys: bool
    """Whether the key that is referred to names one row of its shard only."""

    @property
    def is_to_parent(self) -> bool:
        return self.relationship.direction is MANYTOONE


def link(fleet: Fleet, target: Target, name: str) -> Link:
    """Return a relationship of a class.

    Raises:
        UnknownName: The class has no such relationship.
        ConfigError: Its rows cannot be looked for by a key.
    """
    if isinstance(target, Table):
        raise ConfigError(f"`--with {name}`: {target.name} has no class, and so no relationships")
    known = dict(target.relationships.items())
    if name not in known:
        raise UnknownName(f"{name_of(target)} has no relationship `{name}`", name=name, known=known)
    relationship = known[name]
    source = source_of(relationship.mapper)
    if source is None:
        raise ConfigError(f"`--with {name}`: {name_of(relationship.mapper)} is not mapped to plain tables")
    placement = fleet.placement
    if relationship.secondary is not None and not relationship.synchronize_pairs:
        raise ConfigError(f"`--with {name}`: {name_of(target)}.{name} is only viewed through its association table")
    return Link(
        name,
        relationship,
        Source(source.target, source.from_, (*source.where, *_conditions(name, target, relationship))),
        is_beside=placement is None or placement.is_colocated(relationship),
        is_copied=placement is not None and isinstance(placement.rule(relationship.mapper), Reference),
        has_own_keys=_names_a_row_of_its_shard(fleet, target, relationship),
    )


def _names_a_row_of_its_shard(fleet: Fleet, target: Mapper[Any], relationship: RelationshipProperty[Any]) -> bool:
    is_to_parent = relationship.direction is MANYTOONE
    referred = relationship.mapper if is_to_parent else target
    columns = remote_of(relationship) if is_to_parent else local_of(relationship)
    is_key = set(columns) <= set(referred.primary_key)
    return is_key and identity_scope(fleet, referred)[0] is IdentityScope.SHARD


def _conditions(name: str, target: Mapper[Any], relationship: RelationshipProperty[Any]) -> list[ColumnElement[bool]]:
    """Return what a relationship asks of its rows beside their key.

    Raises:
        ConfigError: It compares more of the row than its key.
    """
    if relationship.secondary is not None:
        return []
    clause: Any = relationship.primaryjoin
    is_and = isinstance(clause, BooleanClauseList) and clause.operator is operators.and_
    others = [part for part in (clause.clauses if is_and else [clause]) if not _is_key(part, relationship)]
    remote = set(relationship.mapper.persist_selectable.c)
    for part in others:
        columns = {element for element in visitors.iterate(part) if getattr(element, "table", None) is not None}
        if not columns <= remote or relationship.mapper.persist_selectable is target.persist_selectable:
            raise ConfigError(f"`--with {name}`: {name_of(target)}.{name} is joined by more than a key")
    return others


def _is_key(clause: Any, relationship: RelationshipProperty[Any]) -> bool:
    if not isinstance(clause, BinaryExpression) or clause.operator is not operators.eq:
        return False
    return {clause.left, clause.right} in [set(pair) for pair in relationship.local_remote_pairs or ()]


@dataclass(frozen=True, slots=True)
class Relations:
    """Finds what relationships of rows lead to.

    Args:
        fleet: The fleet.
        reader: Asks shards.
        target: The class of the rows.
        links: Its relationships.
        shards: Where to look.
    """

    fleet: Fleet
    reader: Reader
    target: Target
    links: Sequence[Link]
    shards: Sequence[LiveShard]

    def of(self, rows: Sequence[tuple[str, Row]]) -> tuple[list[dict[str, Related]], list[Outcome[Any]]]:
        """Return what each row, given with its shard, is related to; and the shards that did not answer."""
        found: list[dict[str, Related]] = [{} for _ in rows]
        failed: dict[str, Outcome[Any]] = {}
        for link in self.links:
            keys = [link_of(self.target, link.relationship, row) for _, row in rows]
            wanted = list(dict.fromkeys(key for key in keys if None not in key))
            counts = self._counts(link, wanted, failed)
            own = self._own_keys(link, wanted, counts, rows, failed)
            for related, (shard_id, _), key in zip(found, rows, keys, strict=True):
                related[link.name] = self._related(
                    link, shard_id, counts.get(key, {}), own.get(key, set()), is_set=None not in key, failed=failed
                )
        return found, list(failed.values())

    def _related(
        self, link: Link, shard_id: str, counts: Mapping[str, int], own: set[str], *, is_set: bool, failed: Any
    ) -> Related:
        if link.is_copied or (link.is_to_parent and link.has_own_keys and shard_id in counts):
            counts = {name: number for name, number in counts.items() if name == shard_id}
        elif not link.is_to_parent:
            counts = {name: number for name, number in counts.items() if name == shard_id or name not in own}
        elsewhere = tuple(name for name in self.fleet.shards if name in counts and name != shard_id)
        is_whole = not failed and len(self.shards) == len(self.fleet.shards)
        is_missing = link.is_to_parent and is_set and not counts and (link.is_copied or is_whole)
        return Related(counts, elsewhere, is_missing or (bool(elsewhere) and link.is_beside))

    def _own_keys(
        self,
        link: Link,
        wanted: Sequence[Identity],
        counts: Counts,
        rows: Sequence[tuple[str, Row]],
        failed: dict[str, Outcome[Any]],
    ) -> dict[Identity, set[str]]:
        """Return the shards that hold a row of their own with a key that rows on them refer to."""
        if link.is_to_parent or not link.has_own_keys:
            return {}
        on: dict[Identity, set[str]] = {}
        for shard_id, row in rows:
            on.setdefault(link_of(self.target, link.relationship, row), set()).add(shard_id)
        strange = {
            shard.shard_id: [
                key for key in wanted if shard.shard_id in counts.get(key, {}) and shard.shard_id not in on[key]
            ]
            for shard in self.shards
        }
        source = source_of(self.target)
        if source is not None:
            question = Question(source, local_of(link.relationship))
            for shard_id, answers in self._ask(question, strange, failed).items():
                for answer in answers:
                    on[answer.asked].add(shard_id)
        return on

    def _counts(self, link: Link, wanted: Sequence[Identity], failed: dict[str, Outcome[Any]]) -> Counts:
        if link.relationship.direction is MANYTOMANY:
            return self._counts_by_association(link, wanted, failed)
        question = Question(link.source, remote_of(link.relationship))
        return _by_key(self._ask(question, self._everywhere(wanted), failed))

    def _counts_by_association(self, link: Link, wanted: Sequence[Identity], failed: dict[str, Outcome[Any]]) -> Counts:
        """Count the rows that rows of an association table lead to, wherever these and those are."""
        relationship: Any = link.relationship
        source = source_of(relationship.secondary)
        assert source is not None
        to_row = tuple(column for _, column in relationship.synchronize_pairs)
        to_related = tuple(column for _, column in relationship.secondary_synchronize_pairs)
        found = self._ask(Question(source, to_row, to_related), self._everywhere(wanted), failed)
        pairs = {(answer.asked, answer.values, shard_id) for shard_id, answers in found.items() for answer in answers}
        keys = list(dict.fromkeys(key for _, key, _ in pairs))
        by = tuple(column for column, _ in relationship.secondary_synchronize_pairs)
        held = _by_key(self._ask(Question(link.source, by), self._everywhere(keys), failed))
        has_own_keys = identity_scope(self.fleet, relationship.mapper)[0] is IdentityScope.SHARD
        rows: dict[Identity, dict[str, set[Identity]]] = {}
        for key, related, at in pairs:
            holders = held.get(related, {})
            for shard_id in [at] if has_own_keys and at in holders else holders:
                rows.setdefault(key, {}).setdefault(shard_id, set()).add(related)
        return {key: {name: len(on) for name, on in shards.items()} for key, shards in rows.items()}

    def _everywhere(self, keys: Sequence[Identity]) -> dict[str, Sequence[Identity]]:
        return {shard.shard_id: keys for shard in self.shards}

    def _ask(
        self, question: Question, keys: Mapping[str, Sequence[Identity]], failed: dict[str, Outcome[Any]]
    ) -> dict[str, list[Answered]]:
        asked = [shard for shard in self.shards if shard.shard_id not in failed]
        outcomes = self.reader.by_keys(question, asked, keys)
        failed |= {outcome.shard_id: outcome for outcome in outcomes if outcome.error is not None}
        return {outcome.shard_id: outcome.result for outcome in outcomes if outcome.error is None}


def _by_key(found: Mapping[str, Sequence[Answered]]) -> Counts:
    counts: Counts = {}
    for shard_id, answers in found.items():
        for answer in answers:
            own = counts.setdefault(answer.asked, {})
            own[shard_id] = own.get(shard_id, 0) + answer.values[0]
    return counts
