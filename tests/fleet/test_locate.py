"""What `locate` says where a key has several spellings, and where the shard that would say is not there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, insert, text

import shardctl
from shardctl.errors import ConfigError, UnknownName
from shardctl.fleet import Fleet
from shardctl.rows.identities import Target
from shardctl.rows.locate import Search, locate
from tests.fixtures.shop import Account, Order, Product, create_tables, open_shop


def search(fleet: Fleet, target: Target, *keys: object) -> Search:
    return locate(fleet, target, list(fleet.shards.values()), identities=[(key,) for key in keys])


def test_a_key_is_found_by_another_spelling(tmp_path, databases):
    """MySQL's usual collations ignore case: the row's key is not the one that was asked for."""
    urls = {name: databases.create(name) for name in "abc"}
    with open_shop(tmp_path, urls=urls) as fleet:
        create_tables(fleet)
        with fleet.sessionmaker()() as session:
            session.add(Product(sku="apple"))
            session.commit()
        for target in (Product.__mapper__, Product.__table__):
            found = search(fleet, target, "APPLE", "pear", "apple", "apple")
            keys = [row.primary_key for row in found.found]
            assert keys == [("apple",)] * (2 if databases.engine == "mysql" else 1)
            assert found.missing == ([("pear",)] if databases.engine == "mysql" else [("APPLE",), ("pear",)])


def test_a_shard_that_is_not_there_is_named_and_not_made(fleet, tmp_path):
    with fleet.shard("a").bind.begin() as connection:
        connection.execute(insert(Order.__table__), {"id": 9, "customer_id": 2})
        connection.execute(insert(Account.__table__), {"id": 1, "name": "ann"})
    for shard in fleet.shards.values():
        shard.bind.dispose()
    missing = Path(tmp_path / "b.db")
    missing.unlink()

    order = search(fleet, Order.__mapper__, 9)
    assert [row.shard_id for row in order.found] == ["a"]
    assert order.found[0].reason == (
        f"shard `b` cannot be asked for the Customer that Order follows: there is no file `{missing}`"
    )
    account = search(fleet, Account.__mapper__, 1)
    assert account.found[0].reason == (
        f"the directory `account_shards` on shard `b` cannot be read: there is no file `{missing}`"
    )
    assert [outcome.shard_id for outcome in [*order.failed, *account.failed]] == ["b", "b"]
    assert not missing.exists()


def test_a_shard_that_is_offline_is_not_asked_for_parents(tmp_path):
    with open_shop(tmp_path) as fleet:
        create_tables(fleet)
    with open_shop(tmp_path, states={"b": "offline"}) as fleet:
        with fleet.shard("a").bind.begin() as connection:
            connection.execute(insert(Order.__table__), {"id": 9, "customer_id": 2})
        sent: list[str] = []
        event.listen(fleet.shard("b").engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
        asked = [fleet.shard("a"), fleet.shard("c")]
        found = locate(fleet, Order.__mapper__, asked, identities=[(9,)])
    assert found.found[0].reason == "shard `b` cannot be asked for the Customer that Order follows: it is offline"
    assert sent == []


# -- keys that each shard counts by itself -----------------------------------------------------------------------------

LIBRARY = """
from sqlalchemy import Column, ForeignKey, String, Table, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship
from sqlalchemy.ext.declarative import ConcreteBase

class Base(DeclarativeBase):
    pass

tags = Table("book_tags", Base.metadata,
    Column("book_id", ForeignKey("books.id"), primary_key=True),
    Column("tag_id", ForeignKey("tags.id"), primary_key=True))

class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(String(20))

class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column(String(20))
    pages: Mapped[list["Page"]] = relationship(back_populates="book")
    blank: Mapped[list["Page"]] = relationship(
        primaryjoin="and_(Book.id == Page.book_id, Page.text == '')", viewonly=True)
    odd: Mapped[list["Page"]] = relationship(
        primaryjoin="and_(Book.id == foreign(Page.book_id), Book.place != Page.text)", viewonly=True)
    tags: Mapped[list[Tag]] = relationship(secondary=tags)

class Page(Base):
    __tablename__ = "pages"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("books.id"))
    text: Mapped[str] = mapped_column(String(20))
    book: Mapped[Book] = relationship(back_populates="pages")

class Shelf(Base):
    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column(String(20))

Shelf.books = column_property(select(func.count(Book.id)).where(Book.place == Shelf.place).scalar_subquery())

class Vehicle(ConcreteBase, Base):
    __tablename__ = "vehicles"
    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_identity": "vehicle", "concrete": True}

class Bus(Vehicle):
    __tablename__ = "buses"
    id: Mapped[int] = mapped_column(primary_key=True)
    place: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_identity": "bus", "concrete": True}

class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    place: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}

class Reader(Person):
    __mapper_args__ = {"polymorphic_identity": "reader"}

