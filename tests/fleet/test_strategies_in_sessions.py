"""Hash, range and directory through a session: statements are sent to the shards that can hold their rows, no fewer."""

from __future__ import annotations

import datetime

import pytest
from sqlalchemy import Sequence, and_, bindparam, delete, func, insert, literal, not_, or_, select, text, union, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import aliased

from shardctl.errors import NoPlacement, QueryRefused
from shardctl.fleet import Fleet
from tests.fixtures.shop import (
    ALL,
    RULES,
    Account,
    Cell,
    Currency,
    Customer,
    Order,
    Region,
    Visit,
    asked,
    create_tables,
    open_shop,
    stored,
)


def record(fleet: Fleet, *names: str, shard: str) -> None:
    """Make entries in the directory."""
    with fleet.shard("b").bind.begin() as connection:
        for name in names:
            connection.execute(text("delete from account_shards where key = :key"), {"key": name})
            connection.execute(text("insert into account_shards values (:key, :shard)"), {"key": name, "shard": shard})


# -- hash --------------------------------------------------------------------------------------------------------------


def test_hash(fleet, session):
    session.add_all([Customer(id=number, name=f"n{number}") for number in (1, 2, 3, 4)])
    session.commit()
    assert stored(fleet, "id", "customers") == {"a": [3, 4], "b": [2], "c": [1]}

    session.expunge_all()
    assert session.get(Customer, 1).name == "n1"
    assert session.get(Customer, 99) is None
    assert [row.id for row in session.scalars(select(Customer).where(Customer.id.in_([3, 2])))] == [3, 2]


def test_get_asks_one_shard(fleet, session):
    assert asked(session, select(Customer).where(Customer.id == 2)) == "b"
    chosen = session.identity_chooser(Customer.__mapper__, (2,))
    assert list(chosen) == ["b"]


@pytest.mark.parametrize(
    ("condition", "shards"),
    [
        (Customer.id == 1, "c"),
        (Customer.id.in_([1, 2]), "b c"),
        (Customer.id.in_([3, 4]), "a"),
        (Customer.id.in_([]), "a"),  # no row can match: one shard gives the empty answer
        (or_(Customer.id == 1, Customer.id == 3), "a c"),
        (and_(Customer.id == 1, Customer.name == "x"), "c"),
        (or_(Customer.id == 1, Customer.name == "x"), ALL),
        (and_(or_(Customer.id == 1, Customer.id == 2), Customer.id.in_([2, 3])), "b"),
        (and_(Customer.id == 1, or_(Customer.name == "x", Customer.id == 2)), "c"),
        (Customer.id < 3, ALL),
        (Customer.id.between(1, 1), ALL),
        (Customer.id != 1, ALL),
        (Customer.id.not_in([1]), ALL),
        (Customer.id + 1 == 2, ALL),
        (-Customer.id == -1, ALL),
        (Customer.id == select(Order.id).scalar_subquery(), ALL),
        (Customer.id.in_(select(Order.customer_id)), ALL),
        (Customer.id == Customer.currency_code, ALL),
        (Customer.id == None, ALL),  # noqa: E711
        (Customer.id.in_([1, None]), "c"),
        (Customer.id.is_not_distinct_from(1), ALL),
        (literal(2) == Customer.id, "b"),
        (not_(or_(Customer.id == 1, Customer.id == 2)), ALL),
        (text("id = 1"), ALL),
        (Customer.orders.any(Order.customer_id == 1), ALL),
    ],
)
def test_hash_is_pruned(session, condition, shards):
    assert asked(session, select(Customer).where(condition)) == shards


def test_subqueries_are_pruned_where_all_of_them_is_seen(session):
    one, two = (select(Customer.id).where(Customer.id == number) for number in (1, 2))
    assert asked(session, select(one.subquery())) == "c"
    assert asked(session, select(one.cte())) == "c"
    assert asked(session, one.union(two)) == ALL
    assert asked(session, select(union(one, two).subquery())) == ALL
    assert asked(session, select(func.count()).select_from(two.subquery())) == "b"
    assert asked(session, select(Order).outerjoin(Customer, Customer.id == 1)) == ALL
    assert asked(session, delete(Order).where(Order.customer_id.in_(one))) == ALL
    assert asked(session, select(Customer).where(Customer.id == bindparam("x")), {"x": 2}) == "b"


def test_a_subquery_beside_other_tables_rules_no_shard_out(session):
    one = select(func.count(Customer.id).label("n")).where(Customer.id == 1).subquery()
    assert asked(session, select(Order.id, one.c.n).where(Order.id > one.c.n)) == ALL
    assert asked(session, select(Order.id).join(one, Order.id > one.c.n)) == ALL


