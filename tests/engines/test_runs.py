"""What ran on shards, put together from what each of them remembers, and the gate before a deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardctl.fleet import Fleet
from shardctl.schema.check import GateFinding, find_drifted, find_lagging, find_uncarried
from shardctl.schema.fingerprint import read_fingerprints
from shardctl.schema.goals import UPGRADE_TO_HEAD
from shardctl.schema.plan import plan_migration, survey_revisions
from shardctl.schema.revisions import Scripts
from shardctl.schema.rollout import Policy, Rollout
from shardctl.schema.runs import Run, Wanted, read_history, runs_of
from tests.fixtures.engines import Databases
from tests.fixtures.projects import GENERIC_ENV, Project, create_places, in_shard, place_shards

NAMES = ["asia", "europe", "africa"]
CREATE = "op.create_table('cities', sa.Column('id', sa.Integer(), primary_key=True))"
MODELS = """
from sqlalchemy import Column, Integer, MetaData, String, Table

target_metadata = MetaData()
Table("cities", target_metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, CREATE)
    made.write_revision("r2", "r1", "pass")
    return made


@pytest.fixture
def fleet(project: Project, databases: Databases) -> Fleet:
    kind = {"sqlite": "sqlite files", "postgresql": "postgresql schemas", "mysql": "mysql databases"}[databases.engine]
    place_shards(project, kind, databases, NAMES)
    made = project.open()
    create_places(made, databases)
    return made


def upgrade(fleet: Fleet, scripts: Scripts, names: list[str] | None = None) -> None:
    shards = [fleet.shards[name] for name in names or NAMES]
    found = {outcome.shard_id: outcome for outcome in survey_revisions(fleet, shards, scripts)}
    plan = plan_migration(UPGRADE_TO_HEAD, [found[live.shard_id] for live in shards], scripts)
    for _ in Rollout(fleet, plan, scripts, policy=Policy(max_failures=None)):
        pass


def runs(fleet: Fleet, wanted: Wanted | None = None) -> list[Run]:
    found = {
        outcome.shard_id: outcome.result for outcome in read_history(fleet, fleet.shards.values(), wanted or Wanted())
    }
    return runs_of({name: found[name] for name in fleet.shards})


def test_one_run_over_shards_is_one_run(project: Project, fleet: Fleet) -> None:
    assert runs(fleet) == []
    upgrade(fleet, project.scripts(), ["asia"])
    upgrade(fleet, project.scripts())
    project.write_revision("r3", "r2", "op.execute('insert into nothing_of_that_name values (1)')")
    upgrade(fleet, project.scripts(), ["asia", "europe"])

    failed, second, first = runs(fleet)
    assert (list(first.entries), first.revisions, first.outcome) == (["asia"], ("r1", "r2"), "done")
    assert (list(second.entries), second.revisions) == (["europe", "africa"], ("r1", "r2"))
    assert second.seconds is not None
    assert second.seconds >= 0
    assert (failed.outcomes, failed.revisions) == (dict.fromkeys(["asia", "europe"], "failed"), ("r3",))
    assert "nothing_of_that_name" in str(failed.error)

    assert runs(fleet, Wanted(is_failed=True)) == [failed]
    assert runs(fleet, Wanted(run_id=second.run_id[:8])) == [second]
    assert runs(fleet, Wanted(run_id="_")) == []
    assert runs(fleet, Wanted(runs=1))[0].run_id == failed.run_id
    assert len(runs(fleet, Wanted(runs=1))) == 2  # africa's latest is another one


def test_the_gate_names_what_differs(project: Project, fleet: Fleet) -> None:
    project.write_env(GENERIC_ENV.replace("target_metadata = None", MODELS))
    scripts = project.scripts()
    upgrade(fleet, scripts)
    in_shard(fleet.shards["africa"], "create index ix_odd on cities (id)")
    found = list(survey_revisions(fleet, fleet.shards.values(), scripts))
    assert find_lagging(found, scripts) == []
    fingerprints = {o.shard_id: o.result for o in read_fingerprints(fleet, fleet.shards.values(), scripts)}
    assert find_drifted(fleet, fingerprints, scripts) == [GateFinding("africa", "drifted", "index ix_odd unexpected")]
    uncarried, failed = find_uncarried(fleet, "asia", fingerprints["asia"], scripts)
    assert uncarried == [GateFinding("asia", "not in migrations", "column cities.name missing")]
    assert failed == []

    project.write_revision("r3", "r2", "op.add_column('cities', sa.Column('name', sa.String(20)))")
    scripts = project.scripts()
    upgrade(fleet, scripts, ["asia"])
    found = list(survey_revisions(fleet, fleet.shards.values(), scripts))
    behind = sorted(find_lagging(found, scripts), key=lambda entry: entry.shard_id)
    assert [(entry.shard_id, entry.finding, entry.detail) for entry in behind] == [
        ("africa", "behind", "1 revision pending: r3"),
        ("europe", "behind", "1 revision pending: r3"),
    ]
    asia = next(read_fingerprints(fleet, [fleet.shards["asia"]], scripts)).result
    assert find_uncarried(fleet, "asia", asia, scripts) == ([], [])
