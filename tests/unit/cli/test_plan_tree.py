"""Trees of plans: whole on a pipe, within the terminal's width on one, and no text of a statement moves the cursor."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len

from shardctl.cli.plan_tree import branch, draw
from shardctl.query.asked import Asked
from shardctl.query.explain import Explained, Look, Sent

LONG = (
    "SELECT "
    + ", ".join(f"column_{i}" for i in range(60))
    + " FROM 都市 WHERE city = '[bold]\x1b[2J\u202e'\n  AND id > 3"
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def plan() -> Explained:
    sent = (Sent(("asia", "europe"), LONG, parameters={"n": "x\ny"}),)
    return Explained(
        "scatter", ("asia", "europe"), 4, "id = 3 -> hash", "its rows are on several shards", sent, ("append",), "here"
    )


def test_a_pipe_gets_whole_lines(plan):
    drawn = draw(branch(plan, {}, None), io.StringIO(), is_plain=False)
    assert drawn.splitlines()[0] == "scatter to 2 of 4 shards: id = 3 -> hash"
    assert "│   ├── " + LONG.splitlines()[0].replace("\x1b", "\\x1b").replace("\u202e", "\\u202e") in drawn.splitlines()
    assert "│   │     AND id > 3" in drawn.splitlines()
    assert drawn.splitlines()[-2:] == ["│   └── with n = 'x\\ny'", "└── merged here: append"]


def test_a_terminal_gets_lines_of_its_width(plan, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")  # a dumb one has 80 columns, whatever it says
    monkeypatch.setenv("COLUMNS", "60")
    drawn = draw(branch(plan, {}, None), Terminal(), is_plain=False)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
    assert max(map(cell_len, shown.splitlines())) <= 60
    assert "\x1b" not in shown
    assert "column_59" in drawn


def test_ascii(plan):
    drawn = draw(branch(plan, {}, None), io.StringIO(), is_plain=True)
    assert "`-- merged here: append" in drawn.splitlines()


def test_numbers_are_said_to_be_estimates(plan):
    looks = {
        (0, "asia"): Look(returned=1200, plan=("Seq Scan", "  Filter: x")),
        (0, "europe"): Look(problem="no answer within 1 s"),
    }
    drawn = draw(branch(plan, looks, None), io.StringIO(), is_plain=False)
    assert "rows expected, an estimate of the engine's: asia 1,200\n" in drawn
    assert "no estimate of europe: no answer within 1 s\n" in drawn
    assert "plan of asia\n" in drawn


def test_bytes_that_are_not_known_are_left_out():
    asked = Asked(received={"asia": 5, "europe": None})
    assert asked.all_received is None
    assert Asked(received={"asia": 5, "europe": 7}).all_received == 12
    assert Asked().all_received is None