def test_a_column_of_a_union_may_come_from_another_table(session):
    mixed = union(select(Customer.id), select((Order.id + 0).label("id"))).subquery()
    assert asked(session, select(mixed).where(mixed.c.id == 1)) == ALL


def test_a_shard_without_an_optional_table_is_not_left_out(session):
    """Regions are on `a` and `b` alone; customers on `c` must not vanish from an answer in silence."""
    either = union(select(Customer.name.label("name")), select(Region.name)).subquery()
    joined = select(Customer).outerjoin(Region, Region.name == Customer.name)
    full = select(Customer).join(Region, Region.name == Customer.name, full=True)
    for statement in (select(either), joined, full):
        with pytest.raises((OperationalError, QueryRefused), match=r"no such table: regions|over several shards"):
            session.execute(statement)
        session.rollback()
    assert asked(session, select(Customer).join(Region, Region.name == Customer.name)) == "a b"
    assert asked(session, select(Region).outerjoin(Customer, Region.name == Customer.name)) == "a b"
    assert asked(session, union(select(Region.name), select(Region.name))) == "a b"
    assert asked(session, select(select(Region).subquery())) == "a b"
    assert asked(session, update(Region).values(name="x")) == "a b"


def test_from_statement_goes_where_its_statement_goes(fleet, session):
    one = select(Customer).where(Customer.id == 1)
    assert asked(session, select(Customer).from_statement(one)) == "c"
    assert asked(session, select(Region).from_statement(select(Region))) == "a b"
    added = insert(Customer).values(id=2, name="n").returning(Customer)
    assert session.scalars(select(Customer).from_statement(added)).one().id == 2
    session.commit()
    assert stored(fleet, "id", "customers") == {"a": [], "b": [2], "c": []}


def test_rows_of_an_insert_that_says_no_shard_are_not_added_to_every_shard(fleet, session):
    as_text = text(" INSERT INTO customers (id, name) VALUES (2, 'n')")
    in_cte = select(insert(Customer).values(id=2, name="n").returning(Customer.id).cte())
    for statement in (as_text, select(Customer).from_statement(as_text), in_cte):
        with pytest.raises(NoPlacement, match="nothing in it says on which shard"):
            session.execute(statement)
    session.execute(as_text, bind_arguments={"shard_id": "b"})
    session.commit()
    assert stored(fleet, "id", "customers") == {"a": [], "b": [2], "c": []}


def test_text_beside_a_reference_table_may_name_any_table(session):
    assert asked(session, select(Currency).where(text("exists (select 1 from customers)"))) == ALL


def test_a_sequence_is_of_one_shard(session):
    with pytest.raises(NoPlacement, match="each shard has a sequence `numbers`"):
        session.execute(Sequence("numbers"))


def test_statements_that_write_are_pruned(fleet, session):
    session.add_all([Customer(id=number, name="n") for number in (1, 2, 3)])
    session.flush()

    assert asked(session, update(Customer).where(Customer.id == 2).values(name="two")) == "b"
    assert asked(session, delete(Customer).where(Customer.id.in_([1, 3]))) == "a c"
    assert session.scalars(select(Customer.name)).all() == ["two"]


def test_a_bound_value_of_another_type_is_sent_everywhere(session):
    assert asked(session, select(Customer).where(Customer.id == "1")) == ALL
    assert asked(session, select(Customer).where(Customer.id == 1.0)) == ALL


def test_composite_hash(fleet, session):
    session.add_all([Cell(tenant="x", number=0), Cell(tenant="x", number=2), Cell(tenant="y", number=1)])
    session.commit()
    assert stored(fleet, "number", "cells") == {"a": [0], "b": [1], "c": [2]}

    session.expunge_all()
    assert session.get(Cell, ("x", 2)).number == 2
    assert list(session.identity_chooser(Cell.__mapper__, ("y", 1))) == ["b"]
    both = and_(Cell.tenant == "y", Cell.number == 1)
    assert asked(session, select(Cell).where(both)) == "b"
    assert asked(session, select(Cell).where(Cell.number == 1).where(Cell.tenant == "y")) == "b"
    assert asked(session, select(Cell).where(or_(both, and_(Cell.tenant == "x", Cell.number == 0)))) == "a b"
    assert asked(session, select(Cell).where(Cell.tenant == "y")) == ALL
    assert asked(session, select(Cell).where(or_(Cell.tenant == "y", Cell.number == 1))) == ALL
    one, two = aliased(Cell), aliased(Cell)
    on_shard = one.text == two.text
    assert asked(session, select(one, two).where(on_shard, one.tenant == "y", two.number == 1)) == ALL
    assert asked(session, select(one, two).where(on_shard, one.tenant == "y", one.number == 1)) == "b"
    session.add(Cell(tenant="x"))
    with pytest.raises(NoPlacement, match=r"Cell\.number is not set"):
        session.flush()


