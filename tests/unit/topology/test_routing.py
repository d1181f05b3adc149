from __future__ import annotations

import pytest

from shardctl.topology.buckets import spread_buckets
from shardctl.topology.routing import ANYTHING, And, Compare, Or, Predicate, RoutingKey, route
from shardctl.topology.strategies import Directory, Hash, Lookup, Range

ALL = frozenset("abcd")
LOOKUP = RoutingKey(Lookup({"Asia": "a", "Europe": "b", "América": "c"}), ("region",))
LOOSE = RoutingKey(Lookup({"Asia": "a", "ASIA ": "d", "Europe": "b", "América": "c"}), ("region",), is_exact=False)
RANGE = RoutingKey(Range((10, 20), ("a", "b", "c")), ("id",))
HASH = RoutingKey(Hash(spread_buckets("abcd")), ("id",))
PAIR = RoutingKey(Hash(spread_buckets("abcd")), ("tenant", "day"))


def shards(predicate: Predicate, **keys: RoutingKey) -> frozenset[str]:
    return route(predicate, keys, ALL).shard_ids


def is_(column: str, *values: object, table: str = "T", op: str = "=") -> Compare:
    return Compare(table, column, op, values)  # type: ignore[arg-type]


def test_equality_goes_to_one_shard() -> None:
    found = route(is_("region", "Asia"), {"T": LOOKUP}, ALL)
    assert found.shard_ids == {"a"}
    assert found.reason == "T.region = 'Asia'"


def test_in_goes_to_each() -> None:
    assert shards(is_("region", "Asia", "Europe", op="in"), T=LOOKUP) == {"a", "b"}
    assert shards(is_("id", 1, 2, 3, op="in"), T=HASH) == {HASH.strategy.place((number,)) for number in (1, 2, 3)}
    assert shards(is_("region", op="in"), T=LOOKUP) == frozenset()


def test_null_equals_nothing() -> None:
    assert shards(is_("region", None), T=LOOKUP) == frozenset()
    assert shards(is_("region", None, "Asia", op="in"), T=LOOKUP) == {"a"}
    assert shards(is_("id", None, op="<"), T=RANGE) == ALL


@pytest.mark.parametrize("predicate", [ANYTHING, is_("city", "Tokyo"), is_("region", "Asia", table="Other"), And(())])
def test_what_says_nothing_goes_everywhere(predicate: Predicate) -> None:
    found = route(predicate, {"T": LOOKUP}, ALL)
    assert found.shard_ids == ALL
    assert found.reason == "no condition on a sharding key"


def test_a_value_without_a_place_goes_everywhere() -> None:
    assert shards(is_("region", "Mars"), T=LOOKUP) == ALL
    assert shards(is_("region", "Asia", "Mars", op="in"), T=LOOKUP) == ALL
    assert shards(is_("id", 30), T=RoutingKey(Range((10, 20), ("a", "b")), ("id",))) == ALL
    assert shards(is_("id", "x"), T=RANGE) == ALL
    assert shards(is_("id", 1.0), T=HASH) == ALL
    directory = RoutingKey(Directory(("a", "b"), on="a", table="t", read={"1": "b"}.get), ("id",))
    assert shards(is_("id", 1), T=directory) == {"b"}
    assert shards(is_("id", 2), T=directory) == ALL


def test_and_narrows_or_widens() -> None:
    asia, europe = is_("region", "Asia"), is_("region", "Europe")
    assert shards(And((asia, ANYTHING)), T=LOOKUP) == {"a"}
    assert shards(And((asia, europe)), T=LOOKUP) == frozenset()
    assert shards(Or((asia, europe)), T=LOOKUP) == {"a", "b"}
    assert shards(Or((asia, ANYTHING)), T=LOOKUP) == ALL
    assert shards(And((Or((asia, europe)), Or((europe, is_("region", "América"))))), T=LOOKUP) == {"b"}
    assert shards(Or(()), T=LOOKUP) == frozenset()


def test_tables_narrow_each_other() -> None:
    predicate = And((is_("region", "Asia", "Europe", op="in"), is_("id", 15, table="U")))
    assert shards(predicate, T=LOOKUP, U=RANGE) == {"b"}


