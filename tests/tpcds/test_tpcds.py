"""TPC-DS on four shards: each of the 99 is answered as one database with all rows answers it, or refused."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlglot

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import run_query
from tests.fixtures.engines import Databases, server_url
from tests.tpcds.rows import Benchmark, loaded, read

CACHE = Path(__file__).parents[2] / ".cache" / "tpcds"
SCALE = os.environ.get("SHARDCTL_TEST_TPCDS_SCALE", "0.01")
"""The scale factor: 1 is a gigabyte."""
ENGINES = os.environ.get("SHARDCTL_TEST_TPCDS_ENGINES", "postgresql").split(",")
PACKAGES = ["duckdb==1.5.5", "duckdb-extension-tpcds==1.5.5"]
"""The last version that the extension, which makes the rows and has the queries, is published for."""
INSTALL_S, GENERATE_S, ANSWER_S = 300, 600, 60


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    folder = CACHE / SCALE
    if not folder.is_dir():
        try:
            CACHE.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=CACHE) as partial:
                generate(Path(partial))
                if not folder.is_dir():
                    shutil.move(Path(partial) / "rows", folder)
        except (subprocess.SubprocessError, OSError) as error:
            reason = f"TPC-DS's rows cannot be made: {type(error).__name__}"
            if os.environ.get("CI"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
    return read(folder)


def generate(folder: Path) -> None:
    """Make the rows with packages that are installed for it alone: another DuckDB may be in the environment."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run(
        [*install, "--target", str(folder / "site"), *PACKAGES], check=True, capture_output=True, timeout=INSTALL_S
    )
    (folder / "rows").mkdir()
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("generate.py")), str(folder / "rows"), SCALE],
        env={**os.environ, "PYTHONPATH": str(folder / "site")},
        check=True,
        capture_output=True,
        timeout=GENERATE_S,
    )


@pytest.fixture(params=ENGINES)
def database_pair(
    request: pytest.FixtureRequest, tmp_path: Path, benchmark: Benchmark
) -> Iterator[tuple[Fleet, LiveShard]]:
    made = Databases(request.param, tmp_path)
    if made.engine != "sqlite":
        server_url(made.engine)
    try:
        with loaded(made, benchmark) as pair:
            yield pair
    finally:
        made.drop_all()


@pytest.mark.slow
def test_the_99_answers(database_pair: tuple[Fleet, LiveShard], benchmark: Benchmark) -> None:
    fleet, one = database_pair
    engine = one.backend.name
    found: Counter[str] = Counter()
    wrong: list[str] = []
    for number, sql in benchmark.queries.items():
        (own,) = sqlglot.transpile(sql, read="duckdb", write={"postgresql": "postgres"}.get(engine, engine))
        try:
            expected = run_query(fleet, own, shards=[one], timeout_s=ANSWER_S)
        except ShardError:
            found["not this engine's SQL"] += 1
            continue
        try:
            answer = run_query(fleet, own, shards=list(fleet.shards.values()), timeout_s=5 * ANSWER_S)
        except QueryRefused as refusal:
            found[f"refused: {refusal.message}"] += 1
            continue
        is_right = answer.columns == expected.columns and same(answer.rows, expected.rows)
        found["right" if is_right else "wrong"] += 1
        if not is_right:
            wrong.append(f"Q{number}: {expected.rows[:3]} {answer.rows[:3]}")
    print(f"\n{engine}: {dict(found)}")
    assert not wrong, "\n".join(wrong)
    assert found["right"] >= 80


def same(rows: list[tuple[Any, ...]], others: list[tuple[Any, ...]]) -> bool:
    """Whether answers have equal rows; ties may come in any order, and sums of floats in another last digit."""
    if len(rows) != len(others):
        return False
    pairs = zip(sorted(rows, key=repr_of), sorted(others, key=repr_of), strict=True)
    return all(same_value(value, other) for row, own in pairs for value, other in zip(row, own, strict=True))


def repr_of(row: tuple[Any, ...]) -> list[str]:
    return [f"{value:.9g}" if isinstance(value, float) else str(value) for value in row]


def same_value(value: Any, other: Any) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-9)
    return type(value) is type(other) and bool(value == other)
