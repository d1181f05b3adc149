"""An application with choosers written by hand, which shardctl uses as they are.

They are right, and they ask every shard for almost everything: nothing here reads a WHERE clause.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, sessionmaker

from examples.weather.add_rows import add_rows
from examples.weather.models import WeatherLocation

DATA = Path(__file__).parent / "data"
CONTINENTS = {
    "North America": "north_america",
    "Asia": "asia",
    "Europe": "europe",
    "South America": "south_america",
}


def choose_shard(mapper: Mapper[Any], instance: Any, clause: Any = None) -> str:
    location = instance if isinstance(instance, WeatherLocation) else instance.location
    return CONTINENTS[location.continent]


def choose_for_identity(
    mapper: Mapper[Any], primary_key: Any, *, lazy_loaded_from: InstanceState[Any] | None = None, **kw: Any
) -> Iterable[str]:
    return [lazy_loaded_from.identity_token] if lazy_loaded_from else CONTINENTS.values()


def choose_for_statement(context: ORMExecuteState) -> Iterable[str]:
    parent = context.lazy_loaded_from if context.is_select else None  # an UPDATE has none to ask
    return [parent.identity_token] if parent else CONTINENTS.values()


Session = sessionmaker(
    class_=ShardedSession,
    shards={shard: create_engine(f"sqlite:///{DATA / shard}.db") for shard in CONTINENTS.values()},
    shard_chooser=choose_shard,
    identity_chooser=choose_for_identity,
    execute_chooser=choose_for_statement,
)

if __name__ == "__main__":
    add_rows(Session)
