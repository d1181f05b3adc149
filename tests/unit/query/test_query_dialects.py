"""Statements of other dialects, as the fleet's engine writes them; what may mean something else is refused."""

from __future__ import annotations

import pytest

from shardctl.errors import ConfigError, QueryRefused
from shardctl.query.dialects import check_dialect, rewritten

WRITTEN = [
    ('SELECT "order id" FROM words', "sqlite", "mysql", "SELECT `order id` FROM words"),
    ("SELECT `order id` FROM words LIMIT 2, 3", "mysql", "postgresql", 'SELECT "order id" FROM words LIMIT 3 OFFSET 2'),
    ("SELECT [a b] FROM t WHERE x <> 1", "tsql", "sqlite", 'SELECT "a b" FROM t WHERE x <> 1'),
    ("SELECT a || b FROM t", "postgresql", "mysql", "SELECT CONCAT(a, b) FROM t"),
    ("SELECT count(*) FROM t WHERE a = :x", "duckdb", "sqlite", "SELECT COUNT(*) FROM t WHERE a = :x"),
]


@pytest.mark.parametrize(("sql", "dialect", "engine", "expected"), WRITTEN)
def test_a_statement_is_written_anew(sql: str, dialect: str, engine: str, expected: str) -> None:
    assert rewritten(sql, check_dialect(dialect), engine) == expected


def test_the_fleets_own_dialect_is_left_as_it_was_written() -> None:
    sql = "SELECT  a/2 , date_trunc('day', b)  FROM t"
    assert rewritten(sql, check_dialect("postgresql"), "postgresql") == sql


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a / 2 FROM t",
        "SELECT a FROM t WHERE b LIKE 'x%'",
        "SELECT a FROM t WHERE b = 'x\\n'",
        "SELECT date_trunc('day', a) FROM t",
        "SELECT a::int FROM t",
        "SELECT 1; SELECT 2",
        "DELETE FROM t",
        "SELECT FROM WHERE",
    ],
)
def test_what_may_mean_something_else_is_refused(sql: str) -> None:
    with pytest.raises(QueryRefused):
        rewritten(sql, "duckdb", "mysql")


def test_a_dialect_that_there_is_not() -> None:
    with pytest.raises(ConfigError, match="there is no dialect `postgrs`") as caught:
        check_dialect("postgrs")
    assert "did you mean `postgres`?" in str(caught.value.hint)
