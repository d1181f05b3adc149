"""The one screen of all shards: what it is read with, and what it says when something is wrong."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from shardctl.cli.status import screen_of
from shardctl.cli.status_reading import LastCheck, Seen, last_checks, not_counted, read_seen
from shardctl.cli.status_screen import Screen, head_line
from shardctl.errors import ShardUnreachable
from shardctl.fleet import Fleet, Outcome
from shardctl.fleet.records import Records
from shardctl.schema.history import HISTORY
from shardctl.schema.revisions import Scripts
from shardctl.topology.load import load
from tests.engines.test_stats import settle
from tests.engines.test_status import (
    NAMES,
    as_login,
    counted_connections,
    counted_statements,
    kind,
    login,
    of_kind,
    project,
    ran,
    stamp,
)
from tests.fixtures.cli import Workspace
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, create_places, in_shard, place_shards
from tests.fixtures.shop import RULES, SHARDS

__all__ = ["kind", "of_kind", "project"]


def seen(fleet: Fleet, scripts: Scripts | None) -> dict[str, Outcome[Seen]]:
    found = {outcome.shard_id: outcome for outcome in read_seen(fleet, fleet.shards.values(), scripts)}
    return {name: found[name] for name in fleet.shards}


def screen(fleet: Fleet, scripts: Scripts | None) -> Screen:
    found = list(seen(fleet, scripts).values())
    return screen_of(fleet, list(fleet.shards.values()), found, scripts, not_counted(fleet), last_checks(fleet))


def with_towns(project: Project, kind: str, databases: Databases) -> Fleet:
    place_shards(project, kind, databases, NAMES)
    fleet = project.open()
    create_places(fleet, databases)
    for number, (name, live) in enumerate(fleet.shards.items()):
        stamp(fleet, name, "r2")
        in_shard(live, "create table towns (id int)")
        for _ in range(number):
            in_shard(live, "insert into towns values (1)")
        settle(live)
        in_shard(live, "analyze table towns" if databases.engine == "mysql" else "analyze towns")
    return fleet


def test_a_shard_is_seen_with_all_that_is_known_of_it(project: Project, kind: str, of_kind: Databases) -> None:
    fleet = with_towns(project, kind, of_kind)
    ran(fleet, "europe", "r2", "failed", error="no such table: stones")
    shown = screen(fleet, project.scripts())
    engine = {"mysql": ("mysql", "mariadb")}.get(of_kind.engine, (of_kind.engine,))
    for outcome in shown.found.values():
        assert outcome.result.pulse.engine.partition(" ")[0] in engine
        assert outcome.result.pulse.latency_ms >= 0
        assert outcome.result.status.revision.revisions == ("r2",)
    assert [rows for rows, _ in shown.rows.values()] == [0, 1, 2, 3, 4]  # the version table is not counted
    assert {known for _, known in shown.rows.values()} == {"exact" if of_kind.engine == "sqlite" else "estimate"}
    assert [shown.skew(name) for name in NAMES] == [0, 0.5, 1, 1.5, 2]
    assert shown.problems == ["europe upgrade failed"]


def test_copies_are_not_counted(databases: Databases, tmp_path: Path) -> None:
    entries = "".join(f'\n[shards.{name}]\nurl = "{databases.create(name)}"\n' for name in SHARDS)
    (tmp_path / "shardctl.toml").write_text(RULES + entries)
    from shardctl.fleet import connect

    fleet = connect(load(tmp_path / "shardctl.toml"))
    for live in fleet.shards.values():
        in_shard(live, "create table currencies (code varchar(9))")
        in_shard(live, "insert into currencies values ('EUR')")
    shown = screen(fleet, None)
    assert [rows for rows, _ in shown.rows.values()] == [0, 0, 0]
    assert shown.skew("a") is None
    assert shown.heads is None


@pytest.mark.slow
def test_two_hundred_schemas_cost_a_handful_of_statements(project: Project, postgresql: Databases) -> None:
    names = [f"n{number}" for number in range(200)]
    place_shards(project, "postgresql schemas", postgresql, names)
    fleet = project.open()
    postgresql.create("shared")
    with fleet.shards["n0"].engine.begin() as connection:
        for name in names:
            connection.execute(text(f"create schema s_{name}"))
            connection.execute(text(f"create table s_{name}.alembic_version (version_num varchar(32) primary key)"))
            connection.execute(text(f"insert into s_{name}.alembic_version values ('r2')"))
            connection.execute(text(f"create table s_{name}.towns (id int)"))
            HISTORY.to_metadata(type(HISTORY.metadata)(), schema=f"s_{name}").create(connection)
    with counted_statements() as statements, counted_connections() as connections:
        found = seen(fleet, project.scripts())
    assert {outcome.result.size is not None for outcome in found.values()} == {True}
    assert len(connections) == 1
    assert len(statements) <= 6, statements


def test_databases_of_one_mysql_server_are_seen_together(project: Project, mysql: Databases) -> None:
    fleet = with_towns(project, "mysql databases", mysql)
    with counted_statements() as statements, counted_connections() as connections:
        assert all(outcome.is_ok for outcome in seen(fleet, project.scripts()).values())
    assert len(connections) == 1
    assert len([statement for statement in statements if "SELECT" in statement]) <= 4, statements


def test_a_login_that_may_only_read(project: Project, postgresql: Databases) -> None:
    fleet = with_towns(project, "postgresql schemas", postgresql)
    for name in NAMES:
        ran(fleet, name, "r2", "done")
    grants = [f"grant usage on schema s_{name}" for name in NAMES[1:]]
    grants += [f"grant select on all tables in schema s_{name}" for name in NAMES[1:]]
    with login("postgresql", grants, fleet) as name:
        shown = screen(as_login(project, name), project.scripts())
    assert shown.found["asia"].error.message == "permission denied for schema `s_asia`"
    assert [rows for rows, _ in shown.rows.values()] == [1, 2, 3, 4]
    assert shown.problems == ["asia unreadable"]


def test_a_table_that_is_being_altered_holds_up_nothing(project: Project, postgresql: Databases) -> None:
    project.more = "timeout_s = 2"
    fleet = with_towns(project, "postgresql schemas", postgresql)
    with fleet.shards["oceania"].engine.begin() as connection:
        connection.execute(text("alter table towns add column name text"))
        shown = screen(fleet, project.scripts())
    assert shown.problems == []
    assert [rows for rows, _ in shown.rows.values()] == [0, 1, 2, 3, 4]


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield server.getsockname()[1]


def test_a_silent_server_does_not_hold_up_the_others(project: Project, silent: int, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    project.more = "timeout_s = 2"
    (tmp_path / "here.db").touch()
    project.shards["silent"] = {"url": f"postgresql://app@127.0.0.1:{silent}/shop"}
    project.shards["here"] = {"url": f"sqlite:///{tmp_path}/here.db"}
    fleet = project.open()
    started = time.monotonic()
    outcomes = read_seen(fleet, fleet.shards.values(), project.scripts())
    came = [(outcome.shard_id, time.monotonic() - started) for outcome in outcomes]
    assert [name for name, _ in came] == ["here", "silent"]
    assert came[0][1] < came[1][1] / 2


def test_a_dead_server_is_one_problem_of_each_of_its_shards(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    for name in ("asia", "europe"):
        project.shards[name] = {"url": "postgresql://app@127.0.0.1:9/shop", "schema": name}
    fleet = project.open()
    shown = screen(fleet, project.scripts())
    assert {type(outcome.error) for outcome in shown.found.values()} == {ShardUnreachable}
    assert head_line(shown, is_plain=True) == (
        f"{tmp_path.name} - 2 shards - head r2 - 2 problems: asia, europe unreachable\n"
    )


@pytest.mark.parametrize("findings", [{"placement": 2, "orphans": 0, "duplicates": 1}, {}])
def test_what_checks_found_is_read_from_their_records(project: Project, findings: dict[str, int]) -> None:
    project.shards["asia"] = {"url": "sqlite:///asia.db"}
    fleet = project.open()
    assert last_checks(fleet) == {"audit": None, "drift": None}
    Records(fleet.shard_map).write("audit", {"findings": findings, "looked_at": {}})
    found = last_checks(fleet)["audit"]
    assert isinstance(found, LastCheck)
    assert found.count == sum(findings.values())


@pytest.mark.parametrize("data", [{}, {"findings": None}, {"findings": [1]}, {"findings": {"x": "many"}}])
def test_a_record_of_another_shape_is_none(project: Project, data: dict[str, object]) -> None:
    project.shards["asia"] = {"url": "sqlite:///asia.db"}
    fleet = project.open()
    Records(fleet.shard_map).write("audit", data)
    assert last_checks(fleet)["audit"] is None


@pytest.mark.slow
def test_what_drift_found_is_on_the_screen(filled: Workspace) -> None:
    filled.run("""python -c "import sqlite3; sqlite3.connect('asia.db').execute('create table x (id int)')" """)
    for partial in ("--shard asia --shard europe", "--against asia", "--ignore view", "-c missing.toml"):
        filled.shardctl(f"drift {partial}")
        assert "drift: no run is recorded" in filled.shardctl("status").stdout
    assert filled.shardctl("drift").code == 1
    said = filled.shardctl("status")
    assert "drift: 1 finding (table 1), " in said.stdout
    assert "1 problem: drift found 1" in said.stdout
    checks = json.loads(filled.shardctl("status --format json").stdout)["checks"]
    assert checks["drift"]["findings"] == {"table": 1}
    filled.run("""python -c "import sqlite3; sqlite3.connect('asia.db').execute('drop table x')" """)
    assert filled.shardctl("drift").code == 0
    assert "drift: nothing found, " in filled.shardctl("status").stdout
