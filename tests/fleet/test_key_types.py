"""Sharding keys of types that store something else than what is set, and of types that databases compare loosely."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Enum, Integer, String, Uuid, insert, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import Column
from sqlalchemy.types import NCHAR

import shardctl
from shardctl.fleet import Fleet
from shardctl.fleet.rules import is_compared_exactly, is_ordered_exactly
from tests.fixtures.key_types import Continent, Debt, Item, Lower, Place, Tag
from tests.fixtures.shop import ALL, asked, create_tables

RULES = """
models = "tests.fixtures.key_types:Base"
tables.Tag = { strategy = "hash", key = "name", shards = ["a", "b", "c"] }
tables.Item = { strategy = "hash", key = "id", shards = ["a", "b", "c"] }
tables.Debt = { strategy = "range", key = "amount", ranges = [{ below = 0, shard = "a" }, { shard = "b" }] }
tables.Place = { strategy = "lookup", key = "continent", shards = { Asia = "a", Europe = "b" } }
shards = { a.url = "sqlite:///a.db", b.url = "sqlite:///b.db", c.url = "sqlite:///c.db" }
"""


@pytest.fixture
def fleet(tmp_path: Any) -> Iterator[Fleet]:
    (tmp_path / "shardctl.toml").write_text(RULES)
    with shardctl.open(tmp_path / "shardctl.toml") as opened:
        create_tables(opened)
        yield opened


def test_a_key_is_placed_by_what_is_stored(session):
    names = [f"Tag{number}" for number in range(20)]
    session.add_all([Tag(name=name) for name in names])
    session.commit()
    session.expunge_all()
    for name in names:
        for spelling in (name, name.lower(), name.upper()):
            assert len(asked(session, select(Tag).where(Tag.name == spelling))) == 1
            assert session.scalars(select(Tag).where(Tag.name == spelling)).one().name == name.lower()
            assert session.get(Tag, spelling) is not None
            session.expunge_all()


def test_an_insert_is_placed_by_what_is_stored(session):
    for number in range(9):
        session.execute(insert(Tag.__table__), {"name": f"TAG{number}"})
        assert session.scalars(select(Tag).where(Tag.name == f"tag{number}")).one()


def test_another_spelling_of_a_key_finds_it(session):
    key = uuid.UUID("0123abcd-0000-4000-8000-00000000abcd")
    session.add(Item(id=key))
    session.commit()
    for spelling in (key, str(key), str(key).upper(), key.hex):
        assert len(asked(session, select(Item).where(Item.id == spelling))) == 1
        assert session.scalars(select(Item).where(Item.id == spelling)).one().id == key


def test_what_is_stored_in_place_of_values_may_have_another_order(session):
    session.add_all([Debt(amount=-5), Debt(amount=5)])
    session.commit()
    assert asked(session, select(Debt).where(Debt.amount == 5)) == "b"
    assert {debt.amount for debt in session.scalars(select(Debt).where(Debt.amount < -1))} == {5}


def test_an_enumeration_in_a_text_column_is_its_text(session):
    session.add(Place(continent=Continent.ASIA))
    session.commit()
    assert asked(session, select(Place).where(Place.continent == "Asia")) == "a"
    assert session.scalars(select(Place).where(Place.continent == "Asia")).one()
    assert asked(session, select(Place).where(Place.continent == Continent.EUROPE)) == "b"


def test_a_key_of_another_type_is_looked_for_everywhere(session):
    assert list(session.identity_chooser(Tag.__mapper__, (5,))) == ALL.split()  # which Lower refuses


POSTGRESQL, MYSQL, SQLITE = postgresql.dialect(), mysql.dialect(), sqlite.dialect()


@pytest.mark.parametrize(
    ("type_", "dialect", "is_exact", "is_ordered"),
    [
        (String(), SQLITE, True, True),
        (String(collation="NOCASE"), SQLITE, False, False),
        (String(), POSTGRESQL, True, False),
        (String(collation="C"), POSTGRESQL, True, True),
        (postgresql.CITEXT(), POSTGRESQL, False, False),
        (postgresql.CITEXT(collation="C"), POSTGRESQL, False, False),
        (String().with_variant(postgresql.CITEXT(), "postgresql"), POSTGRESQL, False, False),
        (String().with_variant(postgresql.CITEXT(), "postgresql"), SQLITE, True, True),
        (postgresql.INET(), POSTGRESQL, False, False),
        (NCHAR(5), POSTGRESQL, False, False),
        (Uuid(as_uuid=False), POSTGRESQL, False, False),
        (Uuid(), POSTGRESQL, True, True),
        (Integer(), MYSQL, True, True),
        (String(40), MYSQL, False, False),
        (String(40, collation="utf8mb4_bin"), MYSQL, False, False),  # 'a' = 'a '
        (String(40, collation="utf8mb4_nopad_bin"), MYSQL, True, True),
        (String(40, collation="utf8mb4_0900_bin"), MYSQL, True, True),
        (Enum("Asia", "Europe"), MYSQL, False, False),
        (Enum(Continent), MYSQL, True, True),
        (Lower(), SQLITE, True, False),
        (Lower(), MYSQL, False, False),
    ],
)
def test_how_databases_compare(type_, dialect, is_exact, is_ordered):
    column: Column[Any] = Column("key", type_)
    assert is_compared_exactly(column, [dialect]) is is_exact
    assert is_ordered_exactly(column, [dialect]) is is_ordered
