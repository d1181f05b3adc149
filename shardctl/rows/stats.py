"""How much data each table has on each shard, how evenly it is spread, and what has been added since the last time."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Table

from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.rules import Follow, Reference, Sharded
from shardctl.fleet.survey import survey
from shardctl.rows.sizes import Known, ShardSize, TableSize, count_rows, counted, read_sizes
from shardctl.rows.skew import Skew, skew_of


class Kind(StrEnum):
    """By what a table's rows are where they are."""

    SHARDED = "sharded"
    FOLLOWS = "follows"
    COPY = "reference"
    UNPLACED = "unplaced"
    """By nothing that the shard map says: by the application's own choosers, or by chance."""


@dataclass(frozen=True, slots=True)
class Meant:
    """What the models and the shard map say of a table."""

    kind: Kind
    shard_ids: tuple[str, ...]
    """The shards that should have it."""


@dataclass(frozen=True, slots=True)
class Part:
    """A table on one shard."""

    shard_id: str
    rows: int | None
    rows_are: str
    """`exact` or `estimate`; for no number: `unknown`, `denied`, or `missing` where the table is not there."""
    bytes: int | None
    bytes_are: str
    is_meant: bool
    """Whether the shard should have the table."""


@dataclass(frozen=True, slots=True)
class TableStats:
    """A table on all shards that answered, in their order."""

    name: str
    kind: Kind
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int | None:
        """Return the rows of all shards; None if they are not known of each, or if the shards hold copies."""
        known = [part.rows for part in self.parts if part.rows is not None]
        is_whole = all(part.rows is not None or part.rows_are == MISSING for part in self.parts)
        return sum(known) if is_whole and self.kind is not Kind.COPY else None

    @property
    def bytes(self) -> int | None:
        known = [part.bytes for part in self.parts if part.bytes is not None]
        return sum(known) if known else None

    @property
    def rows_are(self) -> str:
        """Return how the rows are known: that of the part that is known the least."""
        return _least_known(part.rows_are for part in self.parts)

    @property
    def bytes_are(self) -> str:
        return _least_known(part.bytes_are for part in self.parts)

    @property
    def skew(self) -> Skew | None:
        """Return how uneven its rows are over the shards that should have it; copies have no skew."""
        if self.rows is None:
            return None
        return skew_of(part.rows or 0 for part in self.parts if part.is_meant or part.rows)

    def share(self, part: Part) -> float | None:
        """Return which part of all its rows a shard has; None for copies, or where a shard's rows are not known."""
        return part.rows / self.rows if self.rows and part.rows is not None else None


TOTAL = "total"
MISSING, UNKNOWN, DENIED = "missing", "unknown", "denied"
_WORST_FIRST = (UNKNOWN, DENIED, Known.ESTIMATE.value, Known.EXACT.value)


def read_stats(
    fleet: Fleet,
    shards: Sequence[LiveShard],
    *,
    is_exact: bool = False,
    names: Collection[str] = (),
    timeout_s: float | None = None,
) -> Generator[Outcome[ShardSize], None, None]:
    """Read the sizes of tables, and yield the outcomes as they come.

    Args:
        fleet: The shards' fleet.
        shards: The shards.
        is_exact: Whether rows are counted, on each shard by itself; otherwise the engine's estimates are taken.
        names: The tables to count; none: all that this login may read.
        timeout_s: Seconds for each shard; None: those of the shard map.
    """
    with closing(survey(fleet, shards, read_sizes, timeout_s=timeout_s)) as estimated:
        if not is_exact:
            yield from estimated
            return
        found = {outcome.shard_id: outcome for outcome in estimated}
    yield from (outcome for outcome in found.values() if not outcome.is_ok)

    def count(live: LiveShard) -> ShardSize:
        size = found[live.shard_id].result
        wanted = [name for name, known in size.tables.items() if _is_to_count(known) and (not names or name in names)]
        with live.connect() as connection:
            return counted(size, count_rows(connection, wanted))

    there = [outcome.shard for outcome in found.values() if outcome.is_ok]
    with closing(fleet.fan_out(count, there, timeout_s=timeout_s or fleet.shard_map.timeout_s)) as outcomes:
        yield from outcomes


