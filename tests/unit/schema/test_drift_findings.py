"""Fingerprints compared with one another: order does not matter, the majority does."""

from __future__ import annotations

from shardctl.schema.catalogue import SchemaObject
from shardctl.schema.drift import Finding, Status, compare_with, compare_with_most, grouped, merged, settled
from shardctl.schema.fingerprint import Fingerprint

TABLE = SchemaObject("table", "orders", "")
ZIP = SchemaObject("column", "orders", "zip")
INDEX = SchemaObject("index", "orders", "ix_zip")
NOTE = SchemaObject("comment", "orders", "zip")


def made(**changes: str | None) -> Fingerprint:
    objects = {TABLE: "", ZIP: "varchar(9)", INDEX: "orders (zip)", NOTE: "of the address"}
    named = {"table": TABLE, "zip": ZIP, "index": INDEX, "note": NOTE}
    for name, definition in changes.items():
        objects.pop(named[name])
        if definition is not None:
            objects[named[name]] = definition
    return Fingerprint("sqlite", objects)


def told(findings: list[Finding]) -> list[str]:
    return [f"{finding.object} {finding.text} ({', '.join(finding.against)})" for finding in findings]


def test_the_digest_knows_no_order() -> None:
    one = made()
    other = Fingerprint("sqlite", dict(reversed(one.objects.items())), ("r1",))
    assert one.digest == other.digest
    assert one.digest != made(zip="varchar(12)").digest
    assert one.digest != Fingerprint("mysql", one.objects).digest


def test_most_shards_are_right() -> None:
    found = compare_with_most(
        {"a": made(), "b": made(zip="varchar(12)"), "c": made(), "d": made(index=None)}, lambda shard, table: True
    )
    assert {name: told(findings) for name, findings in found.items()} == {
        "a": [],
        "b": ["column orders.zip different: `varchar(12)` against `varchar(9)` (3 of 4 shards)"],
        "c": [],
        "d": ["index ix_zip missing (3 of 4 shards)"],
    }


def test_of_two_the_first_is_right() -> None:
    found = compare_with_most({"a": made(), "b": made(index=None)}, lambda shard, table: True)
    assert told(found["a"]) == []
    assert told(found["b"]) == ["index ix_zip missing (1 of 2 shards)"]


def test_parts_of_what_is_missing_are_not_told() -> None:
    without_table = Fingerprint("sqlite", {})
    found = compare_with_most({"a": made(), "b": made(), "c": without_table}, lambda shard, table: True)
    assert told(found["c"]) == ["table orders missing (2 of 3 shards)"]
    found = compare_with_most({"a": made(), "b": made(), "c": made(zip=None, note=None)}, lambda shard, table: True)
    assert told(found["c"]) == ["column orders.zip missing (2 of 3 shards)"]


def test_a_table_that_is_meant_for_one_shard_is_not_missed_by_others() -> None:
    without_table = Fingerprint("sqlite", {})
    shards = {"a": made(), "b": without_table, "c": without_table}
    assert not any(compare_with_most(shards, lambda shard, table: shard == "a").values())
    assert compare_with(without_table, made(), lambda table: False) == []
    assert len(compare_with(without_table, made(), lambda table: True)) == 1


def test_what_two_comparisons_found_is_told_once() -> None:
    models = [Finding(INDEX, Status.MISSING, ("models",)), Finding(ZIP, Status.DIFFERENT, ("models",), "x", "y")]
    shards = [Finding(INDEX, Status.MISSING, ("3 of 4 shards",)), Finding(NOTE, Status.UNEXPECTED, ("3 of 4 shards",))]
    assert told(merged(models, shards)) == [
        "column orders.zip different: `x` against `y` (models)",
        "comment on orders.zip unexpected (3 of 4 shards)",
        "index ix_zip missing (models, 3 of 4 shards)",
    ]


def test_models_know_better_than_most_shards() -> None:
    wrong = Finding(INDEX, Status.UNEXPECTED, ("models",))
    models = {"a": [wrong], "b": [wrong], "c": []}
    others = {"a": [], "b": [], "c": [Finding(INDEX, Status.MISSING, ("2 of 3 shards",))]}
    assert settled(others, models) == {"a": [], "b": [], "c": []}
    assert settled(others, {}) == others


def test_equal_findings_are_one_group() -> None:
    finding = Finding(INDEX, Status.MISSING, ("models",))
    [group] = grouped({"a": [finding], "b": [], "c": [finding]})
    assert group.shard_ids == ("a", "c")
