# ruff: noqa: E501
"""Statement -> what is pulled of each table: its columns, its filters, and which tables' keys reduce it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from shardctl.errors import QueryRefused
from shardctl.query.gatherers.shapes import ColumnShape, TableShape
from shardctl.query.parameters import bound
from shardctl.query.parse import parse
from shardctl.query.pull.checks import check_gatherable, functions
from shardctl.query.pull.needs import KeyList
from shardctl.query.pull.plan import plan_scans


def shape(name: str, /, **columns: str) -> TableShape:
    return TableShape(
        name, tuple(ColumnShape(key, kind, is_integer=kind == "integer") for key, kind in columns.items())
    )


SHAPES = {
    "orders": shape("orders", id="integer", customer_id="integer", placed="date", note="text", mood="!type `mood`"),
    "customers": shape("customers", id="integer", city="text", since="date"),
    "countries": shape("countries", code="text", name="text"),
}
HOLDERS = {"orders": ("a", "b"), "customers": ("a", "b"), "countries": ("a",)}


def scans(sql: str, engine: str = "postgresql") -> dict[str, str]:
    """Return each table's scan, without what all scans begin with."""
    statement = parse(sql, engine)
    read = {table.name.lower() for table in statement.tables}
    found = plan_scans(statement, {name: SHAPES[name] for name in SHAPES if name in read}, HOLDERS).scans
    lines = {}
    for scan in found:
        first, *others = scan.explain()
        text = first.split(": SELECT ", 1)[1].replace('"', "").replace("`", "").replace(" AS __t", "")
        lines[scan.table.name] = " | ".join(
            [text.replace(f" FROM {scan.table.name}", " FROM"), *(o.strip() for o in others)]
        )
    return lines


