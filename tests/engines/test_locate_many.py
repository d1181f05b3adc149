"""Many rows at once, on shards of every kind: in batches, in few statements, with the answers that a session gives."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, event, insert, make_url, text

from shardctl.fleet import Fleet
from shardctl.rows.found import FoundRow, LackingCopy, Search
from shardctl.rows.identities import Identity, Target
from shardctl.rows.locate import Locator, locate
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.projects import KINDS, Project, create_places, place_shards
from tests.fixtures.shop import RULES, Animal, Cell, Currency, Customer, Dog, Line, Order, Product, create_tables

CUSTOMERS = range(1, 301)


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    yield from open_shop_of(request.param, tmp_path)


@pytest.fixture
def schemas(tmp_path: Path) -> Iterator[Fleet]:
    yield from open_shop_of("postgresql schemas", tmp_path)


def open_shop_of(kind: str, folder: Path, names: tuple[str, ...] = ("a", "b", "c")) -> Iterator[Fleet]:
    """Open the shop on shards of one kind, with customers where they belong, each with an order that has a line."""
    engine = kind.partition(" ")[0]
    if engine != "sqlite":
        server_url(engine)
    databases = Databases(engine, folder)
    rules = RULES.replace('["a", "b", "c"]', str(list(names)))
    project = Project(folder, more=rules)
    place_shards(project, kind, databases, list(names))
    for entry in project.shards.values():
        if "attach" in entry:
            entry["attach"] = str(folder / entry["attach"])
    with project.open() as fleet:
        create_places(fleet, databases)
        create_tables(fleet)
        for shard_id in fleet.shards:
            own = [number for number in CUSTOMERS if home(fleet, number) == shard_id]
            put(fleet, shard_id, Customer, [{"id": number, "name": "n"} for number in own])
            put(fleet, shard_id, Order, [{"id": number, "customer_id": number} for number in own])
            put(fleet, shard_id, Line, [{"id": number, "order_id": number, "amount": 1} for number in own])
        yield fleet
    for live in fleet.shards.values():
        live.bind.dispose()
    databases.drop_all()


def home(fleet: Fleet, number: int) -> str:
    assert fleet.placement is not None
    return fleet.placement.place(Customer.__mapper__, Customer(id=number))


def elsewhere(fleet: Fleet, number: int) -> str:
    return next(shard_id for shard_id in fleet.shards if shard_id != home(fleet, number))


def put(fleet: Fleet, shard_id: str, model: Any, rows: list[dict[str, Any]]) -> None:
    """Write rows, whatever they refer to: a move may have lost their parents."""
    if rows:
        with without_foreign_keys(fleet, shard_id) as connection:
            connection.execute(insert(model.__table__), rows)


def remove(fleet: Fleet, shard_id: str, model: Any, number: int) -> None:
    with without_foreign_keys(fleet, shard_id) as connection:
        connection.execute(model.__table__.delete().where(model.__table__.c.id == number))


def shift(fleet: Fleet, model: Any, number: int, **values: Any) -> None:
    """Put a row on a shard where it does not belong."""
    remove(fleet, home(fleet, number), model, number)
    put(fleet, elsewhere(fleet, number), model, [{"id": number, **values}])


@contextmanager
def without_foreign_keys(fleet: Fleet, shard_id: str) -> Iterator[Any]:
    shard = fleet.shard(shard_id)
    off = {"postgresql": "set session_replication_role = replica", "mysql": "set foreign_key_checks = 0"}
    on = {"postgresql": "set session_replication_role = default", "mysql": "set foreign_key_checks = 1"}
    with shard.bind.connect() as connection:
        engine = shard.backend.name
        if engine in off:
            connection.execute(text(off[engine]))
        yield connection
        if engine in on:
            connection.execute(text(on[engine]))
        connection.commit()


def search(fleet: Fleet, target: Target, keys: Any, **options: Any) -> Search:
    identities = [key if isinstance(key, tuple) else (key,) for key in keys]
    return locate(fleet, target, list(fleet.shards.values()), identities=identities, **options)


def bare(row: FoundRow) -> FoundRow:
    return replace(row, shard_chooser=None)


@contextmanager
def counting(word: str) -> Iterator[list[str]]:
    """Collect the statements that name something."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if word in statement and "information_schema" not in statement:
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def plant(fleet: Fleet) -> None:
    """Put rows of every kind where they belong, and some where they do not."""
    shift(fleet, Customer, 5, name="far")
    shift(fleet, Order, 7, customer_id=7)
    put(fleet, elsewhere(fleet, 9), Customer, [{"id": 9, "name": "twin"}])
    for number in (11, 12):
        remove(fleet, home(fleet, number), Line, number)
    remove(fleet, home(fleet, 12), Order, 12)
    put(fleet, home(fleet, 12), Order, [{"id": 12, "customer_id": 77_777}])
    for shard_id in fleet.shards:
        cells = [{"tenant": "x", "number": 1}, {"tenant": shard_id, "number": 2}]
        put(fleet, shard_id, Cell, [{**cell, "text": shard_id} for cell in cells])
        put(fleet, shard_id, Currency, [{"code": "EUR"}])
    put(fleet, "b", Currency, [{"code": "USD"}])
    for number in range(1, 8):
        put(fleet, home(fleet, number), Animal, [{"id": number, "kind": "dog" if number % 2 else "animal"}])
    for number in range(1, 8, 2):
        put(fleet, home(fleet, number), Dog, [{"id": number, "tricks": number}])


