"""Conditions on the sharding key: which shards are met, what runs directly on one, and what parameters mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shardctl.errors import QueryRefused, Refused
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import run_query
from shardctl.query.parameters import bound
from shardctl.topology.model import ShardState
from tests.engines.keyed_data import HASH, SHARDS, Account, connected, keyed
from tests.engines.test_query import plain
from tests.fixtures.engines import Databases

HOME = HASH.place((3,))
DIRECT = [
    "SELECT name, rank() OVER (ORDER BY name) FROM accounts WHERE id = 3",
    "WITH w AS (SELECT * FROM items WHERE account_id = 3) SELECT count(*), max(cost) FROM w",
    "WITH RECURSIVE n (i) AS (SELECT id FROM accounts WHERE id = 3 UNION ALL SELECT i + 1 FROM n WHERE i < 9)"
    " SELECT sum(i) FROM n",
    "SELECT a.id, (SELECT sum(cost) FROM items i WHERE i.account_id = a.id) FROM accounts a WHERE a.id = 3",
    "SELECT a.name, i.cost, c.name FROM accounts a JOIN items i ON i.account_id = a.id"
    " LEFT JOIN countries c ON c.id = a.tier WHERE i.account_id = 3 ORDER BY i.id LIMIT 2 OFFSET 1",
    "SELECT a.id, b.cost FROM items b JOIN accounts a ON a.id = b.account_id WHERE b.account_id = 3 ORDER BY b.id",
    "SELECT count(*) FROM accounts WHERE id = 3 AND id = 3 AND tier IS NULL",
    "SELECT id FROM accounts WHERE id = 3 UNION ALL SELECT cost FROM items WHERE account_id = 3",
    "SELECT name, count(*) FROM accounts WHERE id = 3 AND name <> 'a % b' GROUP BY name HAVING count(*) > 0",
]
"""What only account 3 is read for."""


def shards_of(fleet: Fleet) -> list[LiveShard]:
    return list(fleet.shards.values())


def same(fleet: Fleet, one: LiveShard, sql: str, **options: Any) -> Any:
    """Return the result over the shards, which must be that of one database, and meet the planned shards only."""
    expected = run_query(fleet, sql, shards=[one])
    with connected(fleet) as met:
        found = run_query(fleet, sql, shards=shards_of(fleet), **options)
    assert met == set(found.plan.shard_ids), sql
    assert found.columns == expected.columns, sql
    values = [[tuple(plain(value, fold=False) for value in row) for row in r.rows] for r in (found, expected)]
    assert sorted(values[0]) == sorted(values[1]), sql
    return found


def test_a_statement_of_one_shard_runs_there_as_it_is(databases: Databases) -> None:
    with keyed(databases) as (fleet, one):
        for sql in DIRECT:
            found = same(fleet, one, sql)
            assert (found.plan.route, found.plan.shard_ids, found.plan.shard_sql) == ("direct", (HOME,), sql)
            everywhere = same(fleet, one, sql, everywhere=True) if "RECURSIVE" not in sql else None
            assert everywhere is None or set(everywhere.plan.shard_ids) == set(SHARDS)
        with pytest.raises(QueryRefused, match="takes no row locks"):
            run_query(fleet, "SELECT id FROM accounts WHERE id = 3 FOR UPDATE", shards=shards_of(fleet))


def test_what_cannot_match_has_the_answer_of_no_rows(databases: Databases) -> None:
    with keyed(databases) as (fleet, one):
        for sql in (
            "SELECT count(*) AS n, sum(tier) AS s FROM accounts WHERE id = 3 AND id = 4 AND id = 5 AND id = 6",
            "SELECT id AS number, name FROM accounts WHERE id IS NULL",
            "SELECT day FROM visits WHERE day > '2024-10-01' AND day < '2024-02-01'",
        ):
            assert len(same(fleet, one, sql).plan.shard_ids) == 1


def test_some_of_the_shards_are_asked_whatever_the_route(databases: Databases) -> None:
    with keyed(databases) as (fleet, one):
        for sql, route, shard_ids in (
            ("SELECT id, count FROM visits WHERE day < '2024-05-01'", "scatter", ("a", "b")),
            ("SELECT sum(count), max(day) FROM visits WHERE day >= '2024-06-01'", "scatter", ("c", "d")),
            ("SELECT id, rank() OVER (ORDER BY count) FROM visits WHERE day < '2024-05-01'", "gather", ("a", "b")),
            (
                "SELECT v.id, w.id FROM visits v JOIN visits w ON v.count = w.count"
                " WHERE v.day < '2024-02-01' AND w.day > '2024-10-01'",
                "gather",
                ("a", "d"),
            ),
        ):
            found = same(fleet, one, sql)
            assert (found.plan.route, found.plan.shard_ids) == (route, shard_ids)


def test_a_shard_that_is_offline_is_not_missed(databases: Databases) -> None:
    with keyed(databases) as (fleet, one):
        for shard_id in SHARDS:
            if shard_id != HOME:
                shard = fleet.shards[shard_id]
                shard.shard = replace(shard.shard, state=ShardState.OFFLINE)
        for sql in (*DIRECT, "SELECT count(*) FROM countries", "SELECT 1"):
            assert same(fleet, one, sql).plan.shard_ids == (HOME,)
        with pytest.raises(Refused, match="the answer would be incomplete"):
            run_query(fleet, "SELECT count(*) FROM accounts", shards=shards_of(fleet))
        with pytest.raises(Refused, match="the answer would be incomplete"):
            run_query(fleet, DIRECT[0], shards=shards_of(fleet), everywhere=True)


def test_a_misplaced_row_is_seen_everywhere_only(databases: Databases) -> None:
    with keyed(databases) as (fleet, _):
        other = next(shard_id for shard_id in SHARDS if shard_id != HOME)
        with fleet.shards[HOME].engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM items")
            connection.exec_driver_sql("DELETE FROM accounts WHERE id = 3")
        with fleet.shards[other].engine.begin() as connection:
            connection.execute(Account.__table__.insert(), {"id": 3, "name": "lost"})
        sql = "SELECT name FROM accounts WHERE id = 3"
        assert run_query(fleet, sql, shards=shards_of(fleet)).rows == []
        assert run_query(fleet, sql, shards=shards_of(fleet), everywhere=True).rows == [("lost",)]


def test_functions_and_views_of_the_application_are_not_run_directly(databases: Databases) -> None:
    with keyed(databases) as (fleet, _):
        for shard in shards_of(fleet):
            with shard.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE visits RENAME TO stored_visits")
                connection.exec_driver_sql("CREATE VIEW visits AS SELECT * FROM stored_visits")
        with pytest.raises(QueryRefused, match="`visits` is a view"):
            run_query(fleet, "SELECT id FROM visits WHERE day < '2024-02-01'", shards=shards_of(fleet))
        own = {"sqlite": "changes()", "postgresql": "pg_backend_pid()", "mysql": "connection_id()"}[databases.engine]
        with pytest.raises(QueryRefused):
            run_query(fleet, f"SELECT {own}, max(id) OVER () FROM accounts WHERE id = 3", shards=shards_of(fleet))


PARAMETERS = [
    ("SELECT id, rank() OVER (ORDER BY tier, id) FROM accounts WHERE tier > :n", {"n": 2}),
    ("SELECT id, :n AS n, rank() OVER (ORDER BY tier, id) FROM accounts WHERE tier > :n", {"n": 2}),
    ("SELECT a.id FROM accounts a WHERE a.tier IN (SELECT s.size FROM shops s WHERE s.size <> :n)", {"n": 1}),
    ("SELECT a.id, count(*) OVER () FROM accounts a WHERE a.name = :t OR a.name IN (:u, 'yy')", {"t": "x", "u": "Z"}),
    ("SELECT a.id, count(*) OVER () FROM accounts a WHERE a.name = :t", {"t": "it's \\ a ':n' % %s"}),
    ("SELECT a.id, count(*) OVER () FROM accounts a WHERE a.tier = :n", {"n": None}),
    ("SELECT a.id, count(*) OVER () FROM accounts a WHERE a.tier > :f", {"f": 2.5}),
    ("SELECT a.id, count(*) OVER () FROM accounts a WHERE a.tier % 3 = :n AND a.name LIKE :t", {"n": 1, "t": "%"}),
    ("SELECT a.tier + :n AS more, count(*) FROM accounts a GROUP BY a.tier + :n, a.tier", {"n": 1}),
    ("SELECT max(r) FROM (SELECT rank() OVER (ORDER BY id) AS r FROM items WHERE account_id = :n) w", {"n": 3}),
]


def test_parameters_mean_the_same_where_rows_are_gathered(databases: Databases) -> None:
    with keyed(databases) as (fleet, one):
        for sql, values in PARAMETERS:
            with bound(values):
                found = same(fleet, one, sql)
            assert found.plan.route == ("direct" if "account_id" in sql else "gather"), sql


def test_a_parameter_is_sent_to_the_shards_where_it_says_which_rows_matter(databases: Databases) -> None:
    with keyed(databases) as (fleet, one), bound({"n": 4}):
        found = same(fleet, one, "SELECT id, rank() OVER (ORDER BY id) FROM accounts WHERE tier = :n")
        assert found.rows_pulled == len(found.rows)
        assert ":n" in found.plan.explain()


def test_columns_beside_a_grouped_primary_key(postgresql: Databases) -> None:
    with keyed(postgresql) as (fleet, one):
        same(fleet, one, "SELECT id, name, rank() OVER (ORDER BY count(*), id) FROM accounts GROUP BY id")
        same(
            fleet,
            one,
            "SELECT c.name, a.tier, rank() OVER (ORDER BY c.id) FROM countries c, accounts a GROUP BY c.id, a.id",
        )
        same(
            fleet,
            one,
            "SELECT s.taken, rank() OVER (ORDER BY s.code) FROM seats s GROUP BY s.seat_no, s.code",
        )
        sql = "SELECT id, cost, rank() OVER (ORDER BY count(*)) FROM items GROUP BY id"
        with pytest.raises(QueryRefused, match="no primary key that others of its columns depend on"):
            run_query(fleet, sql, shards=shards_of(fleet))
        with fleet.shards["a"].engine.begin() as first, fleet.shards["b"].engine.begin() as second:
            for connection in (first, second):
                connection.execute(Account.__table__.insert(), {"id": 1000, "name": "twice"})
        sql = "SELECT id, name, rank() OVER (ORDER BY count(*), id) FROM accounts GROUP BY id"
        with pytest.raises(QueryRefused, match="one primary key"):
            run_query(fleet, sql, shards=shards_of(fleet))


def test_keys_of_one_strategy_and_of_differing_length_are_not_the_same_key(databases: Databases) -> None:
    joined = "SELECT count(*), sum(s.taken) FROM accounts a JOIN seats s ON s.seat_no = a.id"
    nested = "SELECT id FROM accounts WHERE id IN (SELECT seat_no FROM seats WHERE taken = 1)"
    with keyed(databases) as (fleet, one):
        for sql in (joined, nested):
            assert same(fleet, one, sql).rows
