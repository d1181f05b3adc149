"""Copies of reference tables that differ, in every way that a value can."""

from __future__ import annotations

import datetime
import shlex
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, insert, null

from shardctl.fleet import Fleet
from shardctl.query.execute import Execution, execute
from shardctl.rows.audit import differences
from shardctl.rows.audit.finding import Finding, Skipped, Trouble
from shardctl.rows.audit.reference import check
from tests.engines.audit_copies import loose, pairs, things
from tests.engines.audit_data import faults, open_fleet, open_mixed, plant, reader, scope_of
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.projects import KINDS

RULES = """
models = "tests.engines.audit_copies:Base"

[tables.things]
strategy = "reference"

[tables.pairs]
strategy = "reference"

[tables.loose]
strategy = "reference"
"""


NOON = datetime.datetime(2026, 3, 29, 12, 0, 0, 123456)
ROW: dict[str, Any] = {
    "note": "a note",
    "ratio": 0.1 + 0.2,
    "rough": 0.5,
    "price": 1,
    "at": NOON,
    "seen": NOON,
    "day": NOON.date(),
    "is_new": True,
    "image": b"\x00\xff\x80",
    "data": {"b": [1, None, "x"], "a": {"d": True, "c": 1.5}},
    "count": 7,
}
CODES = ["Z", "a", "B", "ä", "e\u0301", "é", "zz", "_", "-", "1", "10", "2", "ss", "ß", "ij"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def fleet(kind: str, tmp_path: Path) -> Iterator[Fleet]:
    databases = Databases(kind.partition(" ")[0], tmp_path)
    if databases.engine != "sqlite":
        server_url(databases.engine)
    with open_fleet(kind, databases, tmp_path, RULES) as opened:
        fill(opened)
        yield opened
    databases.drop_all()


def fill(fleet: Fleet) -> None:
    """Give every copy the same rows, each in another order."""
    for turn, shard in enumerate(fleet.shards.values()):
        codes = _turned(CODES, turn * 4)
        if shard.backend.name == "mysql":  # whose usual collations hold some of them equal
            codes = [code for code in codes if code.isascii()]
        with shard.connect(read_only=False) as connection:
            connection.execute(insert(things), [{"code": code, **ROW} for code in codes])
            connection.execute(
                insert(pairs), _turned([{"a": n, "b": b, "value": n} for n in (1, 2) for b in "xy"], turn)
            )
            rows = [{"word": "w", "number": 1}, {"word": "w", "number": 1}, {"word": None, "number": 0}]
            connection.execute(insert(loose), _turned(rows, turn))
            connection.commit()


def _turned(rows: list[Any], turn: int) -> list[Any]:
    return rows[turn:] + rows[:turn]


def change(fleet: Fleet, shard_id: str, code: str, **values: Any) -> None:
    with fleet.shard(shard_id).connect(read_only=False) as connection:
        connection.execute(things.update().where(things.c.code == code).values(**values))
        connection.commit()


def test_equal_copies_have_no_findings(fleet: Fleet) -> None:
    assert faults(check(scope_of(fleet))) == set()
    assert faults(check(scope_of(fleet, chunk=2))) == set()


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "note": ("", None),
    "ratio": (0.3, 0.1 + 0.2),
    "rough": (0.5000001, 0.5),
    "price": (Decimal("1.000001"), Decimal("1")),
    "at": (NOON + datetime.timedelta(microseconds=1), NOON),
    "seen": (NOON - datetime.timedelta(hours=1), NOON),
    "day": (datetime.date(2026, 3, 30), datetime.date(2026, 3, 29)),
    "is_new": (False, None),
    "image": (b"\x00\xff\x81", b"\x00\xff\x80"),
    "data": ({"a": 1}, {"a": True}),
    "count": (0, None),
}


@pytest.mark.parametrize("column", DIFFERENT)
def test_one_value_of_one_row_is_named(fleet: Fleet, column: str) -> None:
    changed, usual = DIFFERENT[column]
    if fleet.shards["a"].backend.name == "mysql" and column in ("at", "seen"):
        changed, usual = NOON + datetime.timedelta(seconds=1), NOON  # its DATETIME has no fractions
    for shard_id in fleet.shards:
        change(fleet, shard_id, "B", **{column: changed if shard_id == "b" else usual})
    (entry,) = check(scope_of(fleet))
    assert isinstance(entry, Finding)
    assert (entry.kind, entry.name, entry.shards, entry.count, entry.samples) == (
        "row differs",
        "things",
        ("b",),
        1,
        (("B",),),
    )
    assert entry.detail == f"other {column} than a, c"


def test_texts_differ_by_case_blanks_and_composition(fleet: Fleet) -> None:
    for shard_id, words in {"a": ["x", "x", "\u00e9"], "b": ["X", "x", "\u00e9"], "c": ["x", "x ", "e\u0301"]}.items():
        for code, word in zip(["B", "a", "Z"], words, strict=True):
            change(fleet, shard_id, code, note=word)
    found = [entry for entry in check(scope_of(fleet)) if isinstance(entry, Finding)]
    assert [(entry.shards, set(entry.samples), entry.detail) for entry in found] == [
        (("b",), {("B",)}, "other note than a, c"),
        (("c",), {("a",), ("Z",)}, "other note than a, b"),
    ]


