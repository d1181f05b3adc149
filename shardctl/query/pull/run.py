"""Pulling: every shard's scans into temporary tables of one place, and the statement itself over them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from shardctl.errors import QueryRefused
from shardctl.fleet.fan_out import MAX_JOBS
from shardctl.fleet.live_shard import LiveShard
from shardctl.fleet.quoting import quoted_name
from shardctl.query.asked import note_rows, reading
from shardctl.query.engines.values import Row, run_as_written
from shardctl.query.gatherers import GATHERERS, ColumnShape, Gatherer, TableShape
from shardctl.query.here.place import opened
from shardctl.query.plan import Gathering, QueryPlan
from shardctl.query.probes import ask
from shardctl.query.pull.needs import KeyList, Reduction
from shardctl.query.pull.places import DatabasePlace, Place
from shardctl.query.pull.plan import TableScan
from shardctl.query.pull.steps import Steps
from shardctl.query.refusals import REFUSALS
from shardctl.query.scan import Stopped, TooManyRows, run_on

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.fleet import Fleet

_CANCEL_S = 5.0
_WORTH_ESTIMATING = 100_000
_MOST_KEYS = {"sqlite": 20_000}
_MOST_KEYS_ELSEWHERE = 100_000
"""SQLite reads statements of up to a million characters; what others take for a list grows with it."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """The answer, and what it took."""

    columns: tuple[str, ...]
    rows: list[Row]
    rows_pulled: int


class Outdated(QueryRefused):
    """A table has changed since the statement was planned."""


def pull(
    fleet: Fleet,
    plan: QueryPlan,
    shards: Sequence[LiveShard],
    place: LiveShard,
    *,
    timeout_s: float | None,
    max_rows: int,
) -> Pulled:
    """Pull what a plan's scans say, and run its statement over it.

    Args:
        fleet: The fleet.
        plan: A plan whose route is `gather`.
        shards: The shards that it names.
        place: Where the rows go, into temporary tables.
        timeout_s: Seconds for one shard, and for the statement itself.
        max_rows: Rows at most, of all tables and shards together.

    Raises:
        QueryRefused: There are more rows, or a shard showed that the answer could be wrong.
        ShardError: A shard failed, or the statement did.
    """
    assert plan.gathering is not None
    gatherer = GATHERERS[plan.engine]
    with ExitStack() as stack:
        connection = stack.enter_context(place.connect(read_only=False))
        gatherer.adopt(connection, dict(plan.gathering.settings), plan.gathering.words)
        for scan in plan.gathering.scans:
            gatherer.create(connection, scan.table)
        gatherer.check(connection, plan.gathering.sql)
        meeting = DatabasePlace(gatherer, connection, plan.engine)
        pulling = _Pulling(fleet, plan.gathering, shards, gatherer, meeting, max_rows)
        stack.callback(pulling.stop)
        run_on(fleet, shards, pulling.work, timeout_s=timeout_s)
        pulling.finish()
        gatherer.seal(connection)

        ended = threading.Event()

        def answer(_: LiveShard) -> tuple[tuple[str, ...], list[Row]]:
            try:
                result = run_as_written(connection, plan.gathering.sql)  # type: ignore[union-attr]
                return tuple(result.keys()), [tuple(row) for row in result]
            finally:
                ended.set()

        # A statement that was cancelled must have ended before its connection is closed.
        stack.callback(ended.wait, _CANCEL_S)
        columns, rows = run_on(fleet, [place], answer, timeout_s=timeout_s)[0]
        return Pulled(columns, rows, pulling.rows)


def pull_here(
    fleet: Fleet,
    plan: QueryPlan,
    shards: Sequence[LiveShard],
    *,
    timeout_s: float | None,
    max_rows: int,
    memory_limit: str,
) -> Pulled:
    """Pull what a plan's scans say into DuckDB, and run there what the plan has for it; raises what `pull` does."""
    gathering = plan.gathering
    assert gathering is not None
    assert gathering.here is not None
    with opened(gathering.here, gathering.scans, plan.engine, dict(gathering.settings), memory_limit) as place:
        pulling = _Pulling(fleet, gathering, shards, GATHERERS[plan.engine], place, max_rows)
        try:
            run_on(fleet, shards, pulling.work, timeout_s=timeout_s)
            pulling.finish()
        finally:
            pulling.stop()
        columns, rows = place.answer(timeout_s)
        return Pulled(columns, rows, pulling.rows)


