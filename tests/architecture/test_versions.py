"""The versions that pyproject.toml promises are the ones that are tested."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *extras["postgresql"], *extras["mysql"], *extras["arrow"]]
    listed += [*extras["duckdb"], *extras["test"]]
    return [Requirement(entry) for entry in listed if not entry.startswith("shardctl[")]


def test_the_lowest_versions_are_those_of_pyproject():
    tested = [Requirement(line) for line in (ROOT / "tests" / "lowest.txt").read_text().splitlines()]
    lowest = {entry.name: Version(next(iter(entry.specifier)).version) for entry in tested}
    promised = {
        entry.name: Version(bound.version)
        for entry in requirements()
        for bound in entry.specifier
        if bound.operator == ">=" and entry.name not in ("ruff", "mypy")
    }

    assert lowest == promised


def test_every_dependency_ends_below_its_next_major_version():
    tools = ("ruff", "mypy", "types-PyMySQL")
    open_ended = [entry.name for entry in requirements() if "<" not in str(entry.specifier) and entry.name not in tools]

    assert open_ended == []
