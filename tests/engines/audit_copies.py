"""Tables of which every shard has a copy, with columns of every kind."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Table,
    Uuid,
)
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    pass


things = Table(
    "things",
    Base.metadata,
    Column("code", String(40), primary_key=True),
    Column("note", String(40)),
    Column("ratio", Double),
    Column("rough", Float),
    Column("price", Numeric(20, 6)),
    Column("at", DateTime(timezone=True)),
    Column("seen", DateTime),
    Column("day", Date),
    Column("is_new", Boolean),
    Column("image", LargeBinary),
    Column("data", JSON),
    Column("token", Uuid),
    Column("count", Integer),
)
pairs = Table(
    "pairs",
    Base.metadata,
    Column("a", Integer, primary_key=True, autoincrement=False),
    Column("b", String(9), primary_key=True),
    Column("value", Integer),
)
loose = Table("loose", Base.metadata, Column("word", String(9)), Column("number", Integer))
"""Without a primary key."""
