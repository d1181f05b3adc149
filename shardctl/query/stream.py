"""Rows of several shards as they come: what is read is passed on, and no more is kept than a few batches of each shard.

Each shard is read by a thread of its own, which waits while its rows are not taken. What needs all rows at once
(merged groups, gathered rows, an order of text) is not streamed.
"""

from __future__ import annotations

import contextvars
import heapq
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.fan_out import CANCEL_S, MAX_JOBS, Outcome
from shardctl.query.asked import note, note_rows
from shardctl.query.engines import ENGINES, Row
from shardctl.query.gather import check_columns, one_type
from shardctl.query.merge import RowMerge
from shardctl.query.plan import QueryPlan
from shardctl.query.ranking import SortPosition, sort_position
from shardctl.query.scan import ShardRows, ShardsFailed, all_failed, open_scan

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard

BATCH = 2_000
"""Rows that are read, and passed on, at one time."""
_AHEAD = 4
_POLL_S = 0.2


_Item: TypeAlias = "ShardRows | list[Row] | Outcome[None]"


class NotStreamed(Exception):
    """Before the first row: all rows are needed at once."""


@dataclass
class _Channel:
    """What one shard's thread passes on: first what its rows are like, then batches, at last the outcome."""

    shard: LiveShard
    items: queue.SimpleQueue[_Item] = field(default_factory=queue.SimpleQueue)
    room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_AHEAD))
    is_over: bool = False

    def put_batch(self, batch: list[Row], stop: threading.Event) -> None:
        """Pass rows on once there is room for them; the outcome never waits, or it would hold up other shards'."""
        while not self.room.acquire(timeout=_POLL_S):
            if stop.is_set():
                raise ShardError("not read to its end")
        self.items.put(batch)


