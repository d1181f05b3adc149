"""`locate --offline` and `--new`: what rules and choosers say of rows that nobody has looked at."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Pool, event, insert, text

from shardctl.errors import ConfigError, NoPlacement, ShardError, UnknownName
from shardctl.fleet import Fleet
from shardctl.rows.identities import read_conditions
from shardctl.rows.new_row import new_home, read_new_row
from shardctl.rows.offline import possible_home, possible_homes
from tests.fixtures.shop import (
    Account,
    Animal,
    Cell,
    Currency,
    Customer,
    Line,
    Order,
    Product,
    Region,
    Visit,
    open_shop,
)

DEAD = {name: f"postgresql://app@127.0.0.1:9/{name}" for name in "abc"}
NOT_ASKED = "a connection was opened"


@contextmanager
def no_connection() -> Iterator[None]:
    def refuse(*args: Any) -> None:
        raise AssertionError(NOT_ASKED)

    event.listen(Pool, "connect", refuse)
    try:
        yield
    finally:
        event.remove(Pool, "connect", refuse)


@pytest.fixture
def dead(tmp_path) -> Iterator[Fleet]:
    """The shop, on a server that does not answer."""
    with open_shop(tmp_path, urls=DEAD) as opened, no_connection():
        yield opened


def possible(fleet: Fleet, model: Any, *key: Any) -> tuple[str, str]:
    (found,) = possible_homes(fleet, model.__mapper__, [key])
    assert found[0] == key
    return " ".join(found[1].shard_ids), found[1].reason


def possible_by(fleet: Fleet, model: Any, **known: Any) -> tuple[str, str]:
    home = possible_home(fleet, model.__mapper__, known)
    return " ".join(home.shard_ids), home.reason


# -- offline -----------------------------------------------------------------------------------------------------------


def test_the_shards_that_can_hold_a_key(dead):
    assert possible(dead, Customer, 1) == ("c", "id: hash bucket 430")
    assert possible(dead, Customer, 2)[0] == "b"
    assert possible(dead, Animal, 3)[0] == "a"
    assert possible(dead, Cell, "x", 1)[0] == dead.placement.place(Cell.__mapper__, Cell(tenant="x", number=1))
    assert possible(dead, Currency, "EUR") == ("a b c", "reference table: every copy")
    assert possible(dead, Order, 1) == (
        "a b c",
        "any of 3: it follows customer, and `customer_id` is not given",
    )
    assert possible(dead, Visit, 1) == ("a b c", "any of 3: the sharding key `day` is not given")
    assert possible(dead, Region, 1) == ("a b", "any of 2: the sharding key `name` is not given")
    assert possible(dead, Account, 1) == ("a b c", "any of 3: the sharding key `name` is not given")


def test_the_shards_that_can_hold_what_other_columns_say(dead):
    assert possible_by(dead, Visit, day=datetime.date(2025, 3, 1)) == ("b", "day: range below `2026-01-01`")
    assert possible_by(dead, Region, name="Asia") == ("a", "name: lookup `Asia`")
    assert possible_by(dead, Region, name="Mars") == ("", "Region.name: the lookup has no shard for `Mars`")
    assert possible_by(dead, Order, customer_id=2) == ("b", "follows customer: id: hash bucket 849")
    assert possible_by(dead, Line, order_id=2) == (
        "a b c",
        "any of 3: it follows order: it follows customer, and `customer_id` is not given",
    )
    assert possible_by(dead, Cell, tenant="x") == ("a b c", "any of 3: the sharding key `number` is not given")
    assert possible_by(dead, Account, name="ann") == (
        "a b c",
        "any of 3: the directory `account_shards` on shard `b` says it, which needs a connection",
    )


def test_a_spelling_that_mysql_may_hold_equal_leaves_more_shards(tmp_path):
    urls = {name: f"mysql://app@127.0.0.1:9/{name}" for name in "abc"}
    with open_shop(tmp_path, urls=urls) as fleet, no_connection():
        assert possible_by(fleet, Product, sku="pen")[0] == "a b c"
        assert possible_by(fleet, Product, sku="pen")[1].endswith("or where databases hold another spelling equal")
        assert possible_by(fleet, Region, name="Asia")[0] == "a"


def test_a_class_without_a_rule(tmp_path):
    with open_shop(tmp_path, rules='models = "tests.fixtures.shop:Base"\n') as fleet:
        assert possible(fleet, Customer, 1) == ("a b c", "any of 3: shardctl.toml has no placement for it")


def test_an_application_is_asked_for_its_choosers(open_app):
    source = """
    choosers["identity_chooser"] = lambda mapper, key, **kw: ["west"] if key[0] > 9 else list(shards)
    choosers["execute_chooser"] = lambda context: ["west", "east"]
    made = sessionmaker(class_=ShardedSession, shards=shards, **choosers)
    plain = Table("plain", Base.metadata)
    """
    fleet = open_app(source)
    city = fleet.models.mappers["City"]
    with no_connection():
        homes = [home for _, home in possible_homes(fleet, city, [(1,), (10,)])]
        assert [home.shard_ids for home in homes] == [("east", "west"), ("west",)]
        assert homes[0].reason == "identity_chooser, execute_chooser"
        assert possible_home(fleet, city, {"side": "x"}).reason == "execute_chooser"
        assert possible_home(fleet, fleet.models.tables["plain"], {}).shard_ids == ("east", "west")


# -- new rows ----------------------------------------------------------------------------------------------------------


def new(fleet: Fleet, model: Any, *words: str, shards: str = "", offline: bool = False) -> tuple[str, str]:
    mapper = model.__mapper__
    asked = [shard for shard_id, shard in fleet.shards.items() if not shards or shard_id in shards.split()]
    home = new_home(fleet, mapper, read_new_row(mapper, words), asked, offline=offline)
    return " ".join(home.shard_ids), home.reason


def refused(fleet: Fleet, model: Any, *words: str, **options: Any) -> tuple[str, str | None]:
    with pytest.raises(NoPlacement) as refusal:
        new(fleet, model, *words, **options)
    return refusal.value.message, refusal.value.hint


def test_a_new_row_goes_by_its_key(dead):
    assert new(dead, Customer, "id=1") == ("c", "id: hash bucket 430")
    assert new(dead, Region, "name=Europe") == ("b", "name: lookup `Europe`")
    assert new(dead, Visit, "day=2030-01-01") == ("c", "day: last range")
    assert new(dead, Currency) == ("a b c", "reference table: every copy")
    assert refused(dead, Region, "name=Azia") == (
        "Region.name: the lookup has no shard for `Azia`",
        "did you mean `Asia`?",
    )
    assert refused(dead, Region, "name=Q")[1] == "it knows `Asia`, `Europe`"
    assert refused(dead, Visit, "id=4")[1] == "`--new day=…` says it"


def test_a_new_row_follows_its_parent_to_where_that_is(fleet):
    with fleet.shard("c").bind.begin() as connection:
        connection.execute(insert(Customer.__table__), {"id": 2, "name": "far"})  # which belongs on b
        connection.execute(insert(Order.__table__), {"id": 7, "customer_id": 2})
    for words in (["customer=2"], ["customer_id=2"]):
        assert new(fleet, Order, *words) == ("c", "follows customer: Customer 2 is there")
    assert new(fleet, Line, "order=7") == ("c", "follows order: Order 7 is there")
    assert new(fleet, Order, "customer=2", offline=True)[0] == "b"
    assert refused(fleet, Order, "customer=3") == (
        "Customer 3, which Order follows, is on none of the shards asked",
        None,
    )
    assert refused(fleet, Order, "id=3") == (
        "Order.customer is not set, so that the row follows no parent",
        "give its parent: `--new customer=KEY`, or `--new customer_id=…`",
    )
    with fleet.shard("a").bind.begin() as connection:
        connection.execute(insert(Order.__table__), {"id": 7, "customer_id": 3})
    message, hint = refused(fleet, Line, "order=7")
    assert message == "Order 7, which Line follows, is on a, c"
    assert hint == "`--shard NAME` says which of them is meant"
    assert new(fleet, Line, "order=7", shards="a")[0] == "a"
    assert refused(fleet, Line, "order=7", offline=True)[0].startswith("any of 3: it follows customer")


def test_a_parent_on_a_shard_that_does_not_answer(dead_order):
    with pytest.raises(ShardError, match=r"shard `.` cannot be asked for the Customer that Order follows: cannot conn"):
        new(dead_order, Order, "customer=2")


@pytest.fixture
def dead_order(tmp_path) -> Iterator[Fleet]:
    with open_shop(tmp_path, urls=DEAD) as opened:
        yield opened


def test_a_directory_is_read_for_a_new_row(fleet):
    with fleet.shard("b").bind.begin() as connection:
        connection.execute(text("insert into account_shards values ('ann', 'c')"))
    assert new(fleet, Account, "name=ann") == ("c", "name: directory `account_shards` entry `ann`")
    assert "needs a connection" in refused(fleet, Account, "name=ann", offline=True)[0]
    assert "has no entry for `bob`" in refused(fleet, Account, "name=bob")[0]


def test_words_that_are_no_row():
    order = Order.__mapper__
    assert read_new_row(order, ["customer=2", "sku=a=b"]).values == {"sku": "a=b"}
    with pytest.raises(ConfigError, match="`--new sku` is not `column=value`"):
        read_new_row(order, ["sku"])
    with pytest.raises(ConfigError, match="`x` is not an int, as id is"):
        read_new_row(order, ["customer=x"])
    with pytest.raises(UnknownName) as unknown:
        read_new_row(order, ["custmer=2"])
    assert unknown.value.hint == "did you mean `customer`?"
    assert read_conditions(order, ["id=2"]) == {"id": 2}


# -- an application's chooser ------------------------------------------------------------------------------------------

APP = """
class Street(Base):
    __tablename__ = "streets"
    id: Mapped[int] = mapped_column(primary_key=True)
    city_id: Mapped[int] = mapped_column(ForeignKey("cities.id"))
    name: Mapped[str]
    city: Mapped[City] = relationship()

    def __init__(self, name, length):
        raise AssertionError("made by nobody but the application")

