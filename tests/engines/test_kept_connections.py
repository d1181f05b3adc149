"""Queries of the library keep their connections: what that saves, and what must not come of it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

import shardctl
from shardctl.errors import ShardctlError
from shardctl.fleet import Fleet
from shardctl.query import run_query
from tests.engines.test_connection_budget import counting
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.trips import Trips, counted

NAMES = ("a", "b", "c")
PID = "SELECT pg_backend_pid() AS pid"


def opened(folder: Path, urls: dict[str, str], more: str = "") -> Fleet:
    file = folder / "shardctl.toml"
    file.write_text(more + "".join(f'[shards.{name}]\nurl = "{url}"\n' for name, url in urls.items()), encoding="utf-8")
    return shardctl.open(file)


def on(url: str, *statements: str) -> None:
    with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


@pytest.fixture
def urls(postgresql: Databases) -> dict[str, str]:
    found = {name: postgresql.create(name) for name in NAMES}
    for name, url in found.items():
        on(url, "create table t (n int primary key, name text)", f"insert into t values (1, '{name}')")
    return found


@pytest.fixture
def fleet(urls: dict[str, str], tmp_path: Path) -> Iterator[Fleet]:
    with opened(tmp_path, urls) as found:
        yield found


def ask(fleet: Fleet, sql: str, *names: str, **options) -> list:
    return run_query(fleet, sql, shards=[fleet.shard(name) for name in names or NAMES], **options).rows


def test_the_second_query_connects_no_more(fleet):
    for connects in (len(NAMES), 0):
        with counting() as numbers:
            assert ask(fleet, "SELECT count(*) FROM t") == [(3,)]
            assert sorted(ask(fleet, "SELECT name FROM t ORDER BY name")) == [("a",), ("b",), ("c",)]
        assert len(numbers) - 1 == connects


def test_files_are_opened_once(tmp_path):
    for name in NAMES:
        with closing(sqlite3.connect(tmp_path / f"{name}.db")) as file:
            file.execute("create table t (n int)")
    with opened(tmp_path, {name: f"sqlite:///{name}.db" for name in NAMES}) as fleet:
        for connects in (len(NAMES), 0):
            with counting() as numbers:
                assert ask(fleet, "SELECT count(*) FROM t") == [(0,)]
            assert len(numbers) - 1 == connects


def test_a_file_that_was_replaced_is_opened_again(tmp_path):
    for name, rows in (("a.db", 1), ("new.db", 2)):
        with closing(sqlite3.connect(tmp_path / name)) as file:
            file.execute("create table t (n int)")
            file.executemany("insert into t values (?)", [(number,) for number in range(rows)])
            file.commit()
    with opened(tmp_path, {"a": "sqlite:///a.db"}) as fleet:
        assert ask(fleet, "SELECT count(*) FROM t", "a") == [(1,)]
        (tmp_path / "new.db").replace(tmp_path / "a.db")
        assert ask(fleet, "SELECT count(*) FROM t", "a") == [(2,)]
        (tmp_path / "a.db").unlink()
        with pytest.raises(ShardctlError) as caught:
            ask(fleet, "SELECT count(*) FROM t", "a")
        assert "there is no file" in str([caught.value.message, *caught.value.facts])


def test_what_is_kept_is_within_the_budget(urls, tmp_path):
    with opened(tmp_path, urls, "connections_per_server = 2\n") as fleet, counting() as numbers:
        for _ in range(3):
            assert ask(fleet, "SELECT count(*) FROM t") == [(3,)]
        with fleet.shard("c").connect(read_only=False), fleet.shard("a").connect():
            pass
    assert max(numbers) == 2


def test_nothing_can_be_written(fleet, urls):
    on(urls["a"], "create sequence s")
    for _ in range(2):
        with pytest.raises(ShardctlError) as caught:
            ask(fleet, "SELECT nextval('s')", "a")
        assert "read-only" in str(caught.value.facts)
        assert ask(fleet, "SELECT n FROM t", "a") == [(1,)]


def test_nothing_is_left_behind(fleet):
    (before,) = ask(fleet, PID, "a")
    assert ask(fleet, "SELECT set_config('search_path', 'nowhere', false)", "a") == [("nowhere",)]
    assert ask(fleet, "SELECT pg_advisory_lock(7)", "a")
    assert ask(fleet, "SELECT current_setting('search_path') LIKE '%public%'", "a") == [(True,)]
    assert ask(fleet, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", "a") == [
        (0,)
    ]
    assert ask(fleet, PID, "a") == [before]


def test_a_column_that_is_new_is_seen(fleet, urls):
    for _ in range(7):  # the driver would prepare what it sees often
        assert ask(fleet, "SELECT * FROM t", "a") == [(1, "a")]
    on(urls["a"], "alter table t add column more int")
    assert ask(fleet, "SELECT * FROM t", "a") == [(1, "a", None)]


def test_a_connection_that_failed_is_not_used_again(fleet):
    (before,) = ask(fleet, PID, "a")
    with pytest.raises(ShardctlError):
        ask(fleet, "SELECT 1 / (n - 1) FROM t", "a")
    assert ask(fleet, PID, "a") != [before]


@pytest.mark.slow
def test_a_connection_that_was_cancelled_is_not_used_again(fleet):
    (before,) = ask(fleet, PID, "a")
    with pytest.raises(ShardctlError) as caught:
        ask(fleet, "SELECT pg_sleep(97)", "a", timeout_s=0.5)
    assert "its statement was cancelled" in str(caught.value.facts)
    assert ask(fleet, PID, "a") != [before]


def test_a_connection_that_was_lost_is_made_again(fleet):
    pids = {pid for name in NAMES for (pid,) in ask(fleet, PID, name)}
    on(server_url("postgresql"), *(f"select pg_terminate_backend({pid})" for pid in pids))
    assert ask(fleet, "SELECT count(*) FROM t") == [(3,)]
    assert pids.isdisjoint(pid for name in NAMES for (pid,) in ask(fleet, PID, name))


@pytest.fixture
def far(urls: dict[str, str], tmp_path: Path) -> Iterator[tuple[Fleet, Trips]]:
    with counted(make_url(server_url("postgresql"))) as (server, trips):
        places = {name: server.set(database=make_url(url).database) for name, url in urls.items()}
        with opened(tmp_path, {name: url.render_as_string(False) for name, url in places.items()}) as fleet:
            yield fleet, trips


@pytest.mark.parametrize(
    ("sql", "names", "number"),
    [
        ("SELECT name FROM t WHERE n = 1", ("a",), 1),
        ("SELECT count(*) FROM t", NAMES, 3),
        ("SELECT n FROM t ORDER BY n LIMIT 2", NAMES, 3),
        ("SELECT name FROM t ORDER BY name LIMIT 2", NAMES, 7),  # and its collation; one shard compares
    ],
)
def test_round_trips(far, sql, names, number):
    fleet, trips = far
    expected = ask(fleet, sql, *names)
    trips.reset()
    assert ask(fleet, sql, *names) == expected
    assert trips.number <= number  # what is sent together may be answered in parts, or not


_SLEEPING = """
import sys
import shardctl
from shardctl.query import run_query

with shardctl.open(sys.argv[1]) as fleet:
    shards = [fleet.shard("a")]
    run_query(fleet, "SELECT 1", shards=shards)
    run_query(fleet, "SELECT pg_sleep(97)", shards=shards)
"""


@pytest.mark.slow
def test_an_interrupted_query_does_not_go_on(fleet, urls, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _SLEEPING, str(tmp_path / "shardctl.toml")],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%sleep(97)%'"
    running = f"{sleeping} AND state = 'active' AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 60
    while ask(fleet, running, "a") != [(1,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in stderr
    while ask(fleet, running, "a") != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
