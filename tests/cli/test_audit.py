"""An audit that is interrupted says how far it came, and goes on from there."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time

import pytest

from shardctl.cli import audit
from shardctl.fleet.records import Records
from shardctl.rows.audit import run
from shardctl.topology.load import load
from tests.fixtures.cli import Workspace

ROWS = 30_000
FILL = (
    "WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
    " INSERT INTO weather_locations SELECT i, ?, 'city ' || i FROM n"
)


@pytest.fixture
def large(filled: Workspace) -> Workspace:
    """A project whose audit takes a while, and finds something in the first rows and in the last."""
    for name, continent in (("asia", "Asia"), ("europe", "Europe")):
        with sqlite3.connect(filled.folder / f"{name}.db") as connection:
            connection.execute(FILL, (1_000 + ROWS, continent))
            connection.execute(f"UPDATE weather_locations SET continent = 'Africa' WHERE id IN (1000, {ROWS + 1000})")
    return filled


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_is_interrupted_goes_on(large: Workspace, how: signal.Signals) -> None:
    words = ["audit", "placement", "--table", "WeatherLocation", "--rate", "8000"]
    process = large.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    left = large.folder / ".shardctl" / "shardctl.toml" / "audit-left"
    deadline = time.monotonic() + 60
    while how is signal.SIGKILL and not list(left.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0 if how is signal.SIGKILL else 3)
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    assert stdout == ""
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "interrupted while auditing: " in stderr
        assert "hint: the same command with `--resume` goes on from there" in stderr
    (file,) = left.glob("*.json")
    states = json.loads(file.read_text())["states"]
    europe = states["placement WeatherLocation"]["cursors"]["europe"]
    assert 0 < europe["rows"] < ROWS

    refused = large.shardctl("audit placement --table WeatherLocation --sample 1% --resume")
    assert (refused.code, refused.stdout) == (2, "")
    assert "  sample: none then, 1% now" in refused.stderr

    resumed = large.shardctl("audit placement --table WeatherLocation --resume --format json")
    found = json.loads(resumed.stdout)
    whole = json.loads(large.shardctl("audit placement --table WeatherLocation --format json").stdout)
    assert resumed.code == 1
    assert found == whole
    assert [row["rows"] for row in found["rows"]] == [2, 2]
    assert list(left.glob("*")) == []


def test_a_record_is_kept_of_what_was_found(filled: Workspace) -> None:
    with sqlite3.connect(filled.folder / "asia.db") as connection:
        connection.execute("UPDATE weather_locations SET continent = 'Europe'")
    assert filled.shardctl("audit placement duplicates").code == 1
    record = Records(load(filled.folder / "shardctl.toml")).last("audit")
    assert record is not None
    assert record.data == {
        "findings": {"placement": 2, "duplicates": 0},
        "rows_found": {"placement": 2, "duplicates": 0},
        "tables": ["Report", "WeatherLocation"],
        "rows": 12,
        "shards": ["north_america", "asia", "europe", "south_america"],
        "sample": None,
        "is_limited": False,
        "not_answered": [],
    }


def test_a_folder_that_cannot_be_written_is_no_failure(filled: Workspace) -> None:
    filled.write(".shardctl", "a file where the folder would be")
    ended = filled.shardctl("audit placement")
    assert ended.code == 0
    assert "note: cannot keep a record in " in ended.stderr
    assert ended.stderr.endswith("no findings: 2 tables, 12 rows on 4 shards\n")


def test_what_mends_is_for_the_same_project(filled: Workspace) -> None:
    with sqlite3.connect(filled.folder / "asia.db") as connection:
        connection.execute("UPDATE weather_locations SET continent = 'Europe'")
    (filled.folder / "shardctl.toml").rename(filled.folder / "other map.toml")
    ended = filled.shardctl("audit placement --table WeatherLocation -c 'other map.toml'")
    (line,) = [line for line in ended.stderr.splitlines() if "locate" in line]
    command = line.partition(": ")[2]
    assert command == "shardctl locate -c 'other map.toml' WeatherLocation 1"
    assert "misplaced" in filled.run(command).stderr


def test_the_command_knows_the_checks_without_importing_them() -> None:
    assert list(audit.CHECKS) == list(run.CHECKS)
