"""Whatever the predicate, the strategy and the rows: a route never names a shard too few."""

from __future__ import annotations

import datetime
import tomllib
import unicodedata
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardctl.errors import NoPlacement
from shardctl.topology.buckets import BUCKETS, bucket_of, hash_bytes, parse_buckets, spread_buckets
from shardctl.topology.load import load
from shardctl.topology.routing import ANYTHING, And, Compare, Or, Predicate, RoutingKey, route
from shardctl.topology.strategies import Directory, Hash, Lookup, Range

SHARDS = ("a", "b", "c", "d")
TEXTS = ["Asia", "asia", "ASIA ", "Ásia", "Europe", "", "東京", "ß", "ss"]
INTS = list(range(-4, 9))
DAYS = [datetime.date(2026, 1, day) for day in range(1, 10)]
HASHABLE = st.one_of(st.integers(), st.text(), st.binary(), st.uuids())

shard_ids = st.sampled_from(SHARDS)
hashes = st.integers(1, 4).map(lambda count: Hash(spread_buckets(SHARDS[:count])))


@st.composite
def ranges(draw: st.DrawFn, values: list[Any]) -> Range:
    bounds = tuple(sorted(draw(st.sets(st.sampled_from(values), max_size=4))))
    is_open = draw(st.booleans()) or not bounds
    count = len(bounds) + is_open
    return Range(bounds, tuple(draw(st.lists(shard_ids, min_size=count, max_size=count))))


@st.composite
def routing_keys(draw: st.DrawFn) -> tuple[RoutingKey, list[Any]]:
    """Draw how a table `T` with the columns `k` and `j` is sharded; return all values that they can have, too."""
    kind = draw(st.sampled_from(["int hash", "pair", "lookup", "loose", "int range", "day range", "directory"]))
    match kind:
        case "int hash":
            return RoutingKey(draw(hashes), ("k",)), INTS
        case "pair":
            return RoutingKey(draw(hashes), ("k", "j")), INTS
        case "lookup" | "loose":
            lookup = Lookup(draw(st.dictionaries(st.sampled_from(TEXTS), shard_ids, min_size=1)))
            return RoutingKey(lookup, ("k",), is_exact=kind == "lookup"), TEXTS
        case "int range":
            return RoutingKey(draw(ranges(INTS)), ("k",)), INTS
        case "day range":
            return RoutingKey(draw(ranges(DAYS)), ("k",)), DAYS
    entries = draw(st.dictionaries(st.sampled_from(INTS).map(str), shard_ids))
    return RoutingKey(
        Directory(SHARDS, "a", "places", default=draw(st.none() | shard_ids), read=entries.get), ("k",)
    ), INTS


def predicates(values: list[Any]) -> st.SearchStrategy[Predicate]:
    constants = st.sampled_from([*values, *values, None])
    columns = st.sampled_from(["k", "k", "j"])
    compares: st.SearchStrategy[Predicate] = st.one_of(
        st.builds(
            Compare,
            st.just("T"),
            columns,
            st.sampled_from(["=", "<", "<=", ">", ">="]),
            constants.map(lambda value: (value,)),
        ),
        st.builds(Compare, st.just("T"), columns, st.just("in"), st.lists(constants, max_size=4).map(tuple)),
        st.builds(Compare, st.just("T"), columns, st.just("between"), st.tuples(constants, constants)),
        st.just(ANYTHING),
    )
    return st.recursive(
        compares,
        lambda inner: st.one_of(
            st.builds(And, st.lists(inner, max_size=3).map(tuple)),
            st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        ),
        max_leaves=8,
    )


def collated(value: Any) -> Any:
    """Return text as the loosest collation compares it: without case, accents and trailing spaces."""
    if not isinstance(value, str):
        return value
    text = unicodedata.normalize("NFKD", value.rstrip())
    return "".join(char for char in text if not unicodedata.combining(char)).casefold()


