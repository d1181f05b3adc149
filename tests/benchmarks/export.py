"""Many rows: how fast they come against the fastest way there is, and how much memory they take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import URL, text

from shardctl.query import stream_query
from tests.benchmarks.measure import Row, note, peak_kib, ratios
from tests.benchmarks.migrate import text_of
from tests.benchmarks.query import databases, fleet_at

ROWS = int(os.environ.get("SHARDCTL_BENCHMARKS_ROWS", "10_000_000"))
FILL = {
    "postgresql": "INSERT INTO weather_locations SELECT i, 'x', 'city ' || i FROM generate_series(1000, :last) AS n(i)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < :last)"
    " INSERT INTO weather_locations SELECT i, 'x', 'city ' || i FROM n",
}


def export_speed(folder: Path, rounds: int = 3) -> Iterator[Row]:
    """All rows of four PostgreSQL shards, as Python values, against COPY of the driver's as text."""
    with databases(4) as urls, fleet_at(folder, [text_of(url) for url in urls]) as fleet:
        shards = list(fleet.shards.values())
        for shard in shards:
            with shard.bind.begin() as connection:
                connection.execute(text(FILL["postgresql"]), {"last": ROWS // 40})

        def ours() -> None:
            rows = stream_query(fleet, "SELECT * FROM weather_locations", shards=shards).rows
            assert sum(1 for _ in rows) > ROWS // 20

        def copy() -> None:
            for url in urls:
                copy_out(url)

        (found,) = ratios(copy, [ours], rounds=rounds)
        yield Row("all rows of four PostgreSQL shards", "COPY to text, shard by shard", found, "times as long")


def copy_out(url: URL) -> None:
    with (
        psycopg.connect(host=url.host, port=url.port, user=url.username, dbname=url.database) as raw,
        raw.cursor() as cursor,
        cursor.copy("COPY weather_locations TO STDOUT") as copy,
    ):
        assert sum(len(piece) for piece in copy) > ROWS // 40


def export_memory(folder: Path) -> Iterator[Row]:
    """The most memory that a large result takes as CSV, and with its types, against a small one."""
    with fleet_at(folder, ["sqlite:///a.db", "sqlite:///b.db"]) as fleet:
        for shard in fleet.shards.values():
            with shard.bind.begin() as connection:
                connection.execute(text(FILL["sqlite"]), {"last": ROWS // 2})
    query = ["shardctl", "query", "SELECT * FROM weather_locations"]
    many = peak_kib([*query, "--format", "csv", "-o", "rows.csv"], cwd=folder)
    few = peak_kib([*query[:2], f"{query[2]} WHERE id < 10", "--format", "csv", "-o", "rows.csv"], cwd=folder)
    note(f"peak memory: {many} KiB, {few} KiB")
    yield Row(f"{ROWS:,} rows as CSV, peak memory", "20 rows", many / few, "times as much")
    for format_ in ("parquet", "arrow"):
        peak = peak_kib([*query, "--format", format_, "-o", "rows"], cwd=folder)
        least = peak_kib([*query[:2], f"{query[2]} WHERE id < 10", "--format", format_, "-o", "rows"], cwd=folder)
        note(f"peak memory, {format_}: {peak} KiB, {least} KiB")
        yield Row(f"{ROWS:,} rows as {format_}, peak memory", "20 rows", peak / least, "times as much")


BENCHMARKS = {"export-speed": export_speed, "export-memory": export_memory}