def _is_to_count(size: TableSize) -> bool:
    return size.rows_are is not Known.EXACT and not size.is_denied


def meant_tables(fleet: Fleet) -> dict[str, Meant]:
    """Return what is said of the tables of the models, by name.

    Raises:
        ConfigError: There are no models, or the shard map does not fit them.
    """
    mappers = {
        table: mapper for mapper in fleet.models.mappers.values() for table in mapper.tables if isinstance(table, Table)
    }
    found = {}
    for metadata in fleet.models.metadatas:
        for table in metadata.sorted_tables:
            target = mappers.get(table, table)
            rule = fleet.placement.rule(target) if fleet.placement is not None else None
            found[table.name] = Meant(_kind(rule), tuple(fleet.shard_ids(target)))
    return found


def table_stats(
    sizes: Mapping[str, ShardSize], meant: Mapping[str, Meant], *, left_out: Collection[str] = ()
) -> list[TableStats]:
    """Arrange sizes by table: those of the models first, in their order, then what else the shards have.

    Args:
        sizes: By shard, in their order.
        meant: What the models and the shard map say.
        left_out: Tables to leave out.
    """
    others = sorted({name for size in sizes.values() for name in size.tables} - set(meant))
    return [_stats(name, meant.get(name), sizes) for name in [*meant, *others] if name not in left_out]


def total_of(tables: Sequence[TableStats]) -> TableStats:
    """Return all tables as if they were one; copies are left out, which are alike on every shard."""
    parts: dict[str, list[Part]] = {}
    for table in tables:
        for part in table.parts if table.kind is not Kind.COPY else ():
            parts.setdefault(part.shard_id, []).append(part)
    return TableStats(TOTAL, Kind.UNPLACED, tuple(_sum(shard_id, found) for shard_id, found in parts.items()))


def _sum(shard_id: str, parts: Sequence[Part]) -> Part:
    there = [part for part in parts if part.rows_are != MISSING]
    rows = [part.rows for part in there if part.rows is not None]
    size = [part.bytes for part in there if part.bytes is not None]
    return Part(
        shard_id,
        sum(rows) if len(rows) == len(there) else None,
        _least_known(part.rows_are for part in there) if there else Known.EXACT.value,
        sum(size) if len(size) == len(there) else None,
        _least_known(part.bytes_are for part in there) if there else Known.EXACT.value,
        is_meant=True,
    )


def _stats(name: str, meant: Meant | None, sizes: Mapping[str, ShardSize]) -> TableStats:
    parts = []
    for shard_id, size in sizes.items():
        is_meant = shard_id in meant.shard_ids if meant else name in size.tables
        if is_meant or name in size.tables:
            parts.append(_part(name, shard_id, size, is_meant=is_meant))
    return TableStats(name, meant.kind if meant else Kind.UNPLACED, tuple(parts))


def _part(name: str, shard_id: str, size: ShardSize, *, is_meant: bool) -> Part:
    found = size.tables.get(name)
    if found is None:
        return Part(shard_id, None, MISSING, None, MISSING, is_meant)
    rows_are = found.rows_are.value if found.rows is not None else DENIED if found.is_denied else UNKNOWN
    bytes_are = found.bytes_are.value if found.bytes is not None else UNKNOWN
    return Part(shard_id, found.rows, rows_are, found.bytes, bytes_are, is_meant)


def _kind(rule: object) -> Kind:
    match rule:
        case Sharded():
            return Kind.SHARDED
        case Follow():
            return Kind.FOLLOWS
        case Reference():
            return Kind.COPY
    return Kind.UNPLACED


def _least_known(of_parts: Iterable[str]) -> str:
    found = set(of_parts)
    return next((word for word in _WORST_FIRST if word in found), MISSING)
