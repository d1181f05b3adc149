"""A kennel on three shards, with every way in which one row leads to another; and faults planted by SQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    make_url,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, foreign, mapped_column, relationship

from shardctl.fleet import Fleet, LiveShard, connect
from shardctl.rows.audit.finding import Finding, Scope, Skipped, Trouble
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, create_places, place_shards

SHARDS = ("a", "b", "c")
RULES = """
models = "tests.engines.audit_data:Base"

[tables.Owner]
strategy = "range"
key = "id"
ranges = [{ below = 10, shard = "a" }, { below = 20, shard = "b" }, { shard = "c" }]

[tables.Pet]
strategy = "follow"
parent = "owner"

[tables.Badge]
strategy = "follow"
parent = "owner"

[tables.Invoice]
strategy = "range"
key = "owner_id"
ranges = [{ below = 10, shard = "a" }, { below = 20, shard = "b" }, { shard = "c" }]

[tables.Cell]
strategy = "hash"
key = ["tenant", "number"]
shards = ["a", "b", "c"]

[tables.Note]
strategy = "follow"
parent = "cell"

[tables.Visit]
strategy = "hash"
key = "id"
shards = ["a", "b", "c"]

[tables.Team]
strategy = "hash"
key = "id"
shards = ["a", "b", "c"]

[tables.Player]
strategy = "follow"
parent = "team"

[tables.Animal]
strategy = "hash"
key = "id"
shards = ["a", "b", "c"]

[tables.Tag]
strategy = "reference"
"""


class Base(DeclarativeBase):
    type_annotation_map = {str: String(40)}  # noqa: RUF012  # SQLAlchemy's own form


class Owner(Base):
    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    code: Mapped[str | None] = mapped_column(unique=True)


class Pet(Base):
    __tablename__ = "pets"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id"))
    mother_id: Mapped[int | None] = mapped_column(ForeignKey("pets.id"))
    owner: Mapped[Owner] = relationship()
    mother: Mapped[Pet | None] = relationship(remote_side=id)
    tags: Mapped[list[Tag]] = relationship(secondary=lambda: pet_tags)


class Tag(Base):
    __tablename__ = "tags"
    name: Mapped[str] = mapped_column(primary_key=True)


pet_tags = Table(
    "pet_tags",
    Base.metadata,
    Column("pet_id", ForeignKey("pets.id"), primary_key=True),
    Column("tag", ForeignKey("tags.name"), primary_key=True),
)
marks = Table("marks", Base.metadata, Column("pet_id", ForeignKey("pets.id")), Column("mark", Integer))
"""Without a primary key."""


class Badge(Base):
    """Leads to a unique column that is no primary key."""

    __tablename__ = "badges"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str | None] = mapped_column(ForeignKey("owners.code"))
    owner: Mapped[Owner | None] = relationship()


class Invoice(Base):
    """Beside its owner, because both are placed by the owner's id."""

    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id"))


class Cell(Base):
    __tablename__ = "cells"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str | None]
    number: Mapped[int | None]
    cell: Mapped[Cell | None] = relationship()
    __table_args__ = (ForeignKeyConstraint(["tenant", "number"], ["cells.tenant", "cells.number"]),)


class Visit(Base):
    """Anywhere, whoever the owner is; no database knows of the link."""

    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    code: Mapped[str | None]
    owner: Mapped[Owner | None] = relationship(primaryjoin=lambda: foreign(Visit.code) == Owner.code)


class Team(Base):
    __tablename__ = "teams"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    captain_id: Mapped[int | None] = mapped_column(ForeignKey("players.id", use_alter=True, name="fk_captain"))


class Player(Base):
    __tablename__ = "players"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id"))
    team: Mapped[Team] = relationship(foreign_keys=team_id)


class Animal(Base):
    __tablename__ = "animals"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Dog(Animal):
    __tablename__ = "dogs"
    id: Mapped[int] = mapped_column(ForeignKey("animals.id"), primary_key=True, autoincrement=False)
    tricks: Mapped[int]
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


ROWS = {
    "a": [
        "insert into owners (id, code) values (1, 'ann'), (2, null)",
        "insert into pets (id, owner_id, mother_id) values (1, 1, null), (2, 1, 1), (3, 2, 3)",
        "insert into tags (name) values ('big'), ('small')",
        "insert into pet_tags (pet_id, tag) values (1, 'big'), (2, 'small')",
        "insert into marks (pet_id, mark) values (1, 1), (1, 1), (null, 2)",
        "insert into badges (id, code) values (1, 'ann'), (2, null)",
        "insert into invoices (id, owner_id) values (1, 1)",
        "insert into cells (tenant, number) values ('t', 1)",
        "insert into notes (id, tenant, number) values (1, 't', 1), (2, 't', null), (3, null, 9)",
        "insert into visits (id, code) values (1, 'bob'), (2, 'ann'), (3, null)",
        "insert into animals (id, kind) values (1, 'dog'), (2, 'animal')",
        "insert into dogs (id, tricks) values (1, 5)",
    ],
    "b": [
        "insert into owners (id, code) values (10, 'bob')",
        "insert into pets (id, owner_id, mother_id) values (1, 10, null)",
        "insert into tags (name) values ('big'), ('small')",
        "insert into badges (id, code) values (1, 'bob')",
        "insert into teams (id, captain_id) values (1, null)",
        "insert into players (id, team_id) values (1, 1)",
        "update teams set captain_id = 1",
    ],
    "c": ["insert into tags (name) values ('big'), ('small')"],
}


