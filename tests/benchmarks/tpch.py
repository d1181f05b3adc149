"""TPC-H over four PostgreSQL shards against one PostgreSQL that holds all rows, on the same server."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from shardctl.fleet import Fleet, LiveShard
from shardctl.query import run_query
from tests.benchmarks.measure import Row, note, ratios
from tests.fixtures.engines import Databases
from tests.tpch.queries import QUERIES, query
from tests.tpch.tables import loaded, make_rows

SCALE = os.environ.get("SHARDCTL_TEST_TPCH_SCALE", "0.1")


def tpch(folder: Path, rounds: int = 3) -> Iterator[Row]:
    """Each of the 22, and their geometric mean."""
    made = Databases("postgresql", folder)
    make_rows(folder, SCALE)
    try:
        with loaded(made, folder) as (fleet, one):
            shards = list(fleet.shards.values())
            found = {}
            for number in QUERIES:
                sql = query(number, "postgresql")
                (found[number],) = ratios(asking(fleet, sql, [one]), [asking(fleet, sql, shards)], rounds=rounds)
                note(f"Q{number}: {found[number]:.2f}")
            for number, slower in sorted(found.items(), key=lambda entry: -entry[1])[:5]:
                yield Row(f"TPC-H Q{number}, scale {SCALE}, 4 shards", "one PostgreSQL", slower, "times as long")
            mean = math.exp(sum(map(math.log, found.values())) / len(found))
            yield Row(f"TPC-H, scale {SCALE}, 4 shards, geometric mean", "one PostgreSQL", mean, "times as long")
    finally:
        made.drop_all()


def asking(fleet: Fleet, sql: str, shards: list[LiveShard]) -> Callable[[], object]:
    def ask() -> None:
        run_query(fleet, sql, shards=shards, timeout_s=600, max_rows_pulled=10**9)

    return ask


BENCHMARKS = {"tpch": tpch}
