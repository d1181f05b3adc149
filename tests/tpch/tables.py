"""TPC-H's eight tables, where their rows live on four shards, and the rows of a scale factor."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import CHAR, Column, Date, Engine, Index, Integer, MetaData, Numeric, String, Table, text

from shardctl.fleet.engines import open_shards
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.fleet.models import collect
from shardctl.topology.buckets import spread_buckets
from shardctl.topology.model import ReferenceTable, Shard, ShardedTable, ShardMap
from shardctl.topology.strategies import Hash
from tests.fixtures.engines import Databases

SHARDS = ("s1", "s2", "s3", "s4")
metadata = MetaData()


def key(name: str, *, primary: bool = False) -> Column[int]:
    return Column(name, Integer, primary_key=primary, autoincrement=False, nullable=False)


def money(name: str) -> Column[Any]:
    return Column(name, Numeric(15, 2), nullable=False)


def words(name: str, length: int) -> Column[str]:
    return Column(name, String(length), nullable=False)


def date(name: str) -> Column[Any]:
    return Column(name, Date, nullable=False)


region = Table("region", metadata, key("r_regionkey", primary=True), words("r_name", 25), words("r_comment", 152))
nation = Table(
    "nation",
    metadata,
    key("n_nationkey", primary=True),
    words("n_name", 25),
    key("n_regionkey"),
    words("n_comment", 152),
)
part = Table(
    "part",
    metadata,
    key("p_partkey", primary=True),
    words("p_name", 55),
    Column("p_mfgr", CHAR(25), nullable=False),
    words("p_brand", 10),
    words("p_type", 25),
    key("p_size"),
    words("p_container", 10),
    money("p_retailprice"),
    words("p_comment", 23),
)
supplier = Table(
    "supplier",
    metadata,
    key("s_suppkey", primary=True),
    words("s_name", 25),
    words("s_address", 40),
    key("s_nationkey"),
    words("s_phone", 15),
    money("s_acctbal"),
    words("s_comment", 101),
)
partsupp = Table(
    "partsupp",
    metadata,
    key("ps_partkey", primary=True),
    key("ps_suppkey", primary=True),
    key("ps_availqty"),
    money("ps_supplycost"),
    words("ps_comment", 199),
    Index("ps_by_supplier", "ps_suppkey"),
)
customer = Table(
    "customer",
    metadata,
    key("c_custkey", primary=True),
    words("c_name", 25),
    words("c_address", 40),
    key("c_nationkey"),
    words("c_phone", 15),
    money("c_acctbal"),
    words("c_mktsegment", 10),
    words("c_comment", 117),
)
orders = Table(
    "orders",
    metadata,
    key("o_orderkey", primary=True),
    key("o_custkey"),
    words("o_orderstatus", 1),
    money("o_totalprice"),
    date("o_orderdate"),
    words("o_orderpriority", 15),
    words("o_clerk", 15),
    key("o_shippriority"),
    words("o_comment", 79),
    Index("o_by_customer", "o_custkey"),
)
lineitem = Table(
    "lineitem",
    metadata,
    key("l_orderkey", primary=True),
    key("l_partkey"),
    key("l_suppkey"),
    key("l_linenumber", primary=True),
    money("l_quantity"),
    money("l_extendedprice"),
    money("l_discount"),
    money("l_tax"),
    words("l_returnflag", 1),
    words("l_linestatus", 1),
    date("l_shipdate"),
    date("l_commitdate"),
    date("l_receiptdate"),
    words("l_shipinstruct", 25),
    words("l_shipmode", 10),
    words("l_comment", 44),
    Index("l_by_part", "l_partkey", "l_suppkey"),
    Index("l_by_supplier", "l_suppkey"),
)
PLACES = Hash(spread_buckets(SHARDS))
RULES = {
    "region": ReferenceTable("region", SHARDS),
    "nation": ReferenceTable("nation", SHARDS),
    "part": ShardedTable("part", PLACES, ("p_partkey",)),
    "partsupp": ShardedTable("partsupp", PLACES, ("ps_partkey",)),
    "supplier": ShardedTable("supplier", PLACES, ("s_suppkey",)),
    "customer": ShardedTable("customer", PLACES, ("c_custkey",)),
    "orders": ShardedTable("orders", PLACES, ("o_orderkey",)),
    "lineitem": ShardedTable("lineitem", PLACES, ("l_orderkey",)),
}


def make_rows(folder: Path, scale: str) -> None:
    """Write every table's rows as CSV files."""
    subprocess.run(
        [Path(sys.executable).with_name("tpchgen-cli"), "csv", "--scale-factor", scale, "--output-dir", folder],
        check=True,
        capture_output=True,
    )


@contextmanager
def loaded(databases: Databases, folder: Path) -> Iterator[tuple[Fleet, LiveShard]]:
    """Put the rows of a folder in one database, and over four shards."""
    gather = databases.create("gather") if databases.engine != "sqlite" else None
    shard_map = ShardMap(
        shards={name: Shard(name, databases.create(name)) for name in SHARDS}, tables=RULES, gather=gather
    )
    live = open_shards(shard_map)
    one = open_shards(ShardMap(shards={"one": Shard("one", databases.create("one"))}))["one"]
    for shard in (*live.values(), one):
        metadata.create_all(shard.engine)
    for table in metadata.sorted_tables:
        with (folder / f"{table.name}.csv").open(encoding="utf-8") as file:
            lines = csv.reader(file)
            next(lines)
            while batch := [tuple(line) for line in islice(lines, 20_000)]:
                insert(one.engine, table, batch)
                for shard_id, own in spread(table, batch).items():
                    insert(live[shard_id].engine, table, own)
    for shard in (*live.values(), one):
        with shard.engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(text(f"ANALYZE {'TABLE ' * (databases.engine == 'mysql')}{table.name}"))
    yield Fleet(shard_map, live, collect([], [metadata])), one
    for shard in (*live.values(), one):
        shard.bind.dispose()


def spread(table: Table, batch: list[tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    rule = RULES[table.name]
    if isinstance(rule, ReferenceTable):
        return dict.fromkeys(SHARDS, batch)
    position = [column.name for column in table.columns].index(rule.key[0])
    found: dict[str, list[tuple[str, ...]]] = {}
    for row in batch:
        found.setdefault(PLACES.place((int(row[position]),)), []).append(row)
    return found


def insert(engine: Engine, table: Table, rows: Sequence[tuple[str | None, ...]]) -> None:
    """Insert rows as text, which every engine reads by the columns' types; in one way for each driver."""
    with engine.begin() as connection:
        raw: Any = connection.connection.driver_connection
        cursor = raw.cursor()
        if engine.dialect.name == "postgresql":
            with cursor.copy(f"COPY {table.name} FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            mark = "?" if engine.dialect.name == "sqlite" else "%s"
            marks = ", ".join(mark for _ in table.columns)
            cursor.executemany(f"INSERT INTO {table.name} VALUES ({marks})", rows)
            raw.commit()
