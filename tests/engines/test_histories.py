"""Histories as applications have them: what shardctl leaves is what Alembic alone leaves, up, down and up again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from shardctl.fleet import Fleet
from shardctl.schema.goals import Direction, Goal
from tests.fixtures.cli import Workspace
from tests.fixtures.engines import Databases
from tests.fixtures.histories import run_stock, state_of, stock_problem, write_history
from tests.fixtures.projects import Project, create_places, in_shard, migrate_fleet, place_shards
from tests.fixtures.real_histories import HISTORIES

CACHE = Path(__file__).parents[2] / ".cache" / "optuna"
OPTUNA = ["optuna==4.5.0", "numpy", "tqdm", "colorlog", "PyYAML", "packaging"]
INSTALL_S = 300


def shards_of(project: Project, databases: Databases, *names: str) -> Fleet:
    kind = {"sqlite": "files", "postgresql": "schemas", "mysql": "databases"}[databases.engine]
    place_shards(project, f"{databases.engine} {kind}", databases, list(names))
    fleet = project.open()
    create_places(fleet, databases)
    return fleet


@pytest.fixture
def stock_databases(databases: Databases, tmp_path: Path) -> Iterator[Databases]:
    (tmp_path / "stock").mkdir()
    made = Databases(databases.engine, tmp_path / "stock")
    yield made
    made.drop_all()


@pytest.mark.slow
@pytest.mark.parametrize("name", HISTORIES)
def test_up_down_and_up_again(name: str, databases: Databases, stock_databases: Databases, tmp_path: Path) -> None:
    history = HISTORIES[name]
    project = Project(tmp_path)
    project.write_env(history.env)
    write_history(project.migrations, history.revisions)
    fleet = shards_of(project, databases, "asia", "europe")
    stock = shards_of(Project(tmp_path / "stock"), stock_databases, "asia").shards["asia"]
    up = [(Direction.UPGRADE, history.target)]
    down = [(Direction.DOWNGRADE, target) for target in history.base]

    for direction, target in [*up, *down, *up]:
        outcomes = list(migrate_fleet(fleet, project.scripts(), goal=Goal(direction, target)))
        assert [outcome.problem for outcome in outcomes if not outcome.is_ok] == []
        run_stock([stock], project.migrations, target, command=direction.value)
        expected = state_of(stock)
        assert [state_of(live) == expected for live in fleet.shards.values()] == [True, True], (direction, target)
        if target == "base":
            rows = {table for table, state in expected.items() if isinstance(state, dict)}
            assert rows <= {"alembic_version", "shop_revisions"}


def test_settings_in_a_pyproject(databases: Databases, stock_databases: Databases, tmp_path: Path) -> None:
    from inspect import signature

    from alembic.config import Config

    if "toml_file" not in signature(Config).parameters:
        pytest.skip("this Alembic reads no pyproject.toml")
    project = Project(tmp_path)
    project.init("pyproject")
    write_history(project.migrations, HISTORIES["orm"].revisions)
    fleet = shards_of(project, databases, "asia")
    stock = shards_of(Project(tmp_path / "stock"), stock_databases, "asia").shards["asia"]

    (outcome,) = migrate_fleet(fleet, project.scripts())

    assert outcome.result.to == ("o2",)
    options = {"toml_file": str(tmp_path / "pyproject.toml")}
    run_stock([stock], project.migrations, "head", ini=tmp_path / "alembic.ini", **options)
    assert state_of(fleet.shards["asia"]) == state_of(stock)


def test_one_shard_by_alembic_alone_and_the_rest_by_shardctl(databases: Databases, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write_env()
    write_history(project.migrations, HISTORIES["orm"].revisions)
    fleet = shards_of(project, databases, "asia", "europe")
    run_stock([fleet.shards["asia"]], project.migrations, "o1")

    outcomes = {outcome.shard_id: outcome.result for outcome in migrate_fleet(fleet, project.scripts())}

    assert {name: result.applied for name, result in outcomes.items()} == {"asia": ("o2",), "europe": ("o1", "o2")}
    run_stock(fleet.shards.values(), project.migrations, "base", command="downgrade")
    again = {outcome.shard_id: outcome.result for outcome in migrate_fleet(fleet, project.scripts())}
    assert {result.applied for result in again.values()} == {("o1", "o2")}
    assert state_of(fleet.shards["asia"]) == state_of(fleet.shards["europe"])


@pytest.fixture(scope="session")
def optuna() -> Path:
    """The folder with Optuna and what it imports: eleven revisions of a public application, as they are."""
    folder = CACHE / f"4.5.0-{sys.version_info.major}.{sys.version_info.minor}"
    if folder.is_dir():
        return folder
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=CACHE) as partial:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
            command += ["--target", f"{partial}/site", *OPTUNA]
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_S)
            if not folder.is_dir():
                shutil.move(f"{partial}/site", folder)
    except (subprocess.SubprocessError, OSError) as error:
        reason = f"Optuna cannot be had: {type(error).__name__}"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return folder


# What its second major version wrote; later revisions rewrite the distributions and the values.
OLD_ROWS = """
insert into studies (study_id, study_name) values (1, 'first')
insert into study_directions (study_direction_id, direction, study_id, objective) values (1, 'MINIMIZE', 1, 0)
insert into trials (trial_id, number, study_id, state) values (1, 0, 1, 'COMPLETE'), (2, 1, 1, 'RUNNING')
insert into trial_values (trial_value_id, trial_id, objective, value) values (1, 1, 0, 0.25)
insert into trial_params (param_id, trial_id, param_name, param_value, distribution_json) values (1, 1, 'x', 0.5, '{"name": "UniformDistribution", "attributes": {"low": 0.0, "high": 1.0}}')
insert into trial_intermediate_values (trial_intermediate_value_id, trial_id, step, intermediate_value) values (1, 1, 1, 0.75)
"""  # noqa: E501


@pytest.mark.slow
def test_optunas_own_history(
    optuna: Path,
    databases: Databases,
    stock_databases: Databases,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rdb = optuna / "optuna" / "storages" / "_rdb"
    project = Project(workspace.folder, more=f'migrations = "{rdb / "alembic"}"')
    fleet = shards_of(project, databases, "asia", "europe", "africa")
    stock = shards_of(Project(workspace.folder.parent / "stock"), stock_databases, "asia").shards["asia"]
    path = os.pathsep.join([str(optuna), os.environ.get("PYTHONPATH", "")])
    workspace.environ["PYTHONPATH"] = path
    monkeypatch.setenv("PYTHONPATH", path)

    for target in ("v2.6.0.a", "head"):
        ended = workspace.shardctl(f"migrate --all-shards --yes --to {target}")
        problem = stock_problem([stock], rdb / "alembic", target, ini=rdb / "alembic.ini")
        if "(1072" in problem:  # MariaDB drops no column that a unique key has, which MySQL does
            assert (ended.code, "(1072)" in ended.stderr) == (3, True)
            assert [state_of(live) == state_of(stock) for live in fleet.shards.values()] == [True] * 3
            return
        assert (ended.code, problem) == (0, ""), ended.stderr
        for live in (stock, *fleet.shards.values()):
            if target != "head":
                for statement in OLD_ROWS.strip().splitlines():
                    in_shard(live, statement.replace(":", "\\:"))
        expected = state_of(stock)
        assert [state_of(live) == expected for live in fleet.shards.values()] == [True] * 3

    ((distribution,),) = in_shard(fleet.shards["asia"], "select distribution_json from trial_params")
    assert '"FloatDistribution"' in distribution
