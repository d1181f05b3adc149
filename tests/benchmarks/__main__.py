"""Measures shardctl against what a user would otherwise do, alternating in one run, and prints the ratios.

    python -m tests.benchmarks [--shards N] [--rounds N] [NAME …]

Machines differ and are shared, so only ratios are printed, never times; `SHARDCTL_BENCHMARKS_VERBOSE=1` says them as
they come. Without names all run, which takes most of an hour: it is the shell loops that do.
"""

from __future__ import annotations

import argparse
import inspect
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shardctl.cli.output import Format, emit
from tests.benchmarks import audit, export, locate, migrate, query, tpch
from tests.benchmarks.measure import Row
from tests.benchmarks.start import start

BENCHMARKS: dict[str, Callable[..., Iterator[Row]]] = {
    "start": start,
    **migrate.BENCHMARKS,
    **query.BENCHMARKS,
    **export.BENCHMARKS,
    **locate.BENCHMARKS,
    **tpch.BENCHMARKS,
    **audit.BENCHMARKS,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--shards", type=int, help="in place of the number that each has")
    parser.add_argument("--rounds", type=int, help="in place of 3")
    given = parser.parse_args()
    strange = set(given.names) - set(BENCHMARKS)
    if strange:
        parser.error(f"no benchmark {', '.join(sorted(strange))}; there are {', '.join(BENCHMARKS)}")
    rows = []
    for name in given.names or BENCHMARKS:
        rows += measure(BENCHMARKS[name], shards=given.shards, rounds=given.rounds)
    table: list[list[Any]] = [[row.what, row.against, f"{row.ratio:.1f} {row.unit}"] for row in rows]
    emit(["what", "against", "ratio"], table, Format.MARKDOWN)


def measure(benchmark: Callable[..., Iterator[Row]], **options: int | None) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="shardctl-benchmarks-"))
    takes = inspect.signature(benchmark).parameters
    given = {name: value for name, value in options.items() if value is not None and name in takes}
    try:
        return list(benchmark(folder, **given))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
