"""Reading over shards against SQLAlchemy's own ShardedSession."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Engine, event, select, text
from sqlalchemy.ext.horizontal_shard import ShardedSession

import shardctl
from examples.weather.models import Base, WeatherLocation
from shardctl.query import run_query
from tests.benchmarks.measure import Row, ratio

SHARDS = 16
LATENCY_S = 0.02


def query(folder: Path) -> Iterator[Row]:
    """One SELECT over shards of 20 ms latency."""
    with shardctl.open(shard_map(folder)) as fleet:
        for number, shard in enumerate(fleet.shards.values()):
            Base.metadata.create_all(shard.bind)
            with shard.bind.begin() as connection:
                connection.execute(
                    text("insert into weather_locations (continent, city) values (:continent, 'a')"),
                    {"continent": str(number)},
                )
            for engine in {shard.bind, shard.engine}:
                add_latency(engine)
        shards = list(fleet.shards.values())
        session_factory = fleet.sessionmaker()

        def sharded_session() -> None:
            with session_factory() as session:
                assert isinstance(session, ShardedSession)
                rows = session.scalars(select(WeatherLocation.city)).all()
            assert len(rows) == SHARDS

        def ours() -> None:
            rows = run_query(fleet, "select city from weather_locations", shards=shards).rows
            assert len(rows) == SHARDS

        found = ratio(sharded_session, ours, rounds=7)
        yield Row(f"a SELECT over {SHARDS} shards, 20 ms away each", "ShardedSession", found)


def shard_map(folder: Path) -> Path:
    lines = ['models = "examples.weather.models:Base"']
    for number in range(SHARDS):
        lines += [f"[shards.s{number:03}]", f'url = "sqlite:///s{number:03}.db"']
    names = ", ".join(f'"{number}" = "s{number:03}"' for number in range(SHARDS))
    lines += ["[tables.WeatherLocation]", 'strategy = "lookup"', 'key = "continent"', f"shards = {{ {names} }}"]
    lines += ["[tables.Report]", 'strategy = "follow"', 'parent = "location"']
    file = folder / "shardctl.toml"
    file.write_text("\n".join(lines))
    return file


def add_latency(engine: Engine) -> None:
    """Make each SELECT take as long as on a server 20 ms away."""

    @event.listens_for(engine, "before_cursor_execute")
    def wait(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.lstrip().lower().startswith("select"):
            time.sleep(LATENCY_S)
