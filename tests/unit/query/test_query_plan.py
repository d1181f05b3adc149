# ruff: noqa: E501
"""Statement -> plan, as golden pairs: what each shard is sent, and how the answers are merged."""

from __future__ import annotations

from textwrap import dedent

import pytest

from shardctl.errors import QueryRefused
from shardctl.query.joins import needs_one_shard_only
from shardctl.query.parse import parse
from shardctl.query.plan import QueryPlan, Route, columns_sql, plan_query

SHARDS = ("asia", "europe")


class Colocation:
    """Orders and their lines live together; countries are everywhere."""

    def is_reference(self, table_name: str) -> bool:
        return table_name == "countries"

    def follows(self, child_table: str) -> tuple[str, tuple[tuple[str, str], ...]] | None:
        return {
            "lines": ("orders", (("order_id", "id"),)),
            "parts": ("lines", (("line_a", "a"), ("line_b", "b"))),
        }.get(child_table)

    def columns(self, table_name: str) -> frozenset[str]:
        return frozenset({"orders": ("id", "city"), "lines": ("order_id", "a", "b", "city")}.get(table_name, ()))


def plan(sql: str, engine: str = "postgresql", shards: tuple[str, ...] = SHARDS) -> QueryPlan:
    return plan_query(parse(sql, engine), shards, colocation=Colocation(), input_columns=frozenset({"id", "city"}))


GOLDEN = [
    (
        "select id, city from orders where id > 3;",
        """\
        scatter: its rows are on several shards
        shards: asia, europe
        each shard:
          SELECT id, city FROM orders WHERE id > 3
        merge:
          append""",
    ),
    (
        "select * from orders limit 5 offset 2",
        """\
        scatter: its rows are on several shards
        shards: asia, europe
        each shard:
          SELECT * FROM orders LIMIT 7
        merge:
          append, take 5 after the first 2""",
    ),
    (
        "select city c, id::text || 'x' from orders o order by c desc nulls last, lower(o.city), 2 limit 3",
        """\
        scatter: its rows are on several shards
        shards: asia, europe
        each shard:
          SELECT city c, id::text || 'x', lower(o.city) AS __s0 FROM orders o ORDER BY c desc nulls last, lower(o.city), 2 LIMIT 3
        merge:
          sort by c DESC, lower(o.city), 2, take 3""",
    ),
    (
        "select city, count(*), avg(price) from orders group by city having sum(price) > 5 order by 2 desc, city limit 3",
        """\
        scatter: its rows are on several shards
        shards: asia, europe
        each shard:
          SELECT city AS __c0, count(*) AS __c1, sum(price) AS __c2, count(price) AS __c3 FROM orders GROUP BY 1
        merge:
          __c0 = city
          __c1 = count(*)
          __c2 = sum(price)
          __c3 = count(price)
          __a0 = count of __c1
          __a1 = avg of __c2, __c3
          __a2 = sum of __c2
          SELECT __k0 AS __o0, __a0 AS __o1, __a1 AS __o2 FROM __p GROUP BY __k0 HAVING __a2 > 5 ORDER BY __o1 desc, __k0""",
    ),
    (
        "select distinct city from orders",
        """\
        scatter: its rows are on several shards
        shards: asia, europe
        each shard:
          SELECT city AS __c0 FROM orders GROUP BY 1
        merge:
          __c0 = city
          SELECT __k0 AS __o0 FROM __p GROUP BY __k0""",
    ),
    (
        "select count(distinct city) + 1 from orders",
        """\
        scatter: its rows are on several shards
        shards: asia, europe
        each shard:
          SELECT city AS __c0 FROM orders GROUP BY 1
        merge:
          __c0 = city
          __a0 = count of distinct __c0
          SELECT __a0 + 1 AS __o0 FROM __p""",
    ),
    (
        "select l.id from orders o join lines l on l.order_id = o.id join countries c on true",
        """\
        scatter: joined on each shard: the rows live together
        shards: asia, europe
        each shard:
          SELECT l.id FROM orders o join lines l on l.order_id = o.id join countries c on true
        merge:
          append""",
    ),
    (
        "with c as (select code from countries) select count(*) from c",
        """\
        direct: only reference tables are read
        shards: asia
        each shard:
          with c as (select code from countries) select count(*) from c""",
    ),
    (
        "select 1",
        """\
        direct: no table is read
        shards: asia
        each shard:
          select 1""",
    ),
]


@pytest.mark.parametrize(("sql", "expected"), GOLDEN)
def test_plan(sql: str, expected: str) -> None:
    assert plan(sql).explain() == dedent(expected)


def test_sqlite_averages_from_floats() -> None:
    assert "total(price) AS __c0, count(price) AS __c1" in plan("select avg(price) from orders", "sqlite").shard_sql


def test_one_shard_gets_the_statement_as_it_is() -> None:
    sql = "SELECT  a ,b FROM t -- comment\n WHERE x = 'it''s' ORDER  BY 1"
    found = plan(sql + " ; ", shards=("asia",))
    assert (found.route, found.shard_sql, found.merge) == (Route.DIRECT, sql, None)


