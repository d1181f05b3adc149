"""Ranges of keys, each read from all shards at once: none has more rows on a shard than one statement may read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import select

from shardctl.fleet import LiveShard
from shardctl.rows.audit.chunks import key_at
from shardctl.rows.audit.finding import Finding, Scope, Skipped, Trouble
from shardctl.rows.audit.key_order import Order
from shardctl.rows.audit.keys import Value
from shardctl.rows.audit.marks import from_saved, to_saved
from shardctl.rows.audit.reading import on_each, rows_of
from shardctl.rows.audit.tally import Tally


@dataclass(slots=True)
class Ranges:
    """Reads the keys of one table in ascending ranges.

    Args:
        scope: What to look at.
        tally: What was found so far.
        order: How the shards order the keys.
        shards: The shards.
    """

    scope: Scope
    tally: Tally
    order: Order
    shards: Sequence[LiveShard]
    first: Value | None = None
    """The last key of the range before."""
    rows: dict[str, int] = field(default_factory=dict)
    """Looked at, by shard."""
    is_done: bool = False
    _bounds: dict[str, Value | None] = field(default_factory=dict)
    """By shard, a key up to which it has no more rows than one statement may read; None: it has no more than these."""
    _has_failed: bool = False

    def __post_init__(self) -> None:
        state = self.scope.marks.get(self.tally.check, self.tally.name)
        if state is not None:
            self.tally.restore(state["tally"])
            self.first, self.rows, self.is_done = from_saved(state["first"]), state["rows"], state["is_done"]
        for shard_id, rows in self.rows.items():
            self.scope.told(self.tally.name, shard_id, rows)

    def read(self) -> Iterator[tuple[Mapping[str, Sequence[Any]], Sequence[Trouble]]]:
        """Yield the keys of each range by shard, and what went wrong; a shard that fails is left out from then on."""
        while not self.is_done:
            failed = self._find_bounds()
            last, more = self._lowest()
            failed += more
            found, more = on_each(self.scope, self.shards, partial(self._keys, last), name=self.tally.name)
            failed += more
            self._leave_out(failed)
            yield found, failed
            self.first, self.is_done = last, last is None
            for shard_id, values in found.items():
                self.rows[shard_id] = self.rows.get(shard_id, 0) + len(values)
                self.scope.told(self.tally.name, shard_id, len(values))
            for shard_id in [shard_id for shard_id, bound in self._bounds.items() if bound == last]:
                del self._bounds[shard_id]
            self._keep()
            self.scope.pace.wait(sum(map(len, found.values())))

    def _find_bounds(self) -> list[Trouble]:
        def bound(shard: LiveShard) -> Value | None:
            with shard.connect(keep=True) as connection:
                return key_at(connection, self.order.keys[shard.shard_id], self.first, self.scope.chunk - 1, [])

        unknown = [shard for shard in self.shards if shard.shard_id not in self._bounds]
        found, troubles = on_each(self.scope, unknown, bound, name=self.tally.name)
        self._bounds |= found
        self._leave_out(troubles)
        return troubles

    def _lowest(self) -> tuple[Value | None, list[Trouble]]:
        """Return the lowest of the bounds: by Python, or by asking each shard whether its own is below."""
        bounds = {shard_id: bound for shard_id, bound in self._bounds.items() if bound is not None}
        if self.order.is_by_python or len(bounds) < 2:
            return min(bounds.values(), default=None), []
        lowest: Value | None = None
        troubles: list[Trouble] = []
        for shard in self.shards:
            own = bounds.get(shard.shard_id)
            if own is None or lowest is None:
                lowest = own or lowest
                continue
            found, failed = on_each(self.scope, [shard], self._is_below(own, lowest), name=self.tally.name)
            troubles += failed
            lowest = own if found.get(shard.shard_id) else lowest
        self._leave_out(troubles)
        return lowest, troubles

    def _is_below(self, own: Value, other: Value) -> Any:
        def ask(shard: LiveShard) -> bool:
            key = self.order.keys[shard.shard_id]
            return not rows_of(shard, select(*key.parts).where(key.one_of([own]), *key.between(other, None)).limit(1))

        return ask

    def _keys(self, last: Value | None, shard: LiveShard) -> list[Any]:
        key = self.order.keys[shard.shard_id]
        return key.loaded(rows_of(shard, select(*key.parts).where(*key.between(self.first, last))))

    def _leave_out(self, troubles: Sequence[Trouble]) -> None:
        failed = {trouble.shard_id for trouble in troubles}
        self._has_failed = self._has_failed or bool(failed)
        self.shards = [shard for shard in self.shards if shard.shard_id not in failed]
        self._bounds = {shard_id: bound for shard_id, bound in self._bounds.items() if shard_id not in failed}

    def _keep(self) -> None:
        """Remember how far it came; not once a shard is left out, so that a later run has it from there on."""
        if not self._has_failed:
            state = {"first": to_saved(self.first), "rows": dict(self.rows), "is_done": self.is_done}
            self.scope.marks.put(self.tally.check, self.tally.name, {**state, "tally": self.tally.saved()})

    def found(self) -> Iterator[Finding | Skipped]:
        """Yield what it all adds up to."""
        return self.tally.results(is_exact=not self._has_failed)
