"""Random conditions on sharding keys: whatever shards are left out, the answer is that of one database."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import run_query
from tests.engines.keyed_data import connected, keyed
from tests.fixtures.engines import Databases
from tests.property.keyed_statements import keyed_statements
from tests.property.test_query_differential import EXAMPLES, normal


def compare(fleet: Fleet, one: LiveShard, sql: str) -> str:
    """Return how the statement was answered, or why not; fail if answers differ, or a pruned shard is met."""
    try:
        expected = run_query(fleet, sql, shards=[one])
    except ShardError as error:
        expected = None
        problem = error
    with connected(fleet) as met:
        try:
            found = run_query(fleet, sql, shards=list(fleet.shards.values()))
        except QueryRefused as refusal:
            return f"refused: {refusal.message}"
        except ShardError:
            assert expected is None, sql
            return "failed on one database too"
    assert expected is not None, (sql, problem)
    assert met <= set(found.plan.shard_ids), sql
    assert found.columns == expected.columns, sql
    fold = one.backend.name == "mysql"
    rows, others = normal(found.rows, fold=fold), normal(expected.rows, fold=fold)
    assert sorted(rows, key=repr) == sorted(others, key=repr), (sql, found.plan.explain())
    return f"{found.plan.route}, {'all' if found.plan.pruned is None else len(found.plan.shard_ids)} shards"


def check(databases: Databases, examples: int) -> None:
    counts: Counter[str] = Counter()
    with keyed(databases) as (fleet, one):

        @settings(max_examples=EXAMPLES or examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(sql=keyed_statements(databases.engine))
        def compare_one(sql: str) -> None:
            counts[compare(fleet, one, sql)] += 1

        compare_one()
    print(f"\n{databases.engine}: 0 wrong, " + ", ".join(f"{count} {what}" for what, count in counts.most_common()))
    refused = sum(count for what, count in counts.items() if what.startswith(("refused", "failed")))
    assert refused * 4 < counts.total(), counts
    assert counts["direct, 1 shards"] * 8 > counts.total(), counts
    if databases.engine != "mysql" or examples > 200:
        assert sum(counts[f"{route}, {n} shards"] for route in ("scatter", "gather") for n in (2, 3)), counts


@pytest.mark.parametrize("databases", ["sqlite"], indirect=True)
def test_random_conditions_on_keys_of_sqlite_shards(databases: Databases) -> None:
    check(databases, 80)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("databases", "examples"), [("sqlite", 1000), ("postgresql", 300), ("mysql", 300)], indirect=["databases"]
)
def test_random_conditions_on_keys(databases: Databases, examples: int) -> None:
    check(databases, examples)
