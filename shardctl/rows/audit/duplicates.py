"""One identity on several shards.

Keys are read from all shards in one order, a range of keys at a time, and the ranges are compared as sets: as many
keys are in memory as one statement reads from each shard. Where shards have no order in common, and where only some
keys are wanted, each shard's keys are looked for on the others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from sqlalchemy import select

from shardctl.fleet import LiveShard
from shardctl.fleet.identity_scope import identity_scope
from shardctl.fleet.rules import Reference
from shardctl.rows.audit.chunks import Cursor, next_chunk
from shardctl.rows.audit.finding import SAMPLES, Finding, Scope, Skipped, Trouble
from shardctl.rows.audit.key_order import NoOrder, Order, find_order
from shardctl.rows.audit.keys import Value
from shardctl.rows.audit.passes import Pass
from shardctl.rows.audit.ranges import Ranges
from shardctl.rows.audit.reading import find_holders, on_each, rows_of, table_of
from shardctl.rows.audit.tally import Tally, known_as
from shardctl.rows.identities import Target
from shardctl.topology.model import IdentityScope

NAME = "duplicates"
LOOKED_UP = 500
"""Keys at most that one statement looks for on the other shards."""


def check(scope: Scope) -> Iterator[Finding | Trouble | Skipped]:
    """Find primary keys that are on several shards, where one names one row of the fleet."""
    holders = find_holders(scope)
    yield from holders.troubles
    for target in scope.targets:
        name = known_as(scope.fleet, target)
        shards, troubles = holders.of(scope, target, name)
        yield from troubles
        why_not = _why_not(scope, target)
        if why_not is not None:
            yield Skipped(NAME, name, why_not)
        elif len(shards) > 1:
            yield from _check_table(scope, target, name, shards)


def _why_not(scope: Scope, target: Target) -> str | None:
    """Say by which design equal keys on several shards are no fault."""
    if not table_of(target).primary_key.columns:
        return "it has no primary key"
    placement = scope.fleet.placement
    rule = placement.rule(target) if placement is not None else None
    if isinstance(rule, Reference):
        return "a reference table has a copy of each row on each of its shards"
    if placement is not None and rule is None:
        return f"{scope.fleet.shard_map.where} has no placement for it"
    found, why = identity_scope(scope.fleet, target)
    if found is IdentityScope.FLEET:
        return None
    if why.startswith("declared"):
        return f"{why}: a key names a row on its shard only"
    hint = '; `identity = "fleet-wide"` in the shard map would make equal keys findings' if placement else ""
    return f"{why}, so that a key names a row on its shard only{hint}"


def _check_table(
    scope: Scope, target: Target, name: str, shards: Sequence[LiveShard]
) -> Iterator[Finding | Trouble | Skipped]:
    order, troubles = find_order(scope, target, shards, name)
    yield from troubles
    if isinstance(order, NoOrder):
        yield Skipped(NAME, name, order.why)
        return
    shards = [shard for shard in shards if shard.shard_id in order.keys]
    comparison = _Comparison(scope, target, order, shards, Tally(NAME, name, scope.max_findings))
    if scope.sample is not None or table_of(target).key in scope.since:
        yield from comparison.by_looking_up(is_all=False)
    elif not order.is_common:
        yield from comparison.by_looking_up(is_all=True)
    else:
        yield from comparison.by_ranges()


@dataclass(frozen=True, slots=True)
class _Keys:
    """Keys of one shard."""

    values: Sequence[Any]
    last: Value | None

    @property
    def rows(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class _Comparison:
    """The keys of one table on all shards."""

    scope: Scope
    target: Target
    order: Order
    shards: Sequence[LiveShard]
    tally: Tally

    def by_ranges(self) -> Iterator[Finding | Trouble | Skipped]:
        """Compare all keys, one range after the other."""
        ranges = Ranges(self.scope, self.tally, self.order, self.shards)
        for found, troubles in ranges.read():
            yield from troubles
            self._compare(found)
        yield from ranges.found()

    def _compare(self, found: Mapping[str, Sequence[Any]]) -> None:
        """Find what is in several of the lists."""
        if len(set().union(*found.values())) == sum(map(len, found.values())):
            return
        self._add(self._where({shard_id: set(values) for shard_id, values in found.items()}))

    def _add(self, where: Mapping[Any, tuple[str, ...]]) -> None:
        by_shards = defaultdict(list)
        for value, shard_ids in where.items():
            by_shards[shard_ids].append(value)
        for shard_ids, values in by_shards.items():
            detail = f"one identity on {len(shard_ids)} shards"
            if self.tally.add("on several shards", shard_ids, detail, len(values)):
                self.tally.add("on several shards", shard_ids, detail, 0, self._samples(shard_ids[0], values[:SAMPLES]))

    def _samples(self, shard_id: str, values: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
        """Return keys as the application's types make them; a finding can do without."""
        key = self.order.keys[shard_id]
        statement = select(*key.columns).where(key.one_of([key.whole(value) for value in values]))
        shard = self.scope.fleet.shard(shard_id)
        found, _ = on_each(self.scope, [shard], lambda asked: rows_of(asked, statement), name=self.tally.name)
        return sorted((tuple(row) for row in found.get(shard_id, ())), key=repr)

    def by_looking_up(self, *, is_all: bool) -> Iterator[Finding | Trouble | Skipped]:
        """Look for keys of each shard on all others.

        Args:
            is_all: Whether every key of every shard has its turn.
        """
        run = Pass(self.scope, self.tally, self.shards)
        seen: set[Any] = set()

        def absorb(parts: Mapping[LiveShard, _Keys]) -> list[Trouble]:
            troubles: list[Trouble] = []
            for shard, part in parts.items():
                others = [other for other in self.shards if other is not shard and other.shard_id not in run.troubled]
                found, failed = self._look_up(others, part.values)
                troubles += failed
                where = self._where({shard.shard_id: set(part.values), **found})
                if is_all:
                    where = {value: shard_ids for value, shard_ids in where.items() if shard_ids[0] == shard.shard_id}
                else:  # the first of its shards may not have its turn with it
                    where = {value: shard_ids for value, shard_ids in where.items() if value not in seen}
                    seen.update(where)
                self._add(where)
            return troubles

        yield from run.rounds(self._read_some, absorb)
        yield from run.found()

    def _where(self, found: Mapping[str, set[Any]]) -> dict[Any, tuple[str, ...]]:
        """Return the shards of the keys that are on several, in their order."""
        times = Counter(chain.from_iterable(found.values()))
        order = [shard.shard_id for shard in self.shards if shard.shard_id in found]
        several = sorted((value for value, number in times.items() if number > 1), key=repr)  # alike in every run
        return {value: tuple(shard_id for shard_id in order if value in found[shard_id]) for value in several}

    def _read_some(self, shard: LiveShard, cursor: Cursor) -> _Keys:
        key = self.order.keys[shard.shard_id]
        condition = self.scope.since.get(table_of(self.target).key)
        where = [] if condition is None else [condition]
        with shard.connect(keep=True) as connection:
            chunk = next_chunk(connection, replace(self.scope, chunk=LOOKED_UP), key, cursor, where)
            if chunk is None:
                return _Keys((), None)
            rows = connection.execute(select(*key.parts).where(*key.between(chunk.first, chunk.last), *where)).all()
        return _Keys(key.loaded(rows), chunk.last)

    def _look_up(
        self, shards: Sequence[LiveShard], values: Sequence[Any]
    ) -> tuple[Mapping[str, set[Any]], list[Trouble]]:
        if not values:
            return {}, []
        wanted = set(values)

        def look(shard: LiveShard) -> set[Any]:
            key = self.order.keys[shard.shard_id]
            statement = select(*key.parts).where(key.one_of([key.whole(value) for value in values]))
            # A database may hold other spellings equal: they are other identities.
            return wanted.intersection(key.loaded(rows_of(shard, statement)))

        return on_each(self.scope, shards, look, name=self.tally.name)