TARGETS: dict[str, tuple[Any, list[Any]]] = {
    "customers": (Customer, [*CUSTOMERS, 9_999]),
    "orders": (Order, [*CUSTOMERS, 9_999]),
    "lines": (Line, [*CUSTOMERS, 9_999]),
    "cells": (Cell, [("x", 1), ("a", 2), ("b", 2), ("c", 2), ("c", 1)]),
    "currencies": (Currency, ["EUR", "USD", "GBP"]),
    "animals": (Animal, range(1, 9)),
    "dogs": (Dog, range(1, 9)),
}


def test_the_answers_are_those_of_a_session(shop: Fleet) -> None:
    """With `with_routing` objects are loaded and placed one by one; without, rows are read in batches."""
    plant(shop)
    for name, (model, keys) in TARGETS.items():
        read = search(shop, model.__mapper__, keys)
        loaded = search(shop, model.__mapper__, keys, with_routing=True)
        assert [bare(row) for row in loaded.found] == read.found, name
        assert (loaded.missing, loaded.lacking, loaded.failed) == (read.missing, read.lacking, []), name
        assert len(loaded.routing) == len(keys), name
        assert all(row.shard_chooser is not None for row in loaded.found), name


def test_verdicts(shop: Fleet) -> None:
    plant(shop)
    customers = search(shop, Customer.__mapper__, [5, 9, 10, 9_999])
    assert [(row.primary_key, row.shard_id, row.verdict) for row in customers.found] == [
        ((5,), elsewhere(shop, 5), "misplaced"),
        *sorted([((9,), elsewhere(shop, 9), "duplicate"), ((9,), home(shop, 9), "duplicate")]),
        ((10,), home(shop, 10), "ok"),
    ]
    assert customers.missing == [(9_999,)]
    orders = search(shop, Order.__mapper__, [5, 7, 8, 12])
    places = {row.primary_key[0]: (row.shard_id, row.expected, row.verdict) for row in orders.found}
    assert places[7] == (elsewhere(shop, 7), (home(shop, 7),), "misplaced")
    assert places[8] == (home(shop, 8), (home(shop, 8),), "ok")
    assert places[12] == (home(shop, 12), (), "unknown")
    assert orders.found[-1].reason == "the Customer that Order follows (77777) is on no shard"
    lines = search(shop, Line.__mapper__, [7])
    assert [(row.expected, row.verdict) for row in lines.found] == [((elsewhere(shop, 7),), "misplaced")]
    cells = search(shop, Cell.__mapper__, [("x", 1)])
    assert [row.verdict for row in cells.found] == ["duplicate"] * 3
    currencies = search(shop, Currency.__mapper__, ["EUR", "USD"])
    assert [row.verdict for row in currencies.found] == ["ok"] * 4
    assert currencies.lacking == [LackingCopy(("USD",), ("a", "c"))]


def test_a_table_without_its_class(shop: Fleet) -> None:
    found = search(shop, Customer.__table__, [1, 2, 9_999])
    assert [(row.primary_key, row.shard_id, row.verdict) for row in found.found] == [
        ((1,), home(shop, 1), "ok"),
        ((2,), home(shop, 2), "ok"),
    ]
    assert found.missing == [(9_999,)]


def test_by_other_columns(shop: Fleet) -> None:
    def by(**conditions: Any) -> list[Identity]:
        found = locate(shop, Order.__mapper__, list(shop.shards.values()), conditions=conditions, limit=4)
        assert found.is_cut == (conditions == {"sku": None})
        return [row.primary_key for row in found.found]

    assert by(customer_id=33) == [(33,)]
    assert by(customer_id=33, id=34) == []
    assert len(by(sku=None)) == 12


