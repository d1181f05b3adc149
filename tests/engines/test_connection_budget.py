"""Many shards of one server never get more connections than its budget."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Pool, event

from shardctl.fleet import Fleet, connect
from shardctl.query import run_query
from shardctl.rows.locate import locate
from shardctl.schema.create import init, plan_init
from shardctl.schema.revisions import load_scripts
from shardctl.topology.model import FollowingTable, Shard, ShardedTable, ShardMap
from shardctl.topology.strategies import Lookup
from tests.fixtures.projects import Project, migrate_fleet

ROOT = Path(__file__).parents[2]
SHARDS = 40
BUDGET = 4


@contextmanager
def counting() -> Iterator[list[int]]:
    """Note the number of open connections each time one is opened: servers let closed ones linger."""
    lock = threading.Lock()
    numbers = [0]
    is_open: set[int] = set()

    def opened(connection: object, record: object) -> None:
        with lock:
            is_open.add(id(connection))
            numbers.append(len(is_open))

    def closed(connection: object, *record: object) -> None:
        with lock:
            is_open.discard(id(connection))

    listeners = [("connect", opened), ("close", closed), ("close_detached", closed)]
    for name, listener in listeners:
        event.listen(Pool, name, listener)
    try:
        yield numbers
    finally:
        for name, listener in listeners:
            event.remove(Pool, name, listener)


def make_fleet(databases) -> Fleet:
    names = [f"s{number:02}" for number in range(SHARDS)]
    shards = {}
    for name in names:
        if databases.engine == "mysql":
            shards[name] = Shard(name, databases.url(name))
        else:
            shards[name] = Shard(name, databases.url("main"), schema=name)
    tables = {
        "WeatherLocation": ShardedTable("WeatherLocation", Lookup({name: name for name in names}), ("continent",)),
        "Report": FollowingTable("Report", "location"),
    }
    return connect(
        ShardMap(shards, tables, models=("examples.weather.models:Base",), connections_per_server=BUDGET),
        pooled=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("databases", ["postgresql", "mysql"], indirect=True)
def test_no_command_exceeds_the_budget(databases):
    scripts = load_scripts(ROOT / "migrations", where="test")
    with make_fleet(databases) as fleet, counting() as numbers:
        shards = list(fleet.shards.values())
        made = list(init(fleet, shards, plan_init(fleet, scripts, schemas_only=True)))
        migrated = list(migrate_fleet(fleet, scripts))
        counted = run_query(fleet, "select count(*) from weather_locations", shards=shards)
        search = locate(fleet, fleet.models.find("WeatherLocation"), shards, identities=[(1,)])

    assert [outcome.problem for outcome in [*made, *migrated] if not outcome.is_ok] == []
    assert counted.rows == [(0,)]
    assert search.failed == []
    assert len(numbers) > 3 * SHARDS
    assert 1 < max(numbers) <= BUDGET


@pytest.mark.slow
@pytest.mark.parametrize("databases", ["postgresql", "mysql"], indirect=True)
def test_the_connections_that_env_py_opens_itself_are_within_the_budget(databases, tmp_path):
    project = Project(tmp_path)
    project.write_env()  # Alembic's own template, which makes an engine
    project.write_revision("r1", None, "import time\ntime.sleep(0.05)")
    scripts = project.scripts()
    with make_fleet(databases) as fleet:
        shards = list(fleet.shards.values())
        made = list(init(fleet, shards[::2], plan_init(fleet, scripts, schemas_only=True)))
        with counting() as numbers:
            made += init(fleet, shards[1::2], plan_init(fleet, scripts))
            migrated = list(migrate_fleet(fleet, scripts))

    assert [outcome.problem for outcome in [*made, *migrated] if not outcome.is_ok] == []
    assert len(numbers) > 2 * SHARDS
    assert max(numbers) == BUDGET
