"""The numbers of `shardctl stats` as tables, and for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardctl.cli import diagnostics, output
from shardctl.cli.amounts import ago, bar, size_text
from shardctl.cli.output import Format
from shardctl.cli.tables import right_aligned

if TYPE_CHECKING:
    from shardctl.rows.growth import Growth
    from shardctl.rows.sizes import ShardSize
    from shardctl.rows.stats import Part, TableStats

COLUMNS = ["table", "shard", "rows", "rows are", "bytes", "share", "", "skew", "gini", "growth"]
SUMMARY = ["table", "placed", "shards", "rows", "rows are", "bytes", "skew", "gini", "largest", "growth"]
OBJECT = ["table", "shard", "placed", "rows", "rows_are", "bytes", "bytes_are", "share", "skew", "gini", "growth"]

_BAR = 16
NUMBERS = {"rows", "bytes", "share", "skew", "gini", "growth"}
"""Columns of a table that are text, and stand at the right as numbers do."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What `stats` has found."""

    name: str
    """Of the cluster."""
    tables: Sequence[TableStats]
    total: TableStats
    growth: Growth | None
    sizes: Mapping[str, ShardSize]
    """By shard, as they were read."""
    unread: Sequence[str]
    """Shards that did not answer."""

    def growth_of(self, table: TableStats, shard_id: str | None = None) -> int | None:
        """Return how many rows were added to a table, or to all of them, on a shard or on all."""
        if self.growth is None:
            return None
        return self.growth.of(self.tables if table is self.total else [table], shard_id)


def show(listing: Listing, format_: Format, *, is_short: bool) -> None:
    """Print the numbers: on a table with a line for each shard, or, if short, for each table."""
    if format_ is Format.JSON:
        output.emit(OBJECT, list(_objects(listing)), format_, extra=_extra(listing))
    elif format_ in (Format.NDJSON, Format.CSV):
        output.emit(OBJECT, _objects(listing), format_)
    elif is_short:
        _emit(SUMMARY, [_summary(listing, table) for table in _with_total(listing)], format_)
    else:
        _emit(COLUMNS, [row for table in _with_total(listing) for row in rows_of(listing, table)], format_)


def say_what_is_behind(listing: Listing, *, is_exact: bool) -> None:
    """Say what the numbers do not."""
    from shardctl.rows.stats import DENIED, MISSING, UNKNOWN, Kind

    if any(table.kind is Kind.COPY for table in listing.tables):
        diagnostics.say("note: copies of reference tables are in no total, share or skew")
    for word, meaning in (
        (MISSING, "is missing, and should be there"),
        (DENIED, "may not be read by this login"),
        (UNKNOWN, "has no estimate yet; `--exact` counts its rows"),
    ):
        for table in listing.tables:
            shard_ids = [part.shard_id for part in table.parts if part.rows_are == word]
            if shard_ids:
                diagnostics.say(f"note: {table.name} {meaning}: {diagnostics.listed(shard_ids)}")
    if any(table.bytes_are == "estimate" for table in listing.tables):
        diagnostics.say("note: ~ stands for bytes that are the engine's estimate")
    denied = {
        name
        for size in listing.sizes.values()
        for name, found in size.tables.items()
        if is_exact and found.is_denied and found.rows is not None
    }
    if denied:
        diagnostics.say(f"note: not counted, since this login may not read it: {diagnostics.listed(sorted(denied))}")
    for table in listing.tables:
        shard_ids = [part.shard_id for part in table.parts if not part.is_meant]
        if shard_ids:
            diagnostics.say(f"note: {table.name} is not meant to be on {diagnostics.listed(shard_ids)}")
    if listing.growth is not None:
        _say_since(listing.growth)


def _say_since(growth: Growth) -> None:
    unlike = f"; {growth.unlike} not compared: counted once, estimated once" if growth.unlike else ""
    diagnostics.say(f"growth since {growth.since:%Y-%m-%d %H:%M:%S} UTC, {ago(growth.since)}{unlike}")


def placed_text(table: TableStats) -> str:
    """Return by what a table's rows are where they are; nothing for the total."""
    return "" if table.name == "total" else table.kind.value


def _with_total(listing: Listing) -> list[TableStats]:
    return [*listing.tables, *([listing.total] if len(listing.tables) > 1 and listing.total.parts else [])]


