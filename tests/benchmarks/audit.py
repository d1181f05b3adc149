"""Audits of many rows, against loading each instance through SQLAlchemy's own ShardedSession."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text

from tests.benchmarks.measure import Row, command, note, peak_kib, ratio
from tests.benchmarks.migrate import text_of
from tests.benchmarks.query import databases, fleet_at

ROWS = int(os.environ.get("SHARDCTL_BENCHMARKS_ROWS", "3_000_000"))
SHARDS = 4
FILL = {
    "postgresql": "INSERT INTO weather_locations"
    " SELECT i, :continent, 'city ' || i FROM generate_series(:first, :last, :step) AS n(i)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + :step FROM n WHERE i + :step <= :last)"
    " INSERT INTO weather_locations SELECT i, :continent, 'city ' || i FROM n",
}
LOADING = """
import sys
from sqlalchemy import inspect, select
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
import shardctl
from examples.weather.models import WeatherLocation

with shardctl.open() as fleet:
    session = ShardedSession(
        shard_chooser=lambda mapper, instance, clause=None: f"s{int(instance.continent):03}",
        identity_chooser=lambda mapper, key, **options: [*fleet.shards],
        execute_chooser=lambda context: [*fleet.shards],
        shards={name: shard.bind for name, shard in fleet.shards.items()},
    )
    mapper, seen, wrong, rows = inspect(WeatherLocation), set(), 0, 0
    for name in fleet.shards:
        statement = select(WeatherLocation).options(set_shard_id(name)).execution_options(yield_per=1_000)
        for instance in session.scalars(statement):
            rows += 1
            if sys.argv[1] == "placement":
                wrong += session.shard_chooser(mapper, instance) != name
            else:
                wrong += instance.id in seen
                seen.add(instance.id)
    assert (wrong, rows) == (0, int(sys.argv[2]))
"""


def audit_placement(folder: Path, rounds: int = 3) -> Iterator[Row]:
    """Where rows belong, by a lookup of one of their columns."""
    yield from audits(folder, "placement", rounds)


def audit_duplicates(folder: Path, rounds: int = 3) -> Iterator[Row]:
    """Integers that name one row of the fleet."""
    yield from audits(folder, "duplicates", rounds)


def audits(folder: Path, check: str, rounds: int) -> Iterator[Row]:
    with databases(SHARDS) as urls:
        places = {
            "SQLite files": [f"sqlite:///s{number:03}.db" for number in range(SHARDS)],
            "PostgreSQL databases": [text_of(url) for url in urls],
        }
        for what, where in places.items():
            own = folder / what
            own.mkdir()
            fill(own, where)
            yield from against_loading(own, check, what, rounds)


def fill(folder: Path, urls: list[str]) -> None:
    with fleet_at(folder, urls) as fleet:
        for number, shard in enumerate(fleet.shards.values()):
            with shard.bind.begin() as connection:
                connection.execute(text("delete from weather_locations"))
                places = {"continent": str(number), "first": number, "step": len(urls), "last": ROWS - 1}
                connection.execute(text(FILL[shard.backend.name]), places)
    file = folder / "shardctl.toml"
    file.write_text(file.read_text().replace('key = "continent"', 'key = "continent"\nidentity = "fleet-wide"'))
    (folder / "loading.py").write_text(LOADING)


def against_loading(folder: Path, check: str, what: str, rounds: int) -> Iterator[Row]:
    ours = ["shardctl", "audit", check, "--table", "WeatherLocation"]
    loading = ["python", "loading.py", check, str(ROWS)]
    described = f"audit {check}, {ROWS:,} rows on {SHARDS} {what}"
    yield Row(
        described,
        "each instance by ShardedSession",
        ratio(command(*loading, cwd=folder), command(*ours, cwd=folder), rounds=rounds),
    )
    peak, other = peak_kib(ours, cwd=folder), peak_kib(loading, cwd=folder)
    note(f"peak memory: {peak} KiB, {other} KiB")
    yield Row(f"{described}, peak memory", "each instance by ShardedSession", peak / other, "times as much")


BENCHMARKS = {"audit-placement": audit_placement, "audit-duplicates": audit_duplicates}
