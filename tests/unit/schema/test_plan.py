"""Plans: pure, and what they show is what runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardctl.errors import ConfigError, Refused, ShardUnreachable
from shardctl.fleet import Fleet, Outcome
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.plan import MigrationPlan, PlannedStep, plan_migration
from shardctl.schema.revisions import ShardRevision, Standing
from shardctl.schema.waves import Order, OrderBy, Rules, WaveSize
from tests.fixtures.projects import Project

NAMES = ["asia", "europe", "africa", "oceania"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    for number, message in ((1, "create cities"), (2, "add zip"), (3, "")):
        file = made.write_revision(f"r{number}", f"r{number - 1}" if number > 1 else None, "pass")
        file.write_text(f'"""{message}\n\nMore of it.\n"""\n' + file.read_text() if message else file.read_text())
    for name in NAMES:
        made.shards[name] = {"url": f"sqlite:///{tmp_path}/{name}.db"}
    return made


def at(fleet: Fleet, **revisions: str) -> list[Outcome[ShardRevision]]:
    return [
        Outcome(live, 0.0, ShardRevision((revisions[name],) if revisions[name] else (), Standing.BEHIND))
        for name, live in fleet.shards.items()
        if name in revisions
    ]


def plan(project: Project, goal: Goal | None = None, **revisions: str) -> MigrationPlan:
    return plan_migration(goal or Goal(), at(project.open(), **revisions), project.scripts())


def test_each_shard_has_its_own_steps(project: Project) -> None:
    made = plan(project, asia="r1", europe="", africa="r3")
    assert made.shards["asia"].steps == (
        PlannedStep("r2", Direction.UPGRADE, "add zip"),
        PlannedStep("r3", Direction.UPGRADE),
    )
    assert made.shards["asia"].after == ("r3",)
    assert [str(step) for step in made.shards["europe"].steps] == ["r1 create cities", "r2 add zip", "r3"]
    assert made.shards["africa"].steps == ()
    assert [shard.shard_id for shard in made.to_run] == ["asia", "europe"]
    assert made.shards["europe"].path == "base -> r3 (3 revisions: create cities; add zip; r3)"
    assert not made.is_destructive


def test_a_plan_is_a_value(project: Project) -> None:
    assert plan(project, asia="r1", europe="") == plan(project, asia="r1", europe="")
    with pytest.raises(AttributeError):
        plan(project, asia="r1").goal = Goal(target="r1")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("goal", "before", "steps", "after"),
    [
        (Goal(target="r2"), "r1", ["r2"], ("r2",)),
        (Goal(target="+1"), "r1", ["r2"], ("r2",)),
        (Goal(target="r1"), "r3", [], ("r3",)),
        (Goal(Direction.DOWNGRADE, "-1"), "r3", ["r3"], ("r2",)),
        (Goal(Direction.DOWNGRADE, "r1"), "r3", ["r3", "r2"], ("r1",)),
        (Goal(Direction.DOWNGRADE, "base"), "r2", ["r2", "r1"], ()),
        (Goal(Direction.STAMP, "head"), "", ["r3"], ("r3",)),
        (Goal(Direction.STAMP, "r1"), "r3", ["r1"], ("r1",)),
        (Goal(Direction.STAMP, "base"), "r3", ["base"], ()),
    ],
)
def test_targets(project: Project, goal: Goal, before: str, steps: list[str], after: tuple[str, ...]) -> None:
    found = plan(project, goal, asia=before).shards["asia"]
    assert ([step.revision for step in found.steps], found.after, found.problem) == (steps, after, None)
    assert all(step.is_destructive == (goal.direction is Direction.DOWNGRADE) for step in found.steps)


def test_what_cannot_run_is_in_the_plan_and_in_no_wave(project: Project) -> None:
    fleet = project.open()
    live = list(fleet.shards.values())
    found = [
        Outcome(live[0], 0.0, ShardRevision(("beef",), Standing.UNKNOWN)),
        Outcome(live[1], 0.0, ShardRevision((), Standing.UNVERSIONED, tables=("cities",))),
        Outcome(live[2], 0.0, error=ShardUnreachable("no answer")),
        Outcome(live[3], 0.0, ShardRevision(("r2",), Standing.BEHIND)),
    ]
    made = plan_migration(Goal(), found, project.scripts())
    assert [shard.shard_id for shard in made.problems] == ["asia", "europe", "africa"]
    assert [type(shard.problem) for shard in made.problems] == [Refused, Refused, ShardUnreachable]
    assert made.problems[1].problem is not None
    assert "`shardctl migrate stamp head --shard europe`" in str(made.problems[1].problem.hint)
    assert [wave.shard_ids for wave in made.waves] == [("oceania",)]

    stamped = plan_migration(Goal(Direction.STAMP, "head"), found, project.scripts())
    assert [shard.shard_id for shard in stamped.to_run] == ["europe", "oceania"]


def test_a_relative_target_that_one_shard_does_not_have_is_its_problem(project: Project) -> None:
    made = plan(project, Goal(Direction.DOWNGRADE, "-2"), asia="r3", europe="r1")
    assert made.shards["asia"].after == ("r1",)
    problem = made.shards["europe"].problem
    assert isinstance(problem, Refused)
    assert problem.message == "cannot go `-2` from `r1`: only 1 revision lies behind"
    assert [shard.shard_id for shard in made.to_run] == ["asia"]


def test_waves_hold_what_has_something_to_run(project: Project) -> None:
    found = at(project.open(), asia="r3", europe="r1", africa="", oceania="r2")
    rules = Rules(frozenset({"asia", "oceania"}), WaveSize(1), Order(OrderBy.SIZE))
    made = plan_migration(Goal(), found, project.scripts(), rules=rules, sizes={"europe": 20, "africa": 10})
    assert [(wave.name, wave.shard_ids) for wave in made.waves] == [
        ("wave 1 (canary)", ("oceania",)),
        ("wave 2", ("africa",)),
        ("wave 3", ("europe",)),
    ]
    assert made.wave_of("asia") is None


def test_no_such_target(project: Project) -> None:
    with pytest.raises(ConfigError, match="no revision `r9`"):
        plan(project, Goal(target="r9"), asia="r1")


def test_branches_labels_and_merges(project: Project) -> None:
    second = project.write_revision("b1", "r2", "pass")
    second.write_text(second.read_text().replace("down_revision = 'r2'", "down_revision = 'r2'\nbranch_labels = 'b'"))
    with pytest.raises(ConfigError, match="2 heads: `b1`, `r3`") as caught:
        plan(project, asia="r1")
    assert "`shardctl migrate --to heads`" in str(caught.value.hint)
    assert plan(project, Goal(target="heads"), asia="r1").shards["asia"].after == ("b1", "r3")
    assert plan(project, Goal(target="b@head"), asia="r2").shards["asia"].after == ("b1",)

    merge = project.write_revision("m1", "r3", "pass")
    merge.write_text(merge.read_text().replace("down_revision = 'r3'", "down_revision = ('r3', 'b1')"))
    merged = plan(project, asia="r2").shards["asia"]
    assert merged.after == ("m1",)
    assert sorted(step.revision for step in merged.steps) == ["b1", "m1", "r3"]