@contextmanager
def open_fleet(kind: str, databases: Databases, folder: Path, rules: str = RULES) -> Iterator[Fleet]:
    """Open the kennel on new shards of one kind, with the tables of their models, and no rows."""
    project = Project(folder, more=rules)
    place_shards(project, kind, databases, list(SHARDS))
    with project.open() as fleet:
        create_places(fleet, databases)
        create_tables(fleet)
        yield fleet


def plant(fleet: Fleet, shard_id: str, *statements: str) -> None:
    """Run SQL on a shard, whatever its foreign keys say."""
    unchecked = {"postgresql": "set session_replication_role = replica", "mysql": "set foreign_key_checks = 0"}
    shard = fleet.shard(shard_id)
    with shard.connect(read_only=False) as connection:
        if shard.backend.name in unchecked:
            connection.exec_driver_sql(unchecked[shard.backend.name])
        for statement in statements:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        connection.commit()


def fill(fleet: Fleet) -> None:
    for shard_id, statements in ROWS.items():
        plant(fleet, shard_id, *statements)


def scope_of(fleet: Fleet, **options: Any) -> Scope:
    """Return what an audit of everything looks at."""
    mapped = {mapper.local_table for mapper in fleet.models.mappers.values()}
    bare = [table for table in fleet.models.tables.values() if table not in mapped]
    targets = options.pop("targets", [*fleet.models.mappers.values(), *bare])
    shards = [shard for shard in fleet.shards.values() if not shard.is_offline]
    return Scope(fleet, targets, options.pop("shards", shards), **options)


def faults(found: Iterable[Finding | Trouble | Skipped]) -> set[tuple[Any, ...]]:
    """Return findings by kind, name, shards, count and samples; anything else is unexpected."""
    listed = list(found)
    others = [entry for entry in listed if not isinstance(entry, Finding)]
    assert others == []
    seen = [(entry.kind, entry.name, " ".join(entry.shards), entry.count, entry.samples) for entry in listed]
    assert len(set(seen)) == len(seen)
    return set(seen)


@contextmanager
def reader(fleet: Fleet, *, sequences: bool = False) -> Iterator[Fleet]:
    """Open a fleet again by a login that may only SELECT."""
    name = f"u_{uuid.uuid4().hex[:10]}"
    live = list(fleet.shards.values())
    is_mysql = live[0].backend.name == "mysql"
    quoted = f"'{name}'@'%'" if is_mysql else name
    _run(live[0], f"create user {quoted} {'identified by' if is_mysql else 'login password'} 'pw'")
    for shard in live:
        if is_mysql:
            _run(shard, f"grant select on `{shard.engine.url.database}`.* to {quoted}")
            continue
        schema = shard.shard.schema or "public"
        _run(shard, f"grant usage on schema {schema} to {name}")
        _run(shard, f"grant select on all tables in schema {schema} to {name}")
        _run(shard, f"revoke temporary on database {shard.engine.url.database} from public")
        if sequences:
            _run(shard, f"grant select on all sequences in schema {schema} to {name}")
    try:
        shards = {}
        for shard_id, shard in fleet.shards.items():
            url = make_url(shard.shard.url).set(username=name, password="pw")
            shards[shard_id] = replace(shard.shard, url=url.render_as_string(hide_password=False))
        with connect(replace(fleet.shard_map, shards=shards)) as limited:
            yield limited
    finally:
        for shard in live if not is_mysql else ():
            _run(shard, f"drop owned by {name}")
        _run(live[0], f"drop user {quoted}")


def _run(shard: LiveShard, sql: str) -> None:
    with shard.engine.begin() as connection:
        connection.execute(text(sql))


@contextmanager
def open_mixed(folder: Path, urls: Mapping[str, str], rules: str = RULES) -> Iterator[Fleet]:
    """Open the kennel on shards of several engines, with the tables of their models, and no rows."""
    project = Project(folder, more=rules, shards={name: {"url": url} for name, url in urls.items()})
    with project.open() as fleet:
        for shard in fleet.shards.values():
            if shard.backend.name == "sqlite":
                Path(str(shard.engine.url.database)).touch()
        create_tables(fleet)
        yield fleet


def create_tables(fleet: Fleet) -> None:
    for shard_id, shard in fleet.shards.items():
        with shard.connect(read_only=False) as connection:
            fleet.models.metadatas[0].create_all(connection, tables=list(fleet.tables_on(shard_id)))
            connection.commit()
