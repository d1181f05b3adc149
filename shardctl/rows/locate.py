"""Which shards hold rows, and which ones should.

Every shard is asked: choosers say where a row ought to be looked for, not where it is. Many rows are looked for in
batches, and what was found of one is given up when the next one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import Column, Table

from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.identity_scope import identity_scope
from shardctl.fleet.rules import Reference, columns_of
from shardctl.rows.found import FoundRow, LackingCopy, Search
from shardctl.rows.homes import Home, Homes, StoredRow, is_readable
from shardctl.rows.identities import Identity, Target, key_columns, name_of, once
from shardctl.rows.instances import Loader
from shardctl.rows.reading import Reader
from shardctl.rows.related import Relations, link
from shardctl.rows.source import Question, source_of
from shardctl.topology.model import IdentityScope

BATCH = 5_000
"""Primary keys that are looked for at one time."""

_UNPLACED = Home((), "an application places mapped classes only")


Found = list[Outcome[list[StoredRow]]]


def locate(
    fleet: Fleet,
    target: Target,
    shards: Sequence[LiveShard],
    *,
    identities: Iterable[Identity] = (),
    conditions: Mapping[str, Any] | None = None,
    limit: int = 100,
    timeout_s: float | None = None,
    with_routing: bool = False,
    related: Sequence[str] = (),
) -> Search:
    """Ask every shard for rows by primary key, or by other columns; see `Locator`.

    Args:
        fleet: The fleet.
        target: What the rows are: `fleet.models.find(name)`.
        shards: The shards to ask.
        identities: Primary keys.
        conditions: Attribute name -> value, in place of primary keys.
        limit: Rows of one shard at the most, where conditions are given.
        timeout_s: Seconds for each shard.
        with_routing: Also ask the session's choosers.
        related: Relationships whose rows are counted.
    """
    locator = Locator(fleet, target, shards, timeout_s=timeout_s, with_routing=with_routing, related=related)
    if conditions:
        return locator.by_conditions(conditions, limit)
    parts = list(locator.by_identities(identities))
    return Search(
        found=[row for part in parts for row in part.found],
        missing=[identity for part in parts for identity in part.missing],
        failed=[outcome for part in parts for outcome in part.failed],
        routing=[routing for part in parts for routing in part.routing],
        lacking=[lacking for part in parts for lacking in part.lacking],
        is_complete=all(part.is_complete for part in parts),
        asked=[identity for part in parts for identity in part.asked],
    )


class Locator:
    """Looks for rows of one class or table on shards.

    Raises:
        ShardctlError: The class cannot be looked for, or has no such relationship.
    """

    def __init__(
        self,
        fleet: Fleet,
        target: Target,
        shards: Sequence[LiveShard],
        *,
        timeout_s: float | None = None,
        with_routing: bool = False,
        related: Sequence[str] = (),
    ) -> None:
        self.fleet = fleet
        self.target = target
        self.failed: dict[str, Outcome[Any]] = {}
        """The shards that did not answer; they are not asked again."""
        self.shards = list(shards)
        self.with_routing = with_routing
        self.related = list(dict.fromkeys(related))
        self._reader = Reader(fleet, timeout_s)
        self._links = [link(fleet, target, name) for name in self.related]
        placement = fleet.placement
        self._scope, self.scope = identity_scope(fleet, target)
        """`scope`: why keys name one row of the fleet, or of their shard only."""
        self._loader: Loader | None = None
        is_read = isinstance(target, Table) or (
            placement is not None and not with_routing and is_readable(placement, target)
        )
        if not is_read:
            assert not isinstance(target, Table)
            self._loader = Loader(fleet, fleet.sessionmaker(), target, timeout_s)

    def by_identities(self, identities: Iterable[Identity], *, batch: int = BATCH) -> Iterator[Search]:
        """Look for rows by primary key, and yield what is found of some keys at a time, in their order.

        A key that comes again is answered once; the keys are all that is kept of a batch. A shard that fails is among
        the `failed` of one batch, and is not asked for the others.
        """
        key_columns(self.target)
        fresh = once(identities)
        while keys := list(islice(fresh, batch)):
            yield self._search(self._of_keys(keys), keys)

    def by_conditions(self, conditions: Mapping[str, Any], limit: int) -> Search:
        """Look for rows by other columns, `limit` of each shard at the most."""
        outcomes = self._of_conditions(conditions, limit)
        is_cut = any(outcome.is_ok and len(outcome.result) >= limit for outcome in outcomes)
        return replace(self._search(outcomes, None), is_cut=is_cut)

    def _answering(self) -> list[LiveShard]:
        return [shard for shard in self.shards if shard.shard_id not in self.failed]

    def _note(self, outcomes: Sequence[Outcome[Any]]) -> list[Outcome[Any]]:
        """Remember the shards that failed, and return those that had not before."""
        failed = {outcome.shard_id: outcome for outcome in outcomes if not outcome.is_ok}
        new = [outcome for shard_id, outcome in failed.items() if shard_id not in self.failed]
        self.failed |= {outcome.shard_id: outcome for outcome in new}
        return sorted(new, key=lambda outcome: self._position(outcome.shard_id))

    def _position(self, shard_id: str) -> int:
        return list(self.fleet.shards).index(shard_id)

    def _search(self, outcomes: Found, keys: Sequence[Identity] | None) -> Search:
        failed = self._note(outcomes)
        rows = [self._found(outcome.shard_id, row) for outcome in outcomes if outcome.is_ok for row in outcome.result]
        order = {shard_id: index for index, shard_id in enumerate(self.fleet.shards)}
        position = {key: index for index, key in enumerate(keys or ())}
        rows.sort(key=lambda row: (position.get(row.identity, 0), order[row.shard_id]))
        rows = self._with_duplicates(rows)
        rows, unrelated = self._with_related(rows)
        held = {row.asked for row in rows}
        return Search(
            found=rows,
            missing=[key for key in keys or () if key not in held],
            failed=[*failed, *self._note(unrelated)],
            routing=self._loader.routing(keys) if self.with_routing and self._loader and keys else [],
            lacking=self._lacking(rows) if keys else [],
            is_complete=not self.failed,
            asked=keys or (),
        )

    def _found(self, shard_id: str, row: StoredRow) -> FoundRow:
        return FoundRow(
            class_name=name_of(self.target),
            primary_key=row.primary_key,
            shard_id=shard_id,
            values=row.values,
            expected=row.home.shard_ids,
            reason=row.home.reason,
            shard_chooser=row.shard_chooser if self.with_routing else None,
            asked=row.asked,
        )

    # -- asking --------------------------------------------------------------------------------------------------------

    def _of_keys(self, keys: Sequence[Identity]) -> Found:
        if self._loader is not None:
            return self._loader.by_keys(self._answering(), keys)
        shards = self._answering()
        question = self._question()
        wanted = {shard.shard_id: keys for shard in shards}
        return self._placed(
            self._reader.by_keys(question, shards, wanted), lambda answer: (answer.values, answer.asked)
        )

    def _of_conditions(self, conditions: Mapping[str, Any], limit: int) -> Found:
        if self._loader is not None:
            return self._loader.where(self._answering(), conditions, limit)
        columns = columns_of(self.target)
        where: dict[Column[Any], Any] = {columns[name]: value for name, value in conditions.items()}
        outcomes = self._reader.where(self._question(), self._answering(), where, limit)
        return self._placed(outcomes, lambda values: (values, None))

    def _question(self) -> Question:
        source = source_of(self.target)
        assert source is not None
        columns = tuple(columns_of(self.target).values())
        return Question(source, tuple(self.target.primary_key), columns)

    def _placed(
        self, outcomes: Sequence[Outcome[list[Any]]], read: Callable[[Any], tuple[Any, Identity | None]]
    ) -> Found:
        """Say of the rows of all shards at once where they belong."""
        names = list(columns_of(self.target))
        rows = [
            (outcome.shard_id, dict(zip(names, values, strict=True)), asked)
            for outcome in outcomes
            if outcome.error is None
            for values, asked in map(read, outcome.result)
        ]
        homes = self._homes([(shard_id, values) for shard_id, values, _ in rows])
        by_shard: dict[str, list[StoredRow]] = {}
        for (shard_id, values, asked), home in zip(rows, homes, strict=True):
            by_shard.setdefault(shard_id, []).append(StoredRow(self._key(values), values, home, asked))
        return [
            Outcome(outcome.shard, outcome.seconds, by_shard.get(outcome.shard_id, []), outcome.error)
            for outcome in outcomes
        ]

    def _homes(self, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[Home]:
        placement = self.fleet.placement
        if placement is None:
            return [_UNPLACED] * len(rows)
        return Homes(placement, self._reader).of(self.target, rows)

    def _key(self, values: Mapping[str, Any]) -> Identity:
        if isinstance(self.target, Table):
            return tuple(values[column.key] for column in self.target.primary_key)
        return tuple(values[self.target.get_property_by_column(column).key] for column in self.target.primary_key)

    # -- comparing -----------------------------------------------------------------------------------------------------

    def _reference(self) -> Reference | None:
        rule = self.fleet.placement.rule(self.target) if self.fleet.placement is not None else None
        return rule if isinstance(rule, Reference) else None

    def _with_duplicates(self, rows: list[FoundRow]) -> list[FoundRow]:
        """Mark the rows whose key ought to name one row of the fleet, and is on several shards."""
        has_keys = self._scope is IdentityScope.FLEET and len(self.target.primary_key)
        if not has_keys or self._reference() is not None:
            return rows
        holders: dict[Identity, set[str]] = {}
        for row in rows:
            holders.setdefault(row.identity, set()).add(row.shard_id)
        return [replace(row, is_duplicate=True) if len(holders[row.identity]) > 1 else row for row in rows]

    def _lacking(self, rows: Sequence[FoundRow]) -> list[LackingCopy]:
        """Return the copies of a reference table's rows that are not where they should be."""
        rule = self._reference()
        if rule is None:
            return []
        asked = [shard.shard_id for shard in self._answering() if shard.shard_id in rule.shard_ids]
        holders: dict[Identity, set[str]] = {}
        for row in rows:
            holders.setdefault(row.identity, set()).add(row.shard_id)
        lacking = {key: tuple(name for name in asked if name not in on) for key, on in holders.items()}
        return [LackingCopy(key, shard_ids) for key, shard_ids in lacking.items() if shard_ids]

    def _with_related(self, rows: list[FoundRow]) -> tuple[list[FoundRow], list[Outcome[Any]]]:
        if not self._links or not rows:
            return rows, []
        relations = Relations(self.fleet, self._reader, self.target, self._links, self._answering())
        found, failed = relations.of([(row.shard_id, row.values) for row in rows])
        return [replace(row, related=related) for row, related in zip(rows, found, strict=True)], failed


__all__ = ["FoundRow", "Locator", "Search", "locate"]