@dataclass
class _Pulling:
    fleet: Fleet
    gathering: Gathering
    shards: Sequence[LiveShard]
    gatherer: Gatherer
    place: Place
    max_rows: int
    rows: int = 0
    is_stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _finished: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.settings = self.place.settings
        self.seen = {(shard_id, shape.name): shape for shard_id, shape in self.gathering.seen}
        together = len(self.shards) if self._are_all_at_once() else None
        self.steps = Steps(self.gathering.scans, together, self._keys, self._finish)

    def _are_all_at_once(self) -> bool:
        busiest = max(Counter(shard.server for shard in self.shards).values())
        is_free = not any(shard.is_thread_bound for shard in self.shards)
        return is_free and busiest <= self.fleet.shard_map.connections_per_server and len(self.shards) <= MAX_JOBS

    def work(self, shard: LiveShard) -> None:
        """Pull one shard's part of every table, in one snapshot."""
        try:
            with reading(shard) as connection:
                self.gatherer.begin(connection)
                self._check(shard, connection)
                for scan, keys in self.steps.run():
                    if shard.shard_id in scan.shard_ids:
                        self._scan(shard, connection, scan, scan.sql(keys, limit=self.max_rows + 1))
        except BaseException:
            self.steps.stop()
            raise

    def stop(self) -> None:
        """Let no shard that is still at work touch the place any more."""
        self.steps.stop()
        with self._lock:
            self.is_stopped = True

    def finish(self) -> None:
        """Make every table ready to be read."""
        for scan in self.gathering.scans:
            self._finish(scan)

    def _check(self, shard: LiveShard, connection: Connection) -> None:
        gatherer = self.gatherer
        is_own = self.fleet.shard_map.app is None
        scans = [scan for scan in self.gathering.scans if shard.shard_id in scan.shard_ids]
        found, foreign, shapes = ask(
            connection,
            gatherer.settings(),
            gatherer.foreign(self.gathering.functions, is_own=is_own),
            gatherer.shapes([scan.source for scan in scans]),
        )
        for name in sorted({*found, *self.settings}):
            here, there = found.get(name), self.settings.get(name)
            if here != there:
                facts = (f"{shard.shard_id}: {here}", f"gather: {there}")
                REFUSALS["settings"].refuse(None, name, shard.shard_id, facts=facts)
        if foreign:
            REFUSALS["function"].refuse(None, foreign[0])
        for scan, shape in zip(scans, shapes, strict=True):
            if (shard.shard_id, scan.source) in self.seen and self.seen[shard.shard_id, scan.source] != shape:
                raise Outdated(f"`{scan.source}` on `{shard.shard_id}` is not as it was when this was planned")
            self._check_shape(shard, shape, scan)
        texts = [(scan.estimate_sql(), scan.total_sql(), scan.groups_sql()) for scan in scans]
        numbers = iter(ask(connection, *(gatherer.estimate(text) for each in texts for text in each if text)))
        for scan, each in zip(scans, texts, strict=True):
            rows = next(numbers)
            total = next(numbers) if each[1] else rows
            self.steps.expect(scan, rows, total, next(numbers) if each[2] else None)
        # An estimate may be wrong, most of all for small tables; reading stops at the limit in any case.
        if self.steps.expected > 2 * max(self.max_rows, _WORTH_ESTIMATING):
            self._refuse_rows(f"about {self.steps.expected:,} rows are there")

    def _check_shape(self, shard: LiveShard, shape: TableShape | None, scan: TableScan) -> None:
        if scan.table.primary_key and (shape is None or shape.primary_key != scan.table.primary_key):
            REFUSALS["shapes"].refuse(None, scan.source, scan.shard_ids[0], shard.shard_id)
        # By name and type: a scan may say otherwise how a value is read.
        constant = {column.name for column in scan.table.columns if column.is_constant}
        own = () if shape is None else tuple(_compared(column, constant) for column in shape.columns)
        wanted = tuple(_compared(column, constant) for column in scan.table.columns)
        found = own if scan.has_all_columns else tuple(column for column in own if column in wanted)
        if found != wanted and sorted(map(str, found)) == sorted(map(str, wanted)) and not scan.has_all_columns:
            return  # in another order, which only `*` would show
        if found != wanted:
            differing = [column for column in wanted if column not in own] or list(own)
            facts = tuple(f"not on `{shard.shard_id}`: {column.name} {column.declared}" for column in differing[:3])
            first = scan.shard_ids[0]
            REFUSALS["shapes"].refuse(None, scan.source, first, shard.shard_id, facts=facts)

    def _scan(self, shard: LiveShard, connection: Connection, scan: TableScan, sql: str) -> None:
        with self.place.batches(connection, scan, sql) as batches:
            for count, batch in batches:
                with self._lock:
                    if self.is_stopped:
                        raise Stopped("stopped, as another shard failed")
                    self.rows += count
                    if self.rows > self.max_rows:
                        self._refuse_rows()
                    self.place.load(scan, batch)
                note_rows(shard.shard_id, count, scan.table.name)

    def _refuse_rows(self, *facts: str) -> None:
        reason = REFUSALS["rows"]
        raise TooManyRows(reason.reason.format(f"{self.max_rows:,}"), facts=facts, hint=reason.hint)

    def _finish(self, scan: TableScan) -> None:
        if scan.table.name not in self._finished:
            self._finished.add(scan.table.name)
            self.place.finish(scan.table, scan.indexed)
            if scan.is_unique:
                self._check_unique(scan)

    def _check_unique(self, scan: TableScan) -> None:
        listed = ", ".join(quoted_name(column.name, self.place.quotes) for column in scan.table.columns)
        table = quoted_name(scan.table.name, self.place.quotes)
        sql = f"SELECT {listed}, count(*) FROM {table} GROUP BY {listed} HAVING count(*) > 1 LIMIT 1"
        for found in self.place.rows(sql):
            names = ", ".join(column.name for column in scan.table.columns)
            values = ", ".join(map(str, found[:-1]))
            REFUSALS["keys"].refuse(None, f"{scan.source}.{names}", values, str(found[-1]))

    def _keys(self, reduction: Reduction) -> KeyList | None:
        """Return the values that a column of a pulled table has; None if they are too many."""
        engine = self.place.quotes
        most = _MOST_KEYS.get(self.shards[0].backend.name, _MOST_KEYS_ELSEWHERE)
        column, table = quoted_name(reduction.other_column, engine), quoted_name(reduction.table, engine)
        sql = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL LIMIT {most + 1}"
        values = [row[0] for row in self.place.rows(sql)]
        if len(values) > most or not all(type(value) is int for value in values):
            return None
        return KeyList.of(values)


def _compared(column: ColumnShape, constant: Collection[str]) -> ColumnShape:
    """Return what of a column must be the same on every shard."""
    return replace(column, read_as="", never_null=column.never_null and column.name in constant)
