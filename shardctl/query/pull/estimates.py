"""About how many rows scans bring, once keys of other tables are known: what to pull next, and what is worth asking.

A wrong estimate costs time; the answer is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING

from shardctl.query.pull.needs import KeyList, Keys, Need, Reduction, Semijoin

if TYPE_CHECKING:
    from shardctl.query.pull.plan import TableScan

_LITTLE = 0.5
"""Of the rows: what leaves more than this share is not worth its while."""
_ALIKE = 1 / 3
"""Of the rows: no more than this share may differ for it to be worth to have equal ones come as one."""
_FEW = 100
"""Keys that cost nothing to send."""
_TOO_MANY = 10
"""Times as many rows as a table has, in another one: not worth to look through them for an unknown use."""


@dataclass
class Estimates:
    """What shards expect of each scan.

    Args:
        scans: All scans.
    """

    scans: Sequence[TableScan]
    rows: dict[str, int] = field(default_factory=dict)
    """By filters alone."""
    _totals: dict[str, int] = field(default_factory=dict)
    _groups: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name = {scan.table.name: scan for scan in self.scans}

    def expect(self, scan: TableScan, rows: int, total: int, groups: int | None = None) -> None:
        """Take note of a shard's rows that a scan's filters leave, of all of its table, and of how many differ."""
        name = scan.table.name
        self._groups[name] = self._groups.get(name, 0) + (rows if groups is None else groups)
        self.rows[name] = self.rows.get(name, 0) + rows
        self._totals[name] = self._totals.get(name, 0) + total

    def left(self, scan: TableScan, keys: Keys) -> float:
        """Return about how many rows a scan brings, where these keys are known."""
        return sum(self._left(scan, need, keys) for need in scan.needs)

    def worthwhile(self, scan: TableScan, keys: Keys) -> tuple[TableScan, Keys]:
        """Return a scan without the semi-joins, and the keys without the lists, that leave out too little."""
        needs = []
        sent: dict[Reduction, KeyList] = {}
        for need in scan.needs:
            own = self._by_keys(scan, need.reductions, keys)
            semijoins = tuple(entry for entry in need.semijoins if self._is_worth(scan, entry, keys, own))
            needs.append(replace(need, semijoins=semijoins))
            sent |= self._sent(scan, need.reductions, keys)
            for semijoin in semijoins:
                sent |= self._sent(self._by_name[semijoin.scan], semijoin.reductions, keys)
        is_worth = self._groups.get(scan.table.name, 0) <= self.rows.get(scan.table.name, 0) * _ALIKE
        chosen = (scan.counted() if is_worth else None) or scan
        return replace(chosen, needs=tuple(needs)), sent

    def _left(self, scan: TableScan, need: Need, keys: Keys) -> float:
        own = self._by_keys(scan, need.reductions, keys)
        shares = (self._semijoin_share(scan, entry, keys) for entry in need.semijoins)
        return own * prod(min(1.0, share) for share in shares if share is not None)

    def _by_keys(self, scan: TableScan, reductions: Sequence[Reduction], keys: Keys) -> float:
        """Return about how many rows filters and lists of keys leave."""
        shares: dict[str, float] = {}
        for reduction in reductions:
            if reduction in keys:
                share = self._share(scan, reduction, reductions, keys[reduction])
                shares[reduction.column] = min(share, shares.get(reduction.column, 1.0))
        return self.rows.get(scan.table.name, 0) * prod(shares.values())

    def _share(self, scan: TableScan, reduction: Reduction, reductions: Iterable[Reduction], found: KeyList) -> float:
        """Return about which share of a scan's rows has one of the keys: 1 where nothing is known."""
        named = [
            self._totals.get(entry.table, 0)
            for entry in reductions
            if entry.column == reduction.column and self._by_name[entry.table].identity == (entry.other_column,)
        ]
        if scan.identity == (reduction.column,):
            named.append(self._totals.get(scan.table.name, 0))
        return min(1.0, found.count / max(named)) if any(named) else 1.0

    def _semijoin_share(self, scan: TableScan, semijoin: Semijoin, keys: Keys) -> float | None:
        """Return about which share of a scan's rows meets a row of the other table; None if that is not known."""
        other = self._by_name[semijoin.scan]
        met = self._by_keys(other, semijoin.reductions, keys)
        if set(other.identity) == set(semijoin.other_columns):
            return met / max(1, self._totals.get(semijoin.scan, 0))
        if set(scan.identity) == set(semijoin.columns):
            return met / max(1, self._totals.get(scan.table.name, 0))
        return None

    def _is_worth(self, scan: TableScan, semijoin: Semijoin, keys: Keys, own: float) -> bool:
        share = self._semijoin_share(scan, semijoin, keys)
        if share is not None and (share <= _LITTLE or not semijoin.local):
            return share <= _LITTLE
        others = self.rows.get(semijoin.scan, 0)
        has_more = bool(semijoin.local) or any(entry in keys for entry in semijoin.reductions)
        return others < own or (has_more and others <= own * _TOO_MANY)

    def _sent(self, scan: TableScan, reductions: Sequence[Reduction], keys: Keys) -> dict[Reduction, KeyList]:
        shares = {entry: self._share(scan, entry, reductions, keys[entry]) for entry in reductions if entry in keys}
        found = {entry: keys[entry] for entry, share in shares.items() if share <= _LITTLE or keys[entry].count <= _FEW}
        first = min(found, key=lambda entry: shares[entry], default=None)
        return {
            entry: listed if entry == first or listed.count <= _FEW else replace(listed, is_last=True)
            for entry, listed in found.items()
        }