def test_missing_and_extra_rows_are_named(fleet: Fleet) -> None:
    plant(fleet, "b", "delete from things where code = '10'", "insert into things (code) values ('new'), ('old')")
    plant(fleet, "c", "delete from pairs where a = 1 and b = 'y'")
    plant(fleet, "c", "insert into pairs (a, b, value) values (7, 'x', null)")
    plant(fleet, "b", "insert into loose values ('w', 1)", "delete from loose where word is null")
    found = [entry for chunk in (1, 20_000) for entry in check(scope_of(fleet, chunk=chunk))]
    assert faults(found[: len(found) // 2]) == faults(found[len(found) // 2 :])
    assert faults(found[: len(found) // 2]) == {
        ("row missing", "things", "b", 1, (("10",),)),
        ("row extra", "things", "b", 2, (("new",), ("old",))),
        ("row missing", "pairs", "c", 1, ((1, "y"),)),
        ("row extra", "pairs", "c", 1, ((7, "x"),)),
        ("row extra", "loose", "b", 1, (("w", 1),)),
        ("row missing", "loose", "b", 1, ((None, 0),)),
    }


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("data", [{"a": [1, 2.0], "b": None}, {"b": None, "a": [1.0, 2]}, {"a": [1, 2], "b": None}]),
        ("price", [Decimal("1"), Decimal("1.00"), Decimal("1.000000")]),
        ("ratio", [0.0, -0.0, 0.0]),
    ],
)
def test_one_value_in_several_spellings_is_one(fleet: Fleet, column: str, values: list[Any]) -> None:
    for shard_id, value in zip(fleet.shards, values, strict=True):
        change(fleet, shard_id, "B", **{column: value})
    assert faults(check(scope_of(fleet))) == set()


def test_nulls_of_two_kinds(fleet: Fleet) -> None:
    """JSON has one of its own."""
    change(fleet, "a", "B", data=JSON.NULL)
    change(fleet, "c", "B", data=JSON.NULL)
    change(fleet, "b", "B", data=null())
    assert faults(check(scope_of(fleet))) == {("row differs", "things", "b", 1, (("B",),))}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "postgresql" in kind])
def test_what_only_postgresql_has(fleet: Fleet) -> None:
    for shard_id, at, zone in [
        ("a", "2026-03-29 02:30:00+02", "UTC"),
        ("b", "2026-03-29 00:30:00+00", "Asia/Tokyo"),
        ("c", "2026-03-28 19:30:00-05", "Europe/Berlin"),
    ]:
        values = f"at = '{at}', ratio = 'NaN', day = 'infinity', seen = '0044-03-15 BC'"
        plant(fleet, shard_id, f"set time zone '{zone}'", f"update things set {values} where code = 'B'")
    assert faults(check(scope_of(fleet))) == set()
    plant(fleet, "c", "update things set at = at + interval '1 microsecond', day = '-infinity' where code = 'B'")
    (entry,) = check(scope_of(fleet))
    assert isinstance(entry, Finding)
    assert (entry.shards, entry.detail) == (("c",), "other at, day than a, b")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "sqlite" not in kind])
def test_a_role_that_may_only_select_can_look(fleet: Fleet) -> None:
    plant(fleet, "b", "delete from things where code = '10'", "update pairs set value = 5 where a = 1 and b = 'x'")
    with reader(fleet) as limited:
        assert faults(check(scope_of(limited))) == {
            ("row missing", "things", "b", 1, (("10",),)),
            ("row differs", "pairs", "b", 1, ((1, "x"),)),
        }


def run(fleet: Fleet, command: str) -> None:
    """Run what a finding says as `exec` does."""
    words = shlex.split(command)
    assert words[:2] == ["shardctl", "exec"]
    names = [words[place + 1] for place, word in enumerate(words) if word == "--shard"]
    execution = Execution(words[-1], writes="--write" in words)
    for outcome in execute(fleet, execution, [fleet.shard(name) for name in names]):
        assert outcome.error is None, outcome.error


FAULTS = {
    "b": ["delete from pairs where a = 1", "update pairs set value = null where a = 2 and b = 'x'"],
    "c": ["insert into pairs (a, b, value) values (7, 'it''s', 1), (8, '$`\"%:a', null)"],
}


@pytest.mark.parametrize("shard_id", FAULTS)
def test_what_a_finding_says_mends_it(fleet: Fleet, shard_id: str) -> None:
    plant(fleet, shard_id, *FAULTS[shard_id])
    found = [entry for entry in check(scope_of(fleet)) if isinstance(entry, Finding)]
    assert len(found) == len(FAULTS[shard_id])
    for entry in found:
        assert "--write" in entry.mend, entry.mend
        run(fleet, entry.mend)
    assert faults(check(scope_of(fleet))) == set()


