"""What ran on shards, by the history that each keeps of itself."""

from __future__ import annotations

import datetime
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    TableClause,
    cast,
    column,
    func,
    literal,
    select,
    table,
    union_all,
)

from shardctl.errors import ShardctlError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.survey import Place, survey
from shardctl.schema.history import DONE, FAILED, HISTORY, INTERRUPTED, KILLED, RUNNING, HistoryEntry
from shardctl.schema.inventory import Inventory, read_inventories
from shardctl.schema.locks import is_held

_WORST_FIRST = [RUNNING, FAILED, KILLED, INTERRUPTED, DONE]
_COLUMNS = [entry.name for entry in HISTORY.columns if entry.name != "id"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of shardctl over shards."""

    run_id: str
    entries: Mapping[str, Sequence[HistoryEntry]]
    """By shard, oldest first."""

    @property
    def first(self) -> HistoryEntry:
        return min(self._all, key=lambda entry: entry.started_at)

    @property
    def revisions(self) -> tuple[str, ...]:
        """What ran anywhere, in the order in which it was started."""
        in_order = sorted(self._all, key=lambda entry: entry.started_at)
        return tuple(dict.fromkeys(entry.revision for entry in in_order))

    @property
    def outcomes(self) -> dict[str, str]:
        """How it ended on each shard: as its last revision there did."""
        return {shard_id: entries[-1].outcome for shard_id, entries in self.entries.items()}

    @property
    def outcome(self) -> str:
        """How it ended: `done` only if it is on each shard."""
        return min(self.outcomes.values(), key=_WORST_FIRST.index)

    @property
    def seconds(self) -> float | None:
        """From its first start to its last end; None if one end is not known."""
        if any(entry.seconds is None for entry in self._all):
            return None
        ends = [entry.finished_at for entry in self._all if entry.finished_at is not None]
        return (max(ends) - self.first.started_at).total_seconds()

    @property
    def error(self) -> str | None:
        """The first error, in the order of the shards."""
        return next((entry.error for entry in self._all if entry.error), None)

    @property
    def _all(self) -> list[HistoryEntry]:
        return [entry for entries in self.entries.values() for entry in entries]


def runs_of(entries: Mapping[str, Sequence[HistoryEntry]]) -> list[Run]:
    """Put the entries of shards together to runs, newest first."""
    by_run: dict[str, dict[str, list[HistoryEntry]]] = {}
    for shard_id, found in entries.items():
        for entry in found:
            by_run.setdefault(entry.run_id, {}).setdefault(shard_id, []).append(entry)
    runs = [Run(run_id, found) for run_id, found in by_run.items()]
    return sorted(runs, key=lambda run: run.first.started_at, reverse=True)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are read."""

    run_id: str | None = None
    """Of this run: its id, or the beginning of it."""
    runs: int | None = None
    """Of this many runs, the latest of each shard; None: of all."""
    is_failed: bool = False
    """Of runs that are not done."""


def read_last_entries(connection: Connection, places: Sequence[Place]) -> dict[str, HistoryEntry]:
    """Return the last entry of each shard, by the shards' names; the shards have the history's table."""
    if not places:
        return {}
    found = _settled(connection, places, _read(connection, places, _only_last))
    return {shard_id: entries[-1] for shard_id, entries in found.items()}


def read_history(
    fleet: Fleet, shards: Iterable[LiveShard], wanted: Wanted, *, timeout_s: float | None = None
) -> Generator[Outcome[Sequence[HistoryEntry]], None, None]:
    """Read what ran on shards, oldest first, on as few connections as possible."""
    return survey(
        fleet, shards, lambda connection, places: read_entries(connection, places, wanted), timeout_s=timeout_s
    )


def read_entries(
    connection: Connection, places: Sequence[Place], wanted: Wanted
) -> Mapping[str, Sequence[HistoryEntry] | ShardctlError]:
    """Return the entries of shards, oldest first, by the shards' names; none of a shard that has no history."""
    inventories = read_inventories(connection, places)
    readable = {shard_id: found for shard_id, found in inventories.items() if len(places) == 1 or not denies(found)}
    present = with_table(places, readable)
    entries = _read(connection, present, lambda history: _of_runs(history, wanted)) if present else {}
    entries = _settled(connection, present, entries)
    return {
        shard_id: found if isinstance(found, ShardctlError) else entries.get(shard_id, [])
        for shard_id, found in readable.items()
    }


def with_table(
    places: Iterable[Place], inventories: Mapping[str, Inventory | ShardctlError], name: str = HISTORY.name
) -> list[Place]:
    """Return the places that have a table of shardctl's own: the history's, or another."""

    def has(inventory: object) -> bool:
        return isinstance(inventory, Inventory) and name in inventory.tables

    return [place for place in places if has(inventories.get(place.shard.shard_id))]


def denies(inventory: Inventory | ShardctlError) -> bool:
    """Say whether this login may not read a shard's history."""
    return isinstance(inventory, Inventory) and HISTORY.name in inventory.denied


def as_text(value: ColumnElement[Any], connection: Connection) -> ColumnElement[Any]:
    """Return text that a UNION takes from databases whose collations differ."""
    return cast(value, String) if connection.dialect.name in ("mysql", "mariadb") else value


def _settled(
    connection: Connection, places: Sequence[Place], found: dict[str, list[HistoryEntry]]
) -> dict[str, list[HistoryEntry]]:
    """Call those killed that say `running` while nobody has the shard's lock."""
    running = {name for name, entries in found.items() if entries[-1].outcome == RUNNING}
    suspects = [place for place in places if place.shard.shard_id in running]
    free = [place for place in suspects if not is_held(place.shard, connection, place.schema)]
    if not free:
        return found
    connection.rollback()  # out of the snapshot: a run may just have ended
    now = _read(connection, free, _only_last)
    for place in free:
        entries = found[place.shard.shard_id]
        last = now[place.shard.shard_id][-1]
        if last == entries[-1]:
            entries[-1] = replace(last, outcome=KILLED)
        elif (last.run_id, last.revision) == (entries[-1].run_id, entries[-1].revision):
            entries[-1] = last
    return found


def _read(connection: Connection, places: Sequence[Place], narrowed: Any) -> dict[str, list[HistoryEntry]]:
    statements = [_entries(connection, index, place, narrowed) for index, place in enumerate(places)]
    query = statements[0] if len(statements) == 1 else union_all(*statements)
    found: dict[str, list[HistoryEntry]] = {}
    for index, _, *values in sorted(connection.execute(query).all(), key=lambda row: (row[0], row[1])):
        entry = dict(zip(_COLUMNS, values, strict=True))
        for name in ("started_at", "finished_at"):
            entry[name] = entry[name].replace(tzinfo=datetime.UTC) if entry[name] is not None else None
        found.setdefault(places[index].shard.shard_id, []).append(HistoryEntry(**entry))
    return found


def _entries(connection: Connection, index: int, place: Place, narrowed: Any) -> Select[Any]:
    history = table(HISTORY.name, *(column(c.name, c.type) for c in HISTORY.columns), schema=place.schema)
    values = [
        as_text(history.c[name], connection).label(name)
        if isinstance(HISTORY.c[name].type, String)
        else history.c[name]
        for name in _COLUMNS
    ]
    return select(literal(index, literal_execute=True), history.c.id, *values).where(narrowed(history))


def _only_last(history: TableClause) -> ColumnElement[bool]:
    inner = history.alias("h")
    return history.c.id == select(func.max(inner.c.id)).scalar_subquery()


def _of_runs(history: TableClause, wanted: Wanted) -> ColumnElement[bool]:
    inner = history.alias("h")
    latest = func.max(inner.c.id).label("latest")
    runs = select(inner.c.run_id, latest).group_by(inner.c.run_id)
    if wanted.run_id is not None:
        runs = runs.where(inner.c.run_id.startswith(wanted.run_id, autoescape=True))
    if wanted.is_failed:
        runs = runs.where(inner.c.outcome != DONE)
    if wanted.runs is not None:
        runs = runs.order_by(latest.desc()).limit(wanted.runs)
    return history.c.run_id.in_(select(runs.subquery("runs").c.run_id))  # MySQL has no LIMIT right inside IN
