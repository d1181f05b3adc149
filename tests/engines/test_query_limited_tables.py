"""Tables that belong on some shards only."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

import shardctl
from shardctl.query import run_query

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): ...

class Country(Base):
    __tablename__ = "countries"
    id: Mapped[int] = mapped_column(primary_key=True)

class City(Base):
    __tablename__ = "cities"
    id: Mapped[int] = mapped_column(primary_key=True)
"""

SHARD_MAP = """
models = "limited_models:Base"
[shards.a]
url = "sqlite:///a.db"
[shards.b]
url = "sqlite:///b.db"
[shards.c]
url = "sqlite:///c.db"
[tables.Country]
strategy = "reference"
shards = ["b", "c"]
[tables.City]
strategy = "range"
key = "id"
ranges = [{ below = 10, shard = "a" }, { shard = "b" }]
"""


def test_only_the_shards_that_have_a_table_are_asked(tmp_path: Path):
    (tmp_path / "limited_models.py").write_text(MODELS)
    (tmp_path / "shardctl.toml").write_text(SHARD_MAP)
    with shardctl.open(tmp_path / "shardctl.toml") as fleet:
        for shard_id, shard in fleet.shards.items():
            with shard.bind.begin() as connection:
                for table in fleet.tables_on(shard_id):
                    table.create(connection)
                    connection.execute(text(f"insert into {table.name} values ({ord(shard_id)})"))
        shards = list(fleet.shards.values())
        cities = run_query(fleet, "select count(*) from cities", shards=shards)
        countries = run_query(fleet, "select count(*) from Country", shards=shards)
        one = run_query(fleet, "select 1", shards=shards)

    assert (cities.shard_ids, cities.rows) == (("a", "b"), [(2,)])
    assert (countries.shard_ids, countries.rows) == (("b",), [(1,)])
    assert one.rows == [(1,)]
