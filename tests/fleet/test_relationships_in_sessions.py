"""Rows that follow others, copies on every shard, subclasses and shards' states, through a session."""

from __future__ import annotations

import datetime

import pytest
from sqlalchemy import delete, func, insert, inspect, select, update
from sqlalchemy.ext.horizontal_shard import ShardedSession

from shardctl.errors import NoPlacement, Refused
from tests.fixtures.shop import (
    ALL,
    SHARDS,
    Animal,
    Currency,
    Customer,
    Dog,
    Line,
    Order,
    Product,
    Region,
    Visit,
    asked,
    create_tables,
    open_shop,
    stored,
)

NEW_YEAR_25, NEW_YEAR_26 = datetime.date(2025, 1, 1), datetime.date(2026, 1, 1)
EVE_24 = datetime.date(2024, 12, 31)


# -- follow ------------------------------------------------------------------------------------------------------------


def test_grandchildren_live_with_their_grandparents(fleet, session):
    for number in (1, 2):
        order = Order(customer=Customer(id=number, name="n"), lines=[Line(amount=number), Line(amount=10 * number)])
        session.add(order)
    session.commit()
    assert stored(fleet, "amount", "order_lines") == {"a": [], "b": [2, 20], "c": [1, 10]}

    session.expunge_all()
    line = session.scalars(select(Line).where(Line.amount == 20)).one()
    assert asked(session, select(Line).where(Line.amount == 20)) == ALL
    assert [inspect(row).identity_token for row in (line, line.order, line.order.customer)] == ["b", "b", "b"]
    joined = select(Line).join(Line.order).join(Order.customer).where(Customer.id == 1)
    assert asked(session, joined) == "c"
    assert {row.amount for row in session.scalars(joined)} == {1, 10}


def test_a_grandchild_by_foreign_key_finds_its_parents_shard(fleet, session):
    order = Order(customer=Customer(id=1, name="n"))
    session.add(order)
    session.flush()
    session.add(Line(order_id=order.id, amount=7))
    session.commit()

    assert stored(fleet, "amount", "order_lines") == {"a": [], "b": [], "c": [7]}


def test_lazy_loads_of_children_stay_on_the_shard(fleet, session):
    for number in (1, 2):  # order 1 on two shards
        session.add(Order(customer=Customer(id=number, name="n"), lines=[Line(amount=number)]))
    session.commit()
    session.expunge_all()

    for customer in session.scalars(select(Customer)):
        assert [[line.amount for line in order.lines] for order in customer.orders] == [[customer.id]]


def test_lazy_loads_of_rows_elsewhere_go_where_these_are(fleet, session):
    session.add_all([Product(sku="apple"), Product(sku="pear")])
    for number in (1, 2):
        session.add(Order(customer=Customer(id=number, name="n"), sku="apple"))
    session.commit()
    session.expunge_all()

    orders = session.scalars(select(Order)).all()
    assert [inspect(order).identity_token for order in orders] == ["b", "c"]
    assert [inspect(order.product).identity_token for order in orders] == ["a", "a"]
    assert {inspect(order).identity_token for order in session.get(Product, "apple").orders} == {"b", "c"}
    assert session.get(Product, "pear").orders == []


# -- reference ---------------------------------------------------------------------------------------------------------


def test_reference_tables(fleet, session):
    session.execute(insert(Currency).values(code="EUR"))
    session.execute(insert(Currency.__table__), [{"code": "YEN", "rate": 100}])
    session.commit()
    assert stored(fleet, "code", "currencies") == {name: ["EUR", "YEN"] for name in SHARDS}

    assert asked(session, select(Currency)) == "a"
    assert session.scalars(select(Currency.code)).all() == ["EUR", "YEN"]
    assert session.get(Currency, "EUR").rate == 1
    assert asked(session, update(Currency).where(Currency.code == "YEN").values(rate=120)) == ALL
    assert asked(session, delete(Currency).where(Currency.code == "EUR")) == ALL
    session.commit()
    assert stored(fleet, "rate", "currencies") == {name: [120] for name in SHARDS}
    session.add(Currency(code="USD"))
    with pytest.raises(NoPlacement, match="Currency is a reference table") as refusal:
        session.flush()
    assert refusal.value.hint == "`session.execute(insert(Currency).values(…))` writes every copy"


def test_a_reference_table_beside_a_sharded_one_asks_every_shard(session):
    of_customers = select(Customer.currency_code)
    assert asked(session, select(Currency).where(Currency.code.in_(of_customers))) == ALL
    assert asked(session, select(Currency).where(select(Customer).where(Customer.id == 1).exists())) == ALL
    assert asked(session, select(Currency.code, select(func.count(Customer.id)).scalar_subquery())) == ALL
    assert asked(session, select(Currency).where(Currency.code.in_(select(Currency.code)))) == "a"


def test_reference_rows_are_loaded_from_the_shard_of_what_refers_to_them(session):
    session.execute(insert(Currency).values(code="EUR"))
    session.add_all([Customer(id=number, name="n", currency_code="EUR") for number in (1, 2)])
    session.commit()
    session.expunge_all()

    tokens = [inspect(row.currency).identity_token for row in session.scalars(select(Customer))]
    assert tokens == ["b", "c"]
    joined = select(Customer).join(Customer.currency).where(Currency.code == "EUR")
    assert asked(session, joined) == ALL
    assert asked(session, joined.where(Customer.id == 1)) == "c"


# -- joined-table inheritance ------------------------------------------------------------------------------------------