choosers["shard_chooser"] = lambda mapper, instance, clause=None: getattr(instance, "city", instance).side
made = sessionmaker(class_=ShardedSession, shards=shards, **choosers)
"""


def test_an_application_is_shown_an_object(open_app):
    fleet = open_app(APP)
    for shard_id, shard in fleet.shards.items():
        for table in fleet.tables_on(shard_id):
            table.create(shard.bind)
    with fleet.shard("east").bind.begin() as connection:
        connection.execute(text("insert into cities values (1, 'east'), (2, 'west'), (3, 'east')"))
    with fleet.shard("west").bind.begin() as connection:
        connection.execute(text("insert into cities values (3, 'west')"))
    city, street = (fleet.models.mappers[name].class_ for name in ("City", "Street"))

    assert new(fleet, city, "side=west") == ("west", "shard_chooser")
    assert new(fleet, street, "city=1", "name=a") == ("east", "shard_chooser")
    assert new(fleet, street, "city_id=2") == ("west", "shard_chooser")
    assert new(fleet, street, "city=3", shards="west") == ("west", "shard_chooser")
    assert refused(fleet, street, "city=3")[0] == "City 3 is on east, west"
    assert refused(fleet, street, "city=4")[0] == "City 4 is on none of the shards asked"
    assert "raised AttributeError" in refused(fleet, street, "name=a")[0]
    assert refused(fleet, city, "side=mu")[0] == "shard_chooser no such shard: mu"
    with no_connection():
        assert new(fleet, city, "side=west", offline=True)[0] == "west"
    with pytest.raises(ConfigError, match="`--offline` cannot load a parent"):
        new(fleet, street, "city=1", offline=True)