GOLDEN: list[tuple[str, dict[str, str]]] = [
    (
        "select city, row_number() over (order by city) from customers where since > '2020-01-01' and city like 'A%'",
        {"customers": "city, since FROM WHERE (since > '2020-01-01') AND (city like 'A%')"},
    ),
    (
        "select count(*) over () from customers c where c.city in ('x', 'y') or c.since is null",
        {"customers": "city, since FROM WHERE (__t.city in ('x', 'y') or __t.since is null)"},
    ),
    (
        "select o.id from orders o, customers c where o.customer_id = c.id and c.city = 'x' and o.placed between '2020-01-01' and '2020-02-01'",
        {
            "orders": "id, customer_id, placed FROM WHERE (__t.placed between '2020-01-01' and '2020-02-01') | where `customer_id` is in customers.id, if few are",
            "customers": "id, city FROM WHERE (__t.city = 'x') | where `id` is in orders.customer_id, if few are",
        },
    ),
    # Each branch of an OR says something of a table, or the same in all of them.
    (
        "select 1 from orders o, customers c where (o.customer_id = c.id and c.city = 'x' and o.note = 'a')"
        " or (o.customer_id = c.id and c.city = 'y' and o.id > 3 and o.note between 'b' and 'c')",
        {
            "orders": "id, customer_id, note FROM WHERE (((__t.note = 'a')) OR ((__t.id > 3) AND (__t.note between 'b' and 'c'))) | where `customer_id` is in customers.id, if few are",
            "customers": "id, city FROM WHERE (((__t.city = 'x')) OR ((__t.city = 'y'))) | where `id` is in orders.customer_id, if few are",
        },
    ),
    (
        "select 1 from orders o, customers c where c.city = 'x' or o.note = 'a'",
        {"orders": "note FROM", "customers": "city FROM"},
    ),
    # What WHERE says of the optional side of a join comes after the join.
    (
        "select c.id from customers c left join orders o on o.customer_id = c.id and o.note = 'x' where o.id is null and c.city = 'y'",
        {
            "customers": "id, city FROM WHERE (__t.city = 'y')",
            "orders": "id, customer_id, note FROM WHERE (__t.note = 'x') | where `customer_id` is in customers.id, if few are",
        },
    ),
    (
        "select c.id from customers c right join orders o on o.customer_id = c.id where c.city = 'y'",
        {"customers": "id, city FROM", "orders": "id, customer_id FROM"},
    ),
    (
        "select c.id from customers c full join orders o on o.customer_id = c.id where c.city = 'y' and o.id > 3",
        {"customers": "id, city FROM", "orders": "id, customer_id FROM"},
    ),
    # A row is pulled if one mention of the table needs it; if one needs all of them, all are.
    (
        "select a.id from orders a join orders b on a.id = b.customer_id where a.note = 'x' and b.note = 'y'",
        {"orders": "id, customer_id, note FROM WHERE ((__t.note = 'x')) OR ((__t.note = 'y'))"},
    ),
    (
        "select id from orders where note = 'x' union select customer_id from orders",
        {"orders": "id, customer_id, note FROM"},
    ),
    (
        "select id from customers where exists (select * from orders where customer_id = customers.id and note = 'x')",
        {
            "customers": "id FROM | where `id` is in orders.customer_id, if few are",
            "orders": "id, customer_id, note FROM WHERE (note = 'x') | where `customer_id` is in customers.id, if few are",
        },
    ),
    (
        "select id from customers c where not exists (select * from orders o where o.customer_id = c.id)",
        {
            "customers": "id FROM",
            "orders": "DISTINCT id, customer_id FROM | where `customer_id` is in customers.id, if few are",
        },
    ),
    # An aggregate has a row even where there are none.
    (
        "select id from customers c where exists (select count(*) from orders o where o.customer_id = c.id)",
        {
            "customers": "id FROM",
            "orders": "id, customer_id FROM | where `customer_id` is in customers.id, if few are",
        },
    ),
    (
        "select id from customers where id in (select customer_id from orders where placed > '2020-01-01')",
        {
            "customers": "id FROM | where `id` is in orders.customer_id, if few are",
            "orders": "id, customer_id, placed FROM WHERE (placed > '2020-01-01') | where `customer_id` is in customers.id, if few are",
        },
    ),
    (
        "select id from customers where id not in (select customer_id from orders)",
        {"customers": "id FROM", "orders": "DISTINCT id, customer_id FROM"},
    ),
    (
        "select id from customers where id in (select customer_id from orders limit 3)",
        {"customers": "id FROM | where `id` is in orders.customer_id, if few are", "orders": "id, customer_id FROM"},
    ),
    (
        "select id from customers where id in (select customer_id from orders) or city = 'x'",
        {"customers": "id, city FROM", "orders": "DISTINCT id, customer_id FROM"},
    ),
    # What may fail, or differ from shard to shard, stays here.
    (
        "select id, count(*) over () from customers where 1 / id > 0 and since < now() and since > current_date and md5(city) = 'x'",
        {"customers": "id, city, since FROM"},
    ),
    (
        "select exists (select * from customers), count(*) over () from countries",
        {"customers": "DISTINCT id FROM", "countries": "code FROM"},
    ),
]


@pytest.mark.parametrize(("sql", "expected"), GOLDEN)
def test_what_is_pulled(sql: str, expected: dict[str, str]) -> None:
    assert scans(sql) == expected


def test_all_columns_are_pulled_where_a_statement_may_read_them_all() -> None:
    for sql in (
        "select * from customers c where c.id = 1",
        "select c.*, 1 from customers c where c.id = 1",
        "select c from customers c where c.id = 1",
        "select x.a from customers as x(a) where id = 1",
        "select 1 from customers c natural join countries where c.id = 1",
    ):
        assert scans(sql)["customers"].startswith("id, city, since FROM"), sql


def test_a_name_that_may_be_another_sources_is_not_sent() -> None:
    found = scans(
        "select 1 from customers c join (select id as city from orders) x on true where city = 3 and c.id = 4"
    )
    assert found["customers"] == "id, city FROM WHERE (__t.id = 4)"


