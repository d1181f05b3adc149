"""What is worth asking shards, by about how many rows they have."""

from __future__ import annotations

from shardctl.query.gatherers.shapes import TableShape
from shardctl.query.pull.estimates import Estimates
from shardctl.query.pull.needs import KeyList, Local, Need, Reduction, Semijoin
from shardctl.query.pull.plan import TableScan

TO_CUSTOMERS = Reduction("customer_id", "customers", "id")
TO_PARTS = Reduction("part_id", "parts", "id")
MEETS_LINES = Semijoin(("id",), "lines", ("order_id",), "lines", (), (TO_PARTS,))


def scan(name: str, *needs: Need, identity: str = "id") -> TableScan:
    return TableScan(TableShape(name, ()), ("a",), needs, "postgresql", name, identity=(identity,))


ORDERS = scan("orders", Need(reductions=(TO_CUSTOMERS,), semijoins=(MEETS_LINES,)))
LINES = scan("lines", Need(reductions=(TO_PARTS,)), identity="number")


def estimates() -> Estimates:
    found = Estimates([ORDERS, LINES, scan("customers", Need()), scan("parts", Need())])
    found.expect(ORDERS, 500, 1_000)
    found.expect(LINES, 2_000, 4_000)
    found.expect(LINES, 2_000, 4_000)
    found.expect(scan("customers"), 10, 100)
    found.expect(scan("parts"), 10, 400)
    return found


def keys(count: int) -> KeyList:
    return KeyList.of(range(count))


def test_keys_leave_their_share_of_the_table_that_they_name() -> None:
    assert estimates().left(LINES, {TO_PARTS: keys(4)}) == 40
    assert estimates().left(ORDERS, {TO_CUSTOMERS: keys(10)}) == 500 * 0.1


def test_of_rows_that_meet_others_no_more_are_left_than_there_are_of_these() -> None:
    assert estimates().left(ORDERS, {TO_PARTS: keys(4)}) == 500 * 40 / 1_000


def test_a_semijoin_that_leaves_most_rows_is_left_out() -> None:
    found = estimates()

    (kept,) = found.worthwhile(ORDERS, {TO_PARTS: keys(4)})[0].needs
    (left_out,) = found.worthwhile(ORDERS, {TO_PARTS: keys(390)})[0].needs

    assert kept.semijoins == (MEETS_LINES,)
    assert left_out.semijoins == ()


def test_a_long_list_that_leaves_most_rows_is_not_sent() -> None:
    few = {TO_CUSTOMERS: keys(99)}
    many = {TO_PARTS: keys(390)}

    assert estimates().worthwhile(ORDERS, few)[1] == few
    assert estimates().worthwhile(LINES, many)[1] == {}


def test_rows_are_looked_up_by_the_list_that_leaves_fewest() -> None:
    to_suppliers = Reduction("supplier_id", "suppliers", "id")
    suppliers, both = scan("suppliers", Need()), scan("both", Need(reductions=(to_suppliers, TO_PARTS)))
    found = Estimates([both, suppliers, scan("parts", Need())])
    found.expect(both, 9_000, 9_000)
    found.expect(suppliers, 1_000, 1_000)
    found.expect(scan("parts"), 9_000, 9_000)

    sent = found.worthwhile(both, {to_suppliers: keys(200), TO_PARTS: keys(200)})[1]

    assert {reduction: listed.is_last for reduction, listed in sent.items()} == {to_suppliers: True, TO_PARTS: False}


def test_nothing_known_leaves_everything() -> None:
    strange = Reduction("note", "parts", "code")
    lines = scan("lines", Need(reductions=(strange,)))
    found = Estimates([lines, scan("parts", Need())])
    found.expect(lines, 100, 100)

    assert found.left(lines, {strange: keys(1)}) == 100


def test_a_subquery_is_left_out_once_the_keys_that_it_would_find_are_known() -> None:
    local = Local("part_id IN (SELECT id FROM parts WHERE size > 3)", instead=TO_PARTS)
    need = Need(reductions=(TO_PARTS,), local=(local,))

    assert need.sql({}, "sqlite") == f"({local.text})"
    assert need.sql({TO_PARTS: keys(2)}, "sqlite") == '__t."part_id" IN (0,1)'
