"""Runs over a fleet: in waves, until too many fail, and as planned or not at all."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from shardctl.errors import Refused
from shardctl.fleet import Fleet
from shardctl.schema.events import Event, Printed, RevisionFinished, RevisionStarted
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.plan import size_of, survey_sizes
from shardctl.schema.rollout import Policy, Rollout, ShardFinished, ShardStarted, WaveStarted
from shardctl.schema.waves import Rules, Wave, WaveSize
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, create_places, in_shard, migrate_fleet, place_shards, plan_fleet

pytestmark = pytest.mark.slow  # five databases for each test

NAMES = ["n0", "n1", "n2", "n3", "n4"]
CREATE = "op.create_table('cities', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('name', sa.String(9)))"
IN_THE_WAY = "create table zips (id int)"
ONE_BY_ONE = Rules(frozenset({"n3"}), WaveSize(1))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, CREATE)
    made.write_revision("r2", "r1", "op.create_table('zips', sa.Column('id', sa.Integer()))")
    return made


@pytest.fixture
def fleet(project: Project, databases: Databases) -> Fleet:
    kind = "files" if databases.engine == "sqlite" else "databases"
    place_shards(project, f"{databases.engine} {kind}", databases, NAMES)
    made = project.open()
    create_places(made, databases)
    return made


def at(fleet: Fleet, name: str) -> list[str]:
    return [row[0] for row in in_shard(fleet.shards[name], "select version_num from alembic_version")]


def test_waves_run_one_after_the_other(fleet: Fleet, project: Project) -> None:
    seen: list[object] = []
    lock = threading.Lock()

    def tell(event: Event | WaveStarted) -> None:
        with lock:
            seen.append(event)

    rollout = migrate_fleet(fleet, project.scripts(), rules=Rules(frozenset({"n3"}), WaveSize(2)), on_event=tell)
    assert {outcome.result.to for outcome in rollout} == {("r2",)}

    waves = [event.wave for event in seen if isinstance(event, WaveStarted)]
    assert [(wave.shard_ids, wave.is_canary) for wave in waves] == [
        (("n3",), True),
        (("n0", "n1"), False),
        (("n2", "n4"), False),
    ]
    for wave in waves:
        begun = seen.index(WaveStarted(wave))
        before = {name for earlier in waves[: wave.number - 1] for name in earlier.shard_ids}
        done = {event.shard_id for event in seen[:begun] if isinstance(event, ShardFinished)}
        started = {event.shard_id for event in seen[:begun] if isinstance(event, ShardStarted)}
        assert done == started == before
    for name in NAMES:
        steps = [event for event in seen if isinstance(event, RevisionStarted) and event.shard_id == name]
        assert [(event.revision, event.number, event.total) for event in steps] == [("r1", 1, 2), ("r2", 2, 2)]
    assert len([event for event in seen if isinstance(event, RevisionFinished)]) == 2 * len(NAMES)


@pytest.mark.parametrize("max_failures", [1, 3, None])
def test_a_failing_canary_stops_the_run(max_failures: int | None, fleet: Fleet, project: Project) -> None:
    in_shard(fleet.shards["n3"], IN_THE_WAY)
    in_shard(fleet.shards["n3"], "create table alembic_version (version_num varchar(32) not null primary key)")
    in_shard(fleet.shards["n3"], "insert into alembic_version values ('r1')")
    rollout = migrate_fleet(fleet, project.scripts(), rules=ONE_BY_ONE, max_failures=max_failures)
    outcomes = {outcome.shard_id: outcome for outcome in rollout}
    assert {name: outcome.is_ok for name, outcome in outcomes.items()} == {"n3": False}
    assert rollout.not_started == ["n0", "n1", "n2", "n4"]
    assert rollout.wave == Wave(1, ("n3",), is_canary=True)

    in_shard(fleet.shards["n3"], "drop table zips")
    again = migrate_fleet(fleet, project.scripts(), rules=ONE_BY_ONE, max_failures=1)
    assert [outcome.result.to for outcome in again] == [("r2",)] * 5
    assert again.not_started == []


@pytest.mark.parametrize(("max_failures", "left"), [(1, ["n2", "n4"]), (2, ["n4"]), (3, []), (None, [])])
def test_how_many_may_fail(max_failures: int | None, left: list[str], fleet: Fleet, project: Project) -> None:
    for name in ("n1", "n2"):
        in_shard(fleet.shards[name], "create table alembic_version (version_num varchar(32) not null primary key)")
        in_shard(fleet.shards[name], "insert into alembic_version values ('r1')")
        in_shard(fleet.shards[name], IN_THE_WAY)
    rollout = migrate_fleet(fleet, project.scripts(), rules=ONE_BY_ONE, max_failures=max_failures)
    failed = sorted(outcome.shard_id for outcome in rollout if not outcome.is_ok)
    assert failed == ["n1", "n2"] if left != ["n2", "n4"] else failed == ["n1"]
    assert rollout.not_started == left


def test_what_runs_is_finished_when_one_fails(fleet: Fleet, project: Project) -> None:
    in_shard(fleet.shards["n0"], IN_THE_WAY)
    in_shard(fleet.shards["n0"], "create table alembic_version (version_num varchar(32) not null primary key)")
    in_shard(fleet.shards["n0"], "insert into alembic_version values ('r1')")
    rollout = migrate_fleet(fleet, project.scripts(), jobs=2, max_failures=1)
    outcomes = {outcome.shard_id: outcome for outcome in rollout}
    assert not outcomes["n0"].is_ok
    assert outcomes["n1"].result.to == ("r2",)
    assert set(rollout.not_started) == set(NAMES) - set(outcomes)
    assert "n4" in rollout.not_started


def test_a_wave_that_is_refused_is_not_started(fleet: Fleet, project: Project) -> None:
    asked: list[int] = []

    def gate(wave: Wave) -> bool:
        asked.append(wave.number)
        return wave.number < 3

    rollout = migrate_fleet(fleet, project.scripts(), rules=ONE_BY_ONE, gate=gate)
    assert [outcome.shard_id for outcome in rollout] == ["n3", "n0"]
    assert asked == [2, 3]
    assert rollout.not_started == ["n1", "n2", "n4"]


def test_a_shard_that_changed_since_the_plan_is_refused(fleet: Fleet, project: Project) -> None:
    scripts = project.scripts()
    plan = plan_fleet(fleet, scripts)
    in_shard(fleet.shards["n1"], "create table alembic_version (version_num varchar(32) not null primary key)")
    in_shard(fleet.shards["n1"], "insert into alembic_version values ('r1')")
    outcomes = {
        outcome.shard_id: outcome for outcome in Rollout(fleet, plan, scripts, policy=Policy(max_failures=None))
    }
    error = outcomes.pop("n1").error
    assert isinstance(error, Refused)
    assert error.message.startswith("changed since the plan: it was at no revision, and is at `r1`")
    assert at(fleet, "n1") == ["r1"]
    assert {outcome.result.to for outcome in outcomes.values()} == {("r2",)}


def test_a_shard_that_cannot_be_planned_stops_the_run_before_it_begins(fleet: Fleet, project: Project) -> None:
    in_shard(fleet.shards["n2"], "create table strange (id int)")
    stopping = migrate_fleet(fleet, project.scripts(), max_failures=1)
    assert [(outcome.shard_id, outcome.is_ok) for outcome in stopping] == [("n2", False)]
    assert stopping.not_started == ["n0", "n1", "n3", "n4"]
    going_on = migrate_fleet(fleet, project.scripts())
    assert sorted(outcome.shard_id for outcome in going_on if outcome.is_ok) == ["n0", "n1", "n3", "n4"]


def test_down_and_up_again_and_stamps(fleet: Fleet, project: Project) -> None:
    for file in project.migrations.glob("versions/*.py"):
        table = {"r1": "cities", "r2": "zips"}[file.stem]
        file.write_text(
            file.read_text().replace("def downgrade():\n    pass", f"def downgrade():\n    op.drop_table('{table}')")
        )
    scripts = project.scripts()

    def run(direction: Direction, target: str) -> Rollout:
        rollout = migrate_fleet(fleet, scripts, goal=Goal(direction, target))
        for outcome in rollout:
            assert outcome.error is None
        return rollout

    run(Direction.UPGRADE, "head")
    assert run(Direction.DOWNGRADE, "-1").outcomes["n0"].result.applied == ("r2",)
    assert at(fleet, "n0") == ["r1"]
    run(Direction.STAMP, "head")
    assert at(fleet, "n0") == ["r2"]
    run(Direction.STAMP, "r1")
    run(Direction.DOWNGRADE, "base")
    assert at(fleet, "n0") == []
    assert run(Direction.DOWNGRADE, "base").started == set()
    run(Direction.UPGRADE, "+1")
    assert at(fleet, "n0") == ["r1"]


def test_a_shard_at_a_lost_revision_is_stamped_after_a_purge(fleet: Fleet, project: Project) -> None:
    scripts = project.scripts()
    list(migrate_fleet(fleet, scripts))
    in_shard(fleet.shards["n1"], "update alembic_version set version_num = 'lost'")
    in_shard(fleet.shards["n2"], "insert into alembic_version values ('lost')")
    in_shard(fleet.shards["n3"], "delete from alembic_version")
    stamped = migrate_fleet(fleet, scripts, goal=Goal(Direction.STAMP, "r1"))
    refused = {outcome.shard_id: outcome.error for outcome in stamped if outcome.error is not None}
    assert sorted(refused) == ["n1", "n2"]
    assert "`shardctl migrate stamp REVISION --purge --shard n1`" in str(refused["n1"].hint)
    in_shard(fleet.shards["n0"], "insert into alembic_version values ('more')")
    in_shard(fleet.shards["n0"], "update alembic_version set version_num = 'most' where version_num = 'r1'")
    assert sorted(at(fleet, "n0")) == ["more", "most"]
    purged = migrate_fleet(fleet, scripts, goal=Goal(Direction.STAMP, "r1", purges=True))
    assert {outcome.shard_id: outcome.result.from_ for outcome in purged} == {
        "n0": ("more", "most"),
        "n1": ("lost",),
        "n2": ("lost", "r2"),
        "n3": ("r1",),
        "n4": ("r1",),
    }
    assert purged.started == {"n0", "n1", "n2"}
    assert [at(fleet, name) for name in NAMES] == [["r1"]] * 5
    in_shard(fleet.shards["n4"], "update alembic_version set version_num = 'lost'")
    assert all(run.is_ok for run in migrate_fleet(fleet, scripts, goal=Goal(Direction.STAMP, "base", purges=True)))
    assert [at(fleet, name) for name in NAMES] == [[]] * 5


def test_a_shard_without_so_many_revisions_ahead_is_refused_before_anything_runs(
    fleet: Fleet, project: Project
) -> None:
    scripts = project.scripts()
    list(migrate_fleet(fleet, scripts, goal=Goal(target="r1")))
    in_shard(fleet.shards["n1"], "update alembic_version set version_num = 'r2'")
    goal = Goal(target="+1")
    stopping = migrate_fleet(fleet, scripts, goal=goal, max_failures=1)
    (refused,) = stopping
    assert isinstance(refused.error, Refused)
    assert (refused.shard_id, refused.error.message) == ("n1", "cannot go `+1` from `r2`: no revision lies ahead")
    assert stopping.not_started == ["n0", "n2", "n3", "n4"]
    going_on = migrate_fleet(fleet, scripts, goal=goal)
    assert {outcome.shard_id: outcome.value and outcome.value.to for outcome in going_on} == {
        "n0": ("r2",),
        "n1": None,
        "n2": ("r2",),
        "n3": ("r2",),
        "n4": ("r2",),
    }


def test_what_revisions_print_is_told_by_line_with_the_shard(
    fleet: Fleet, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    body = """
