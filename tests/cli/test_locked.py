"""What a person sees while another run is at work on a shard."""

from __future__ import annotations

import json

import pytest

import shardctl
from shardctl.schema.locks import held
from tests.fixtures.cli import Workspace

REVISION = """\
revision = "0003"
down_revision = "0002"


def upgrade():
    pass
"""


@pytest.mark.slow
def test_a_locked_shard_is_named_with_its_holder_and_the_others_wait(filled: Workspace) -> None:
    filled.write("migrations/versions/0003.py", REVISION)
    with shardctl.open(filled.folder / "shardctl.toml") as fleet:
        asia = fleet.shards["asia"]
        with asia.connect(read_only=False) as connection, held(asia, connection):
            stopped = filled.shardctl("migrate --shard asia --yes")
            partly = filled.shardctl("migrate --all-shards --on-error continue --yes --format json")
            assert filled.shardctl("migrate log --shard asia").code == 0
    again = filled.shardctl("migrate --all-shards --yes")

    assert stopped.code == 6
    assert "error: migrated 0 of 1 shards to 0003" in stopped.stderr
    assert "asia: locked after " in stopped.stderr
    report = json.loads(partly.stdout)
    assert partly.code == report["exit_code"] == 6
    outcomes = {row["shard"]: row["outcome"] for row in report["rows"]}
    others = dict.fromkeys(["north_america", "europe", "south_america"], "upgraded")
    assert outcomes == {"asia": "locked"} | others
    assert (again.code, again.stdout.count("at head"), again.stdout.count("upgraded")) == (0, 3, 1)
