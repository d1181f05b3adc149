"""What has been added since the last recorded run: only numbers that are known in the same way are compared."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardctl.fleet.records import Record
from shardctl.rows.sizes import ShardSize
from shardctl.rows.stats import TableStats


@dataclass(frozen=True, slots=True)
class Growth:
    """The difference to one record."""

    since: datetime.datetime
    rows: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By table and shard."""
    unlike: int = 0
    """Tables on shards whose rows were known in another way then: counted once, estimated the other time."""

    def of(self, tables: Iterable[TableStats], shard_id: str | None = None) -> int | None:
        """Return the growth of tables on one shard, or on all; None if a number of theirs is not compared."""
        found = [
            self.rows.get((table.name, part.shard_id))
            for table in tables
            for part in table.parts
            if part.rows is not None and shard_id in (None, part.shard_id)
        ]
        known = [number for number in found if number is not None]
        return sum(known) if known and len(known) == len(found) else None


def to_record(sizes: Mapping[str, ShardSize]) -> dict[str, Any]:
    """Return what is kept of a run, for the next one to compare with."""
    return {
        "shards": {
            shard_id: {name: [found.rows, found.rows_are.value, found.bytes] for name, found in size.tables.items()}
            for shard_id, size in sizes.items()
        }
    }


def growth_since(records: Sequence[Record], tables: Iterable[TableStats]) -> Growth | None:
    """Compare with the newest record that has a number known in the same way.

    Args:
        records: Of earlier runs, the oldest first.
        tables: What is known now.
    """
    now = {(table.name, part.shard_id): part for table in tables for part in table.parts if part.rows is not None}
    for record in reversed(records):
        rows: dict[tuple[str, str], int] = {}
        unlike = 0
        for (name, shard_id), part in now.items():
            number, known_then = _entry(record, name, shard_id)
            if number is None or part.rows is None:
                continue
            if known_then == part.rows_are:
                rows[name, shard_id] = part.rows - number
            else:
                unlike += 1
        if rows:
            return Growth(record.when, rows, unlike)
    return None


def _entry(record: Record, name: str, shard_id: str) -> tuple[int | None, str]:
    """Return rows and how they were known; a file that something else has written has none."""
    try:
        rows, known, *_ = record.data["shards"][shard_id][name]
    except (KeyError, TypeError, ValueError):
        return None, ""
    return (rows, str(known)) if isinstance(rows, int) else (None, "")
