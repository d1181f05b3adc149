"""Tables with sharding keys of several kinds, and rows where the strategies place them: for asking only some shards."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, Date, ForeignKey, Integer, NullPool, String, Table, create_engine, event
from sqlalchemy.orm import DeclarativeBase, relationship

from shardctl.fleet.engines import open_shards
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.fleet.models import collect
from shardctl.topology.buckets import spread_buckets
from shardctl.topology.model import FollowingTable, ReferenceTable, Shard, ShardedTable, ShardMap
from shardctl.topology.strategies import Hash, Lookup, Range
from tests.fixtures.engines import Databases

SHARDS = ("a", "b", "c", "d")
REGIONS = {"Asia": "a", "asia": "b", "Europe": "c", "Ásia": "d", "Jena": "b", "iena": "c"}
HASH = Hash(spread_buckets(SHARDS))
DAYS = Range((datetime.date(2024, 3, 1), datetime.date(2024, 6, 1), datetime.date(2024, 9, 1)), SHARDS)


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id = Column(Integer, primary_key=True, autoincrement=False)
    name = Column(String(20))
    tier = Column(Integer)


class Item(Base):
    __tablename__ = "items"
    id = Column(Integer, primary_key=True, autoincrement=False)
    account_id = Column(ForeignKey("accounts.id"))
    cost = Column(Integer)
    account = relationship(Account)


class Shop(Base):
    __tablename__ = "shops"
    id = Column(Integer, primary_key=True, autoincrement=False)
    region = Column(String(20), nullable=False)
    size = Column(Integer)


class Sale(Base):
    __tablename__ = "sales"
    id = Column(Integer, primary_key=True, autoincrement=False)
    shop_id = Column(ForeignKey("shops.id"))
    amount = Column(Integer)
    shop = relationship(Shop)


class Visit(Base):
    __tablename__ = "visits"
    id = Column(Integer, primary_key=True, autoincrement=False)
    day = Column(Date)
    count = Column(Integer)


class Seat(Base):
    __tablename__ = "seats"
    number = Column("seat_no", Integer, primary_key=True, autoincrement=False)
    code = Column(String(5), primary_key=True)
    taken = Column(Integer)


class Country(Base):
    __tablename__ = "countries"
    id = Column(Integer, primary_key=True, autoincrement=False)
    name = Column(String(20))


RULES = {
    "Account": ShardedTable("Account", HASH, ("id",)),
    "Item": FollowingTable("Item", "account"),
    "Shop": ShardedTable("Shop", Lookup(REGIONS), ("region",)),
    "Sale": FollowingTable("Sale", "shop"),
    "Visit": ShardedTable("Visit", DAYS, ("day",)),
    "Seat": ShardedTable("Seat", HASH, ("number", "code")),
    "Country": ReferenceTable("Country", SHARDS),
}


def placed_rows(seed: int = 1, count: int = 40) -> list[tuple[Table, dict[str, Any], str | None]]:
    """Make rows, each with its shard, or None for every shard."""
    source = random.Random(seed)

    def maybe(value: Any) -> Any:
        return None if source.random() < 0.1 else value

    found: list[tuple[Any, dict[str, Any], str | None]] = []
    regions = [source.choice(list(REGIONS)) for _ in range(count)]
    for i in range(1, count + 1):
        name, tier = maybe(source.choice(["x", "X", "yy", "Z"])), maybe(source.randrange(6))
        found.append((Account, {"id": i, "name": name, "tier": tier}, HASH.place((i,))))
        found.append((Shop, {"id": i, "region": regions[i - 1], "size": maybe(i % 7)}, REGIONS[regions[i - 1]]))
        day = datetime.date(2024, 1, 1) + datetime.timedelta(days=source.randrange(366))
        found.append((Visit, {"id": i, "day": day, "count": maybe(source.randrange(9))}, DAYS.place((day,))))
        key = (i % 8, f"s{i}")
        found.append((Seat, {"seat_no": key[0], "code": key[1], "taken": maybe(i % 2)}, HASH.place(key)))
    for i in range(1, count * 2):
        account, shop = source.randrange(1, count + 1), source.randrange(1, count + 1)
        found.append((Item, {"id": i, "account_id": account, "cost": maybe(i % 11)}, HASH.place((account,))))
        found.append((Sale, {"id": i, "shop_id": shop, "amount": maybe(i % 5)}, REGIONS[regions[shop - 1]]))
    found += [(Country, {"id": i, "name": f"c{i % 3}"}, None) for i in range(6)]
    return [(model.__table__, row, shard_id) for model, row, shard_id in found]


@contextmanager
def keyed(databases: Databases, seed: int = 1) -> Iterator[tuple[Fleet, LiveShard]]:
    """Put rows over four shards, and in one database; give the fleet, and the one database as a shard."""
    shards = {name: Shard(name, databases.create(name)) for name in SHARDS}
    gather = None if databases.engine == "sqlite" else databases.create("gather")
    shard_map = ShardMap(shards=shards, tables=RULES, gather=gather)
    live = open_shards(shard_map)
    one = open_shards(ShardMap(shards={"one": Shard("one", databases.create("one"))}))["one"]
    for shard in (*live.values(), one):
        engine = create_engine(shard.engine.url, poolclass=NullPool)
        with engine.begin() as connection:
            Base.metadata.create_all(connection)
            for table, row, shard_id in placed_rows(seed):
                if shard is one or shard_id in (None, shard.shard_id):
                    connection.execute(table.insert(), row)
        engine.dispose()
    try:
        yield Fleet(shard_map, live, collect([Base.registry])), one
    finally:
        for shard in (*live.values(), one):
            shard.bind.dispose()
            shard.engine.dispose()


@contextmanager
def connected(fleet: Fleet) -> Iterator[set[str]]:
    """Collect the shards to which a connection is opened meanwhile."""
    fleet.close()  # what was kept would not be opened
    found: set[str] = set()

    def listener(shard_id: str) -> Any:
        return lambda _: found.add(shard_id)

    listeners = [(shard.engine, listener(shard_id)) for shard_id, shard in fleet.shards.items()]
    for engine, listen in listeners:
        event.listen(engine, "engine_connect", listen)
    yield found
    for engine, listen in listeners:
        event.remove(engine, "engine_connect", listen)