def test_statements_do_not_grow_with_the_keys(shop: Fleet) -> None:
    keys = [*CUSTOMERS, *range(10_000, 12_700)]
    one = "postgresql" in shop.shards["a"].backend.name and shop.shards["a"].shard.schema is not None
    one = one or shop.shards["a"].backend.name == "mysql"
    each = 4 if shop.shards["a"].backend.name == "sqlite" else 3
    with counting("customers") as sent:
        assert len(search(shop, Customer.__mapper__, keys).found) == len(CUSTOMERS)
    assert len(sent) == each * (1 if one else 3)
    with counting("") as sent:
        assert len(search(shop, Line.__mapper__, keys).found) == len(CUSTOMERS)
    assert len([statement for statement in sent if " AS c0" in statement]) == (each + 2) * (1 if one else 3)


def test_ten_schemas_are_asked_in_one_statement(tmp_path: Path) -> None:
    names = tuple("abcdefghij")
    opened = open_shop_of("postgresql schemas", tmp_path, names)
    for fleet in opened:
        with counting("customers") as sent:
            found = search(fleet, Customer.__mapper__, CUSTOMERS, related=["orders"])
        assert len(found.found) == len(CUSTOMERS)
        assert {row.verdict for row in found.found} == {"ok"}
        assert len(sent) == 1
        assert all(f"s_{name}.customers" in sent[0] for name in names)


def test_one_of_the_schemas_lacks_the_table(schemas: Fleet) -> None:
    with schemas.shard("b").engine.begin() as connection:
        connection.execute(text("drop table order_lines"))
    found = search(schemas, Line.__mapper__, CUSTOMERS)
    assert [(outcome.shard_id, "order_lines" in outcome.error.message) for outcome in found.failed] == [("b", True)]
    assert {row.shard_id for row in found.found} == {"a", "c"}


def test_batches_come_in_the_order_of_the_keys(shop: Fleet) -> None:
    keys = [(number,) for number in (300, 4, 4, 9_999, 2, 300, 3, 1)]
    taken: list[Identity] = []

    def source() -> Iterator[Identity]:
        for key in keys:
            taken.append(key)
            yield key

    locator = Locator(shop, Customer.__mapper__, list(shop.shards.values()))
    batches = locator.by_identities(source(), batch=3)
    first = next(batches)
    assert taken == keys[:4]
    assert [row.primary_key for row in first.found] == [(300,), (4,)]
    assert first.missing == [(9_999,)]
    assert [row.primary_key for batch in batches for row in batch.found] == [(2,), (3,), (1,)]


# -- relationships -----------------------------------------------------------------------------------------------------


def test_what_hangs_off_rows(shop: Fleet) -> None:
    plant(shop)
    for with_routing in (False, True):
        found = search(
            shop,
            Order.__mapper__,
            [7, 8, 12],
            related=["lines", "customer", "product"],
            with_routing=with_routing,
        )
        by_id = {row.primary_key[0]: row.related for row in found.found}
        lines, customer = by_id[7]["lines"], by_id[7]["customer"]
        assert (lines.counts, lines.elsewhere, lines.is_finding) == ({home(shop, 7): 1}, (home(shop, 7),), True)
        assert (customer.counts, customer.is_finding) == ({home(shop, 7): 1}, True)
        assert by_id[8]["lines"].counts == by_id[8]["customer"].counts == {home(shop, 8): 1}
        assert not by_id[8]["lines"].is_finding
        assert by_id[12]["lines"].counts == {}
        assert not by_id[12]["lines"].is_finding
        assert by_id[12]["customer"].is_missing
        assert not by_id[8]["product"].is_finding


def test_what_need_not_be_beside_a_row_is_no_finding(shop: Fleet) -> None:
    assert shop.placement is not None
    where = shop.placement.place(Product.__mapper__, Product(sku="pen"))
    put(shop, where, Product, [{"sku": "pen"}])
    for shard_id in shop.shards:
        put(shop, shard_id, Customer, [{"id": 1_000 + ord(shard_id), "name": "n"}])
        put(shop, shard_id, Order, [{"id": 1_000 + ord(shard_id), "customer_id": 1_000 + ord(shard_id), "sku": "pen"}])
    found = search(shop, Product.__mapper__, ["pen"], related=["orders"]).found[0].related["orders"]
    assert found.counts == {"a": 1, "b": 1, "c": 1}
    assert found.elsewhere == tuple(shard_id for shard_id in "abc" if shard_id != where)
    assert not found.is_finding