plain = Table("plain", Base.metadata, Column("word", String(20)))

class Note(Base):
    __tablename__ = "notes"
    __table_args__ = {"info": {"shards": ["south"]}}
    id: Mapped[int] = mapped_column(primary_key=True)
"""
RULES = 'models = "the_library:Base"\n' + "".join(
    f'[tables.{name}]\nstrategy = "lookup"\nkey = "place"\nshards = {{ N = "north", S = "south" }}\n'
    for name in ("Book", "Shelf", "Vehicle", "Bus", "Person")
)
RULES += '[tables.Page]\nstrategy = "follow"\nparent = "book"\n[tables.Tag]\nstrategy = "reference"\n'
ROWS = {
    "north": [
        "insert into books values (1, 'N'), (2, 'N'), (3, 'N')",
        "insert into pages values (1, 1, ''), (2, 1, 'x'), (3, 2, ''), (9, 7, 'lost')",
        "insert into tags values (1, 'good'), (2, 'bad')",
        "insert into book_tags values (1, 1), (1, 2), (3, 2)",
        "insert into shelves values (1, 'N')",
        "insert into vehicles values (1, 'N')",
        "insert into buses values (2, 'S')",
        "insert into people values (1, 'person', 'N'), (2, 'reader', 'N')",
        "insert into plain values ('x')",
    ],
    "south": [
        "insert into books values (1, 'S'), (7, 'S')",
        "insert into pages values (1, 1, ''), (2, 3, 'x'), (3, 7, '')",
        "insert into tags values (1, 'good'), (2, 'bad')",
        "insert into book_tags values (1, 1)",
        "insert into notes values (1)",
        "insert into plain values ('x'), ('x'), ('y')",
    ],
}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Books on two shards that count their keys by themselves; a page is on the other shard than its book."""
    (tmp_path / "the_library.py").write_text(LIBRARY)
    shards = "".join(f"[shards.{name}]\nurl = 'sqlite:///{name}.db'\n" for name in ROWS)
    (tmp_path / "shardctl.toml").write_text(RULES + shards)
    monkeypatch.syspath_prepend(str(tmp_path))
    with shardctl.open(tmp_path / "shardctl.toml") as fleet:
        create_tables(fleet)
        for shard_id, statements in ROWS.items():
            with fleet.shard(shard_id).bind.begin() as connection:
                for statement in statements:
                    connection.execute(text(statement))
        yield fleet
    sys.modules.pop("the_library", None)


def related_of(fleet: Fleet, name: str, relationship: str, *keys: int) -> list[tuple[int, str, str, bool]]:
    target = fleet.models.find(name)
    found = locate(
        fleet,
        target,
        list(fleet.shards.values()),
        identities=[(key,) for key in keys],
        related=[relationship],
    )
    return [
        (
            row.primary_key[0],
            row.shard_id,
            " ".join(
                f"{shard_id}:{number}{'!' if shard_id in row.related[relationship].elsewhere else ''}"
                for shard_id, number in sorted(row.related[relationship].counts.items())
            ),
            row.related[relationship].is_finding,
        )
        for row in found.found
    ]


def test_keys_of_one_shard_are_no_duplicates(library):
    found = search(library, library.models.find("Book"), 1)
    assert [(row.shard_id, row.verdict) for row in found.found] == [("north", "ok"), ("south", "ok")]


def test_children_belong_to_the_row_beside_them(library):
    assert related_of(library, "Book", "pages", 1, 2, 3, 7) == [
        (1, "north", "north:2", False),
        (1, "south", "south:1", False),
        (2, "north", "north:1", False),
        (3, "north", "south:1!", True),  # there is no book 3 on south
        (7, "south", "north:1! south:1", True),
    ]
    by_place = locate(
        library,
        library.models.find("Book"),
        list(library.shards.values()),
        conditions={"place": "S"},
        related=["pages"],
    )
    assert [(row.primary_key, dict(row.related["pages"].counts)) for row in by_place.found] == [
        ((1,), {"south": 1}),
        ((7,), {"north": 1, "south": 1}),
    ]


def test_parents_are_the_ones_beside(library):
    assert related_of(library, "Page", "book", 1, 2, 9) == [
        (1, "north", "north:1", False),
        (1, "south", "south:1", False),
        (2, "north", "north:1", False),
        (2, "south", "north:1!", True),
        (9, "north", "south:1!", True),
    ]


def test_conditions_of_a_relationship_count(library):
    assert related_of(library, "Book", "blank", 1, 2) == [
        (1, "north", "north:1", False),
        (1, "south", "south:1", False),
        (2, "north", "north:1", False),
    ]
    with pytest.raises(ConfigError, match=r"Book\.odd is joined by more than a key"):
        related_of(library, "Book", "odd", 1)