def test_what_cannot_be_written_without_doubt_is_shown(fleet: Fleet) -> None:
    plant(fleet, "b", "delete from things where code = '10'")
    (entry,) = check(scope_of(fleet))
    assert isinstance(entry, Finding)
    assert "--write" not in entry.mend
    run(fleet, entry.mend)


def test_without_a_majority_nothing_is_written(fleet: Fleet) -> None:
    plant(fleet, "b", "delete from pairs where a = 1 and b = 'x'")
    two = [fleet.shard("a"), fleet.shard("b")]
    (entry,) = check(scope_of(fleet, shards=two))
    assert isinstance(entry, Finding)
    assert (entry.kind, entry.shards, entry.detail) == ("row missing", ("b",), "a has it")
    assert entry.mend == "shardctl exec --shard a --shard b \"SELECT * FROM pairs WHERE pairs.a = 1 AND pairs.b = 'x'\""
    alone = list(check(scope_of(fleet, targets=[pairs], shards=two[:1])))
    assert alone == [Skipped("reference", "pairs", "no two copies of it were asked")]


def test_the_copy_that_differs_may_be_the_first(fleet: Fleet) -> None:
    plant(fleet, "a", "delete from pairs where a = 1 and b = 'x'")
    (entry,) = check(scope_of(fleet))
    assert isinstance(entry, Finding)
    assert (entry.kind, entry.shards, entry.detail) == ("row missing", ("a",), "b, c have it")


def test_each_copy_may_be_wrong_in_another_row(fleet: Fleet) -> None:
    """The first copy is not right for being the first: each row is as most copies have it."""
    plant(fleet, "a", "update pairs set value = 5 where a = 1 and b = 'x'")
    plant(fleet, "b", "update pairs set value = 6 where a = 2 and b = 'y'")
    found = [entry for entry in check(scope_of(fleet)) if isinstance(entry, Finding)]
    assert {(entry.shards, entry.samples, entry.detail) for entry in found} == {
        (("a",), ((1, "x"),), "other value than b, c"),
        (("b",), ((2, "y"),), "other value than a, c"),
    }
    for entry in found:
        run(fleet, entry.mend)
    assert faults(check(scope_of(fleet))) == set()


def test_a_large_copy_is_compared_in_parts(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "IN_MEMORY", 3)
    plant(fleet, "b", "delete from things where code in ('10', 'a', '_')", "insert into things (code) values ('new')")
    plant(fleet, "b", "update things set note = 'x' where code in ('1', '2')")
    found = [entry for entry in check(scope_of(fleet)) if isinstance(entry, Finding)]
    assert {(entry.kind, entry.count) for entry in found} == {("row missing", 3), ("row extra", 1), ("row differs", 2)}


def test_a_table_that_is_not_there_is_a_finding(fleet: Fleet) -> None:
    plant(fleet, "b", "drop table pairs", "alter table loose drop column number")
    found = list(check(scope_of(fleet)))
    missing = [entry for entry in found if isinstance(entry, Finding)]
    assert [(entry.kind, entry.name, entry.shards, entry.mend) for entry in missing] == [
        ("table missing", "pairs", ("b",), "shardctl drift --shard b")
    ]
    troubles = [entry for entry in found if isinstance(entry, Trouble)]
    assert [(entry.shard_id, entry.name) for entry in troubles] == [("b", "loose")]
    assert "number" in troubles[0].error.message


def test_copies_on_several_engines(tmp_path: Path) -> None:
    server_url("postgresql")
    databases = Databases("postgresql", tmp_path)
    urls = {"a": f"sqlite:///{tmp_path}/a.db", "b": databases.create("b"), "c": f"sqlite:///{tmp_path}/c.db"}
    token = uuid.UUID("12345678-1234-5678-1234-567812345678")
    try:
        with open_mixed(tmp_path, urls, RULES) as fleet:
            fill(fleet)
            for shard_id in fleet.shards:
                change(fleet, shard_id, "B", token=token, at=NOON.replace(tzinfo=datetime.UTC))
            assert faults(check(scope_of(fleet, chunk=4))) == set()
            change(fleet, "b", "a", ratio=0.3, data={"b": [1, None, "x"]}, image=b"\x00")
            change(fleet, "b", "Z", token=token, note="")
            plant(fleet, "b", "delete from things where code = 'ß'", "insert into things (code) values ('SS')")
            found = [entry for entry in check(scope_of(fleet)) if isinstance(entry, Finding)]
            assert [(entry.kind, entry.shards, entry.samples, entry.detail) for entry in found] == [
                ("row differs", ("b",), (("Z",),), "other note, token than a, c"),
                ("row differs", ("b",), (("a",),), "other ratio, image, data than a, c"),
                ("row extra", ("b",), (("SS",),), "a, c do not have it"),
                ("row missing", ("b",), (("ß",),), "a, c have it"),
            ]
    finally:
        databases.drop_all()