import sys, time
from alembic import context
name = context.config.attributes["shard"]
for number in range(20):
    print(name, end=" ", flush=True)
    time.sleep(0.001)
    print(number, file=sys.stdout if number % 2 else sys.stderr)
print("the end", end="")
"""
    project.write_revision("r1", None, body)
    lines: dict[str, list[str]] = {name: [] for name in NAMES}

    def tell(event: object) -> None:
        if isinstance(event, Printed):
            sys.stdout.write("told\n")  # which is not told again
            lines[event.shard_id].append(event.line)

    outcomes = list(migrate_fleet(fleet, project.scripts(), goal=Goal(target="r1"), on_event=tell))
    assert [outcome.problem for outcome in outcomes if not outcome.is_ok] == []
    assert lines == {name: [*(f"{name} {number}" for number in range(20)), "the end"] for name in NAMES}
    captured = capsys.readouterr()
    assert (captured.out.splitlines(), captured.err) == (["told"] * 5 * 21, "")
    project.write_revision("r2", "r1", "print('and more')")
    assert all(outcome.is_ok for outcome in migrate_fleet(fleet, project.scripts()))
    captured = capsys.readouterr()
    assert (captured.out, sorted(captured.err.splitlines())) == ("", [f"{name}: and more" for name in NAMES])


def test_sizes(fleet: Fleet, project: Project) -> None:
    empty = survey_sizes(fleet, fleet.shards.values())
    assert sorted(empty) == NAMES
    in_shard(fleet.shards["n1"], "create table big (text varchar(2000))")
    live = fleet.shards["n1"]
    with live.engine.begin() as connection:
        for _ in range(200):
            connection.exec_driver_sql(f"insert into big values ('{'x' * 2000}')")
    if live.backend.name == "mysql":
        in_shard(live, "analyze table big")
    assert size_of(live) > empty["n1"] + 200_000


@pytest.mark.parametrize("databases", ["postgresql", "mysql"], indirect=True)
def test_a_server_that_drops_a_shard_half_way(fleet: Fleet, project: Project, databases: Databases) -> None:
    """The third shard's own session is ended in the middle of its second revision."""
    own_id, end = {
        "postgresql": ("select pg_backend_pid()", "select pg_terminate_backend({})"),
        "mysql": ("select connection_id()", "kill {}"),
    }[databases.engine]
    name = fleet.shards["n2"].engine.url.database
    create = "op.create_table('zips', sa.Column('id', sa.Integer()))"
    project.write_revision(
        "r2",
        "r1",
        f"""
        bind = op.get_bind()
        if bind.engine.url.database == {name!r}:
            own_id = bind.exec_driver_sql({own_id!r}).scalar()
            with sa.create_engine(bind.engine.url, poolclass=sa.NullPool).connect() as other:
                other.exec_driver_sql({end!r}.format(own_id))
        {create}
        """,
    )
    rollout = migrate_fleet(fleet, project.scripts(), jobs=1, max_failures=1)
    outcomes = {outcome.shard_id: outcome for outcome in rollout}
    assert {name: outcome.is_ok for name, outcome in outcomes.items()} == {"n0": True, "n1": True, "n2": False}
    assert rollout.not_started == ["n3", "n4"]
    assert at(fleet, "n2") == ["r1"]

    project.write_revision("r2", "r1", create)
    again = migrate_fleet(fleet, project.scripts(), max_failures=1)
    assert {outcome.result.to for outcome in again} == {("r2",)}
    assert sorted(again.started) == ["n2", "n3", "n4"]
