from __future__ import annotations

import datetime
import decimal
import enum
import math
import uuid
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

from shardctl.errors import NoPlacement
from shardctl.topology.buckets import BUCKETS, bucket_of, hash_bytes, parse_buckets, spread_buckets
from shardctl.topology.strategies import Directory, Hash, Lookup, Range, key_text
from tests.fixtures.engines import server_url

NAMES = [f"s{number}" for number in range(40)]


class Color(enum.Enum):
    RED = 1


# Computed outside Python: the first ten bits of `printf %s KEY | sha256sum`.
VECTORS: list[tuple[Any, int]] = [
    ("Asia", 491),
    ("asia", 952),
    (1, 430),
    (-(2**63), 532),
    ("", 910),
    ("東京", 76),
    ("🙂", 833),
    (uuid.UUID("12345678-1234-5678-1234-567812345678"), 466),
    (b"\x00\xff", 27),
]


@pytest.mark.parametrize(("value", "bucket"), VECTORS, ids=repr)
def test_buckets_are_those_of_the_specification(value: Any, bucket: int) -> None:
    assert bucket_of((value,)) == bucket


def test_a_composite_key_hashes_each_part_with_its_length() -> None:
    assert hash_bytes(("a", 12)) == b"\x00\x00\x00\x01a\x00\x00\x00\x0212"
    assert hash_bytes(("ab", "c")) != hash_bytes(("a", "bc"))
    assert bucket_of(("ab", "c")) != bucket_of(("a", "bc"))


def test_what_databases_spell_alike_hashes_alike() -> None:
    assert hash_bytes((7,)) == hash_bytes(("7",)) == b"7"
    assert hash_bytes((Color.RED,)) == b"RED"
    assert hash_bytes((bytearray(b"x"),)) == hash_bytes((memoryview(b"x"),)) == b"x"
    assert hash_bytes((uuid.UUID(int=10),)) == b"00000000-0000-0000-0000-00000000000a"


@pytest.mark.parametrize(
    "value", [True, 1.0, decimal.Decimal(1), None, datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1), ("a",)]
)
def test_what_databases_spell_differently_is_refused(value: Any) -> None:
    with pytest.raises(NoPlacement, match="cannot be hashed"):
        bucket_of((value,))


SQL_BUCKET = {
    "postgresql": "(get_byte(sha256(convert_to({0}, 'UTF8')), 0) << 2)"
    " | (get_byte(sha256(convert_to({0}, 'UTF8')), 1) >> 6)",
    "mysql": "conv(left(sha2(convert({0} using utf8mb4), 256), 4), 16, 10) >> 6",
}
SQL_TYPES = {
    "postgresql": {
        int: "cast(:value as bigint)::text",
        str: "cast(:value as text)",
        uuid.UUID: "cast(:value as uuid)::text",
    },
    "mysql": {int: "cast(:value as signed)", str: ":value", uuid.UUID: "lower(:value)"},
}


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_servers_compute_the_same_buckets(engine: str) -> None:
    server = create_engine(
        server_url(engine).update_query_dict({"charset": "utf8mb4"} if engine == "mysql" else {}), poolclass=NullPool
    )
    values = [value for value, _ in VECTORS if not isinstance(value, bytes)]
    values += [*range(-20, 20), 2**63 - 1, "a b", "'", "\\", "é", "e\u0301", " Asia", "Asia ", *map(str, range(20))]
    with server.connect() as connection:
        for value in values:
            expression = SQL_BUCKET[engine].format(SQL_TYPES[engine][type(value)])
            sent = str(value) if isinstance(value, uuid.UUID) else value
            assert int(connection.scalar(text(f"select {expression}"), {"value": sent})) == bucket_of((value,)), value


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16, 40])
def test_buckets_are_spread_evenly(count: int) -> None:
    sizes = Counter(spread_buckets(NAMES[:count]))
    assert set(sizes) == set(NAMES[:count])
    assert sum(sizes.values()) == BUCKETS
    assert max(sizes.values()) - min(sizes.values()) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16, 39])
def test_a_further_shard_takes_its_share_and_nothing_else_moves(count: int) -> None:
    before, after = spread_buckets(NAMES[:count]), spread_buckets(NAMES[: count + 1])
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {NAMES[count]}
    assert len(moved) == BUCKETS // (count + 1)


def test_the_spread_is_for_ever() -> None:
    assert spread_buckets(["a", "b"]) == ("a",) * 512 + ("b",) * 512
    assert spread_buckets(["a", "b", "c"])[339:343] == ("a", "a", "c", "c")


