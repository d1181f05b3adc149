"""What two copies of a table have otherwise, whatever order their databases keep them in."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from shardctl.fleet import LiveShard
from shardctl.rows.audit.copies import Copies, Row
from shardctl.rows.audit.finding import Trouble
from shardctl.rows.audit.keys import Value
from shardctl.rows.audit.reading import on_each

IN_MEMORY = 100_000
"""Rows of a copy that are compared at one time; a larger copy is read several times, in parts."""

BY_KEY = 10_000
"""Rows that are looked at again one by one, at the most; of more, all are read again."""

Way = tuple[str, tuple[str, ...]]
"""How rows differ: `row missing`, `row extra`, or `row differs` with the columns that do."""

Differences = Mapping[Way, Mapping[Value, Value]]
"""The keys of rows that differ, each with what a finding shows of it."""


class Lost(Exception):
    """A copy that could not be read to its end."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.shard_id)
        self.trouble = trouble


def differences(
    copies: Copies, base: LiveShard, others: Sequence[LiveShard], rows: int
) -> Mapping[LiveShard, Differences]:
    """Return how some copies differ from one.

    Args:
        copies: The copies.
        base: The copy that is right.
        others: The copies to compare with it.
        rows: How many rows it has, more or less.

    Raises:
        Lost: A copy could not be read.
    """
    found: dict[LiveShard, dict[Way, dict[Value, Value]]] = {other: defaultdict(dict) for other in others}
    parts = max(1, -(-rows // IN_MEMORY))
    for part in range(parts):
        own = {row.key: row for row in _rows(copies, base, part, parts)}
        for other in others:
            for way, row in _compared(copies, own, _rows(copies, other, part, parts)):
                found[other][way][row.key] = row.sample
    return found


def still_different(
    copies: Copies, base: LiveShard, found: Mapping[LiveShard, Differences], rows: int
) -> Mapping[LiveShard, Differences]:
    """Return what of some differences is there when one looks again, and maybe others.

    Raises:
        Lost: A copy could not be read.
    """
    others = [other for other, ways in found.items() if ways]
    samples = {other: [sample for keys in found[other].values() for sample in keys.values()] for other in others}
    if copies.is_mixed or not copies.table.primary_key or any(len(keys) > BY_KEY for keys in samples.values()):
        return differences(copies, base, others, rows) if others else {}
    again: dict[LiveShard, dict[Way, dict[Value, Value]]] = {other: defaultdict(dict) for other in others}
    for other in others:
        own = {row.key: row for row in _again(copies, base, samples[other])}
        for way, row in _compared(copies, own, iter(_again(copies, other, samples[other]))):
            again[other][way][row.key] = row.sample
    return again


def _again(copies: Copies, shard: LiveShard, samples: Sequence[Value]) -> list[Row]:
    found, troubles = on_each(copies.scope, [shard], lambda shard: copies.again(shard, samples), name=copies.name)
    if troubles:
        raise Lost(troubles[0])
    return found[shard.shard_id]


def _compared(copies: Copies, own: Mapping[Value, Row], others: Iterator[Row]) -> Iterator[tuple[Way, Row]]:
    unseen = dict(own)
    for row in others:
        mine = unseen.pop(row.key, None)
        if mine is None:
            yield ("row extra", ()), row
        elif mine.values != row.values:
            pairs = zip(copies.table.columns, mine.values, row.values, strict=True)
            yield ("row differs", tuple(column.name for column, value, other in pairs if value != other)), row
    for row in unseen.values():
        yield ("row missing", ()), row


def _rows(copies: Copies, shard: LiveShard, part: int, parts: int) -> Iterator[Row]:
    """Yield the rows of one part of a copy: the same ones of each copy, by their keys."""
    for found in copies.pages([shard]):
        if isinstance(found, Trouble):
            raise Lost(found)
        yield from (row for row in found[1] if parts == 1 or _number(row) % parts == part)


def _number(row: Row) -> int:
    return zlib.crc32(repr(row.key).encode("utf-8", "surrogatepass"))