@pytest.mark.parametrize(
    "text",
    [
        "price::numeric(10,2)",
        "'it''s' || city",
        "E'a\\tb'",
        "date '2024-01-01' + interval '1 day'",
        "city LIKE 'a!%' ESCAPE '!'",
        'o."Mixed Case"',
        "CASE WHEN a IS NOT DISTINCT FROM b THEN 1 END",
        "substring(city from 1 for 2)",
        "(a, b) = (1, 2)",
        "x -> 'k' ->> 'l'",
        "a % 3 # 1",
        "extract(epoch from seen)",
        "x ~* '^a' AND NOT y",
        "array[1, 2][1]",
    ],
)
def test_expressions_reach_the_shards_as_they_are_written(text: str) -> None:
    assert plan(f"SELECT id, {text} FROM orders o WHERE ({text}) IS NOT NULL").shard_sql == (
        f"SELECT id, {text} FROM orders o WHERE ({text}) IS NOT NULL"
    )


JOINED = [
    "select 1 from orders o join lines l on o.id = l.order_id and l.n > 3",
    "select 1 from orders o, lines l where (l.order_id = o.id) and o.x = 1",
    "select 1 from lines left join orders on lines.order_id = orders.id",
    "select 1 from orders o join lines l on o.id = order_id",
    "select 1 from orders join lines on order_id = id",
    "select 1 from orders, lines where id = order_id",
    "select 1 from orders o left join lines l on l.order_id = o.id left join parts p on p.line_a = l.a and p.line_b = l.b",
    "select 1 from countries c join orders o on o.country = c.code",
    'select 1 from orders "O" join lines on lines.order_id = "O".id',
]
NOT_JOINED = [
    "select 1 from orders o join lines l on o.id = l.id",
    "select 1 from orders o join lines l on o.id = l.order_id or o.id = 1",
    "select 1 from orders o join lines l on not (o.id = l.order_id)",
    "select 1 from orders o join lines l on order_id = o.id join unknowns u on true",
    "select 1 from orders a join orders b on a.id = b.id",
    "select 1 from lines l join parts p on p.line_a = l.a",
    "select 1 from orders o left join lines l on true where l.order_id = o.id",
    "select 1 from other.orders o join lines l on l.order_id = o.id join other.countries c on true",
    "select 1 from orders o join lines l on l.order_id = o.id join others x on x.id = o.id",
    "select 1 from countries c left join orders o on o.country = c.code",
    'select 1 from orders "O" join lines on lines.order_id = O.id',
]


@pytest.mark.parametrize("sql", JOINED)
def test_joins_of_rows_that_live_together(sql: str) -> None:
    assert plan(sql).route is Route.SCATTER


@pytest.mark.parametrize("sql", NOT_JOINED)
def test_joins_across_shards_are_refused(sql: str) -> None:
    with pytest.raises(QueryRefused):
        plan(sql)


def test_a_refused_join_names_the_condition_that_would_do() -> None:
    with pytest.raises(QueryRefused) as caught:
        plan("select 1 from orders o join lines l on o.id = l.id")
    assert caught.value.message == "`lines` and `orders` are joined, but nothing ties their rows to one shard"
    assert caught.value.facts == ("in: JOIN lines AS l ON o.id = l.id",)
    assert caught.value.hint == "they live together by `l.order_id = o.id`: join them by it"


def test_without_colocation_no_table_is_a_reference_table() -> None:
    assert not needs_one_shard_only(parse("select * from countries", "sqlite"), None)
    with pytest.raises(QueryRefused, match="needs to know which tables live together"):
        plan_query(parse("select 1 from orders o join countries c on true", "sqlite"), SHARDS)


def test_a_name_in_group_by_is_looked_up() -> None:
    statement = parse("select upper(x) as city, count(*) from orders group by city", "postgresql")
    assert columns_sql(statement) == "SELECT * FROM orders LIMIT 0"
    with pytest.raises(QueryRefused, match="both a column and an output"):
        plan_query(statement, SHARDS, input_columns=frozenset({"city"}))
    with pytest.raises(QueryRefused, match="both a column and an output"):
        plan_query(statement, SHARDS)
    assert "upper(x) AS __c0" in plan_query(statement, SHARDS, input_columns=frozenset({"x"})).shard_sql


def test_unusual_functions_are_looked_up() -> None:
    assert plan("select lower(city), my_own(id), md5(city) from orders").functions == ("my_own", "md5")


def test_mixed_engines_only_append_and_count() -> None:
    engines = frozenset({"sqlite", "postgresql"})
    for sql in ("select id from orders where id > 1 limit 3", "select count(*), count(id) as n from orders"):
        assert plan_query(parse(sql, "sqlite"), SHARDS, engines=engines).route is Route.SCATTER
    for sql in ("select id from orders order by id", "select count(*) + 1 from orders", "select max(id) from orders"):
        with pytest.raises(QueryRefused, match="compare, order and calculate differently"):
            plan_query(parse(sql, "sqlite"), SHARDS, engines=engines)