@pytest.mark.parametrize(
    ("op", "values", "expected"),
    [
        ("<", (10,), {"a", "b"}),  # one shard too many: a bound is not a value that the comparison excludes
        ("<", (9,), {"a"}),
        ("<=", (10,), {"a", "b"}),
        (">", (19,), {"b", "c"}),
        (">=", (20,), {"c"}),
        ("between", (5, 15), {"a", "b"}),
        ("between", (15, 5), set()),
    ],
)
def test_ranges_are_pruned_by_comparisons(op: str, values: tuple[int, ...], expected: set[str]) -> None:
    assert shards(is_("id", *values, op=op), T=RANGE) == expected


def test_only_ranges_are_pruned_by_comparisons() -> None:
    assert shards(is_("id", 5, op="<"), T=HASH) == ALL
    assert shards(is_("region", "B", op="<"), T=LOOKUP) == ALL


def test_a_composite_key_needs_all_its_columns() -> None:
    both = And((is_("tenant", 7), is_("day", "monday")))
    assert shards(both, T=PAIR) == {PAIR.strategy.place((7, "monday"))}
    assert shards(is_("tenant", 7), T=PAIR) == ALL
    assert shards(And((is_("tenant", 7), is_("day", "monday", op="in"))), T=PAIR) == ALL
    assert shards(Or((is_("tenant", 7), is_("day", "monday"))), T=PAIR) == ALL
    assert shards(And((is_("tenant", 7), is_("day", None))), T=PAIR) == ALL


def test_loose_text_goes_to_every_value_that_may_be_equal() -> None:
    assert shards(is_("region", "asia"), T=LOOSE) == {"a", "c", "d"}  # of what is not ASCII nothing is sure
    assert shards(is_("region", "AMERICA"), T=LOOSE) == {"c"}
    assert shards(is_("region", "europe  "), T=LOOSE) == {"b", "c"}
    assert shards(is_("region", "Mars"), T=LOOSE) == {"c"}
    assert shards(is_("region", "america"), T=RoutingKey(LOOKUP.strategy, ("region",), is_exact=False)) == {"c"}
    assert shards(is_("region", "Ásia"), T=LOOSE) == ALL
    ascii_only = RoutingKey(Lookup({"Asia": "a", "Ivy": "b", "jii": "c"}), ("region",), is_exact=False)
    assert shards(is_("region", "asia"), T=ascii_only) == {"a"}
    assert shards(is_("region", "iuj"), T=ascii_only) == {"b"}  # as in Roman and Lithuanian collations
    assert shards(is_("region", "Mars"), T=ascii_only) == ALL


def test_loose_text_rules_nothing_out_elsewhere() -> None:
    assert shards(is_("id", "x"), T=RoutingKey(HASH.strategy, ("id",), is_exact=False)) == ALL
    loose = RoutingKey(Range(("m",), ("a", "b")), ("name",), is_exact=False)
    assert shards(is_("name", "c", op="<"), T=loose) == ALL
    assert shards(is_("name", "c"), T=loose) == ALL


def test_a_route_stays_within_the_shards_that_have_the_tables() -> None:
    assert route(is_("region", "Asia"), {"T": LOOKUP}, {"b", "c"}).shard_ids == frozenset()
    assert route(ANYTHING, {"T": LOOKUP}, {"b", "c"}).shard_ids == {"b", "c"}


def test_text_under_a_locale_is_not_pruned_by_order():
    """A database may sort text otherwise than Python: an order then rules no shard out, an equality does."""
    ranges = Range(("m",), ("low", "high"))
    keys = {"T": RoutingKey(ranges, ("name",), is_ordered=False)}
    everywhere = ("low", "high")

    assert route(Compare("T", "name", "<", ("b",)), keys, everywhere).shard_ids == {"low", "high"}
    assert route(Compare("T", "name", "between", ("a", "b")), keys, everywhere).shard_ids == {"low", "high"}
    assert route(Compare("T", "name", "=", ("b",)), keys, everywhere).shard_ids == {"low"}