# -- range -------------------------------------------------------------------------------------------------------------

NEW_YEAR_25, NEW_YEAR_26 = datetime.date(2025, 1, 1), datetime.date(2026, 1, 1)
EVE_24 = datetime.date(2024, 12, 31)


def test_range(fleet, session):
    session.add_all([Visit(day=day) for day in (EVE_24, NEW_YEAR_25, NEW_YEAR_26, datetime.date(2030, 5, 5))])
    session.commit()

    days = {"a": ["2024-12-31"], "b": ["2025-01-01"], "c": ["2026-01-01", "2030-05-05"]}
    assert stored(fleet, "day", "visits") == days
    assert {row.day for row in session.scalars(select(Visit).where(Visit.day < NEW_YEAR_26))} == {EVE_24, NEW_YEAR_25}


@pytest.mark.parametrize(
    ("condition", "shards"),
    [
        (Visit.day == NEW_YEAR_25, "b"),
        (Visit.day.in_([EVE_24, NEW_YEAR_26]), "a c"),
        (Visit.day.between(NEW_YEAR_25, datetime.date(2025, 12, 31)), "b"),
        (Visit.day.between(EVE_24, NEW_YEAR_25), "a b"),
        (Visit.day.between(EVE_24, NEW_YEAR_26), ALL),
        (Visit.day < NEW_YEAR_25, "a b"),  # one shard too many rather than one too few
        (Visit.day <= EVE_24, "a"),
        (Visit.day >= NEW_YEAR_26, "c"),
        (Visit.day > EVE_24, ALL),
        (and_(Visit.day >= NEW_YEAR_25, Visit.day <= datetime.date(2025, 6, 1)), "b"),
        (or_(Visit.day >= NEW_YEAR_26, Visit.day <= EVE_24), "a c"),
        (~Visit.day.between(NEW_YEAR_25, NEW_YEAR_26), ALL),
        (Visit.day != NEW_YEAR_25, ALL),
        (Visit.day == None, ALL),  # noqa: E711
        (Visit.id == 3, ALL),
    ],
)
def test_range_is_pruned(session, condition, shards):
    assert asked(session, select(Visit).where(condition)) == shards


# -- directory ---------------------------------------------------------------------------------------------------------


def test_directory(fleet, session):
    record(fleet, "ann", "bob", shard="a")
    session.add_all([Account(name="ann"), Account(name="bob")])
    session.commit()
    assert stored(fleet, "name", "accounts") == {"a": ["ann", "bob"], "b": [], "c": []}

    assert asked(session, select(Account).where(Account.name == "ann")) == "a"
    record(fleet, "ann", shard="c")
    assert asked(session, select(Account).where(Account.name == "ann")) == "c"
    assert asked(session, select(Account).where(Account.name.in_(["ann", "bob"]))) == "a c"
    assert asked(session, select(Account).where(Account.name == "eve")) == ALL
    assert asked(session, select(Account).where(Account.name < "b")) == ALL
    assert asked(session, select(Account).where(Account.id == 1)) == ALL


@pytest.mark.parametrize(("entry", "message"), [(None, "no entry for `eve`"), ("mu", "to `mu`, which is no shard")])
def test_a_directory_without_a_right_entry(fleet, session, entry, message):
    if entry is not None:
        record(fleet, "eve", shard=entry)
    session.add(Account(name="eve"))
    with pytest.raises(NoPlacement, match=message):
        session.flush()


def test_a_directorys_default(tmp_path):
    rules = RULES.replace('table = "account_shards"', 'table = "account_shards"\ndefault = "c"')
    with open_shop(tmp_path, rules=rules) as fleet, fleet.sessionmaker()() as session:
        create_tables(fleet)
        record(fleet, "ann", shard="a")
        session.add_all([Account(name="ann"), Account(name="eve")])
        session.commit()
        assert stored(fleet, "name", "accounts") == {"a": ["ann"], "b": [], "c": ["eve"]}
        assert asked(session, select(Account).where(Account.name == "eve")) == "c"
