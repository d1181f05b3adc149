"""One run at a time on a shard, and a lock that no death of its holder survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import event, text

from shardctl.errors import ExitCode, Interrupted, Locked, Refused
from shardctl.fleet import LiveShard
from shardctl.schema.apply import upgrade
from shardctl.schema.events import Event, LockWaited
from shardctl.schema.file_lock import FileLock
from shardctl.schema.history import who
from shardctl.schema.limits import Terms
from shardctl.schema.locks import held
from shardctl.schema.run_env import shard_revision
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, create_places, place_shards

HOLD = """
import sys, time
from shardctl.fleet import connect
from shardctl.schema.limits import Terms, set_limits
from shardctl.schema.history import who
from shardctl.schema.locks import held
from shardctl.topology.load import load
import os
fleet = connect(load("shardctl.toml"))
shard = fleet.shards["asia"]
with shard.connect(read_only=False) as connection, held(shard, connection):
    with shard.backend.autocommit(connection):
        set_limits(connection, Terms(), f"shardctl {who()} pid {os.getpid()}")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, "op.create_table('cities', sa.Column('id', sa.Integer(), primary_key=True))")
    return made


@pytest.fixture
def asia(project: Project, databases: Databases) -> LiveShard:
    kind = {"sqlite": "files", "postgresql": "schemas", "mysql": "databases"}[databases.engine]
    place_shards(project, f"{databases.engine} {kind}", databases, ["asia", "europe"])
    fleet = project.open()
    create_places(fleet, databases)
    return fleet.shards["asia"]


def hold_in_a_process(project: Project) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=project.folder, stdout=subprocess.PIPE, text=True, env=environ
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_held_lock_names_its_holder_and_dies_with_it(project: Project, asia: LiveShard) -> None:
    process = hold_in_a_process(project)
    try:
        with pytest.raises(Locked) as caught:
            upgrade(asia, project.scripts())
        assert caught.value.exit_code is ExitCode.LOCKED
        assert "another run is at work on it" in caught.value.message
        if asia.backend.name != "mysql":  # its history has no row yet: the holder does not migrate
            assert f"{who()}, process {process.pid}, since 20" in caught.value.message
        assert shard_revision(asia, project.scripts()).revisions == ()  # reading needs no lock
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert upgrade(asia, project.scripts(), terms=Terms(lock_wait_s=20)).to == ("r1",)
    assert not list(project.folder.glob("*-shardctl-lock"))


def test_a_run_that_migrates_is_named_by_its_history(project: Project, asia: LiveShard) -> None:
    project.write_revision("r2", "r1", "__import__('builtins').probe()")
    told: list[str] = []

    def probe() -> None:
        with pytest.raises(Locked) as caught:
            upgrade(asia, project.scripts())
        told.append(caught.value.message)

    import builtins

    builtins.probe = probe  # type: ignore[attr-defined]
    try:
        assert upgrade(asia, project.scripts()).to == ("r2",)
    finally:
        del builtins.probe  # type: ignore[attr-defined]
    assert f"{who()}, process {os.getpid()}, since 20" in told[0]


def test_other_shards_are_not_locked(project: Project, asia: LiveShard) -> None:
    fleet = project.open()
    with asia.connect(read_only=False) as connection, held(asia, connection):
        assert upgrade(fleet.shards["europe"], project.scripts()).to == ("r1",)


def test_waiting_for_a_lock(project: Project, asia: LiveShard) -> None:
    seen: list[Event] = []
    release = threading.Event()
    holding = threading.Event()

    def hold() -> None:
        with asia.connect(read_only=False) as connection, held(asia, connection):
            holding.set()
            release.wait(60)

    def on_event(event: Event) -> None:
        seen.append(event)
        release.set()

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(60)
    result = upgrade(asia, project.scripts(), terms=Terms(lock_wait_s=60), on_event=on_event)
    thread.join()
    assert result.to == ("r1",)
    assert isinstance(seen[0], LockWaited)
    assert (seen[0].shard_id, seen[0].wait_s) == ("asia", 60)


def test_waiting_ends_when_the_run_is_stopped(project: Project, asia: LiveShard) -> None:
    stop = threading.Event()
    with asia.connect(read_only=False) as connection, held(asia, connection), pytest.raises(Interrupted):
        upgrade(asia, project.scripts(), terms=Terms(lock_wait_s=60), stop=stop, on_event=lambda event: stop.set())


def test_a_lock_that_is_gone_with_its_transaction_is_refused(project: Project, postgresql: Databases) -> None:
    place_shards(project, "postgresql schemas", postgresql, ["asia"])
    fleet = project.open()
    create_places(fleet, postgresql)
    asia = fleet.shards["asia"]

    @event.listens_for(asia.engine, "after_cursor_execute")
    def another_session(connection, cursor, statement, *rest):
        """Do what a pooler does: the next transaction is on a session that has no lock."""
        if "pg_try_advisory_lock" in statement:
            connection.connection.driver_connection.execute("select pg_advisory_unlock_all()")

    with pytest.raises(Refused, match="a pooler"):
        upgrade(asia, project.scripts())
    assert shard_revision(asia, project.scripts()).revisions == ()


def test_concurrent_index_is_not_kept_from_by_waiting_runs(project: Project, postgresql: Databases) -> None:
    place_shards(project, "postgresql schemas", postgresql, ["asia"])
    fleet = project.open()
    create_places(fleet, postgresql)
    asia = fleet.shards["asia"]
    project.write_revision(
        "r2",
        "r1",
        """
        import time
        time.sleep(1)
        with op.get_context().autocommit_block():
            op.create_index("ix", "cities", ["id"], postgresql_concurrently=True)
        """,
    )
    results = []
    scripts = project.scripts()
    threads = [
        threading.Thread(target=lambda: results.append(upgrade(asia, scripts, terms=Terms(lock_wait_s=120))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert sorted(result.outcome for result in results) == ["at head", "at head", "upgraded"]
    with asia.engine.connect() as connection:
        assert connection.scalar(text("select indisvalid from pg_index where indexrelid = 's_asia.ix'::regclass"))


def test_file_lock(tmp_path: Path) -> None:
    database = tmp_path / "asia.db"
    database.touch()
    link = tmp_path / "link.db"
    link.symlink_to(database)
    first, second = FileLock(database), FileLock(link)
    assert first.take()
    assert not second.take()
    holder = second.holder()
    assert holder is not None
    assert (holder.who, holder.pid) == (who(), os.getpid())
    first.release()
    assert second.take()
    assert not first.take()
    second.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asia.db", "link.db"]
    assert FileLock(None).take()


def test_file_locks_under_contention(tmp_path: Path) -> None:
    """The file is made and removed all the time: no two may hold it at once."""
    database = tmp_path / "asia.db"
    inside: list[int] = []
    most, taken = 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal most, taken
        lock, mine = FileLock(database), 0
        while mine < 100:
            if lock.take():
                with counting:
                    inside.append(1)
                    most, taken = max(most, len(inside)), taken + 1
                with counting:
                    inside.pop()
                lock.release()
                mine += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, taken) == (1, 400)
    assert list(tmp_path.iterdir()) == []
