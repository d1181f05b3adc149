"""Random statements over shards and over one database: the same answer, or a refusal."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardctl.errors import QueryRefused
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import run_query
from shardctl.query.here.place import is_installed
from tests.engines.query_data import both, rows
from tests.engines.test_query import plain
from tests.fixtures.engines import Databases
from tests.property.gathered_statements import gathered

COLUMNS = ["city", "country", "height", "area", "founded", "capital"]
EXPRESSIONS = [*COLUMNS, "height + 1", "upper(country)", "length(city)", "coalesce(height, 0)", "height % 3", "'x'"]
CONDITIONS = [
    "height > 0",
    "city LIKE '%a%'",
    "city IS NOT NULL",
    "id % 2 = 0",
    "area BETWEEN 0 AND 300.5",
    "country IN ('JP', 'FR')",
    "NOT (height < 5 OR country = 'NZ')",
    "id < 0",
    "founded > '1902-06-01'",
    "id = 7",
    "id IN (3, '8', 12)",
]
ARGUMENTS = ["height", "area", "id", "height * 2", "coalesce(height, 7)"]


@st.composite
def conditions(draw: st.DrawFn) -> str:
    chosen = draw(st.lists(st.sampled_from(CONDITIONS), max_size=2, unique=True))
    return f" WHERE {draw(st.sampled_from([' AND ', ' OR '])).join(chosen)}" if chosen else ""


@st.composite
def directions(draw: st.DrawFn, engine: str) -> str:
    nulls = ["", "", " NULLS FIRST", " NULLS LAST"] if engine != "mysql" else [""]
    return draw(st.sampled_from(["", " ASC", " DESC"])) + draw(st.sampled_from(nulls))


@st.composite
def limits(draw: st.DrawFn) -> str:
    limit = draw(st.none() | st.integers(0, 30))
    if limit is None:
        return ""
    offset = draw(st.none() | st.integers(0, 10))
    return f" LIMIT {limit}" + ("" if offset is None else f" OFFSET {offset}")


@st.composite
def row_queries(draw: st.DrawFn, engine: str) -> str:
    listed = draw(st.lists(st.sampled_from(["*", *EXPRESSIONS]), min_size=1, max_size=3, unique=True))
    listed.sort(key=lambda entry: entry != "*")
    keys = draw(st.lists(st.sampled_from(EXPRESSIONS[:-1]), max_size=2, unique=True))
    order = "".join(f"{key}{draw(directions(engine))}, " for key in keys)
    return f"SELECT {', '.join(listed)} FROM weather_locations{draw(conditions())} ORDER BY {order}id{draw(limits())}"


@st.composite
def group_queries(draw: st.DrawFn, engine: str) -> str:
    keys = draw(st.lists(st.sampled_from(EXPRESSIONS[:-1]), max_size=2, unique=True))
    functions = ["count(*)"] + [
        f"{name}({distinct}{argument})"
        for name in ("count", "sum", "min", "max", "avg")
        for distinct in ("", "DISTINCT ")
        for argument in ARGUMENTS
    ]
    aggregates = draw(st.lists(st.sampled_from(functions), min_size=1, max_size=3, unique=True))
    combined = draw(st.sampled_from(["{}", "{} + 1", "coalesce({}, -1)", "{} * 2"]))
    outputs = [*keys, *(combined.format(aggregate) for aggregate in aggregates)]
    sql = f"SELECT {', '.join(outputs)} FROM weather_locations{draw(conditions())}"
    if keys:
        by_number = draw(st.booleans())
        sql += " GROUP BY " + ", ".join(str(i + 1) if by_number else key for i, key in enumerate(keys))
    if draw(st.booleans()):
        sql += f" HAVING count(*) > {draw(st.integers(0, 4))}"
    if keys:
        order = [f"{key}{draw(directions(engine))}" for key in draw(st.permutations(keys))]
        if draw(st.booleans()):
            order.insert(0, f"count(*){draw(st.sampled_from(['', ' DESC']))}")
        sql += f" ORDER BY {', '.join(order)}" + draw(limits())
    return sql


@st.composite
def distinct_queries(draw: st.DrawFn, engine: str) -> str:
    # MariaDB 10.11 ignores the OFFSET of a DISTINCT constant: there it is no oracle.
    expressions = EXPRESSIONS[:-1] if engine == "mysql" else EXPRESSIONS
    listed = draw(st.lists(st.sampled_from(expressions), min_size=1, max_size=3, unique=True))
    numbers = draw(st.permutations(range(1, len(listed) + 1)))
    order = ", ".join(f"{number}{draw(directions(engine))}" for number in numbers)
    tail = draw(conditions()), draw(limits())
    return f"SELECT DISTINCT {', '.join(listed)} FROM weather_locations{tail[0]} ORDER BY {order}{tail[1]}"


def statements(engine: str) -> st.SearchStrategy[str]:
    return row_queries(engine) | group_queries(engine) | distinct_queries(engine)


def compare(fleet: Fleet, one: LiveShard, sql: str, *, is_ordered: bool = True) -> str:
    """Return how the statement was answered, or why it was refused; fail if the answers differ."""
    expected = run_query(fleet, sql, shards=[one])
    try:
        found = run_query(fleet, sql, shards=list(fleet.shards.values()))
    except QueryRefused as refusal:
        return f"refused: {refusal.message}"
    fold = one.backend.name == "mysql"
    assert found.columns == expected.columns, sql
    rows, others = normal(found.rows, fold=fold), normal(expected.rows, fold=fold)
    assert (rows if is_ordered else sorted(rows, key=repr)) == (others if is_ordered else sorted(others, key=repr)), sql
    return str(found.plan.route)


def normal(found: list[Any], *, fold: bool) -> list[tuple[Any, ...]]:
    return [tuple(plain(value, fold=fold) for value in row) for row in found]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[Fleet, LiveShard]]]:
    """Several sets of rows, an empty one and a tiny one among them, each on SQLite shards and in one file."""
    made = []
    opened = []
    for seed, count in enumerate((0, 1, 4, 40, 90)):
        folder: Path = tmp_path_factory.mktemp(f"rows{seed}")
        context = both(Databases("sqlite", folder), rows(seed, count))
        made.append(context.__enter__())
        opened.append(context)
    yield made
    for context in opened:
        context.__exit__(None, None, None)


COUNTS: Counter[str] = Counter()
RAN: set[str] = set()
"""The tests that counted: another process may run one of them."""
EXAMPLES = int(os.environ.get("SHARDCTL_TEST_EXAMPLES", "0"))
"""Statements for each test, in place of its own number; `--hypothesis-seed` repeats a run."""


@settings(max_examples=EXAMPLES or 50, deadline=None, suppress_health_check=list(HealthCheck))
@given(sql=statements("sqlite"), which=st.integers(0, 4))
def test_random_statements_on_sqlite(pairs: list[tuple[Fleet, LiveShard]], sql: str, which: int) -> None:
    fleet, one = pairs[which]
    RAN.add("any")
    COUNTS[compare(fleet, one, sql)] += 1


@settings(max_examples=EXAMPLES or 50, deadline=None, suppress_health_check=list(HealthCheck))
@given(sql=gathered("sqlite"), which=st.integers(0, 4))
def test_random_gathered_statements_on_sqlite(pairs: list[tuple[Fleet, LiveShard]], sql: str, which: int) -> None:
    fleet, one = pairs[which]
    RAN.add("gathered")
    COUNTS[compare(fleet, one, sql, is_ordered=False)] += 1


def test_the_random_statements_are_hardly_ever_refused() -> None:
    """Where everything is refused, nothing is compared."""
    if len(RAN) == 2:
        check_counts("sqlite", COUNTS)


def check_counts(engine: str, counts: Counter[str], most_refused: float = 0.05) -> None:
    """Print how statements were answered, and why others were refused: few may be."""
    print(f"\n{engine}: 0 wrong, " + ", ".join(f"{count} {what}" for what, count in counts.most_common()))
    refused = sum(count for what, count in counts.items() if what.startswith("refused"))
    assert refused < counts.total() * most_refused, counts
    assert counts["gather"] * 5 > counts.total(), counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("databases", "examples"), [("sqlite", 400), ("postgresql", 100), ("mysql", 100)], indirect=["databases"]
)
@pytest.mark.parametrize("has_place", [True, False], ids=["in_a_database", "in_duckdb"])
def test_random_statements(
    databases: Databases, examples: int, has_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_place:
        monkeypatch.setattr("shardctl.query.pull.prepare.is_installed", lambda: False)
    elif databases.engine == "sqlite" or not is_installed():
        pytest.skip("rows do not meet in DuckDB")
    with both(databases, rows(7, 90), has_place=has_place) as (fleet, one):
        counts: Counter[str] = Counter()

        @settings(max_examples=EXAMPLES or examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(sql=statements(databases.engine))
        def compare_one(sql: str) -> None:
            counts[compare(fleet, one, sql)] += 1

        @settings(max_examples=EXAMPLES or examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(sql=gathered(databases.engine))
        def compare_gathered(sql: str) -> None:
            counts[compare(fleet, one, sql, is_ordered=False)] += 1

        compare_one()
        compare_gathered()
        check_counts(databases.engine, counts, most_refused=0.05 if has_place else 0.3)
