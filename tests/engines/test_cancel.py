"""A statement that is given up, by time or by ^C, does not go on running on any server."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.fixtures.engines import Databases, server_url

SLEEP = {"postgresql": "pg_sleep(97)", "mysql": "sleep(97)"}
RUNNING = {
    "postgresql": "select count(*) from pg_stat_activity where datname like :name and state = 'active'"
    " and query like '%sleep(97)%'",
    "mysql": "select count(*) from information_schema.processlist where db like :name and info like '%sleep(97)%'",
}
PATIENCE_S = 60


@pytest.fixture(params=["postgresql", "mysql"])
def servers(request, workspace) -> Iterator[Databases]:
    server_url(request.param)
    databases = Databases(request.param, workspace.folder)
    urls = {name: databases.create(name) for name in ("a", "b")}
    workspace.write("shardctl.toml", "".join(f'[shards.{name}]\nurl = "{url}"\n' for name, url in urls.items()))
    for url in urls.values():
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("create table t (n int)"))
            connection.execute(text("insert into t values (1)"))
    yield databases
    databases.drop_all()


def running(databases: Databases) -> int:
    engine = create_engine(server_url(databases.engine), poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.execute(text(RUNNING[databases.engine]), {"name": f"{databases.prefix}%"}).scalar_one())


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def commands(databases: Databases) -> list[list[str]]:
    sleep = SLEEP[databases.engine]
    condition = f"n = {sleep}" if databases.engine == "mysql" else f"{sleep} IS NULL"
    return [
        ["query", f"SELECT count(*) AS n FROM t WHERE {condition}"],
        ["exec", f"SELECT {sleep}", "--all-shards"],
        ["exec", f"UPDATE t SET n = 2 WHERE {condition}", "--all-shards", "--write", "--yes"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_interrupted(servers, workspace, number):
    arguments = commands(servers)[number]
    process = workspace.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    wait_until(lambda: running(servers) == 2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, stderr
    assert b"interrupted" in stderr
    wait_until(lambda: running(servers) == 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_out_of_time(servers, workspace, number):
    arguments = commands(servers)[number]
    process = workspace.start(
        *arguments, "--timeout", "2", stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 3, stderr
    assert b"no answer within 2 s; its statement was cancelled" in stderr
    wait_until(lambda: running(servers) == 0)