def test_buckets_are_read_from_ranges_and_numbers() -> None:
    buckets = parse_buckets({"a": "0-9, 11,12 - 1023", "b": "10"})
    assert buckets.index("b") == 10
    assert Counter(buckets) == {"a": 1023, "b": 1}


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"a": "0-1023", "b": "7"}, "bucket 7 is given to both `a` and `b`"),
        ({"a": "0-1023, 7"}, "bucket 7 is given to both `a` and `a`"),
        ({"a": "0-5, 8-1023"}, "2 of 1024 buckets have no shard, the first is 6"),
        ({}, "1024 of 1024 buckets have no shard, the first is 0"),
        ({"a": "0-1024"}, "`0-1024` is not within 0 to 1023"),
        ({"a": "9-0"}, "`9-0` is not within 0 to 1023"),
        ({"a": "-1"}, "neither a bucket nor a range"),
        ({"a": ""}, "neither a bucket nor a range"),
        ({"a": "0x1"}, "`0x1` is neither a bucket nor a range"),
    ],
)
def test_wrong_buckets_are_refused(ranges: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_buckets(ranges)


def test_hash_places_by_bucket() -> None:
    strategy = Hash(spread_buckets(["a", "b"]))
    assert strategy.place(("Asia",)) == "a"
    assert strategy.place(("asia",)) == "b"
    assert strategy.explain(("Asia",)) == "hash bucket 491"
    assert strategy.shard_ids == ("a", "b")
    assert strategy.between("a", "b") is None


def test_lookup_finds_a_value_by_its_text() -> None:
    strategy = Lookup(
        {"Asia": "asia", "1": "one", "RED": "red", "true": "yes", "2026-01-02": "day", "Far East": "asia"}
    )
    assert strategy.place(("Asia",)) == "asia"
    assert strategy.place((1,)) == "one"
    assert strategy.place((Color.RED,)) == "red"
    assert strategy.place((True,)) == "yes"
    assert strategy.place((datetime.date(2026, 1, 2),)) == "day"
    assert strategy.shard_ids == ("asia", "one", "red", "yes", "day")
    assert strategy.explain((1,)) == "lookup `1`"


def test_lookup_has_no_place_for_the_rest() -> None:
    strategy = Lookup({"Asia": "asia", "Europe": "europe"})
    with pytest.raises(NoPlacement, match="no shard for `asia`") as caught:
        strategy.place(("asia",))
    assert caught.value.hint == "it knows `Asia`, `Europe`"
    with pytest.raises(NoPlacement, match="cannot be a float"):
        strategy.place((1.0,))


@pytest.mark.parametrize("value", [1.5, None, b"x", decimal.Decimal(1), ("a",)])
def test_what_has_no_text_is_refused(value: Any) -> None:
    with pytest.raises(NoPlacement):
        key_text(value)


def test_range_bounds_are_exclusive_above() -> None:
    strategy = Range((10, 20), ("a", "b", "c"))
    assert [strategy.place((value,)) for value in (-5, 9, 10, 19, 20, 10**30)] == ["a", "a", "b", "b", "c", "c"]
    assert strategy.explain((9,)) == "range below `10`"
    assert strategy.explain((20,)) == "last range"


def test_range_without_a_last_one_has_an_end() -> None:
    strategy = Range((10, 20), ("a", "b"))
    with pytest.raises(NoPlacement, match="`20` is above the last range, which ends below `20`"):
        strategy.place((20,))
    assert strategy.between(20, None) == frozenset()
    assert strategy.between(None, 100) == {"a", "b"}


def test_range_between() -> None:
    strategy = Range((10, 20, 30), ("a", "b", "a", "c"))
    assert strategy.between(None, None) == {"a", "b", "c"}
    assert strategy.between(None, 9) == {"a"}
    assert strategy.between(None, 10) == {"a", "b"}
    assert strategy.between(25, 35) == {"a", "c"}
    assert strategy.between(35, 25) == frozenset()
    assert strategy.shard_ids == ("a", "b", "c")


def test_range_compares_dates_and_times() -> None:
    new_year, noon = datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 12)
    assert Range((new_year,), ("old", "new")).place((noon,)) == "new"
    assert Range((noon,), ("old", "new")).place((new_year,)) == "old"
    assert Range((1.5,), ("low", "high")).place((decimal.Decimal("1.5"),)) == "high"
    assert Range(("m",), ("a", "z")).place(("n",)) == "z"


@pytest.mark.parametrize("value", ["7", None, True, b"7", datetime.date(2026, 1, 1)])
def test_range_refuses_what_it_cannot_compare(value: Any) -> None:
    with pytest.raises(NoPlacement, match="cannot be compared"):
        Range((10,), ("a", "b")).place((value,))


@pytest.mark.parametrize("bounds", [(2, 1), (1, 1), (math.nan,), (1, math.nan)])
def test_range_bounds_ascend(bounds: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        Range(bounds, ("a",) * (len(bounds) + 1))


def test_range_without_bounds_has_one_shard() -> None:
    assert Range((), ("a",)).place((7,)) == "a"


def test_directory_is_asked_every_time() -> None:
    entries = {"7": "a"}
    strategy = Directory(("a", "b"), on="a", table="places", read=entries.get)
    assert strategy.place((7,)) == "a"
    entries["7"] = "b"
    assert strategy.place((7,)) == "b"
    entries["7"] = "c"
    with pytest.raises(NoPlacement, match="sends `7` to `c`, which is no shard"):
        strategy.place((7,))
    del entries["7"]
    with pytest.raises(NoPlacement, match="has no entry for `7`"):
        strategy.place((7,))


def test_directory_has_a_default_and_needs_a_reader() -> None:
    assert Directory(("a", "b"), on="a", table="places", default="b", read={}.get).place((7,)) == "b"
    with pytest.raises(NoPlacement, match="without a fleet"):
        Directory(("a",), on="a", table="places").place((7,))


def test_an_instant_is_on_no_date() -> None:
    ranges = Range((datetime.date(2025, 1, 1),), ("a", "b"))
    assert ranges.place((datetime.datetime(2025, 1, 1, 0, 30),)) == "b"
    with pytest.raises(NoPlacement, match="cannot be compared with the bounds"):
        ranges.place((datetime.datetime(2025, 1, 1, 0, 30, tzinfo=datetime.UTC),))
