"""TPC-H on four shards: each of the 22 answers is that of one database with all rows."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shardctl.errors import QueryRefused
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import run_query
from shardctl.query.here.place import is_installed
from tests.fixtures.engines import Databases, server_url
from tests.tpch.queries import QUERIES, query
from tests.tpch.tables import loaded, make_rows

SCALE = os.environ.get("SHARDCTL_TEST_TPCH_SCALE", "0.01")
"""The scale factor: 1 is a gigabyte."""
ENGINES = ["sqlite", "postgresql", "mysql"]
MOST_REFUSED = {"postgresql": 0, "mysql": 1}
"""MySQL: Q10 groups by addresses, some of which end with a blank."""
MERGED = {1, 4, 6, 12}
"""What the shards' own answers are merged for; the others need rows of several shards in one place."""


def same(value: Any, other: Any) -> bool:
    """Whether two values are equal: sums of floats, as SQLite has them, but for their last digits."""
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=1e-9)
    if isinstance(value, Decimal) and isinstance(other, Decimal):
        return value == other
    return type(value) is type(other) and bool(value == other)


def check(fleet: Fleet, one: LiveShard, number: int) -> tuple[str, int]:
    """Compare one query's answers, and return how it was answered, with the rows pulled."""
    sql = query(number, one.backend.name)
    expected = run_query(fleet, sql, shards=[one], timeout_s=300)
    found = run_query(fleet, sql, shards=list(fleet.shards.values()), timeout_s=300)
    assert found.columns == expected.columns
    assert len(found.rows) == len(expected.rows)
    for row, other in zip(found.rows, expected.rows, strict=True):
        assert all(map(same, row, other)), (number, row, other)
    return found.plan.route, found.rows_pulled


@pytest.fixture(scope="module", params=ENGINES)
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    made = Databases(request.param, tmp_path_factory.mktemp("tpch"))
    if made.engine != "sqlite":
        server_url(made.engine)
    yield made
    made.drop_all()


@pytest.fixture(scope="module")
def database_pair(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, LiveShard]]:
    folder: Path = tmp_path_factory.mktemp("rows")
    make_rows(folder, SCALE)
    with loaded(databases, folder) as pair:
        yield pair


def run_all(fleet: Fleet, one: LiveShard) -> None:
    total = sum(
        run_query(fleet, f"select count(*) from {name}", shards=[one]).rows[0][0] for name in fleet.models.tables
    )
    print(f"\n{one.backend.name}: {total:,} rows in eight tables")
    for number in QUERIES:
        route, pulled = check(fleet, one, number)
        print(f"  Q{number}: {route}, {pulled:,} rows pulled")
        assert (route == "scatter") is (number in MERGED), number
        assert pulled < total


@pytest.mark.slow
def test_the_22_answers(database_pair: tuple[Fleet, LiveShard], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardctl.query.pull.prepare.is_installed", lambda: False)
    run_all(*database_pair)


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(), reason="duckdb is not installed")
def test_the_22_answers_in_duckdb(database_pair: tuple[Fleet, LiveShard]) -> None:
    """Without a database to gather in: right, or refused with what DuckDB is not trusted with."""
    fleet, one = database_pair
    if one.backend.name == "sqlite":
        pytest.skip("rows of SQLite shards meet in SQLite")
    placeless = Fleet(replace(fleet.shard_map, gather=None), fleet.shards, fleet.models)
    refused = {}
    for number in QUERIES:
        try:
            check(placeless, one, number)
        except QueryRefused as refusal:
            refused[number] = refusal.facts[-1]
    print(f"\n{one.backend.name} in DuckDB: {len(QUERIES) - len(refused)} right, {len(refused)} refused")
    for number, why in refused.items():
        print(f"  Q{number}: {why}")
    assert len(refused) <= MOST_REFUSED[one.backend.name]
