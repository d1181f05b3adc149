"""Audits of keys whose types store something else than what the application sees."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from sqlalchemy import insert, text

import shardctl
from shardctl.fleet import Fleet
from tests.fixtures.audited import audited, faults, put
from tests.fixtures.audited_types import RULES, Base, Crate, Size
from tests.fixtures.engines import Databases

IDS = [uuid.UUID(int=number << 100 | number) for number in range(12)]


@pytest.fixture
def fleet(tmp_path: Path, databases: Databases) -> Fleet:
    shards = "".join(f"\n[shards.{name}]\nurl = '{databases.create(name)}'\n" for name in "ab")
    (tmp_path / "shardctl.toml").write_text(RULES + shards)
    opened = shardctl.open(tmp_path / "shardctl.toml")
    for shard in opened.shards.values():
        Base.metadata.create_all(shard.bind)
    put(opened, {("a", "Parcel"): [{"id": key, "size": Size.SMALL} for key in IDS[::2]]})
    put(opened, {("b", "Parcel"): [{"id": key, "size": Size.LARGE} for key in IDS[1::2]]})
    put(opened, {("a", "Crate"): [{"size": size, "weight": n, "side": "X"} for size in Size for n in range(4)]})
    put(opened, {("b", "Crate"): [{"size": size, "weight": n + 0.5, "side": "y"} for size in Size for n in range(4)]})
    put(
        opened, {("a", "Debt"): [{"amount": -n} for n in range(1, 9)], ("b", "Debt"): [{"amount": n} for n in range(9)]}
    )
    return opened


@pytest.mark.parametrize("chunk", [20_000, 2])
def test_nothing_is_found_where_nothing_is_wrong(fleet: Fleet, chunk: int) -> None:
    with fleet:
        found = audited(fleet, chunk=chunk)
        assert found.troubles == []
        assert faults(found) == set()
        assert {skipped.check for skipped in found.skipped} == set()


@pytest.mark.parametrize("chunk", [20_000, 2])
def test_each_fault_is_named(fleet: Fleet, chunk: int) -> None:
    with fleet:
        put(fleet, {("b", "Parcel"): [{"id": IDS[2], "size": Size.SMALL}, {"id": uuid.UUID(int=5), "size": None}]})
        put(fleet, {("b", "Crate"): [{"size": Size.LARGE, "weight": 2, "side": "x"}], ("a", "Debt"): [{"amount": 3}]})
        with fleet.shard("a").bind.begin() as connection:  # as another program writes it
            connection.execute(insert(Crate.__table__), {"size": Size.SMALL, "weight": 77, "side": "x"})
            connection.execute(text("update crates set side = 'X' where weight = 77"))
        found = audited(fleet, chunk=chunk)
        assert found.troubles == []
        assert faults(found) == {
            ("placement", "misplaced", "Parcel", "b", 1, ((IDS[2],),)),
            ("placement", "no placement", "Parcel", "b", 1, ((uuid.UUID(int=5),),)),
            ("placement", "misplaced", "Crate", "b", 1, ((Size.LARGE, 2),)),
            ("placement", "misplaced", "Debt", "a", 1, ((3,),)),
            ("duplicates", "on several shards", "Parcel", "a b", 1, ((IDS[2],),)),
            ("duplicates", "on several shards", "Crate", "a b", 1, ((Size.LARGE, 2),)),
            ("duplicates", "on several shards", "Debt", "a b", 1, ((3,),)),
        }
        commands = {finding.name: finding.mend for finding in found.findings}
        assert commands["Crate"] == "shardctl locate Crate LARGE 2.00"