def test_many_to_many(library):
    assert related_of(library, "Book", "tags", 1, 2, 3) == [
        (1, "north", "north:2", False),
        (1, "south", "south:1", False),
        (2, "north", "", False),
        (3, "north", "north:1", False),
    ]


def test_relationships_that_are_not_there(library):
    with pytest.raises(UnknownName) as unknown:
        related_of(library, "Book", "pagse", 1)
    assert unknown.value.hint == "did you mean `pages`?"
    with pytest.raises(ConfigError, match=r"`--with pages`: book_tags has no class, and so no relationships"):
        related_of(library, "book_tags", "pages", 1)


def test_classes_that_only_a_session_can_load(library):
    shelves = search(library, library.models.find("Shelf"), 1, 2)
    assert [(row.shard_id, row.verdict, row.values["books"]) for row in shelves.found] == [("north", "ok", 3)]
    vehicles = search(library, library.models.find("Vehicle"), 1, 2)
    assert [(row.primary_key, row.verdict) for row in vehicles.found] == [((1,), "ok"), ((2,), "misplaced")]


def test_rows_of_one_class_in_a_table_of_several(library):
    assert search(library, library.models.find("Person"), 1, 2).missing == []
    assert search(library, library.models.find("Reader"), 1, 2).missing == [(1,)]


def test_tables_that_some_shards_have(library):
    for name in ("Note", "notes"):
        found = search(library, library.models.find(name), 1, 2)
        assert [row.shard_id for row in found.found] == ["south"]
        assert (found.missing, found.failed) == ([(2,)], [])


def test_a_table_without_a_primary_key(library):
    plain, shards = library.models.find("plain"), list(library.shards.values())
    found = locate(library, plain, shards, conditions={"word": "x"})
    assert [(row.primary_key, row.shard_id, row.verdict) for row in found.found] == [
        ((), "north", "unknown"),
        ((), "south", "unknown"),
        ((), "south", "unknown"),
    ]
    with pytest.raises(ConfigError, match="plain has no primary key"):
        locate(library, plain, shards, identities=[("x",)])


# -- applications ------------------------------------------------------------------------------------------------------

APP = """
from sqlalchemy import text

class Street(Base):
    __tablename__ = "streets"
    id: Mapped[int] = mapped_column(primary_key=True)
    city_id: Mapped[int] = mapped_column(ForeignKey("cities.id"))
    city: Mapped[City] = relationship(back_populates="streets")

City.streets = relationship(Street, back_populates="city")

def by_identity(mapper, key, *, lazy_loaded_from=None, **kw):
    return [lazy_loaded_from.identity_token] if lazy_loaded_from else list(shards)

def by_statement(context):
    return [context.lazy_loaded_from.identity_token] if context.lazy_loaded_from else list(shards)

made = sessionmaker(
    class_=ShardedSession,
    shards=shards,
    shard_chooser=lambda mapper, instance, clause=None: getattr(instance, "city", instance).side,
    identity_chooser=by_identity,
    execute_chooser=by_statement,
)
"""


def test_the_parents_that_a_chooser_looks_at_are_loaded_together(open_app):
    fleet = open_app(APP)
    for shard_id, shard in fleet.shards.items():
        for table in fleet.tables_on(shard_id):
            table.create(shard.bind)
        with shard.bind.begin() as connection:
            for number in range(1, 201):
                side = shard_id if number != 7 else "east"
                connection.execute(text("insert into cities values (:id, :side)"), {"id": number, "side": side})
                connection.execute(text("insert into streets values (:id, :id)"), {"id": number})
    sent: list[str] = []
    for shard in fleet.shards.values():
        event.listen(shard.bind, "before_cursor_execute", lambda *args: sent.append(args[2]))

    found = search(fleet, fleet.models.find("Street"), *range(1, 202))

    assert len(sent) == 4
    assert len(found.found) == 400
    assert found.missing == [(201,)]
    assert [(row.primary_key, row.shard_id) for row in found.found if row.verdict != "ok"] == [((7,), "west")]
    by_city = locate(
        fleet, fleet.models.find("City"), list(fleet.shards.values()), identities=[(1,)], related=["streets"]
    )
    assert [dict(row.related["streets"].counts) for row in by_city.found] == [{"east": 1}, {"west": 1}]


def test_a_parent_that_cannot_be_loaded_is_the_choosers_own_trouble(open_app):
    fleet = open_app(APP)
    for shard in fleet.shards.values():
        fleet.models.tables["streets"].create(shard.bind)
        with shard.bind.begin() as connection:
            connection.execute(text("insert into streets values (1, 1), (2, 1)"))
    found = search(fleet, fleet.models.find("Street"), 1, 2)
    assert [row.verdict for row in found.found] == ["unknown"] * 4
    assert all("shard_chooser raised OperationalError" in row.reason for row in found.found)
