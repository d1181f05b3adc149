"""Measures shardctl against what a user would otherwise do, alternating in one run, and prints the ratios.

Machines differ and are shared, so only ratios of medians are printed, never times.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, event, select, text
from sqlalchemy.ext.horizontal_shard import ShardedSession

import shardctl
from examples.weather.models import Base, WeatherLocation
from shardctl.cli.output import Format, emit
from shardctl.query import run_query

ROOT = Path(__file__).parents[2]
MIGRATED_SHARDS = 50
ASKED_SHARDS = 16
LATENCY_S = 0.02

# What `alembic init` writes, without comments: the models' metadata, and a URL for each run.
STOCK_ENV = """
from alembic import context
from sqlalchemy import create_engine

from examples.weather.models import Base

with create_engine(context.get_x_argument(as_dictionary=True)["url"]).connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
"""


def ratio(other: Callable[[], object], ours: Callable[[], object], *, rounds: int) -> float:
    """Return how many times as long `other` takes, by medians of alternating rounds."""
    times: dict[Callable[[], object], list[float]] = {other: [], ours: []}
    for _ in range(rounds):
        for run in (other, ours):
            started = time.perf_counter()
            run()
            times[run].append(time.perf_counter() - started)
    return statistics.median(times[other]) / statistics.median(times[ours])


def command(*words: str, cwd: Path = ROOT) -> Callable[[], object]:
    program = Path(sys.executable).with_name(words[0])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run() -> object:
        return subprocess.run([program, *words[1:]], cwd=cwd, env=environment, check=True, capture_output=True)

    return run


def shard_map(folder: Path, shards: int) -> Path:
    lines = ['models = "examples.weather.models:Base"', f'migrations = "{ROOT / "migrations"}"']
    for number in range(shards):
        lines += [f"[shards.s{number:03}]", f'url = "sqlite:///s{number:03}.db"']
    names = ", ".join(f'"{number}" = "s{number:03}"' for number in range(shards))
    lines += ["[tables.WeatherLocation]", 'strategy = "lookup"', 'key = "continent"', f"shards = {{ {names} }}"]
    lines += ["[tables.Report]", 'strategy = "follow"', 'parent = "location"']
    file = folder / "shardctl.toml"
    file.write_text("\n".join(lines))
    return file


def migrations_ratio(folder: Path) -> float:
    """`shardctl migrate --all-shards` against a shell loop of `alembic upgrade head`."""
    shard_map(folder, MIGRATED_SHARDS)
    stock = folder / "stock"
    shutil.copytree(ROOT / "migrations" / "versions", stock / "versions")
    (stock / "env.py").write_text(STOCK_ENV)
    (stock / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s\n")
    alembic = Path(sys.executable).with_name("alembic")
    upgrade = f"{alembic} -c stock/alembic.ini -x url=sqlite:///s$i.db upgrade head"
    loop = f"for i in $(seq -f %03g 0 {MIGRATED_SHARDS - 1}); do {upgrade} || exit 1; done"

    def empty(run: Callable[[], object]) -> Callable[[], object]:
        def emptied() -> object:
            for file in folder.glob("*.db"):
                file.unlink()
            for number in range(MIGRATED_SHARDS):
                (folder / f"s{number:03}.db").touch()
            return run()

        return emptied

    def shell_loop() -> object:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(["sh", "-c", loop], cwd=folder, env=environment, check=True, capture_output=True)

    ours = command("shardctl", "migrate", "--all-shards", "--yes", cwd=folder)
    return ratio(empty(shell_loop), empty(ours), rounds=3)


def query_ratio(folder: Path) -> float:
    """One SELECT over shards of 20 ms latency: shardctl against ShardedSession."""
    with shardctl.open(shard_map(folder, ASKED_SHARDS)) as fleet:
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
            assert len(rows) == ASKED_SHARDS

        def ours() -> None:
            rows = run_query(fleet, "select city from weather_locations", shards=shards).rows
            assert len(rows) == ASKED_SHARDS

        return ratio(sharded_session, ours, rounds=7)


def add_latency(engine: Engine) -> None:
    """Make each SELECT take as long as on a server 20 ms away."""

    @event.listens_for(engine, "before_cursor_execute")
    def wait(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.lstrip().lower().startswith("select"):
            time.sleep(LATENCY_S)


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="shardctl-benchmarks-"))
    try:
        for name in ("migrate", "query"):
            (folder / name).mkdir()
        rows = [
            [
                "shardctl --help",
                "alembic --help",
                ratio(command("alembic", "--help"), command("shardctl", "--help"), rounds=9),
            ],
            [
                "shardctl --version",
                "alembic --help",
                ratio(command("alembic", "--help"), command("shardctl", "--version"), rounds=9),
            ],
            [
                f"migrate --all-shards, {MIGRATED_SHARDS} SQLite shards",
                "a shell loop of alembic upgrade head",
                migrations_ratio(folder / "migrate"),
            ],
            [f"a SELECT over {ASKED_SHARDS} shards, 20 ms away each", "ShardedSession", query_ratio(folder / "query")],
        ]
        emit(["what", "against", "times as fast"], [[*row[:2], round(row[2], 1)] for row in rows], Format.MARKDOWN)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
