"""Tables whose values databases count, in each way that they know."""

from __future__ import annotations

from sqlalchemy import Column, Identity, Integer, MetaData, Sequence, String, Table

metadata = MetaData()
tickets = Table(
    "tickets", metadata, Column("id", Integer, primary_key=True), Column("name", String(9)), sqlite_autoincrement=True
)
plain = Table("plain", metadata, Column("id", Integer, primary_key=True, autoincrement=False))
"""Counted by nobody."""
numbered = Table(
    "Odd names",
    metadata,
    Column("the id", Integer, Identity(), primary_key=True),
    Column("n", Integer, Sequence("model's numbers", optional=False)),
    sqlite_autoincrement=True,
)
pairs = Table("pairs", metadata, Column("a", Integer, primary_key=True), Column("b", Integer, primary_key=True))
