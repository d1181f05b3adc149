"""Weather stations in one database, with a set of tables for each continent: `asia_locations`, `europe_locations`, …

The models say `{shard}_locations`. The engine of each shard carries its name as an execution option, and an event puts
it into every statement just before it is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, ForeignKey, SingletonThreadPool, String, create_engine, event
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import (
    DeclarativeBase,
    InstanceState,
    Mapped,
    Mapper,
    ORMExecuteState,
    mapped_column,
    relationship,
    sessionmaker,
)

CONTINENTS = {
    "North America": "north_america",
    "Asia": "asia",
    "Europe": "europe",
    "South America": "south_america",
}

DATA = Path(__file__).parent / "data"

# A session has a connection of each shard. SQLite would let only one of them write: have them be one connection.
engine = create_engine(f"sqlite:///{DATA / 'weather.db'}", poolclass=SingletonThreadPool)


@event.listens_for(engine, "before_cursor_execute", retval=True)
def put_shard_into_names(
    connection: Connection, cursor: Any, statement: str, parameters: Any, *rest: Any
) -> tuple[str, Any]:
    shard = connection.get_execution_options().get("shard")
    return (statement.replace("{shard}", shard) if shard else statement), parameters


class Base(DeclarativeBase):
    pass


class WeatherLocation(Base):
    __tablename__ = "{shard}_locations"

    id: Mapped[int] = mapped_column(primary_key=True)
    continent: Mapped[str] = mapped_column(String(32))
    city: Mapped[str] = mapped_column(String(64))
    reports: Mapped[list[Report]] = relationship(back_populates="location")

    def __init__(self, continent: str, city: str) -> None:
        self.continent = continent
        self.city = city


class Report(Base):
    __tablename__ = "{shard}_reports"

    id: Mapped[int] = mapped_column(primary_key=True)
    location_id: Mapped[int] = mapped_column(ForeignKey("{shard}_locations.id"))
    temperature: Mapped[float]
    location: Mapped[WeatherLocation] = relationship(back_populates="reports")

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature


def choose_shard(mapper: Mapper[Any], instance: Any, clause: Any = None) -> str:
    """Say where a new object goes: a report, to where its location is."""
    location = instance if isinstance(instance, WeatherLocation) else instance.location
    return CONTINENTS[location.continent]


def choose_for_identity(
    mapper: Mapper[Any], primary_key: Any, *, lazy_loaded_from: InstanceState[Any] | None = None, **kw: Any
) -> Iterable[str]:
    """Say which shards may hold a primary key: all of them count from 1."""
    return [lazy_loaded_from.identity_token] if lazy_loaded_from else CONTINENTS.values()


def choose_for_statement(context: ORMExecuteState) -> Iterable[str]:
    """Say which shards a statement is sent to."""
    parent = context.lazy_loaded_from if context.is_select else None  # an UPDATE has none to ask
    return [parent.identity_token] if parent else CONTINENTS.values()


Session = sessionmaker(
    class_=ShardedSession,
    shards={shard: engine.execution_options(shard=shard) for shard in CONTINENTS.values()},
    shard_chooser=choose_shard,
    identity_chooser=choose_for_identity,
    execute_chooser=choose_for_statement,
)


def main() -> None:
    with Session() as session:
        for continent, city in (("Asia", "Tokyo"), ("Europe", "London"), ("Europe", "Dublin"), ("Asia", "Seoul")):
            location = WeatherLocation(continent, city)
            location.reports.append(Report(60.0 + len(city)))
            session.add(location)
        session.commit()
    print("added 4 locations with their reports")


if __name__ == "__main__":
    main()
