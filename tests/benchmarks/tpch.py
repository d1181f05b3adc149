"""TPC-H over four PostgreSQL shards against one PostgreSQL that holds all rows, on the same server."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from shardctl.fleet import Fleet, LiveShard
from shardctl.query import run_query
from shardctl.topology.model import ReferenceTable
from tests.benchmarks.measure import Row, note, ratios
from tests.benchmarks.scanner import scanner
from tests.fixtures.engines import Databases
from tests.tpch.queries import QUERIES, query
from tests.tpch.tables import RULES, loaded, make_rows

SCALE = os.environ.get("SHARDCTL_TEST_TPCH_SCALE", "0.1")


def tpch(folder: Path, rounds: int = 3) -> Iterator[Row]:
    """Each of the 22 against one database and DuckDB's own scanner of PostgreSQL, and the geometric means."""
    made = Databases("postgresql", folder)
    make_rows(folder, SCALE)
    copies = [name for name, rule in RULES.items() if isinstance(rule, ReferenceTable)]
    try:
        with loaded(made, folder) as (fleet, one):
            shards = list(fleet.shards.values())
            urls = {shard.shard_id: shard.engine.url for shard in shards}
            slower: dict[int, float] = {}
            faster: dict[int, float] = {}
            with scanner(folder, urls, [name for name in RULES if name not in copies], copies) as scanned:
                for number in QUERIES:
                    sql = query(number, "postgresql")
                    ours = asking(fleet, sql, shards)
                    (slower[number],) = ratios(asking(fleet, sql, [one]), [ours], rounds=rounds)
                    (faster[number],) = ratios(scanned(sql), [ours], rounds=rounds)
                    note(f"Q{number}: {slower[number]:.2f} of one database, {faster[number]:.2f} of the scanner")
            what = f"TPC-H, scale {SCALE}, 4 shards"
            for number, ratio in sorted(slower.items(), key=lambda entry: -entry[1])[:5]:
                yield Row(f"{what}, Q{number}", "one PostgreSQL", ratio, "times as long")
            yield Row(f"{what}, geometric mean", "one PostgreSQL", _mean(slower.values()), "times as long")
            yield Row(f"{what}, geometric mean", "DuckDB's own scanner", _mean(faster.values()), "times as long")
    finally:
        made.drop_all()


def _mean(found: Collection[float]) -> float:
    return math.exp(sum(map(math.log, found)) / len(found))


def asking(fleet: Fleet, sql: str, shards: list[LiveShard]) -> Callable[[], object]:
    def ask() -> None:
        run_query(fleet, sql, shards=shards, timeout_s=600, max_rows_pulled=10**9)

    return ask


BENCHMARKS = {"tpch": tpch}
