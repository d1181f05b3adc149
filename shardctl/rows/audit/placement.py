"""Rows that are on another shard than the one they belong on, and rows that belong nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Table, func, select

from shardctl.errors import ShardError
from shardctl.fleet import LiveShard
from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import Follow, Reference, Sharded
from shardctl.rows.audit.finding import Finding, Scope, Skipped, Trouble
from shardctl.rows.audit.passes import Pass
from shardctl.rows.audit.placing import Placed, Placer
from shardctl.rows.audit.reading import find_holders, on_each, rows_of, table_of
from shardctl.rows.audit.sharded_rows import BESIDE, PARENT_ELSEWHERE, Group, Part, ShardedRows
from shardctl.rows.audit.tally import Tally, known_as
from shardctl.rows.identities import Target

NAME = "placement"


def check(scope: Scope) -> Iterator[Finding | Trouble | Skipped]:
    """Compare where rows are with where they belong.

    Rows are grouped by their sharding keys, on the shards, and each key is placed once. An application that has no
    placement is given its instances, for its own `shard_chooser` to say.
    """
    holders = find_holders(scope)
    yield from holders.troubles
    for target in scope.targets:
        name = known_as(scope.fleet, target)
        shards, troubles = holders.of(scope, target, name)
        yield from troubles
        if scope.fleet.placement is None:
            yield from _by_chooser(scope, target, name, shards)
        else:
            yield from _by_rule(scope, scope.fleet.placement, target, shards)


def _by_chooser(
    scope: Scope, target: Target, name: str, shards: Sequence[LiveShard]
) -> Iterator[Finding | Trouble | Skipped]:
    if isinstance(target, Table):
        yield Skipped(NAME, name, "an application places mapped classes only")
        return
    from shardctl.rows.audit.instances import check_instances

    yield from check_instances(scope, target, name, shards)


def _by_rule(
    scope: Scope, placement: Placement, target: Target, shards: Sequence[LiveShard]
) -> Iterator[Finding | Trouble | Skipped]:
    name = known_as(scope.fleet, target)
    chain: list[Follow] = []
    rule = placement.rule(target)
    while isinstance(rule, Follow):
        chain.append(rule)
        rule = placement.rule(rule.parent)
    if isinstance(rule, Sharded):
        yield from _Grouped(scope, name, rule, ShardedRows(scope, target, rule, chain), shards).check()
        return
    yield from _where_not_expected(scope, target, name, shards)
    if chain:
        yield Skipped(NAME, name, f"it follows {chain[-1].parent.class_.__name__}, which has a copy on each shard")
    elif isinstance(rule, Reference):
        yield Skipped(NAME, name, "a reference table has a copy of each row on each of its shards")
    else:
        yield Skipped(NAME, name, f"{scope.fleet.shard_map.where} has no placement for it")


def _where_not_expected(
    scope: Scope, target: Target, name: str, shards: Sequence[LiveShard]
) -> Iterator[Finding | Trouble | Skipped]:
    """Find rows of a table on shards that are to have no such table."""
    expected = scope.fleet.shard_ids(target)
    others = [shard for shard in shards if shard.shard_id not in expected]
    count = select(func.count()).select_from(table_of(target))
    found, troubles = on_each(scope, others, lambda shard: rows_of(shard, count)[0][0], name=name)
    yield from troubles
    tally = Tally(NAME, name, scope.max_findings)
    for shard_id, rows in found.items():
        scope.told(name, shard_id, rows)
        if rows:
            tally.add("misplaced", [shard_id], f"the table belongs on {', '.join(expected)} only", rows)
    yield from tally.results(is_exact=True)


@dataclass(slots=True)
class _Grouped:
    """The check of one table whose rows are placed by a sharding key."""

    scope: Scope
    name: str
    rule: Sharded
    rows: ShardedRows
    shards: Sequence[LiveShard]

    def check(self) -> Iterator[Finding | Trouble | Skipped]:
        tally = Tally(NAME, self.name, self.scope.max_findings)
        placer = Placer(self.scope.fleet, self.rule)
        run = Pass(self.scope, tally, self.shards)

        def absorb(parts: Mapping[LiveShard, Part]) -> list[Trouble]:
            try:
                placed = placer.place_all(group.key for part in parts.values() for group in part.groups)
            except ShardError as error:  # of the shard that has the directory
                return [Trouble(shard.shard_id, error, self.name) for shard in parts]
            for shard, part in parts.items():
                self._absorb(tally, shard, part, placed)
            return []

        yield from run.rounds(self.rows.read, absorb)
        yield from run.found()

    def _absorb(self, tally: Tally, shard: LiveShard, part: Part, placed: Mapping[tuple[object, ...], Placed]) -> None:
        for group in part.groups:
            where = placed[group.key]
            if where.shard_id == shard.shard_id or group.standing == PARENT_ELSEWHERE:
                continue
            kind, detail = self._fault(group, where)
            if tally.add(kind, [shard.shard_id], detail, group.size) and self.rows.primary_key:
                tally.add(kind, [shard.shard_id], detail, 0, self._samples(shard, part, group))

    def _samples(self, shard: LiveShard, part: Part, group: Group) -> Sequence[tuple[object, ...]]:
        """Return some primary keys; a finding can do without them."""
        found, _ = on_each(self.scope, [shard], lambda asked: self.rows.samples(asked, part, group), name=self.name)
        return found.get(shard.shard_id, ())

    def _fault(self, group: Group, placed: Placed) -> tuple[str, str]:
        if group.standing > BESIDE:
            follow = self.rows.chain[group.standing - 1]
            return "no placement", f"{follow.name}.{follow.relationship.key} is not set"
        if placed.shard_id is None:
            return "no placement", placed.why_not
        if self.rows.chain:
            return "misplaced", f"belong on {placed.shard_id}, as the {self.rule.name} that they follow"
        return "misplaced", f"belong on {placed.shard_id}, by {', '.join(self.rule.attributes)}"
