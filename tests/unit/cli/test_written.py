"""Rows for machines are written in pieces, and read as if each value had been written by itself."""

from __future__ import annotations

import csv
import datetime
import io
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shardctl.cli.output import Format, emit, into
from shardctl.cli.values import to_json, to_text

PLAIN = [1, -(10**20), "", 'a "b", c\nd', "\u00e4\u2028", None, 1.5, 1e300]
OTHERS = [
    True,
    Decimal("1E+3"),
    b"\x00\xff",
    float("nan"),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
    datetime.date(2026, 1, 2),
    datetime.time(1, 2, 3),
    datetime.timedelta(days=1, seconds=2),
    uuid.UUID(int=7),
    [1, None, "x"],
    {"a": Decimal("1.50")},
]


def written(tmp_path: Path, format_: Format, names: list[str], rows: list[tuple[Any, ...]]) -> str:
    with into(tmp_path / "rows"):
        emit(names, iter(rows), format_)
    return (tmp_path / "rows").read_bytes().decode()


@pytest.mark.parametrize("values", [PLAIN, OTHERS, PLAIN + OTHERS])
@pytest.mark.parametrize("number", [0, 1, 999, 1000, 2001])
def test_rows_are_what_each_value_is(tmp_path: Path, values: list[Any], number: int) -> None:
    rows = [(i, values[i % len(values)], values[i * 7 % len(values)]) for i in range(number)]
    expected = io.StringIO()
    writer = csv.writer(expected, lineterminator="\n")
    writer.writerows([("id", "a", "a"), *([to_text(value) for value in row] for row in rows)])
    assert written(tmp_path, Format.CSV, ["id", "a", "a"], rows) == expected.getvalue()
    lines = written(tmp_path, Format.NDJSON, ["id", "a", "a"], rows).split("\n")
    names = ("id", "a", "a_2")
    assert lines == [
        *(json.dumps(dict(zip(names, map(to_json, row), strict=True)), ensure_ascii=False) for row in rows),
        "",
    ]


def test_one_column_of_nothing_is_a_line(tmp_path: Path) -> None:
    assert written(tmp_path, Format.CSV, ["a"], [(None,), ("",), (1,)]) == 'a\n""\n""\n1\n'
