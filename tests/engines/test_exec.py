"""One statement on each shard: the database refuses writes, transactions hold, and what cannot be in one is outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shardctl.errors import ConfigError
from shardctl.fleet import Fleet, connect
from shardctl.query.execute import Execution, check_one_statement, execute
from shardctl.topology.model import Shard, ShardMap

ANALYZE = {"sqlite": "ANALYZE", "postgresql": "ANALYZE", "mysql": "ANALYZE TABLE t"}


@pytest.fixture
def fleet(databases) -> Iterator[Fleet]:
    shards = {name: Shard(name, databases.create(name)) for name in ("a", "b")}
    with connect(ShardMap(shards)) as opened:
        for shard in opened.shards.values():
            with shard.connect(read_only=False) as connection:
                connection.exec_driver_sql("create table t (n int)")
                connection.exec_driver_sql("insert into t values (1), (2)")
                connection.commit()
        yield opened


def outcomes(fleet, sql, **options):
    found = {outcome.shard_id: outcome for outcome in execute(fleet, Execution(sql, **options), fleet.shards.values())}
    return [found[shard_id] for shard_id in fleet.shards]


def values(fleet) -> list[list[int]]:
    return [[row[0] for row in outcome.result.rows] for outcome in outcomes(fleet, "select n from t order by n")]


@pytest.mark.parametrize("sql", ["delete from t", "update t set n = 3", "insert into t values (3)", "drop table t"])
def test_the_database_refuses_to_write(fleet, sql):
    for outcome in outcomes(fleet, sql):
        assert outcome.error is not None
        assert "--write" in str(outcome.error.hint)
    assert values(fleet) == [[1, 2], [1, 2]]


def test_writes_are_committed_and_counted(fleet):
    found = outcomes(fleet, "update t set n = n + 10 where n = 1", writes=True)
    assert [outcome.result.rows_affected for outcome in found] == [1, 1]
    assert values(fleet) == [[2, 11], [2, 11]]


def test_parameters_are_bound(fleet):
    sql = "select :text as t, :number + 1 as n, ':text' as quoted, :none as z from t where n = :number"
    parameters = {"text": "it's 100% :number", "number": 1, "none": None}
    if fleet.shards["a"].backend.name == "postgresql":
        sql = sql.replace(":text as", "cast(:text as text) as").replace(":none as", "cast(:none as text) as")
    for outcome in outcomes(fleet, sql, parameters=parameters):
        assert outcome.result.rows == [("it's 100% :number", 2, ":text", None)]


def test_a_percent_sign_is_one(fleet):
    for outcome in outcomes(fleet, "select count(*) from t where 'a%b' like 'a%b' and 5 % 2 = 1"):
        assert outcome.result.rows == [(2,)]


def test_statistics(fleet):
    for outcome in outcomes(fleet, ANALYZE[fleet.shards["a"].backend.name], writes=True):
        assert outcome.error is None


def test_one_shard_fails_alone(fleet):
    outcomes(fleet, "select 1")
    with fleet.shards["b"].connect(read_only=False) as connection:
        connection.exec_driver_sql("drop table t")
        connection.commit()
    first, second = outcomes(fleet, "delete from t", writes=True)
    assert (first.result.rows_affected, second.is_ok) == (2, False)


def test_outside_a_transaction(postgresql):
    shard_map = ShardMap({"a": Shard("a", postgresql.create("a"))})
    with connect(shard_map) as fleet:
        (inside,) = outcomes(fleet, "vacuum", writes=True)
        assert "transaction" in str(inside.error)
        (outside,) = outcomes(fleet, "vacuum", writes=True, autocommit=True)
        assert outside.error is None


def test_a_second_statement_cannot_leave_the_read_only_transaction():
    with pytest.raises(ConfigError, match="one statement"):
        check_one_statement("commit; delete from t", ["postgresql"])
    check_one_statement("select ';' as a, $$;$$ as b;", ["postgresql"])