class Stream:
    """The rows of a plan that is appended or merged by sort keys. It is closed by reading to its end, or by `close`."""

    def __init__(
        self,
        fleet: Fleet,
        plan: QueryPlan,
        shards: Sequence[LiveShard],
        *,
        timeout_s: float | None,
        with_shard: bool,
    ) -> None:
        """Ask the shards, and wait until those that are asked first answer.

        Args:
            fleet: The shards' fleet.
            plan: With a RowMerge, or for one shard.
            shards: Those of the plan.
            timeout_s: Seconds that a shard may take for its next rows.
            with_shard: Put a first column `shard` in front.

        Raises:
            NotStreamed: Rows can only be merged when all are there.
            QueryRefused: A shard showed that the answer could be wrong.
            ShardError: A shard failed.
        """
        self._merge = plan.merge if isinstance(plan.merge, RowMerge) else RowMerge()
        self._timeout_s = timeout_s
        self._with_shard = with_shard
        self.at_end: Callable[[], None] = lambda: None
        """Is called once nothing is read any more."""
        self._stop = threading.Event()
        self._channels = [_Channel(shard) for shard in shards]
        self._outcomes: list[Outcome[None]] = []
        self._failures: list[Outcome[None]] = []
        at_once = _at_once(fleet, shards)
        if (self._merge.keys and len(at_once) < len(shards)) or any(shard.is_thread_bound for shard in shards):
            raise NotStreamed
        by_id = {channel.shard.shard_id: channel for channel in self._channels}

        def read(shard: LiveShard) -> None:
            channel = by_id[shard.shard_id]
            with open_scan(shard, plan, is_first=shard is shards[0], batch_size=BATCH) as (head, batches):
                channel.items.put(head)
                for batch in batches:
                    channel.put_batch(batch, self._stop)
                    note_rows(shard.shard_id, len(batch))

        def pump() -> None:
            with closing(fleet.fan_out(read, shards, may_start=lambda: not self._stop.is_set())) as outcomes:
                for outcome in outcomes:
                    self._outcomes.append(outcome)
                    by_id[outcome.shard_id].items.put(outcome)

        context = contextvars.copy_context()
        self._pump = threading.Thread(target=context.run, args=(pump,), name="stream", daemon=True)
        self._pump.start()
        try:
            self._heads = self._first_heads(len(at_once))
            check_columns(self._heads)
            self.columns = self._names()
            merged = self._sorted() if self._merge.keys else self._appended()
        except BaseException:
            self.close()
            raise
        self.rows = self._taken(merged)

    def _names(self) -> tuple[str, ...]:
        names = self._heads[0].names
        names = names[: len(names) - self._merge.hidden]
        return ("shard", *names) if self._with_shard else names

    def _taken(self, merged: Iterator[tuple[str, list[Row]]]) -> Generator[Row, None, None]:
        merge = self._merge
        width = len(self._heads[0].names)
        visible = width - merge.hidden
        skipped, left = merge.offset, merge.limit
        try:
            for shard_id, rows in merged:
                taken = rows[skipped:] if skipped else rows
                skipped = max(0, skipped - len(rows))
                if left is not None:
                    taken = taken[:left]
                    left -= len(taken)
                if visible < width:
                    taken = [row[:visible] for row in taken]
                if self._with_shard:
                    taken = [(shard_id, *row) for row in taken]
                yield from taken
                if left == 0:
                    return
        finally:
            self.close()

    def close(self) -> None:
        """Cancel what still runs on the shards, and wait for it for a while."""
        self._stop.set()
        cancels = [
            threading.Thread(target=channel.shard.cancel, daemon=True)
            for channel in self._channels
            if not channel.is_over
        ]
        for cancel in cancels:
            cancel.start()
        deadline = time.monotonic() + CANCEL_S
        for thread in (*cancels, self._pump):
            thread.join(max(0.0, deadline - time.monotonic()))
        note(self._outcomes)
        self.at_end()

    def _first_heads(self, number: int) -> list[ShardRows]:
        """Return what the rows of the shards are like that are asked first; all of those that fail are named."""
        heads: list[ShardRows] = []
        failure: ShardsFailed | None = None
        for channel in self._channels[:number]:
            try:
                heads.append(self._head(channel))
            except ShardsFailed as error:
                failure = error
        if failure is not None:
            raise failure
        return heads

    def _head(self, channel: _Channel) -> ShardRows:
        head = self._next(channel)
        assert isinstance(head, ShardRows), "a head comes first"
        return head

    def _next(self, channel: _Channel) -> ShardRows | list[Row] | None:
        """Return what comes next of a shard; None at the end.

        Raises:
            ShardctlError: It failed, or nothing came within the timeout.
        """
        try:
            item = channel.items.get(timeout=self._timeout_s)
        except queue.Empty:
            error = ShardError(f"no rows within {self._timeout_s:g} s; its statement was cancelled")
            raise self._failed(Outcome(channel.shard, 0.0, error=error)) from None
        if isinstance(item, list):
            channel.room.release()
        if isinstance(item, ShardRows | list):
            return item
        channel.is_over = True
        if item.error is not None:
            if isinstance(item.error, QueryRefused):
                raise item.error
            raise self._failed(item) from item.error
        return None

    def _failed(self, outcome: Outcome[None]) -> ShardsFailed:
        self._failures.append(outcome)
        return all_failed(self._failures, len(self._channels))

    def _batches(self, index: int) -> Iterator[list[Row]]:
        """Return the rows of one shard."""
        channel = self._channels[index]
        if index >= len(self._heads):
            self._heads.append(self._head(channel))
            check_columns([self._heads[0], self._heads[-1]])
        while isinstance(batch := self._next(channel), list):
            failed = next((outcome for outcome in self._outcomes if not outcome.is_ok), None)
            if failed is not None:  # another shard, whose rows would come later
                raise self._failed(failed) from failed.error
            yield batch

    def _appended(self) -> Iterator[tuple[str, list[Row]]]:
        for index, channel in enumerate(self._channels):
            for batch in self._batches(index):
                yield channel.shard.shard_id, batch

    def _sorted(self) -> Iterator[tuple[str, list[Row]]]:
        engine = ENGINES[self._heads[0].shard.backend.name]
        positions: list[Callable[[Any], SortPosition]] = []
        for i, key in enumerate(self._merge.keys):
            value_type = one_type(self._heads, key.column, key.sql)
            collations = {head.collations[i] for head in self._heads} if engine.name == "sqlite" else {None}
            if collations != {"BINARY"} if engine.name == "sqlite" else value_type.is_text:
                raise NotStreamed
            nulls_first = key.nulls_first if key.nulls_first is not None else engine.nulls_low != key.desc
            positions.append(sort_position(desc=key.desc, nulls_first=nulls_first))
        columns = [key.column for key in self._merge.keys]

        def ordered(index: int) -> Iterator[tuple[list[SortPosition], int, Row]]:
            last: list[SortPosition] | None = None
            for row in chain.from_iterable(self._batches(index)):
                key = [position(row[column]) for position, column in zip(positions, columns, strict=True)]
                try:
                    if last is not None and key < last:
                        raise self._misordered(index)
                except TypeError as error:
                    raise self._misordered(index) from error
                last = key
                yield key, index, row

        def merged() -> Iterator[tuple[str, list[Row]]]:
            streams = [ordered(index) for index in range(len(self._channels))]
            for _, index, row in heapq.merge(*streams, key=lambda entry: entry[:2]):
                yield self._channels[index].shard.shard_id, [row]

        return merged()

    def _misordered(self, index: int) -> QueryRefused:
        listed = ", ".join(key.sql for key in self._merge.keys)
        return QueryRefused(
            f"shard `{self._channels[index].shard.shard_id}` orders by `{listed}` in a way that"
            " cannot be repeated here",
            hint="name the order of text with COLLATE",
        )


def _at_once(fleet: Fleet, shards: Sequence[LiveShard]) -> list[LiveShard]:
    """Return the first of the shards, as many as are all asked before one of them is done."""
    busy: Counter[object] = Counter()
    found = []
    for shard in shards[:MAX_JOBS]:
        busy[shard.server] += 1
        if busy[shard.server] > fleet.shard_map.connections_per_server:
            break
        found.append(shard)
    return found