def test_copies_of_a_parent_are_looked_for_beside_the_row_only(shop: Fleet) -> None:
    for shard_id in shop.shards:
        put(shop, shard_id, Currency, [{"code": "EUR"}])
    for number, code in ((1_001, "EUR"), (1_002, "GBP")):
        put(shop, home(shop, number), Customer, [{"id": number, "name": "n", "currency_code": code}])
    rows = search(shop, Customer.__mapper__, [1_001, 1_002, 1], related=["currency"]).found
    assert [row.related["currency"].counts for row in rows] == [{home(shop, 1_001): 1}, {}, {}]
    assert [row.related["currency"].is_missing for row in rows] == [False, True, False]


# -- keys that have several spellings ----------------------------------------------------------------------------------


def test_spellings_that_a_database_holds_equal(databases: Databases, tmp_path: Path) -> None:
    kind = {"sqlite": "sqlite files", "postgresql": "postgresql schemas", "mysql": "mysql databases"}[databases.engine]
    stored = ["apple", "Ähre", "zebra", *(f"sku{number}" for number in range(400))]
    for fleet in open_shop_of(kind, tmp_path):
        assert fleet.placement is not None
        for sku in stored:
            put(fleet, fleet.placement.place(Product.__mapper__, Product(sku=sku)), Product, [{"sku": sku}])
        with counting("products") as sent:
            found = search(fleet, Product.__mapper__, stored)
        assert [row.primary_key[0] for row in found.found] == stored
        assert {row.verdict for row in found.found} == {"ok"}
        assert len(sent) <= 12
        found = search(fleet, Product.__mapper__, ["APPLE", "pear", "apple", "ahre", "ZEBRA"])
        spelt = {row.asked[0]: row.primary_key[0] for row in found.found if row.asked}
        if databases.engine == "mysql":
            assert spelt == {"APPLE": "apple", "apple": "apple", "ahre": "Ähre", "ZEBRA": "zebra"}
            assert found.missing == [("pear",)]
        else:
            assert spelt == {"apple": "apple"}
            assert found.missing == [("APPLE",), ("pear",), ("ahre",), ("ZEBRA",)]


# -- shards that do not answer, and logins that may not do much --------------------------------------------------------


def test_a_shard_that_does_not_answer_is_asked_once(tmp_path: Path) -> None:
    for fleet in open_shop_of("sqlite files", tmp_path):
        for live in fleet.shards.values():
            live.bind.dispose()
        (tmp_path / "b.db").unlink()
        locator = Locator(fleet, Customer.__mapper__, list(fleet.shards.values()), related=["orders"])
        first, second = locator.by_identities([(number,) for number in range(1, 101)], batch=50)
        assert [outcome.shard_id for outcome in first.failed] == ["b"]
        assert second.failed == []
        assert not first.is_complete
        assert not second.is_complete
        assert {row.shard_id for row in [*first.found, *second.found]} == {"a", "c"}
        assert len(first.found) + len(first.missing) == 50
        assert not (tmp_path / "b.db").exists()


@pytest.mark.parametrize("kind", ["postgresql databases", "postgresql schemas"])
def test_a_role_that_may_only_select(kind: str, tmp_path: Path) -> None:
    role = f"reader_{uuid.uuid4().hex[:10]}"
    for fleet in open_shop_of(kind, tmp_path):
        plant(fleet)
        for live in fleet.shards.values():
            schema = live.shard.schema or "public"
            with create_engine(live.shard.url, poolclass=NullPool).begin() as connection:
                if not connection.execute(text("select 1 from pg_roles where rolname = :role"), {"role": role}).all():
                    connection.execute(text(f"create role {role} login"))
                connection.execute(text(f'grant usage on schema "{schema}" to {role}'))
                connection.execute(text(f'grant select on all tables in schema "{schema}" to {role}'))
                database = make_url(live.shard.url).database
                connection.execute(text(f"revoke temporary on database {database} from public"))
        shards = {
            name: {
                "url": make_url(live.shard.url).set(username=role).render_as_string(hide_password=False),
                **({"schema": live.shard.schema} if live.shard.schema else {}),
            }
            for name, live in fleet.shards.items()
        }
        reading = Project(tmp_path, shards, more=RULES)
        try:
            with reading.open() as own:
                for model, keys in TARGETS.values():
                    related = ["lines"] if model is Order else []
                    found = search(own, model.__mapper__, keys, related=related)
                    assert found.failed == []
                    assert found.found
        finally:
            for live in fleet.shards.values():
                with create_engine(live.shard.url, poolclass=NullPool).begin() as connection:
                    connection.execute(text(f"drop owned by {role}"))
            with create_engine(server_url("postgresql"), poolclass=NullPool).begin() as connection:
                connection.execute(text(f"drop role {role}"))