def test_what_binds_differently_is_not_taken_apart() -> None:
    assert scans("select id, count(*) over () from customers where id = 1 xor id = 2 and city = 'x'", "mysql") == {
        "customers": "id, city FROM"
    }
    assert scans('select id, count(*) over () from customers where city = "since"', "mysql") == {
        "customers": "id, city, since FROM"
    }


def test_an_output_that_sqlite_takes_for_a_column_is_not_sent() -> None:
    sql = "select id from customers c where exists (select o.id + 1 as city from orders o where city = o.id)"
    assert scans(sql, "sqlite")["orders"] == "DISTINCT id FROM"


def test_a_scan_lists_keys_in_place_of_what_they_stand_for() -> None:
    statement = parse("select o.id from orders o, customers c where o.customer_id = c.id", "sqlite")
    orders, _ = plan_scans(statement, {name: SHAPES[name] for name in ("orders", "customers")}, HOLDERS).scans
    reduction = orders.needs[0].reductions[0]
    assert orders.sql({reduction: KeyList.of([2, 1])}, limit=5) == (
        'SELECT "id", "customer_id" FROM "orders" AS __t WHERE __t."customer_id" IN (1,2) LIMIT 5'
    )


@pytest.mark.parametrize(
    ("values", "engine", "expected"),
    [
        ([], "postgresql", "c IN (NULL)"),
        ([3, 1], "postgresql", "c IN (1,3)"),
        (range(40), "mysql", f"c IN ({','.join(map(str, range(40)))})"),
        (range(40), "postgresql", f"c = ANY('{{{','.join(map(str, range(40)))}}}'::int4[])"),
        (range(-(1 << 31), 40 - (1 << 31)), "postgresql", "'::int8[])"),
    ],
)
def test_a_list_of_keys_is_one_constant_where_that_is_quicker(
    values: Sequence[int], engine: str, expected: str
) -> None:
    assert KeyList.of(values).sql("c", engine).endswith(expected)


def test_a_second_long_list_is_not_looked_up_by() -> None:
    assert replace(KeyList.of(range(40)), is_last=True).sql("c", "postgresql").startswith("(c + 0) = ANY('{0,1,")


REFUSED = [
    ("select * from main.orders", "a schema's name in front"),
    ("select * from only orders", "more than a name and an alias"),
    ("select * from orders tablesample system (10)", "more than a name and an alias"),
    ("select id from orders where id = $1", "no value here"),
    ("select ctid, id from orders", "a row's place"),
    ("select tableoid from orders", "a row's place"),
    ("select 'orders'::regclass from orders", "a catalogue of its own"),
]


@pytest.mark.parametrize(("sql", "reason"), REFUSED)
def test_what_cannot_be_gathered(sql: str, reason: str) -> None:
    with pytest.raises(QueryRefused, match=reason):
        check_gatherable(parse(sql, "postgresql"), SHAPES)


def test_a_type_that_only_the_shards_have_is_refused_where_it_is_read() -> None:
    with pytest.raises(QueryRefused, match=r"`orders.mood` is of type `mood`"):
        scans("select mood, count(*) over () from orders")
    assert scans("select note, count(*) over () from orders") == {"orders": "note FROM"}


def test_functions_are_found_with_and_without_brackets() -> None:
    statement = parse("select current_user, my_own(id), lower(city) from customers where city like 'x'", "postgresql")
    assert set(functions(statement, SHAPES)) == {"current_user", "my_own", "lower", "like"}


