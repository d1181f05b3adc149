# ruff: noqa: E501
"""What each shard answers by itself, because sharding keys are equal there, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, Integer, String
from sqlalchemy.orm import DeclarativeBase, relationship

from shardctl.errors import QueryRefused
from shardctl.fleet.engines import open_shards
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.models import collect
from shardctl.query.holders import Holders
from shardctl.query.parse import parse
from shardctl.query.plan import QueryPlan, plan_query
from shardctl.topology.buckets import spread_buckets
from shardctl.topology.model import FollowingTable, ReferenceTable, Shard, ShardedTable, ShardMap
from shardctl.topology.strategies import Hash, Range

SHARDS = ("a", "b", "c")


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"
    id = Column(Integer, primary_key=True)
    city = Column(String(20))


class Order(Base):
    __tablename__ = "orders"
    id = Column(Integer, primary_key=True)
    customer_id = Column(Integer, nullable=False)
    total = Column(Integer)


class Item(Base):
    __tablename__ = "items"
    id = Column(Integer, primary_key=True)
    order_id = Column(ForeignKey("orders.id"))
    part = Column(Integer)
    order = relationship(Order)


class Note(Base):
    __tablename__ = "notes"
    id = Column(Integer, primary_key=True)
    customer_id = Column(Integer)


class Visit(Base):
    __tablename__ = "visits"
    id = Column(Integer, primary_key=True)
    customer_id = Column(Integer, nullable=False)


class Label(Base):
    __tablename__ = "labels"
    id = Column(Integer, primary_key=True)
    customer_id = Column(String(9), nullable=False)


class Country(Base):
    __tablename__ = "countries"
    code = Column(String(2), primary_key=True)


HASH = Hash(spread_buckets(SHARDS))
RULES = {
    "Customer": ShardedTable("Customer", HASH, ("id",)),
    "Order": ShardedTable("Order", HASH, ("customer_id",)),
    "Item": FollowingTable("Item", "order"),
    "Note": ShardedTable("Note", HASH, ("customer_id",)),
    "Visit": ShardedTable("Visit", Range((10, 20), SHARDS), ("customer_id",)),
    "Label": ShardedTable("Label", HASH, ("customer_id",)),
    "Country": ReferenceTable("Country", SHARDS),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    folder: Path = tmp_path_factory.mktemp("never_opened")
    shard_map = ShardMap(shards={name: Shard(name, f"sqlite:///{folder}/{name}.db") for name in SHARDS}, tables=RULES)
    return Fleet(shard_map, open_shards(shard_map), collect([Base.registry]))


def plan(fleet: Fleet, sql: str) -> QueryPlan:
    statement = parse(sql, "sqlite")
    holders = Holders(fleet, fleet.models, statement, list(fleet.shards.values()))
    return plan_query(statement, SHARDS, colocation=holders.colocation, ties=holders.ties)


LOCAL = [
    # Joins by keys that one strategy places.
    "select c.city, o.total from customers c join orders o on o.customer_id = c.id",
    "select 1 from customers, orders, items i where customers.id = customer_id and i.order_id = orders.id",
    "select 1 from customers c left join orders o on o.customer_id = c.id and o.total > 3",
    "select 1 from orders a join orders b on a.customer_id = b.customer_id",
    # Subqueries that look at rows with the same key.
    "select id from customers c where exists (select 1 from orders o where o.customer_id = c.id)",
    "select id from customers c where not exists (select * from orders where customer_id = c.id and total > 3)",
    "select id from customers c where exists (select 1 from orders o, items i where o.customer_id = c.id and i.order_id = o.id)",
    "select id from customers c where city = 'x' or (select count(*) from notes n where n.customer_id = c.id) > 2",
    "select id, (select max(total) from orders o where o.customer_id = c.id) from customers c",
    "select id from customers c where exists (select 1 from orders o where o.customer_id = c.id and exists (select 1 from items i where i.order_id = o.id))",
    "select id from customers where id in (select customer_id from orders)",
    "select id from customers where id in (select customer_id from orders group by customer_id having sum(total) > 9)",
    "select id from customers where id not in (select customer_id from orders)",
    "select id from orders where customer_id in (select id from customers where city = 'x') or total = 1",
    "select id from customers where city in (select code from countries)",
    # Groups, windows and distinct rows by the key.
    "select customer_id, group_concat(total) from orders group by customer_id having count(distinct total) > 1",
    "select c.id, c.city, avg(o.total) from customers c left join orders o on o.customer_id = c.id group by c.id, c.city",
    "select o.customer_id, count(*) from customers c join orders o on o.customer_id = c.id group by c.id",
    "select id, row_number() over (partition by customer_id order by total) from orders order by 2 limit 3",
    "select id, sum(total) over (partition by customer_id), rank() over (partition by total, customer_id order by id) from orders",
    "select distinct customer_id, total from orders order by total",
]


@pytest.mark.parametrize("sql", LOCAL)
def test_shards_answer_for_rows_that_live_together(fleet: Fleet, sql: str) -> None:
    found = plan(fleet, sql)
    assert found.shard_ids == SHARDS
    assert type(found.merge).__name__ == "RowMerge"


NOT_LOCAL = [
    "select 1 from customers c join orders o on o.id = c.id",
    "select 1 from customers c join orders o on o.customer_id = c.id or c.city = 'x'",
    "select 1 from customers c join orders o on o.customer_id <= c.id",
    "select 1 from customers c join visits v on v.customer_id = c.id",  # another strategy
    "select 1 from customers c join labels l on l.customer_id = c.id",  # another type
    "select 1 from customers c left join orders o on true where o.customer_id = c.id",
    "select id from customers c where exists (select 1 from orders o)",
    "select id from customers c where exists (select 1 from orders o where o.customer_id = c.id or o.total = 1)",
    "select id from customers c where exists (select 1 from orders o left join notes n on n.id = o.id and n.customer_id = c.id)",
    "select id from customers c where exists (select 1 from orders o where o.customer_id = c.id union select 1)",
    "select id from customers c where exists (select 1 from (select * from orders) o where o.customer_id = c.id)",
    "select id from customers c where exists (select 1 from orders o where o.customer_id = c.id and o.total in (select total from orders))",
    "select id from customers c where (select total from orders o order by o.customer_id = c.id limit 1) = 1",
    "select id from customers where id in (select id from orders)",
    "select id from customers where id in (select customer_id from orders order by total limit 1)",
    "select id from customers where id in (select customer_id from orders group by total)",
    "select id from customers where id in (select max(customer_id) from orders)",
    "select id from customers where id in (select customer_id + 0 from orders)",
    "select id from customers where id not in (select customer_id from notes)",  # a NULL on another shard
    "select id from orders where id in (select customer_id from orders)",
    "select total, group_concat(id) from orders group by total",
    "select group_concat(id) from orders",
    "select customer_id, group_concat(id) from notes group by customer_id",  # those without a key
    "select customer_id + 0, group_concat(id) from orders group by customer_id + 0",
    "select id as customer_id, group_concat(total) from orders group by customer_id",  # an output's name
    "select o.customer_id, group_concat(o.id) from customers c left join orders o on o.customer_id = c.id group by o.customer_id",
    "select group_concat(total) from orders having max(customer_id) = 1",
    "select id, row_number() over (order by customer_id) from orders",
    "select id, row_number() over (partition by total) from orders",
    "select id, row_number() over (partition by customer_id), rank() over (order by id) from orders",
    "select customer_id, rank() over (order by sum(total)) from orders group by customer_id",
    "select distinct customer_id from orders order by total",
]


@pytest.mark.parametrize("sql", NOT_LOCAL)
def test_shards_do_not_answer_where_rows_of_others_count(fleet: Fleet, sql: str) -> None:
    try:
        found = plan(fleet, sql)
    except QueryRefused:
        return
    assert type(found.merge).__name__ == "EngineMerge", found.explain()


def test_what_names_mean_is_looked_up_where_the_plan_depends_on_it(fleet: Fleet) -> None:
    sql = "select id from customers where exists (select 1 from notes where customer_id = city)"
    with pytest.raises(QueryRefused):
        plan(fleet, sql)
    found = plan(
        fleet,
        "select 1 from customers where exists (select 1 from orders where customer_id = customers.id and city = 'x')",
    )
    assert ("orders", "customer_id", True) in found.assumed
    assert plan(fleet, "select 1 from customers where city = 'x'").assumed == ()


def test_groups_of_the_key_are_sent_as_they_are(fleet: Fleet) -> None:
    sql = "SELECT customer_id, sum(total) AS s FROM orders GROUP BY customer_id HAVING sum(total) > 3 ORDER BY s DESC, max(id) LIMIT 5 OFFSET 2"
    assert plan(fleet, sql).explain() == (
        "scatter: rows that are put together have one sharding key: they are on one shard\n"
        "shards: a, b, c\n"
        "each shard:\n"
        "  SELECT customer_id, sum(total) AS s, max(id) AS __s0 FROM orders GROUP BY customer_id HAVING sum(total) > 3"
        " ORDER BY s DESC, max(id) LIMIT 7\n"
        "merge:\n"
        "  sort by s DESC, max(id), take 5 after the first 2"
    )
