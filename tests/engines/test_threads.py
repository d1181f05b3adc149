"""Sixty shards in 32 threads end exactly as they do when Alembic alone migrates one after the other."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardctl.fleet import Fleet, Outcome
from shardctl.schema.results import MigrationResult
from shardctl.schema.revisions import Scripts
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.histories import busy_history, run_stock, state_of, write_history
from tests.fixtures.projects import GENERIC_ENV, Project, create_places, migrate_fleet, place_shards

JOBS = 32
KINDS = ("sqlite files", "sqlite attached", "postgresql schemas", "mysql databases")
SEED = 3

SHARING_ENV = """
from alembic import context
from sqlalchemy import NullPool, create_engine


def run(connection):
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


if context.config.attributes.get("connection") is not None:
    run(context.config.attributes["connection"])
else:
    with create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=NullPool).connect() as connection:
        run(connection)
"""


@pytest.fixture(autouse=True)
def restless_threads() -> Iterator[None]:
    """Let threads take turns a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


class Twins:
    """Two fleets of shards with the same names: one for shardctl, one for Alembic alone."""

    def __init__(self, kind: str, folder: Path, number: int) -> None:
        self.kind = kind
        self.engine = kind.partition(" ")[0]
        # As many files as SQLite attaches to one database.
        self.names = [f"n{index:02}" for index in range(min(number, 10) if kind == "sqlite attached" else number)]
        self.databases: list[Databases] = []
        self.project, self.fleet = self._make(folder / "ours")
        _, self.stock = self._make(folder / "stock")

    def _make(self, folder: Path) -> tuple[Project, Fleet]:
        folder.mkdir()
        databases = Databases(self.engine, folder)
        self.databases.append(databases)
        project = Project(folder, more=f"connections_per_server = {JOBS}")
        # Sixty shards have their one connection each: others run on the server too, and it has a hundred.
        is_many = len(self.names) > 10 and self.engine != "sqlite"
        project.write_env(SHARING_ENV if is_many else GENERIC_ENV)
        place_shards(project, self.kind, databases, self.names)
        if self.kind == "sqlite attached":
            for name, entry in project.shards.items():
                entry["attach"] = str(folder / f"{name}.db")
        fleet = project.open()
        create_places(fleet, databases)
        return project, fleet

    def migrate(self, scripts: Scripts) -> dict[str, Outcome[MigrationResult]]:
        return {outcome.shard_id: outcome for outcome in migrate_fleet(self.fleet, scripts, jobs=JOBS)}

    def differing(self) -> list[str]:
        """Return the shards whose twins differ in anything."""
        return [name for name in self.names if state_of(self.fleet.shards[name]) != state_of(self.stock.shards[name])]


def twins(kind: str, folder: Path, number: int) -> Iterator[Twins]:
    if not kind.startswith("sqlite"):
        server_url(kind.partition(" ")[0])
    made = Twins(kind, folder, number)
    yield made
    for databases in made.databases:
        databases.drop_all()


@pytest.fixture
def eight(kind: str, tmp_path: Path) -> Iterator[Twins]:
    yield from twins(kind, tmp_path, 8)


@pytest.fixture
def sixty(kind: str, tmp_path: Path) -> Iterator[Twins]:
    yield from twins(kind, tmp_path, 60)


def check_all_right(pair: Twins) -> None:
    write_history(pair.project.migrations, busy_history())
    scripts = pair.project.scripts()

    outcomes = pair.migrate(scripts)

    assert {name: outcome.problem for name, outcome in outcomes.items() if not outcome.is_ok} == {}
    assert sorted(outcomes) == pair.names
    # The test would prove nothing if the runs had not overlapped.
    together = scripts.directory.get_revision("r3").module.seen
    assert max(together) > len(pair.names) / 3
    run_stock(pair.stock.shards.values(), pair.project.migrations, "head")
    assert pair.differing() == []
    own = {name: state_of(live)["cities"]["rows"] for name, live in pair.fleet.shards.items()}
    assert all(
        (101, name, None) in rows and (3, f"{name} 3", f"{name} 3".upper()) in rows for name, rows in own.items()
    )


def check_healthy_right(pair: Twins, failing: list[str]) -> None:
    write_history(pair.project.migrations, busy_history(failing, at_first_statement=pair.engine == "mysql"))

    outcomes = pair.migrate(pair.project.scripts())

    assert sorted(name for name, outcome in outcomes.items() if not outcome.is_ok) == failing
    for name in failing:
        error = outcomes[name].error
        assert (error.revision, error.from_, error.to) == ("r4", (), ("r3",))
    targets = {name: "r3" if name in failing else "head" for name in pair.names}
    run_stock(pair.stock.shards.values(), pair.project.migrations, targets)
    assert pair.differing() == []

    write_history(pair.project.migrations, busy_history())
    again = pair.migrate(pair.project.scripts())
    assert {name for name, outcome in again.items() if outcome.result.applied} == set(failing)
    run_stock([pair.stock.shards[name] for name in failing], pair.project.migrations, "head")
    assert pair.differing() == []


def test_eight_shards(eight: Twins) -> None:
    check_all_right(eight)


@pytest.mark.slow
def test_sixty_shards(sixty: Twins) -> None:
    check_all_right(sixty)


@pytest.mark.slow
def test_sixty_shards_of_which_a_tenth_fails(sixty: Twins) -> None:
    number = max(2, len(sixty.names) // 10)
    check_healthy_right(sixty, sorted(random.Random(SEED).sample(sixty.names, number)))
