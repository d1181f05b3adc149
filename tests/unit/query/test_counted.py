"""Columns that a statement only counts."""

from __future__ import annotations

import pytest

from shardctl.query.gatherers.shapes import ColumnShape, TableShape
from shardctl.query.here.counted import only_counted
from shardctl.query.parse import parse
from shardctl.query.pull.sources import Sources

SHAPES = {
    name: TableShape(name, tuple(ColumnShape(column, "integer", is_integer=True) for column in columns))
    for name, columns in {"c": ("id", "city"), "o": ("number", "c_id", "note")}.items()
}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select c.id, count(number) from c left join o on c_id = id group by c.id", {"number"}),
        ("select c.id, count(o.number), count(note) from c join o on c_id = c.id group by 1", {"number", "note"}),
        ("select count(distinct o.number) from c join o on c_id = c.id", set()),
        ("select count(o.number) from c join o on c_id = c.id order by max(o.number)", set()),
        ("select count(o.number) over () from c join o on c_id = c.id", set()),
        ("select count(o.number + 1) from c join o on c_id = c.id", set()),
        ("select count(*), count(o.number) from c join o on c_id = c.id", {"number"}),
        ("select count(x.number) from (select number from o) x", set()),
        ("select count(number) from (select * from o) x join c on c.id = number", set()),
        ("select count(number), (select number) from o", set()),
        ("select count(number) from o natural join c", set()),
        ("select (select count(o.number) from o where o.c_id = c.id) from c", {"number"}),
        ("select count(a.number) from o a join o b on a.note = b.note where b.number > 3", set()),
    ],
)
def test_only_counted(sql: str, expected: set[str]) -> None:
    statement = parse(sql, "postgresql")
    assert {column for _, column in only_counted(statement, Sources(statement, SHAPES))} == expected
