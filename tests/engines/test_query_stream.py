"""Rows that come as they are read: those that come if all are read first, and few of them in memory at one time."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import run_query, stream_query
from shardctl.query.question import Question
from shardctl.query.stream import NotStreamed
from tests.engines.query_data import both, rows
from tests.fixtures.engines import Databases

APPENDED = [
    "SELECT city FROM weather_locations",
    "SELECT * FROM weather_locations",
    "SELECT * FROM weather_locations WHERE id < 0",
    "SELECT city, temperature FROM weather_locations l JOIN reports r ON r.location_id = l.id WHERE rain > 3",
]
SORTED = [
    "SELECT id FROM weather_locations ORDER BY id",
    "SELECT city, id FROM weather_locations ORDER BY id DESC",
    "SELECT city, area FROM weather_locations ORDER BY area DESC, id",
    "SELECT id FROM weather_locations ORDER BY height, ratio DESC, id LIMIT 9 OFFSET 3",
    "SELECT id FROM weather_locations ORDER BY founded DESC, seen, id",
    "SELECT id, capital FROM weather_locations ORDER BY capital DESC, raw, id",
]
NOT_STREAMED = ["SELECT country, count(*) FROM weather_locations GROUP BY country ORDER BY 1"]
NOT_STREAMED_ON_SERVERS = ["SELECT city, id FROM weather_locations ORDER BY city, id"]
MANY = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT i FROM n",
    "postgresql": "SELECT i FROM generate_series(1, 300000) AS n(i)",
    "mysql": "SELECT seq FROM (VALUES (1)) one, seq_1_to_300000",
}
"""Rows of one shard."""


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements whose rows were all there before the first was given."""
    found: list[str] = []
    streamed = Question.streamed

    def noted(question: Question, **options: Any) -> Any:
        try:
            return streamed(question, **options)
        except (NotStreamed, QueryRefused):
            found.append(question._statement.sql)
            raise

    monkeypatch.setattr(Question, "streamed", noted)
    return found


def shards_of(fleet: Fleet) -> list[LiveShard]:
    return list(fleet.shards.values())


@pytest.mark.parametrize("with_shard", [False, True])
def test_rows_are_the_same_as_if_all_were_read_first(
    databases: Databases, in_memory: list[str], *, with_shard: bool
) -> None:
    text_is_read_first = NOT_STREAMED + (NOT_STREAMED_ON_SERVERS if databases.engine != "sqlite" else [])
    with both(databases, rows()) as (fleet, _):
        for sql in APPENDED + SORTED + NOT_STREAMED + NOT_STREAMED_ON_SERVERS:
            expected = run_query(fleet, sql, shards=shards_of(fleet), with_shard=with_shard)
            found = stream_query(fleet, sql, shards=shards_of(fleet), with_shard=with_shard)
            assert found.columns == expected.columns
            assert list(found.rows) == expected.rows, sql
    assert in_memory == text_is_read_first


def test_only_a_few_rows_are_in_memory(databases: Databases, in_memory: list[str]) -> None:
    with both(databases, rows()) as (fleet, _):
        asia = fleet.shards["asia"]
        list(stream_query(fleet, "SELECT 1", shards=[asia]).rows)  # what is kept once
        tracemalloc.start()
        try:
            count = sum(1 for _ in stream_query(fleet, MANY[databases.engine], shards=[asia]).rows)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (count, in_memory) == (300_000, [])
    assert peak < 8_000_000  # a list of their tuples takes three times as much and more


def test_a_reader_that_leaves_ends_what_runs(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, _):
        asia = fleet.shards["asia"]
        found = stream_query(fleet, MANY[databases.engine], shards=[asia]).rows
        assert next(found) == (1,)
        assert asia.is_connected
        found.close()
        assert not asia.is_connected


def test_a_shard_that_sends_nothing_more_is_given_up(databases: Databases) -> None:
    pause = {"postgresql": "pg_sleep(30)", "mysql": "sleep(30)"}.get(databases.engine)
    if pause is None:
        pytest.skip("SQLite has no function that waits")
    sql = f"SELECT id, {pause} FROM weather_locations"
    with both(databases, rows()) as (fleet, _), pytest.raises(ShardError) as caught:
        list(stream_query(fleet, sql, shards=shards_of(fleet), timeout_s=0.5).rows)
    assert caught.value.facts == ("asia, europe, oceania: no rows within 0.5 s; its statement was cancelled",)


def test_shards_with_other_columns_are_refused(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, _):
        with fleet.shards["europe"].connect(read_only=False) as connection:
            connection.exec_driver_sql("ALTER TABLE weather_locations ADD COLUMN mayor VARCHAR(20)")
            connection.commit()
        with pytest.raises(QueryRefused, match="different columns"):
            stream_query(fleet, "SELECT * FROM weather_locations", shards=shards_of(fleet))
