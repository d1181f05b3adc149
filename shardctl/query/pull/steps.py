"""The order of scans: the fewest rows first, so that their keys say which rows of larger tables matter.

Where all shards can be at work at one time they go from step to step together, each in its one snapshot; where they
cannot, each pulls its tables one after another, and nothing is left out by keys.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from shardctl.query.pull.estimates import Estimates
from shardctl.query.pull.needs import KeyList, Keys, Reduction
from shardctl.query.pull.plan import TableScan
from shardctl.query.scan import Stopped


@dataclass
class Steps:
    """The scans that shards run.

    Args:
        scans: All of them.
        together: How many shards go from step to step together; None: each by itself.
        keys_of: Finds the values that a table which is pulled leaves; None where there are too many.
        pulled: Is told of each table of which all rows have arrived.
    """

    scans: Sequence[TableScan]
    together: int | None
    keys_of: Callable[[Reduction], KeyList | None]
    pulled: Callable[[TableScan], None]
    _step: list[tuple[TableScan, Keys]] = field(default_factory=list)
    _left: list[TableScan] = field(default_factory=list)
    _found: dict[Reduction, KeyList | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _barrier: threading.Barrier | None = None

    def __post_init__(self) -> None:
        self._estimates = Estimates(self.scans)
        self._left = list(self.scans)
        if self.together is not None:
            self._barrier = threading.Barrier(self.together, action=self._next)

    def expect(self, scan: TableScan, rows: int, total: int, groups: int | None = None) -> None:
        """Take note of about how many rows a shard has for a scan's filters, and in all, and how many differ."""
        with self._lock:
            self._estimates.expect(scan, rows, total, groups)

    @property
    def expected(self) -> int:
        """About how many rows will be pulled at least: of the tables that nothing reduces."""
        reducible = {scan.table.name for scan in self.scans if all(need.is_reducible for need in scan.needs)}
        return sum(rows for name, rows in self._estimates.rows.items() if name not in reducible)

    def run(self) -> Iterator[tuple[TableScan, Keys]]:
        """Yield a shard's scans; those of a step are yielded once every shard has finished the step before."""
        if self._barrier is None:
            yield from ((scan, {}) for scan in self.scans)
            return
        while True:
            try:
                self._barrier.wait()
            except threading.BrokenBarrierError:
                raise Stopped("stopped, as another shard failed") from None
            if not self._step:
                return
            yield from list(self._step)

    def stop(self) -> None:
        """Let no shard wait for one that failed."""
        if self._barrier is not None:
            self._barrier.abort()

    def _next(self) -> None:
        """Choose the next step, between two steps: no shard is at work."""
        for scan, _ in self._step:
            self.pulled(scan)
        self._step = []
        known = [(scan, self._keys(scan)) for scan in self._left]
        known.sort(key=lambda entry: self._estimates.left(*entry))
        for scan, keys in known:
            if self._waits(scan):
                break
            self._left.remove(scan)
            self._step.append(self._estimates.worthwhile(scan, keys))

    def _waits(self, scan: TableScan) -> bool:
        """Whether the keys of a table of this step may reduce a scan."""
        now = {chosen.table.name for chosen, _ in self._step}
        return any(entry.table in now for need in scan.needs for entry in need.all_reductions())

    def _keys(self, scan: TableScan) -> Keys:
        missing = {other.table.name for other in self._left}
        found: dict[Reduction, KeyList] = {}
        for need in scan.needs:
            for reduction in dict.fromkeys(need.all_reductions()):
                keys = None if reduction.table in missing else self._known(reduction)
                if keys is not None:
                    found[reduction] = keys
        return found

    def _known(self, reduction: Reduction) -> KeyList | None:
        column = Reduction("", reduction.table, reduction.other_column)
        if column not in self._found:
            self._found[column] = self.keys_of(column)
        return self._found[column]
