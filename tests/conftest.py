"""Pins what the terminal libraries read when they are imported; the fixtures are in tests/fixtures."""

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.update(COLUMNS="120", TERM="dumb", NO_COLOR="1")
for variable in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH", "SHARDCTL_CONFIG", "SHARDCTL_APP"):
    os.environ.pop(variable, None)

pytest_plugins = ["tests.fixtures.engines", "tests.fixtures.cli"]


def pytest_xdist_auto_num_workers() -> int:
    """Run two workers on each core (`-n auto`): half of the time a test waits for a server or a disk."""
    return 2 * (os.cpu_count() or 1)
