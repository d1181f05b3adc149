"""TPC-DS's tables over four shards and in one database: sales and returns by ticket or order, customers by key."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import BigInteger, Column, Date, Index, Integer, MetaData, Numeric, String, Table, text

from shardctl.fleet.engines import open_shards
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.fleet.models import collect
from shardctl.topology.model import ReferenceTable, Shard, ShardedTable, ShardMap
from tests.fixtures.engines import Databases
from tests.tpch.tables import PLACES, SHARDS, insert

KEYS = {
    "store_sales": "ss_ticket_number",
    "store_returns": "sr_ticket_number",
    "catalog_sales": "cs_order_number",
    "catalog_returns": "cr_order_number",
    "web_sales": "ws_order_number",
    "web_returns": "wr_order_number",
    "inventory": "inv_item_sk",
    "customer": "c_customer_sk",
    "customer_address": "ca_address_sk",
}
"""The sharding keys; every other table is a reference table."""
NULL = "\\N"


@dataclass(frozen=True)
class Benchmark:
    """What `generate` wrote."""

    folder: Path
    queries: dict[int, str]
    metadata: MetaData


def read(folder: Path) -> Benchmark:
    found = json.loads((folder / "tpcds.json").read_text())
    metadata = MetaData()
    for name, columns in found["tables"].items():
        Table(name, metadata, *(Column(column, _type(kind)) for column, kind in columns))
        indexed = [column for column, _ in columns if column.endswith("_sk") or column == KEYS.get(name)]
        for column in indexed[:4]:
            Index(f"i_{column}", metadata.tables[name].c[column])
    return Benchmark(folder, {int(number): sql for number, sql in found["queries"].items()}, metadata)


def _type(kind: str) -> object:
    if kind.startswith("DECIMAL"):
        precision, scale = kind[8:-1].split(",")
        return Numeric(int(precision), int(scale))
    return {"BIGINT": BigInteger, "INTEGER": Integer, "DATE": Date}.get(kind, String(200))


@contextmanager
def loaded(databases: Databases, benchmark: Benchmark) -> Iterator[tuple[Fleet, LiveShard]]:
    """Put the rows in one database, and over four shards."""
    tables = {
        name: ShardedTable(name, PLACES, (KEYS[name],)) if name in KEYS else ReferenceTable(name, SHARDS)
        for name in benchmark.metadata.tables
    }
    gather = databases.create("gather") if databases.engine != "sqlite" else None
    shard_map = ShardMap(
        shards={name: Shard(name, databases.create(name)) for name in SHARDS}, tables=tables, gather=gather
    )
    live = open_shards(shard_map)
    one = open_shards(ShardMap(shards={"one": Shard("one", databases.create("one"))}))["one"]
    for shard in (*live.values(), one):
        benchmark.metadata.create_all(shard.engine)
    for table in benchmark.metadata.tables.values():
        with (benchmark.folder / f"{table.name}.csv").open(encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            next(lines)
            rows = [tuple(None if value == NULL else value for value in line) for line in lines]
        insert(one.engine, table, rows)
        for shard_id, own in spread(table, rows).items():
            insert(live[shard_id].engine, table, own)
    for shard in (*live.values(), one):
        with shard.engine.begin() as connection:
            for name in benchmark.metadata.tables:
                connection.execute(text(f"ANALYZE {'TABLE ' * (databases.engine == 'mysql')}{name}"))
    yield Fleet(shard_map, live, collect([], [benchmark.metadata])), one
    for shard in (*live.values(), one):
        shard.bind.dispose()


def spread(table: Table, rows: list[tuple[str | None, ...]]) -> dict[str, list[tuple[str | None, ...]]]:
    if table.name not in KEYS:
        return dict.fromkeys(SHARDS, rows)
    position = [column.name for column in table.columns].index(KEYS[table.name])
    found: dict[str, list[tuple[str | None, ...]]] = {}
    for row in rows:
        found.setdefault(PLACES.place((int(row[position] or 0),)), []).append(row)
    return found
