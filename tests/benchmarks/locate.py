"""Many rows by their keys, against `session.get` of SQLAlchemy's ShardedSession in a loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.horizontal_shard import ShardedSession

import shardctl
from examples.weather.models import Base, WeatherLocation
from shardctl.fleet import Fleet
from shardctl.rows.locate import locate
from tests.benchmarks.measure import Row, ratio
from tests.benchmarks.migrate import ROUND_TRIP_S, postgresql_url, text_of
from tests.benchmarks.query import databases, fleet_at
from tests.fixtures.delay import delayed

FIRST = 100_000
"""The first of the keys that are looked for; the others are on one shard after the other."""


def locate_many(folder: Path, rounds: int = 3) -> Iterator[Row]:
    """Ten thousand rows over PostgreSQL databases, a fifth of them over schemas of one, and a few of them far away."""
    with databases(4) as urls, fleet_at(folder, [text_of(url) for url in urls]) as fleet:
        yield measured(fleet, 10_000, "4 PostgreSQL databases", rounds)
    with databases(1) as urls, schemas_at(folder, text_of(urls[0]), 16) as fleet:
        yield measured(fleet, 2_000, "16 schemas of one PostgreSQL database", rounds)
    with (
        databases(4) as urls,
        delayed(postgresql_url(), round_trip_s=ROUND_TRIP_S) as far,
        fleet_at(folder, [text_of(far.set(database=url.database)) for url in urls]) as fleet,
    ):
        yield measured(fleet, 200, "4 PostgreSQL databases 20 ms away", rounds)


def schemas_at(folder: Path, url: str, number: int) -> Fleet:
    """Open a fleet of schemas of one database, with tables."""
    names = [f"s{index:03}" for index in range(number)]
    # The other side's session takes a connection for each schema.
    lines = ['models = "examples.weather.models:Base"', f"connections_per_server = {number}"]
    for name in names:
        lines += [f"[shards.{name}]", f'url = "{url}"', f'schema = "{name}"']
    homes = ", ".join(f'"{index}" = "{name}"' for index, name in enumerate(names))
    lines += ["[tables.WeatherLocation]", 'strategy = "lookup"', 'key = "continent"', f"shards = {{ {homes} }}"]
    lines += ["[tables.Report]", 'strategy = "follow"', 'parent = "location"']
    file = folder / "shardctl.toml"
    file.write_text("\n".join(lines))
    fleet = shardctl.open(file)
    for shard in fleet.shards.values():
        with shard.bind.begin() as connection:
            connection.execute(text(f'create schema "{shard.shard_id}"'))
            Base.metadata.create_all(connection)
    return fleet


def measured(fleet: Fleet, keys: int, what: str, rounds: int) -> Row:
    shards = list(fleet.shards.values())
    for number, shard in enumerate(shards):
        rows = [
            {"id": key, "continent": str(number), "city": f"city {key}"}
            for key in range(FIRST + number, FIRST + keys, len(shards))
        ]
        with shard.bind.begin() as connection:
            connection.execute(WeatherLocation.__table__.insert(), rows)
    identities = [(key,) for key in range(FIRST, FIRST + keys)]

    def ours() -> None:
        found = locate(fleet, WeatherLocation.__mapper__, shards, identities=identities)
        assert [row.primary_key for row in found.found] == identities
        assert {row.verdict for row in found.found} == {"ok"}

    def by_session() -> None:
        session = ShardedSession(
            shard_chooser=lambda mapper, instance, clause: shards[int(instance.continent)].shard_id,
            identity_chooser=lambda mapper, key, **options: [*fleet.shards],
            execute_chooser=lambda context: [*fleet.shards],
            shards={shard.shard_id: shard.bind for shard in shards},
        )
        with session:
            for identity in identities:
                assert session.get(WeatherLocation, identity) is not None

    found = ratio(by_session, ours, rounds=rounds)
    return Row(f"locate, {keys:,} rows, {what}", "session.get in a loop, ShardedSession", found)


BENCHMARKS = {"locate": locate_many}
