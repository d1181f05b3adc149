"""Pins what the terminal libraries read when they are imported; the fixtures are in tests/fixtures."""

import os
import signal

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.update(COLUMNS="120", TERM="dumb", NO_COLOR="1")
for variable in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH", "SHARDCTL_CONFIG", "SHARDCTL_APP"):
    os.environ.pop(variable, None)

OTHER_KINDS = {"mysql", "mysql databases", "postgresql schemas", "sqlite attached"}
"""Of shards, for tests that run on several: the quick suite runs them on SQLite's files and PostgreSQL's databases."""
ON_FILES_ONLY = {
    f"test_{name}"
    for name in "audit audit_orphans audit_reference audit_sequences drift locate_many query_by_key".split()
}
"""Modules of many such tests: the quick suite runs them on files alone."""

pytest_plugins = ["tests.fixtures.engines", "tests.fixtures.cli", "pytester"]


def pytest_xdist_auto_num_workers() -> int:
    """Run two workers on each core (`-n auto`): half of the time a test waits for a server or a disk."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the other kinds of shards to the whole suite, and mark them for who wants them all the same."""
    for item in items:
        values = getattr(getattr(item, "callspec", None), "params", {}).values()
        is_on_files_only = item.path.stem in ON_FILES_ONLY
        others = OTHER_KINDS | ({"postgresql", "postgresql databases"} if is_on_files_only else set())
        if item.get_closest_marker("slow") is None and any(type(value) is str and value in others for value in values):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.other_kind)