def is_true(predicate: Predicate, row: dict[str, Any], *, is_exact: bool) -> bool:
    """Evaluate a predicate as a database does; what is not known to be false may be true."""
    match predicate:
        case And(parts):
            return all(is_true(part, row, is_exact=is_exact) for part in parts)
        case Or(parts):
            return any(is_true(part, row, is_exact=is_exact) for part in parts)
        case Compare(_, column, op, values):
            mine, *others = (value if is_exact else collated(value) for value in (row[column], *values))
            if op in ("=", "in"):
                return any(other is not None and other == mine for other in others)
            if None in others:
                return False
            if op == "between":
                return bool(others[0] <= mine <= others[1])
            return bool(
                {"<": mine < others[0], "<=": mine <= others[0], ">": mine > others[0], ">=": mine >= others[0]}[op]
            )
    return True


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_row_that_matches_is_on_a_shard_of_the_route(data: st.DataObject) -> None:
    key, values = data.draw(routing_keys())
    predicate = data.draw(predicates(values))
    found = route(predicate, {"T": key}, SHARDS).shard_ids
    for k, j in product(values, values):
        row = {"k": k, "j": j}
        try:
            home = key.strategy.place(tuple(row[column] for column in key.columns))
        except NoPlacement:
            continue  # no session writes such a row
        if is_true(predicate, row, is_exact=key.is_exact):
            assert home in found, (predicate, key, row)


@settings(deadline=None)
@given(st.data())
def test_equality_on_the_key_is_direct(data: st.DataObject) -> None:
    """A route that named every shard would be right too; it has to be useful."""
    strategy, value = data.draw(hashes), data.draw(st.sampled_from(INTS))
    assert len(route(Compare("T", "k", "=", (value,)), {"T": RoutingKey(strategy, ("k",))}, SHARDS).shard_ids) == 1


@settings(deadline=None)
@given(st.lists(HASHABLE, min_size=1, max_size=4).map(tuple), hashes)
def test_a_hash_has_a_place_for_every_key_and_keeps_it(key: tuple[Any, ...], strategy: Hash) -> None:
    assert 0 <= bucket_of(key) < BUCKETS
    assert strategy.place(key) in strategy.shard_ids
    assert strategy.place(key) == Hash(strategy.buckets).place(tuple(key))


@settings(deadline=None)
@given(st.lists(HASHABLE, min_size=2, max_size=4), st.lists(HASHABLE, min_size=2, max_size=4))
def test_composite_keys_that_differ_have_different_bytes(one: list[Any], other: list[Any]) -> None:
    def spelt(key: list[Any]) -> list[bytes]:
        return [hash_bytes((value,)) for value in key]

    assert (hash_bytes(tuple(one)) == hash_bytes(tuple(other))) is (spelt(one) == spelt(other))


@settings(deadline=None)
@given(st.integers(1, 200))
def test_a_further_shard_moves_its_own_share_only(count: int) -> None:
    names = [f"s{number}" for number in range(count + 1)]
    before, after = spread_buckets(names[:-1]), spread_buckets(names)
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {names[-1]}
    assert len(moved) == BUCKETS // (count + 1)
    sizes = Counter(after)
    assert max(sizes.values()) - min(sizes.values()) <= 1


@pytest.fixture(scope="module")
def toml_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("buckets") / "shardctl.toml"


@st.composite
def distributions(draw: st.DrawFn) -> list[str]:
    """Draw the shard of each bucket: runs that begin anywhere."""
    starts = sorted({0} | draw(st.sets(st.integers(1, BUCKETS - 1), max_size=30)))
    owners = draw(st.lists(shard_ids, min_size=len(starts), max_size=len(starts)))
    ends = [*starts[1:], BUCKETS]
    return [owner for owner, start, end in zip(owners, starts, ends, strict=True) for _ in range(start, end)]


@settings(deadline=None)
@given(distributions(), st.randoms(use_true_random=False))
def test_buckets_survive_being_written_and_read(toml_file: Path, owners: list[str], random: Any) -> None:
    """Any distribution, in ranges or as single numbers, in any order."""
    texts: dict[str, list[str]] = {}
    start = 0
    for bucket in range(1, BUCKETS + 1):
        if bucket == BUCKETS or owners[bucket] != owners[start]:
            one = str(start) if bucket - start == 1 and random.random() < 0.5 else f"{start}-{bucket - 1}"
            texts.setdefault(owners[start], []).append(one)
            start = bucket
    for parts in texts.values():
        random.shuffle(parts)
    written = {shard_id: ", ".join(parts) for shard_id, parts in texts.items()}
    assert parse_buckets(written) == tuple(owners)
    lines = [f'[shards.{shard_id}]\nurl = "sqlite:///{shard_id}.db"\n' for shard_id in SHARDS]
    lines.append('[tables.T]\nstrategy = "hash"\nkey = "id"\n[tables.T.buckets]\n')
    lines.extend(f'{shard_id} = "{text}"\n' for shard_id, text in written.items())
    toml_file.write_text("".join(lines))
    assert tomllib.loads(toml_file.read_text())["tables"]["T"]["buckets"] == written
    rule = load(toml_file).tables["T"]
    assert rule.strategy == Hash(tuple(owners))  # type: ignore[union-attr]
