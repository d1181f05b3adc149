"""What pytest loads wherever shardctl is installed: options, a marker and fixtures, all off until they are asked for.

Nothing heavy is imported here: other projects' test runs load this module too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from shardctl.fleet import Fleet

_MARKER = (
    "shardctl_scatter(max=None): what scatters in this test is not counted against --shardctl-max-scatter; "
    "with `max`, more than so many scattered executions in it fail it."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("shardctl")
    group.addoption(
        "--shardctl-scatter",
        action="store_true",
        help="Report the statements of ShardedSessions that went to more than one shard.",
    )
    group.addoption(
        "--shardctl-max-scatter",
        type=_read_limit,
        metavar="N",
        help="Fail the run if more than N executions went to more than one shard.",
    )
    parser.addini("shardctl_scatter", "Report what scattered, as --shardctl-scatter does.", "bool", default=False)
    parser.addini("shardctl_max_scatter", "As --shardctl-max-scatter, which comes before it.")
    parser.addini("shardctl_config", "The shard map that the fixtures copy; without it, the nearest one is found.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)
    limit = _limit(config)
    reports = bool(config.getoption("--shardctl-scatter") or config.getini("shardctl_scatter"))
    if limit is not None or reports:
        from shardctl.testing.scatter_report import ScatterReport

        config.pluginmanager.register(ScatterReport(config, limit, always=reports), "shardctl_scatter_report")


def _limit(config: pytest.Config) -> int | None:
    limit: int | None = config.getoption("--shardctl-max-scatter")
    text = config.getini("shardctl_max_scatter")
    if limit is not None or not text:
        return limit
    try:
        return _read_limit(text)
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"shardctl_max_scatter: {error}") from None


def _read_limit(text: str) -> int:
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"`{text}` is not a number of executions: 0 or more")
    return int(text)


@pytest.fixture
def make_shardctl_fleet(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Make fresh fleets of the project's shard map, each shard an empty SQLite file with the models' tables.

    `make_shardctl_fleet(shards=N)` has N shards in place of as many as the shard map has.
    """
    from shardctl.testing.fleets import copy_fleet, find_shard_map

    opened: list[Fleet] = []

    def make(*, shards: int | None = None) -> Fleet:
        file = find_shard_map(pytestconfig.getini("shardctl_config"), pytestconfig.inipath, pytestconfig.rootpath)
        folder = tmp_path / f"shardctl-fleet-{len(opened)}"
        folder.mkdir()
        opened.append(copy_fleet(file, folder, shards=shards))
        return opened[-1]

    yield _with_plain_errors(make)
    for fleet in opened:
        fleet.close()


@pytest.fixture
def shardctl_fleet(make_shardctl_fleet: Callable[..., Fleet]) -> Fleet:
    """Give a fresh fleet of the project's shard map: its rules, and an empty SQLite file for each of its shards."""
    return make_shardctl_fleet()


def _with_plain_errors(make: Callable[..., Fleet]) -> Callable[..., Fleet]:
    """Have what is wrong with the project said without the way through shardctl's own code."""
    from shardctl.errors import ShardctlError

    def make_or_fail(**options: Any) -> Fleet:
        __tracebackhide__ = True
        try:
            return make(**options)
        except ShardctlError as error:
            hint = ["", f"hint: {error.hint}"] if error.hint else []
            text = "\n".join([error.message, *(f"  {fact}" for fact in error.facts), *hint])
        pytest.fail(text, pytrace=False)

    return make_or_fail
