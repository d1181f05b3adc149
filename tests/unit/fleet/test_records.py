"""Records of earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardctl.errors import ShardctlError
from shardctl.fleet.records import KEPT, Records
from shardctl.topology.model import ShardMap


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.delenv("SHARDCTL_STATE_DIR", raising=False)
    return Records(ShardMap({}, source=tmp_path / "shardctl.toml"))


def test_the_last_record_is_the_newest(records: Records, tmp_path: Path) -> None:
    assert records.last("stats") is None

    for number in range(3):
        records.write("stats", {"number": number})
    records.write("audit", {"number": 9})

    last = records.last("stats")
    assert last is not None
    assert last.data == {"number": 2}
    assert [record.data["number"] for record in records.all("stats")] == [0, 1, 2]
    assert (tmp_path / ".shardctl" / ".gitignore").read_text() == "*\n"


def test_the_oldest_go(records: Records) -> None:
    for number in range(KEPT + 2):
        records.write("stats", {"number": number})

    assert [record.data["number"] for record in records.all("stats")] == list(range(2, KEPT + 2))


def test_a_file_cut_short_is_passed_over(records: Records) -> None:
    records.write("stats", {"number": 1})
    file = records.write("stats", {"number": 2})
    file.write_text(file.read_text()[:-5])

    last = records.last("stats")
    assert last is not None
    assert last.data == {"number": 1}


def test_shard_maps_of_one_folder_have_records_of_their_own(records: Records, tmp_path: Path) -> None:
    records.write("stats", {"number": 1})

    assert Records(ShardMap({}, source=tmp_path / "staging.toml")).last("stats") is None


def test_a_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDCTL_STATE_DIR", str(tmp_path / "state"))
    file = Records(ShardMap({}, app="weather:Session")).write("stats", {})

    assert file.is_relative_to(tmp_path / "state" / "weather-Session" / "stats")


def test_what_cannot_be_kept_is_said(records: Records, tmp_path: Path) -> None:
    (tmp_path / ".shardctl").write_text("a file in the way")

    with pytest.raises(ShardctlError, match=r"cannot keep a record in .*: (Not a directory|File exists)") as caught:
        records.write("stats", {})
    assert caught.value.hint == "name another folder with `SHARDCTL_STATE_DIR`"
    assert [file.name for file in tmp_path.iterdir()] == [".shardctl"]
