"""Within what a primary key names one row."""

from __future__ import annotations

from pathlib import Path

import pytest

import shardctl
from shardctl.fleet.identity_scope import identity_scope
from tests.fixtures.audited import ALL_RULES, OWN_RULES
from tests.fixtures.shop import FILES, RULES

SHARDS = "".join(f'\n[shards.{name}]\nurl = "{url}"\n' for name, url in FILES.items())


@pytest.mark.parametrize(
    ("name", "expected", "why"),
    [
        ("Customer", "fleet-wide", "rows are placed by it"),
        ("Order", "per-shard", "each shard counts id by itself"),
        ("Product", "fleet-wide", "rows are placed by it"),
        ("Line", "fleet-wide", "declared fleet-wide"),
    ],
)
def test_scopes(tmp_path: Path, name: str, expected: str, why: str) -> None:
    rules = RULES.replace('parent = "order"', 'parent = "order"\nidentity = "fleet-wide"')
    (tmp_path / "shardctl.toml").write_text(rules + SHARDS, encoding="utf-8")
    with shardctl.open(tmp_path / "shardctl.toml") as fleet:
        assert identity_scope(fleet, fleet.models.find(name)) == (expected, why)


@pytest.mark.parametrize(
    ("name", "expected", "why"),
    [
        ("Seal", "per-shard", "memo_id is of memos, which each shard counts by itself"),
        ("Dog", "fleet-wide", "rows are placed by it"),
        ("Ticket", "fleet-wide", "no database counts its key"),
    ],
)
def test_scopes_of_keys_that_refer_to_others(tmp_path: Path, name: str, expected: str, why: str) -> None:
    (tmp_path / "shardctl.toml").write_text(ALL_RULES + OWN_RULES + SHARDS, encoding="utf-8")
    with shardctl.open(tmp_path / "shardctl.toml") as fleet:
        assert identity_scope(fleet, fleet.models.find(name)) == (expected, why)
