"""Adds a few rows through the session that an application would use; their shards follow from the shard map.

`python -m examples.weather.add_rows [SHARD_MAP]`
"""

import sys
from collections.abc import Callable

from sqlalchemy.ext.horizontal_shard import ShardedSession

import shardctl
from examples.weather.models import Report, WeatherLocation

CITIES = {
    "Asia": {"Tokyo": [80.0, 71.5], "Seoul": [64.0]},
    "Europe": {"London": [55.0], "Dublin": [52.5, 48.0]},
    "North America": {"New York": [75.0], "Toronto": [61.0]},
    "South America": {"Quito": [85.0], "Brasilia": [79.0]},
}


def add_rows(make_session: Callable[[], ShardedSession]) -> None:
    with make_session() as session:
        for continent, cities in CITIES.items():
            for city, temperatures in cities.items():
                location = WeatherLocation(continent, city)
                location.reports = [Report(temperature) for temperature in temperatures]
                session.add(location)
        session.commit()
    print(f"added {sum(map(len, CITIES.values()))} locations with their reports")


def main(shard_map: str | None = None) -> None:
    with shardctl.open(shard_map) as fleet:
        add_rows(fleet.sessionmaker())


if __name__ == "__main__":
    main(*sys.argv[1:])
