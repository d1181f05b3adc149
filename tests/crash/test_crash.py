"""Runs that break off at every statement: running the same command again ends where an undisturbed run does."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardctl.errors import ShardctlError
from shardctl.fleet import LiveShard
from shardctl.schema.apply import upgrade
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.limits import Terms
from tests.crash import stages
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.projects import KINDS, Project, create_places, place_shards

pytestmark = pytest.mark.slow

# Children are forked from a server that has imported everything: hundreds of them are started.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.crash.stages", "psycopg", "pymysql", "alembic.command"])


@pytest.fixture(params=KINDS)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Project, LiveShard]]:
    kind = request.param
    databases = Databases(kind.partition(" ")[0], tmp_path)
    if databases.engine != "sqlite":
        server_url(databases.engine)
    project = Project(tmp_path)
    place_shards(project, kind, databases, ["asia"])
    stages.write_project(project)
    fleet = project.open()
    create_places(fleet, databases)
    yield project, fleet.shards["asia"]
    databases.drop_all()


def run_tool(folder: Path, direction: str = "upgrade", target: str = "head") -> int | None:
    """Run in a process of its own, and return how that ended."""
    process = processes.Process(target=stages.migrate_here, args=(folder, direction, target))
    process.start()
    process.join(120)
    return process.exitcode


def problem(folder: Path) -> str:
    file = folder / "error"
    return file.read_text() if file.exists() else ""


def assert_survives_sigkill(project: Project, shard: LiveShard, direction: str, target: str) -> None:
    """Kill the run at each statement, and compare what the next run leaves."""
    folder = project.folder

    def prepare() -> None:
        stages.go_on(folder)
        stages.empty(shard)
        if direction == "downgrade":
            upgrade(shard, project.scripts())

    prepare()
    stages.stop_at(folder, 0, "never", "kill")
    assert run_tool(folder, direction, target) == 0, problem(folder)
    steps, expected, done = stages.steps_seen(folder), stages.contents(shard), stages.done_in_history(shard)
    assert steps > 15

    # What can be rolled back is the same behind one statement and before the next.
    places = ("before",) if shard.backend.is_transactional_ddl else ("before", "behind")
    killed, recovered, wrong = {"before": 0, "behind": 0}, 0, []
    for number in range(1, steps + 1):
        for where in places:
            prepare()
            stages.stop_at(folder, number, where, "kill")
            exit_code = run_tool(folder, direction, target)
            killed[where] += exit_code == -9
            stages.go_on(folder)
            again = run_tool(folder, direction, target)
            is_right = (
                again == 0
                and stages.contents(shard) == expected
                and stages.done_in_history(shard) == done
                and stages.journal_rows(shard) == 0
                and "running" not in stages.outcomes_in_history(shard)
            )
            recovered += is_right
            if not is_right:
                wrong.append((number, where, exit_code, again, problem(folder)))
    assert wrong == []
    assert (killed["before"], recovered) == (steps, len(places) * steps)
    assert (
        len(places) == 1 or killed["behind"] >= steps - 2
    )  # looking for a table that is not there fails, and nothing comes behind
    assert not list(folder.glob("**/*-shardctl-lock"))


def test_upgrade_killed_at_every_statement(stage: tuple[Project, LiveShard]) -> None:
    assert_survives_sigkill(*stage, "upgrade", "head")


@pytest.mark.parametrize("stage", [kind for kind in KINDS if kind.endswith(("files", "databases"))], indirect=True)
def test_downgrade_killed_at_every_statement(stage: tuple[Project, LiveShard]) -> None:
    assert_survives_sigkill(*stage, "downgrade", "r1")


def test_connection_lost_at_every_statement(stage: tuple[Project, LiveShard]) -> None:
    project, shard = stage
    if shard.backend.name == "sqlite":
        pytest.skip("SQLite has no connection to lose")
    folder, scripts, terms = project.folder, project.scripts(), Terms(lock_wait_s=30)
    goal = Goal(Direction.UPGRADE)
    stages.go_on(folder)
    upgrade(shard, scripts, goal)
    steps, expected = stages.steps_seen(folder), stages.contents(shard)

    recovered, lost = 0, 0
    for number in range(1, steps + 1):
        stages.empty(shard)
        stages.stop_at(folder, number, "before", "disconnect")
        try:
            upgrade(shard, scripts, goal, terms=terms)
        except ShardctlError:
            lost += 1
        stages.go_on(folder)
        upgrade(shard, scripts, goal, terms=terms)
        recovered += stages.contents(shard) == expected and stages.journal_rows(shard) == 0
    assert recovered == steps
    assert lost >= steps - 4  # reading back, and letting go of the lock, comes last, and needs no luck