ROUNDED = [
    "o.id = 0.5",
    "0.5 = o.id",
    "o.id = -1.5e0",
    "o.id = '1.5x'",
    "o.id = (- .5)",
    "o.id <=> 1.5",
    "o.id in (2.5)",
    "(o.id, o.note) = (1.5, 'a')",
    "(o.id, o.note) in ((1.5, 'a'))",
    "o.id = any (select 1.5)",
    "o.id = (select '1.5')",
    "o.id = PI()",
    "o.price = 1.5 and o.price = o.id",
    "o.price = 1.5 and o.id in (select price from orders)",
    "exists (select 1 from (select id as number from orders) z where z.number = 1.5)",
]
WHOLE = [
    "o.id = 1.0",
    "o.id = '1'",
    "o.id = 'a'",
    "o.id = 10e-1",
    "o.price = 1.5",
    "o.note = '1.5'",
    "o.id < 1.5",
    "o.id <> 1.5",
    "o.id in (1.5, 2)",
    "o.id between 0.5 and 1.5",
    "o.price = 1.5 and o.price > o.id",
    "o.id = o.price + 0.5",
    "o.id = (select avg(price) from orders)",
]
ORDERS = {"orders": shape("orders", id="integer", price="decimal(8,2)", note="text")}


def plan_on(engine: str, condition: str) -> None:
    statement = parse(f"select o.id, rank() over (order by o.id) from orders o where {condition}", engine)
    plan_scans(statement, ORDERS, {"orders": ("a", "b")})


@pytest.mark.parametrize("condition", ROUNDED)
def test_an_integer_that_equals_a_fraction_is_not_gathered_on_mysql(condition: str) -> None:
    with pytest.raises(QueryRefused, match="is an integer: an index finds what a fraction is rounded to"):
        plan_on("mysql", condition)


@pytest.mark.parametrize("condition", WHOLE)
def test_what_is_found_alike_without_an_index_is_gathered(condition: str) -> None:
    plan_on("mysql", condition)


def test_other_engines_round_nothing() -> None:
    plan_on("postgresql", "o.id = 0.5")
    plan_on("sqlite", "o.id = 0.5")


def test_a_parameter_may_be_a_fraction_too() -> None:
    with bound({"id": 0.5}), pytest.raises(QueryRefused, match="is an integer"):
        plan_on("mysql", "o.id = :id")
    with bound({"id": 5}):
        plan_on("mysql", "o.id = :id")


@pytest.mark.parametrize(("engine", "quote"), [("sqlite", '"'), ("postgresql", '"'), ("mysql", "`"), ("mysql", "")])
def test_mentions_that_need_different_rows_are_read_apart(engine: str, quote: str) -> None:
    orders = f"{quote}orders{quote}"
    sql = (
        f"select {orders}.id, '__copy1' from {orders}, customers c where {orders}.customer_id = c.id and c.city = 'x'"
        f" and exists (select * from {orders} o where o.id = c.id and o.note = 'y')"
    )
    found = plan_scans(parse(sql, engine), {name: SHAPES[name] for name in ("orders", "customers")}, HOLDERS)
    assert found.statement.sql == sql.replace(f"(select * from {orders} o", "(select * from __copy2 o")
    first, second, customers = found.scans
    assert [scan.table.name for scan in found.scans] == ["orders", "__copy2", "customers"]
    assert {scan.source for scan in (first, second)} == {"orders"}
    assert [(entry.column, entry.table) for entry in first.needs[0].reductions] == [
        ("customer_id", "customers"),
        ("customer_id", "__copy2"),
    ]
    assert second.needs[0].filters == ("__t.note = 'y'",)
    assert {entry.table for entry in customers.needs[0].reductions} == {"orders", "__copy2"}


def test_a_mention_that_names_an_output_keeps_its_name() -> None:
    sql = "select (select max(o.id) from orders o where o.id = c.id) from orders c where c.note = 'x' and c.id = 3"
    found = plan_scans(parse(sql, "sqlite"), {"orders": SHAPES["orders"]}, HOLDERS)
    assert found.statement.sql == sql
    assert [scan.table.name for scan in found.scans] == ["orders"]
