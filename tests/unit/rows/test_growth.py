"""What is compared with which record, and what is not."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from shardctl.fleet.records import Record
from shardctl.rows.growth import growth_since, to_record
from shardctl.rows.sizes import Known, ShardSize, TableSize
from shardctl.rows.stats import TableStats, table_stats

NOON = datetime.datetime(2026, 5, 4, 12, tzinfo=datetime.UTC)


def size(rows: int | None, known: Known = Known.EXACT) -> TableSize:
    return TableSize(rows, known, 4096, Known.EXACT)


def record(hour: int, **shards: dict[str, TableSize]) -> Record:
    data = to_record({name: ShardSize(tables) for name, tables in shards.items()})
    return Record(NOON.replace(hour=hour), json.loads(json.dumps(data)))


def now(**shards: dict[str, TableSize]) -> list[TableStats]:
    return table_stats({name: ShardSize(tables) for name, tables in shards.items()}, {})


def test_counts_are_compared_with_counts() -> None:
    tables = now(a={"t": size(15), "u": size(2)}, b={"t": size(3)})
    found = growth_since([record(1, a={"t": size(10), "u": size(2)}, b={"t": size(5)})], tables)
    assert found is not None
    assert found.rows == {("t", "a"): 5, ("u", "a"): 0, ("t", "b"): -2}
    assert (found.of(tables), found.of(tables, "b"), found.of(tables[:1])) == (3, -2, 3)


def test_what_was_estimated_is_not_compared_with_what_is_counted() -> None:
    guess = size(10, Known.ESTIMATE)
    tables = now(a={"t": size(15), "u": size(1)})
    assert growth_since([record(1, a={"t": guess})], tables) is None
    mixed = growth_since([record(1, a={"t": guess, "u": size(0)})], tables)
    assert mixed is not None
    assert (mixed.rows, mixed.unlike, mixed.of(tables)) == ({("u", "a"): 1}, 1, None)


def test_the_newest_record_with_like_numbers_is_taken() -> None:
    records = [
        record(1, a={"t": size(1)}),
        record(2, a={"t": size(2)}),
        record(3, a={"t": size(3, Known.ESTIMATE)}),
        record(4, b={"t": size(4)}),
    ]
    found = growth_since(records, now(a={"t": size(10)}))
    assert found is not None
    assert (found.since.hour, found.rows) == (2, {("t", "a"): 8})


def test_a_number_that_is_not_known_has_no_growth() -> None:
    assert growth_since([record(1, a={"t": size(1)})], now(a={"t": size(None)})) is None
    assert growth_since([record(1, a={"t": size(None)})], now(a={"t": size(1)})) is None


@pytest.mark.parametrize("of_shards", [None, 1, {"a": {"t": 5}}, {"a": {"t": ["x", "exact"]}}])
def test_a_record_of_another_shape_is_passed_over(of_shards: Any) -> None:
    assert growth_since([Record(NOON, {"shards": of_shards})], now(a={"t": size(1)})) is None