def rows_of(listing: Listing, table: TableStats) -> Iterator[list[Any]]:
    """Return a table's lines, as `COLUMNS` name them: one for each shard, and one for all."""
    most = max((part.rows or 0 for part in table.parts), default=0)
    for part in table.parts:
        share = table.share(part)
        drawn = bar((part.rows or 0) / most, _BAR, is_plain=output.is_plain()) if most and share is not None else None
        yield [
            table.name,
            part.shard_id,
            number_text(part.rows),
            part.rows_are,
            bytes_text(part.bytes, part.bytes_are),
            None if share is None else f"{share:.1%}",
            drawn,
            None,
            None,
            growth_text(listing.growth_of(table, part.shard_id)),
        ]
    yield _all(listing, table)


def _all(listing: Listing, table: TableStats) -> list[Any]:
    skew = table.skew
    return [
        table.name,
        "all",
        number_text(table.rows),
        placed_text(table) if table.rows is None else table.rows_are,
        bytes_text(table.bytes, table.bytes_are),
        None,
        None,
        f"{skew.max_over_mean:.2f}" if skew else None,
        f"{skew.gini:.2f}" if skew else None,
        growth_text(listing.growth_of(table)) if table.rows is not None else None,
    ]


def _summary(listing: Listing, table: TableStats) -> list[Any]:
    _, _, rows, rows_are, size, _, _, skew, gini, growth = _all(listing, table)
    largest = largest_text(table)
    return [table.name, placed_text(table), len(table.parts), rows, rows_are, size, skew, gini, largest, growth]


def largest_text(table: TableStats) -> str | None:
    """Return the shard with the most rows of a table, and its share."""
    if not table.rows:
        return None
    largest = max(table.parts, key=lambda part: part.rows or 0)
    return f"{largest.shard_id} ({table.share(largest):.1%})"


def _objects(listing: Listing) -> Iterator[list[Any]]:
    for table in listing.tables:
        skew = table.skew
        for part in table.parts:
            share = table.share(part)
            yield [
                table.name,
                part.shard_id,
                table.kind.value,
                part.rows,
                part.rows_are,
                part.bytes,
                part.bytes_are,
                None if share is None else round(share, 6),
                round(skew.max_over_mean, 6) if skew else None,
                round(skew.gini, 6) if skew else None,
                listing.growth_of(table, part.shard_id),
            ]


def _extra(listing: Listing) -> dict[str, Any]:
    since = listing.growth.since.isoformat() if listing.growth else None
    total = listing.total
    return {
        "cluster": listing.name,
        "unread": list(listing.unread),
        "growth_since": since,
        "tables": [_table_object(listing, table) for table in [*listing.tables, total]],
        "shards": [_shard_object(listing, part) for part in total.parts],
    }


def _table_object(listing: Listing, table: TableStats) -> dict[str, Any]:
    skew = table.skew
    return {
        "table": table.name,
        "placed": placed_text(table) or None,
        "shards": len(table.parts),
        "rows": table.rows,
        "rows_are": table.rows_are,
        "bytes": table.bytes,
        "bytes_are": table.bytes_are,
        "skew": round(skew.max_over_mean, 6) if skew else None,
        "gini": round(skew.gini, 6) if skew else None,
        "growth": listing.growth_of(table) if table.rows is not None else None,
    }


def _shard_object(listing: Listing, part: Part) -> dict[str, Any]:
    share = listing.total.share(part)
    return {
        "shard": part.shard_id,
        "rows": part.rows,
        "rows_are": part.rows_are,
        "bytes": part.bytes,
        "bytes_are": part.bytes_are,
        "file_bytes": listing.sizes[part.shard_id].file_bytes,
        "share": None if share is None else round(share, 6),
    }


def number_text(number: int | None) -> str | None:
    """Return a number with its thousands apart."""
    return None if number is None else f"{number:,}"


def bytes_text(size: int | None, are: str) -> str | None:
    """Return bytes in the largest unit that fits, with a tilde where they are estimated."""
    return None if size is None else ("~" if are == "estimate" else "") + size_text(size)


def growth_text(number: int | None) -> str | None:
    """Return a difference with its sign."""
    return None if number is None else f"{number:+,}" if number else "0"


def _emit(columns: Sequence[str], rows: list[list[Any]], format_: Format) -> None:
    """Print rows for people, without columns that say nothing: bytes that SQLite cannot tell, growth since no run."""
    kept = [index for index, _ in enumerate(columns) if any(row[index] is not None for row in rows)]
    names = [columns[index] for index in kept]
    rows = [[row[index] for index in kept] for row in rows]
    if format_ is Format.TABLE:
        right_aligned(names, rows, NUMBERS)
    output.emit(names, rows, format_)