def test_joined_table_inheritance(fleet, session):
    session.add_all([Dog(id=1, tricks=5), Dog(id=2, tricks=0), Animal(id=3)])
    session.commit()
    assert stored(fleet, "id", "animals") == {"a": [3], "b": [2], "c": [1]}
    assert stored(fleet, "id", "dogs") == {"a": [], "b": [2], "c": [1]}

    session.expunge_all()
    assert session.get(Animal, 1).tricks == 5
    assert session.get(Dog, 2).tricks == 0
    assert list(session.identity_chooser(Dog.__mapper__, (2,))) == ["b"]
    assert asked(session, select(Dog).where(Dog.id == 1)) in {"c", ALL}
    assert asked(session, select(Dog).where(Animal.id == 1)) == "c"
    assert asked(session, select(Dog).where(Dog.tricks > 0)) == ALL
    assert [row.id for row in session.scalars(select(Animal).order_by(Animal.id))] == [1, 2, 3]


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["readonly", "offline", "draining", "active"])
def test_states(tmp_path, state):
    with open_shop(tmp_path, states={"c": state}) as fleet, fleet.sessionmaker()() as session:
        create_tables(fleet)
        session.add(Customer(id=1, name="on c"))
        if state in {"readonly", "offline"}:
            with pytest.raises(Refused, match=f"shard `c` is {state}"):
                session.flush()
            session.rollback()
        session.commit()
        session.add(Customer(id=2, name="on b"))
        session.commit()
        assert asked(session, select(Customer).where(Customer.id == 2)) == "b"
        if state == "offline":
            with pytest.raises(Refused, match="the answer would be incomplete"):
                session.execute(select(Customer))
        else:
            assert asked(session, select(Customer)) == ALL


def test_a_stored_row_of_a_readonly_shard_is_not_changed(tmp_path):
    with open_shop(tmp_path) as fleet, fleet.sessionmaker()() as session:
        create_tables(fleet)
        session.add(Customer(id=1, name="on c"))
        session.commit()
    with open_shop(tmp_path, states={"c": "readonly"}) as fleet, fleet.sessionmaker()() as session:
        session.get(Customer, 1).name = "changed"
        with pytest.raises(Refused, match="shard `c` is readonly"):
            session.flush()
        session.rollback()
        session.delete(session.get(Customer, 1))
        with pytest.raises(Refused, match="shard `c` is readonly"):
            session.flush()


def test_one_copy_of_a_reference_row_is_not_changed(tmp_path):
    with open_shop(tmp_path) as fleet, fleet.sessionmaker()() as session:
        create_tables(fleet)
        session.execute(insert(Currency).values(code="EUR"))
        session.commit()
        session.delete(session.scalars(select(Currency)).one())
        with pytest.raises(Refused, match="would reach its copy on `a` only"):
            session.flush()
        session.rollback()
        session.execute(delete(Currency).where(Currency.code == "EUR"))
        session.commit()
        for shard_id in fleet.shards:
            assert session.scalars(select(Currency), bind_arguments={"shard_id": shard_id}).all() == []


def test_one_copy_of_a_reference_table_is_enough_if_a_shard_is_offline(tmp_path):
    with open_shop(tmp_path) as fleet, fleet.sessionmaker()() as session:
        create_tables(fleet)
        session.execute(insert(Currency).values(code="EUR"))
        session.commit()
    with open_shop(tmp_path, states={"a": "offline"}) as fleet, fleet.sessionmaker()() as session:
        assert asked(session, select(Currency)) == "b"
        assert asked(session, select(Customer).where(Customer.id.in_([]))) == "b"
        with pytest.raises(Refused, match="shard `a` is offline"):
            session.execute(insert(Currency).values(code="YEN"))


# -- servers -----------------------------------------------------------------------------------------------------------


def test_strategies_on_every_engine(tmp_path, databases):
    urls = {name: databases.create(name) for name in SHARDS}
    with open_shop(tmp_path, urls=urls) as fleet, fleet.sessionmaker()() as session:
        create_tables(fleet)
        session.execute(insert(Currency).values(code="EUR"))
        for number in (1, 2, 3):
            customer = Customer(id=number, name="n", currency_code="EUR")
            session.add(Order(customer=customer, lines=[Line(amount=number)]))
        session.add_all([Visit(day=day) for day in (EVE_24, NEW_YEAR_25, NEW_YEAR_26)])
        session.add_all([Region(name="Asia"), Region(name="Europe"), Dog(id=1, tricks=5), Product(sku="apple")])
        session.commit()
        assert stored(fleet, "amount", "order_lines") == {"a": [3], "b": [2], "c": [1]}
        assert session.get(Animal, 1).tricks == 5
        assert session.get(Customer, 2).currency.code == "EUR"
        assert asked(session, select(Visit).where(Visit.day >= NEW_YEAR_26)) == "c"
        if databases.engine == "postgresql":
            either_way = Visit.day.between(NEW_YEAR_26, EVE_24, symmetric=True)
            assert asked(session, select(Visit).where(either_way)) == ALL
        check_text_keys(session, is_exact=databases.engine != "mysql")


def check_text_keys(session: ShardedSession, *, is_exact: bool) -> None:
    """Check that a text that the database holds equal to a key is found, whatever Python holds."""
    assert asked(session, select(Region).where(Region.name == "Asia")) == "a"
    loose = [session.scalars(select(Region).where(Region.name == name)).all() for name in ("asia", "ASIA", "Ásia")]
    assert [len(rows) for rows in loose] == ([0, 0, 0] if is_exact else [1, 1, 1])
    assert len(session.scalars(select(Region).where(Region.name.in_(["asia", "europe"]))).all()) == (
        0 if is_exact else 2
    )
    assert len(session.scalars(select(Product).where(Product.sku == "APPLE")).all()) == (0 if is_exact else 1)
    product = session.get(Product, "apple")
    assert product is not None
    session.expunge_all()
    assert (session.get(Product, "APPLE") is None) is is_exact
