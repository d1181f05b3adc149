"""Reading over shards against one shard, SQLAlchemy's own ShardedSession, the bare driver, and one database.

Reading many rows, and the memory that takes, are in `export`; TPC-H is in `tpch`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import URL, func, select, text
from sqlalchemy.ext.horizontal_shard import ShardedSession

import shardctl
from examples.weather.models import Base, WeatherLocation
from shardctl.fleet import Fleet, LiveShard
from shardctl.query import run_query
from tests.benchmarks.measure import Row, command, ratios
from tests.benchmarks.migrate import ROUND_TRIP_S, on_server, postgresql_url, text_of
from tests.fixtures.delay import delayed

ROWS = 500
COUNT = "SELECT count(*) FROM weather_locations"
TOP = "SELECT id, city FROM weather_locations ORDER BY id DESC LIMIT 10"
POINT = "SELECT city FROM weather_locations WHERE id = 7"


def query_sqlite(folder: Path, shards: int = 64, rounds: int = 7) -> Iterator[Row]:
    """A count and the first ten, over SQLite files."""
    with fleet_at(folder, [f"sqlite:///s{number:03}.db" for number in range(shards)]) as fleet:
        yield from over_shards(folder, fleet, f"{shards} SQLite files", rounds)


def query_far(folder: Path, shards: int = 16, rounds: int = 7) -> Iterator[Row]:
    """The same over PostgreSQL databases behind a round trip of 20 ms."""
    with (
        databases(shards) as urls,
        delayed(postgresql_url(), round_trip_s=ROUND_TRIP_S) as far,
        fleet_at(folder, [text_of(far.set(database=url.database)) for url in urls]) as fleet,
    ):
        yield from over_shards(folder, fleet, f"{shards} PostgreSQL databases 20 ms away", rounds)


def query_point(folder: Path, rounds: int = 31) -> Iterator[Row]:
    """One row by its key from one shard, against the driver alone; both are connected, and ask a hundred times."""
    with databases(2) as urls, fleet_at(folder, [text_of(url) for url in urls]) as fleet:
        shard = next(iter(fleet.shards.values()))
        plain = urls[0]

        def ours() -> None:
            for _ in range(100):
                assert run_query(fleet, POINT, shards=[shard]).rows == [("city 7",)]

        with psycopg.connect(host=plain.host, port=plain.port, user=plain.username, dbname=plain.database) as raw:

            def by_driver() -> None:
                for _ in range(100):
                    assert raw.execute(POINT).fetchall() == [("city 7",)]
                    raw.rollback()

            what = "a row by its key from one PostgreSQL shard, start-up aside"
            (found,) = ratios(by_driver, [ours], rounds=rounds)
            yield Row(what, "psycopg, in a transaction each", found, "times as long")
            raw.autocommit = True
            (found,) = ratios(by_driver, [ours], rounds=rounds)
            yield Row(what, "psycopg, without transactions", found, "times as long")

        def by_new_connections() -> None:
            for _ in range(20):
                where = {"host": plain.host, "port": plain.port, "user": plain.username, "dbname": plain.database}
                with psycopg.connect(**where) as raw:
                    assert raw.execute(POINT).fetchall() == [("city 7",)]

        with shardctl.open(folder / "shardctl.toml", pooled=False) as once:
            own = once.shard(shard.shard_id)

            def ours_by_new_connections() -> None:
                for _ in range(20):
                    assert run_query(once, POINT, shards=[own]).rows == [("city 7",)]

            (found,) = ratios(by_new_connections, [ours_by_new_connections], rounds=rounds)
            yield Row(what, "psycopg, connecting each time", found, "times as long")


def over_shards(folder: Path, fleet: Fleet, what: str, rounds: int) -> Iterator[Row]:
    shards = list(fleet.shards.values())

    def plain_session() -> ShardedSession:
        return ShardedSession(
            shard_chooser=lambda mapper, instance, clause: shards[0].shard_id,
            identity_chooser=lambda mapper, key, **options: [*fleet.shards],
            execute_chooser=lambda context: [*fleet.shards],
            shards={shard.shard_id: shard.bind for shard in shards},
        )

    def count() -> None:
        with plain_session() as session:
            counts = session.execute(select(func.count()).select_from(WeatherLocation)).scalars().all()
        assert sum(counts) == ROWS * len(shards)

    def top() -> None:
        by_id = select(WeatherLocation.id, WeatherLocation.city).order_by(WeatherLocation.id.desc()).limit(10)
        with plain_session() as session:
            rows = sorted(session.execute(by_id).all(), reverse=True)[:10]
        assert len(rows) == 10

    for sql, by_session in ((COUNT, count), (TOP, top)):
        words = ("shardctl", "query", sql, "--format", "csv")
        one = command(*words, "--shard", shards[0].shard_id, cwd=folder)
        (slower,) = ratios(one, [command(*words, cwd=folder)], rounds=rounds)
        yield Row(f"shardctl query, {sql}, {what}", "with --shard, one of them", slower, "times as long")
        (found,) = ratios(asking(fleet, sql, shards), [by_session], rounds=rounds)
        yield Row(f"run_query, {sql}, {what}", "ShardedSession and adding up", found)


def asking(fleet: Fleet, sql: str, shards: list[LiveShard]) -> Callable[[], object]:
    def ask() -> None:
        assert run_query(fleet, sql, shards=shards).rows

    return ask


@contextmanager
def databases(number: int) -> Iterator[list[URL]]:
    """Make PostgreSQL databases, and drop them."""
    server = postgresql_url()
    urls = [server.set(database=f"bench_{uuid.uuid4().hex[:10]}") for _ in range(number)]
    try:
        on_server(server, [f"create database {url.database}" for url in urls])
        yield urls
    finally:
        on_server(server, [f"drop database if exists {url.database} with (force)" for url in urls])


@contextmanager
def fleet_at(folder: Path, urls: list[str]) -> Iterator[Fleet]:
    """Open a fleet with rows at these places."""
    lines = ['models = "examples.weather.models:Base"', f"connections_per_server = {len(urls)}"]
    for number, url in enumerate(urls):
        lines += [f"[shards.s{number:03}]", f'url = "{url}"']
    names = ", ".join(f'"{number}" = "s{number:03}"' for number in range(len(urls)))
    lines += ["[tables.WeatherLocation]", 'strategy = "lookup"', 'key = "continent"', f"shards = {{ {names} }}"]
    lines += ["[tables.Report]", 'strategy = "follow"', 'parent = "location"']
    file = folder / "shardctl.toml"
    file.write_text("\n".join(lines))
    with shardctl.open(file) as fleet:
        for number, shard in enumerate(fleet.shards.values()):
            Base.metadata.create_all(shard.bind)
            rows = [{"id": i, "continent": str(number), "city": f"city {i}"} for i in range(ROWS)]
            with shard.bind.begin() as connection:
                connection.execute(text("insert into weather_locations values (:id, :continent, :city)"), rows)
        yield fleet


BENCHMARKS = {"query-sqlite": query_sqlite, "query-far": query_far, "query-point": query_point}
