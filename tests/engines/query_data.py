"""Rows for comparing shards with one database: mixed case, accents, NULLs, ties, decimals, floats, dates, booleans."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    NullPool,
    Numeric,
    String,
    Table,
    create_engine,
)
from sqlalchemy.orm import registry, relationship

from shardctl.fleet.engines import open_shards
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.fleet.models import collect
from shardctl.topology.buckets import spread_buckets
from shardctl.topology.model import FollowingTable, ReferenceTable, Shard, ShardedTable, ShardMap
from shardctl.topology.strategies import Hash
from tests.fixtures.engines import Databases

SHARDS = ("asia", "europe", "oceania")
CITIES = ("Tokyo", "tokyo", "Ōsaka", "Osaka", "élan", "Elan", "zürich", "Zurich", "_x", "a%b", "it's", "a\\b", "", "ß")

mapping = registry(metadata=MetaData())
locations = Table(
    "weather_locations",
    mapping.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("city", String(30)),
    Column("country", String(2)),
    Column("height", Integer),
    Column("area", Numeric(10, 2)),
    Column("ratio", Float(53)),
    Column("founded", Date),
    Column("seen", DateTime),
    Column("capital", Boolean),
    Column("raw", LargeBinary(8)),
)
reports = Table(
    "reports",
    mapping.metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("location_id", Integer),
    Column("temperature", Numeric(6, 3)),
    Column("rain", Integer),
)
countries = Table(
    "countries",
    mapping.metadata,
    Column("code", String(2), primary_key=True),
    Column("name", String(20)),
)


class WeatherLocation: ...


class Report: ...


class Country: ...


mapping.map_imperatively(WeatherLocation, locations)
mapping.map_imperatively(
    Report,
    reports,
    properties={
        "location": relationship(
            WeatherLocation,
            primaryjoin=reports.c.location_id == locations.c.id,
            foreign_keys=reports.c.location_id,
        )
    },
)
mapping.map_imperatively(Country, countries)
STRATEGY = Hash(spread_buckets(SHARDS))
TABLES = {
    "WeatherLocation": ShardedTable("WeatherLocation", STRATEGY, ("id",)),
    "Report": FollowingTable("Report", "location"),
    "Country": ReferenceTable("Country", SHARDS),
}


def rows(seed: int = 1, count: int = 60) -> dict[Table, list[dict[str, Any]]]:
    """Make rows; the same for the same seed."""
    source = random.Random(seed)

    def maybe(value: Any) -> Any:
        return None if source.random() < 0.15 else value

    places = [
        {
            "id": i,
            "city": maybe(source.choice(CITIES)),
            "country": maybe(source.choice(["JP", "FR", "NZ", "jp"])),
            "height": maybe(source.choice([0, 5, 5, -3, 2000])),
            "area": maybe(Decimal(source.randrange(-5000, 90000)) / 100),
            "ratio": maybe(source.choice([0.5, 0.25, 1.0, 1e10, -2.5, 0.125])),
            "founded": maybe(datetime.date(1900 + source.randrange(5), source.randrange(1, 13), 1)),
            "seen": maybe(datetime.datetime(2024, 1, source.randrange(1, 28), 12, 30, source.randrange(60))),
            "capital": maybe(source.random() < 0.5),
            "raw": maybe(source.choice([b"\x00", b"a", b"A", b"\xff"])),
        }
        for i in range(1, count + 1)
    ]
    measured = [
        {
            "id": i,
            "location_id": source.randrange(1, count + 5),
            "temperature": maybe(Decimal(source.randrange(-20000, 40000)) / 1000),
            "rain": maybe(source.randrange(0, 9)),
        }
        for i in range(1, count * 2)
    ]
    named = [{"code": "JP", "name": "Japan"}, {"code": "FR", "name": "France"}, {"code": "NZ", "name": "Aotearoa"}]
    return {locations: places, reports: measured, countries: named}


def shard_of(table: Table, row: dict[str, Any]) -> str | None:
    """Return where a row goes; None: everywhere."""
    if table is countries:
        return None
    key = row["id"] if table is locations else row["location_id"]
    return STRATEGY.place((key,))


@contextmanager
def both(
    databases: Databases, data: dict[Table, list[dict[str, Any]]], *, has_place: bool = True
) -> Iterator[tuple[Fleet, LiveShard]]:
    """Put rows in one database, and over three shards; give a fleet of the shards and the one database as a shard."""
    shards = {name: Shard(name, databases.create(name)) for name in SHARDS}
    gather = None if databases.engine == "sqlite" or not has_place else databases.create("gather")
    shard_map = ShardMap(shards=shards, tables=TABLES, gather=gather)
    one_map = ShardMap(shards={"one": Shard("one", databases.create("one"))})
    live, one = open_shards(shard_map), open_shards(one_map)["one"]
    for shard in (*live.values(), one):
        engine = create_engine(shard.engine.url, poolclass=NullPool)
        with engine.begin() as connection:
            mapping.metadata.create_all(connection)
            for table, entries in data.items():
                own = [row for row in entries if shard is one or shard_of(table, row) in {None, shard.shard_id}]
                if own:
                    connection.execute(table.insert(), own)
        engine.dispose()
    try:
        yield Fleet(shard_map, live, collect([mapping])), one
    finally:
        for shard in (*live.values(), one):
            shard.bind.dispose()
            shard.engine.dispose()
