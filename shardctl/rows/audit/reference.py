"""Reference tables whose copies differ: which rows, and in which columns.

All rows of every copy are read once, and summed up to a number that does not depend on their order: collations may
differ. Copies with other numbers than most have are then compared with one of these, and what still differs the second
time is a fault: an application may just have been writing. A sample would miss most; so all rows are looked at always.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Table, inspect

from shardctl.errors import ShardctlError
from shardctl.fleet import LiveShard
from shardctl.fleet.rules import Reference
from shardctl.rows.audit.copies import Copies, Row
from shardctl.rows.audit.differences import Differences, Lost, Way, differences, still_different
from shardctl.rows.audit.exact import digest
from shardctl.rows.audit.finding import SAMPLES, Finding, Scope, Skipped, Trouble
from shardctl.rows.audit.keys import Value
from shardctl.rows.audit.links import tables_of, target_of
from shardctl.rows.audit.mend import Mend
from shardctl.rows.audit.tally import known_as

CHECK = "reference"

BASES = 4
"""Copies that are tried as the right one, where no group of equal ones is larger than the others."""


def check(scope: Scope) -> Iterator[Finding | Trouble | Skipped]:
    """Yield what differs between the copies of each reference table."""
    placement = scope.fleet.placement
    if placement is None:
        return
    for table in dict.fromkeys(table for target in scope.targets for table in tables_of(target)):
        if isinstance(placement.rule(target_of(scope.fleet, table)), Reference):
            yield from _Comparison(scope, table).run()


@dataclass(slots=True)
class _Sum:
    """All rows of a copy, in one number."""

    rows: int = 0
    digests: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        self.rows += len(rows)
        self.digests = (self.digests + sum(digest(row.values) for row in rows)) % (1 << 128)


Group = Sequence[LiveShard]
"""Shards with copies that are alike."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """Rows of a group's copies that are wrong in one way."""

    group: Group
    way: Way
    samples: Sequence[Value]
    base: LiveShard
    right: Sequence[Group]
    """Those whose copies have these rows as they should be."""


class _Comparison:
    """The copies of one table.

    Args:
        scope: What is looked at.
        table: The table.
    """

    def __init__(self, scope: Scope, table: Table) -> None:
        target = target_of(scope.fleet, table)
        holding = set(scope.fleet.shard_ids(target))
        self._scope = scope
        self._table = table
        self._name = known_as(scope.fleet, target)
        self._shards = [shard for shard in scope.shards if shard.shard_id in holding]
        engines = {shard.engine.dialect.name for shard in self._shards}
        self._copies = Copies(scope, table, self._name, is_mixed=len(engines) > 1)

    def run(self) -> Iterator[Finding | Trouble | Skipped]:
        if len(self._shards) < 2:
            if len(self._scope.fleet.shard_ids(target_of(self._scope.fleet, self._table))) > 1:
                yield Skipped(CHECK, self._name, "no two copies of it were asked")
            return
        sums = {shard: _Sum() for shard in self._shards}
        for found in self._copies.pages(self._shards):
            if isinstance(found, Trouble):
                del sums[self._scope.fleet.shard(found.shard_id)]
                yield self._absent(found) or found
            else:
                sums[found[0]].add(found[1])
        groups: dict[tuple[int, int], list[LiveShard]] = defaultdict(list)
        for shard, total in sums.items():
            groups[total.rows, total.digests].append(shard)
        if len(groups) > 1:
            yield from self._compare(list(groups.values()), max(total.rows for total in sums.values()))

    def _absent(self, trouble: Trouble) -> Finding | None:
        """Return a finding if there was trouble because the table is not there."""
        shard = self._scope.fleet.shard(trouble.shard_id)
        try:
            with shard.connect() as connection:
                if inspect(connection).has_table(self._table.name, schema=self._table.schema):
                    return None
        except ShardctlError:
            return None
        name, names = self._table.name, (shard.shard_id,)
        mend = f"shardctl drift --shard {shlex.quote(shard.shard_id)}"
        return Finding(CHECK, "table missing", self._name, names, 0, (), f"there is no table {name}", mend)

    def _compare(self, groups: Sequence[Group], rows: int) -> Iterator[Finding | Trouble]:
        """Compare one copy of each group with one that is like most, and what differs once more."""
        copies = replace(self._copies, scope=replace(self._scope, told=lambda _table, _shard_id, _rows: None))
        try:
            base, first = _best_base(copies, groups, rows)
            second = still_different(copies, base[0], first, rows)
        except Lost as lost:
            yield lost.trouble
            return
        wrong = {shard: {key for keys in found.values() for key in keys} for shard, found in first.items()}
        for group in groups:
            for way, keys in sorted(first.get(group[0], {}).items()):
                again = second.get(group[0], {}).get(way, {})
                still = {key: sample for key, sample in keys.items() if key in again}
                right = [other for other in groups if still.keys().isdisjoint(wrong.get(other[0], ()))]
                if still:
                    yield self._finding(_Fault(group, way, list(still.values()), base[0], right), sum(map(len, groups)))

    def _finding(self, fault: _Fault, copies: int) -> Finding:
        kind, columns = fault.way
        right = [shard for shard in self._shards if any(shard in group for group in fault.right)]
        where = fault.base if kind == "row missing" else fault.group[0]
        shown = tuple(self._copies.shown(sample, where.engine.dialect) for sample in fault.samples[:SAMPLES])
        others = _listed(right)
        detail = {
            "row missing": f"{others} {'has' if len(right) == 1 else 'have'} it",
            "row extra": f"{others} {'does' if len(right) == 1 else 'do'} not have it",
            "row differs": f"other {', '.join(columns)} than {others}",
        }[kind]
        names = tuple(shard.shard_id for shard in fault.group)
        mend = Mend(self._copies, fault.base, fault.group, is_settled=2 * len(right) > copies)
        command = mend.command(fault.way, fault.samples)
        return Finding(CHECK, kind, self._name, names, len(fault.samples), shown, detail, command)


def _best_base(copies: Copies, groups: Sequence[Group], rows: int) -> tuple[Group, Mapping[LiveShard, Differences]]:
    """Return the copies with which the others agree most, and how they differ from them.

    Raises:
        Lost: A copy could not be read.
    """
    most = max(map(len, groups))
    candidates = [group for group in groups if len(group) == most]
    if len(groups) == 2:
        candidates = candidates[:1]
    tried = []
    for base in candidates[:BASES]:
        others = [group for group in groups if group is not base]
        found = differences(copies, base[0], [group[0] for group in others], rows)
        tried.append(
            (base, found, sum(len(group) * len(keys) for group in others for keys in found[group[0]].values()))
        )
    base, found, _ = min(tried, key=lambda entry: entry[2])
    return base, found


def _listed(shards: Sequence[LiveShard]) -> str:
    """Name shards, but not many of them: a finding's id depends on it."""
    names = [shard.shard_id for shard in shards]
    return ", ".join(names) if len(names) <= 3 else "most copies"
