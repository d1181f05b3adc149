"""Defaults as engines rewrite them are the same defaults."""

from __future__ import annotations

import pytest

from shardctl.schema.comparators import comparable

SAME = [
    ("'x'::character varying", "'x'"),
    ("'it''s'::text", "'it''s'"),
    ("'a'::s_1.mood", "'a'"),
    ("('2020-01-01'::date)", "'2020-01-01'"),
    ("'{}'::character varying[]", "'{}'"),
    ("'2020-01-01 00:00:00'::timestamp(3) without time zone", "'2020-01-01 00:00:00'"),
    ("now()", "CURRENT_TIMESTAMP"),
    ("current_timestamp() ON UPDATE current_timestamp()", "CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"),
    ("1.50", "'1.5'"),
    ("((0))", "0"),
    ("nextval('o_id_seq'::regclass)", "nextval('o_id_seq')"),
    ("NULL", None),
    ("lower( 'A' )", "LOWER('A')"),
]
DIFFERENT = [
    ("'x'", "'X'"),
    ("0", "1"),
    ("0", None),
    ("'now()'", "now()"),
    ("lower('A')", "lower('a')"),
    ("(1) + (2)", "1 + 3"),
    ("''", None),
]


@pytest.mark.parametrize(("found", "expected"), SAME)
def test_the_same(found: str, expected: str | None) -> None:
    assert comparable(found) == comparable(expected)


@pytest.mark.parametrize(("found", "expected"), DIFFERENT)
def test_not_the_same(found: str, expected: str | None) -> None:
    assert comparable(found) != comparable(expected)


def test_booleans_are_written_in_several_ways() -> None:
    true = {comparable(text, is_boolean=True) for text in ("1", "true", "'t'", "TRUE")}
    false = {comparable(text, is_boolean=True) for text in ("0", "false", "'f'")}
    assert (true, false) == ({True}, {False})
