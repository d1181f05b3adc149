"""What becomes of statements that take too long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import shardctl
from shardctl.fleet import LiveShard

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n"


def test_a_statement_given_up_is_cancelled_before_the_command_can_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = []
    cancel = LiveShard.cancel

    def cancel_slowly(shard: LiveShard) -> None:
        time.sleep(0.3)
        cancel(shard)
        cancelled.append(shard.shard_id)

    def run(shard: LiveShard) -> None:
        with shard.connect() as connection:
            connection.exec_driver_sql(ENDLESS)

    monkeypatch.setattr(LiveShard, "cancel", cancel_slowly)
    (tmp_path / "asia.db").touch()
    (tmp_path / "shardctl.toml").write_text('[shards.asia]\nurl = "sqlite:///asia.db"\n', encoding="utf-8")
    with shardctl.open(tmp_path / "shardctl.toml") as fleet:
        (outcome,) = fleet.fan_out(run, list(fleet.shards.values()), timeout_s=0.5)

    assert outcome.problem == "asia: no answer within 0.5 s; its statement was cancelled"
    assert cancelled == ["asia"]
