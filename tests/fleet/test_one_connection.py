"""Shards that are schemas of one database share a session's connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event, select

from examples.weather.models import Base, Report, WeatherLocation
from shardctl.fleet import Fleet, connect
from shardctl.topology.model import FollowingTable, Shard, ShardedTable, ShardMap
from shardctl.topology.strategies import Lookup

SHARDS = [f"s{number:02}" for number in range(20)]


@pytest.fixture
def fleet(databases) -> Iterator[Fleet]:
    """Twenty schemas of one PostgreSQL database, twenty databases of one MySQL server, or ten attached files."""
    names = SHARDS[:10] if databases.engine == "sqlite" else SHARDS
    url = "sqlite://" if databases.engine == "sqlite" else databases.create("main")
    shards = {}
    for name in names:
        schema = f"{databases.prefix}_{name}" if databases.engine == "mysql" else name
        if databases.engine == "mysql":
            databases.create(name)
        attach = databases.folder / f"{name}.db" if databases.engine == "sqlite" else None
        shards[name] = Shard(name, url, schema=schema, attach=attach)
    tables = {
        "WeatherLocation": ShardedTable("WeatherLocation", Lookup({name: name for name in names}), ("continent",)),
        "Report": FollowingTable("Report", "location"),
    }
    shard_map = ShardMap(shards, tables, models=("examples.weather.models:Base",), connections_per_server=3)
    with connect(shard_map) as opened:
        for shard in opened.shards.values():
            if databases.engine == "postgresql":
                with shard.connect(read_only=False) as connection:
                    shard.backend.create_schema(connection, str(shard.shard.schema))
                    connection.commit()
            Base.metadata.create_all(shard.bind)
        yield opened


def count_connections(fleet: Fleet) -> list[object]:
    """Note each connection that the sessions' pool hands out from now on."""
    handed_out: list[object] = []
    database = next(iter(fleet.shards.values())).database
    event.listen(database, "checkout", lambda connection, record, proxy: handed_out.append(connection))
    return handed_out


def test_a_session_over_all_schemas_holds_one_connection(fleet):
    handed_out = count_connections(fleet)
    with fleet.sessionmaker()() as session:
        for name in fleet.shards:
            location = WeatherLocation(name, f"city of {name}")
            location.reports = [Report(1.0), Report(2.0)]
            session.add(location)
        session.commit()
        assert len(handed_out) == 1

        cities = session.scalars(select(WeatherLocation.city)).all()
        assert sorted(cities) == [f"city of {name}" for name in fleet.shards]
        assert len(handed_out) == 2

    for name, shard in fleet.shards.items():
        with shard.connect() as connection:
            assert connection.exec_driver_sql("select city from weather_locations").scalars().all() == [
                f"city of {name}"
            ]
            assert connection.exec_driver_sql("select count(*) from weather_reports").scalar() == 2


def test_savepoints_and_rollback_hold_for_every_schema(fleet):
    first, second = list(fleet.shards)[:2]
    with fleet.sessionmaker()() as session:
        session.add(WeatherLocation(first, "kept"))
        session.flush()
        with session.begin_nested() as savepoint:
            session.add(WeatherLocation(second, "undone"))
            session.flush()
            savepoint.rollback()
        session.add(WeatherLocation(second, "kept too"))
        session.commit()
        session.add(WeatherLocation(first, "rolled back"))
        session.flush()
        session.rollback()

        assert sorted(session.scalars(select(WeatherLocation.city))) == ["kept", "kept too"]


def test_nothing_is_kept_of_ended_transactions(fleet):
    with fleet.sessionmaker()() as session:
        for _ in range(5):
            session.scalars(select(WeatherLocation.city)).all()
            session.commit()

        assert len(session._on_schema) == 1


def test_a_stream_of_rows_is_whole(fleet):
    """PyMySQL streams one result per connection: a second one would drop what is left of the first."""
    with fleet.sessionmaker()() as session:
        for name in fleet.shards:
            session.add_all([WeatherLocation(name, f"{name} {number}") for number in range(3)])
        session.commit()
        cities = session.scalars(select(WeatherLocation.city).execution_options(yield_per=1)).all()
        assert sorted(cities) == [f"{name} {number}" for name in fleet.shards for number in range(3)]
