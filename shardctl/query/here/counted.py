"""Columns of which only a count is wanted: whether they are NULL is all that has to travel."""

from __future__ import annotations

from typing import Any

from sqlglot import exp

from shardctl.query.parse import Statement
from shardctl.query.pull.sources import Sources

_GROUPABLE = frozenset({"bool", "int2", "int4", "int8", "date", "uuid"})
"""Types of which equal values are the same value."""


def is_groupable(kind: str) -> bool:
    """Whether rows may travel once with their number: equal values of this type are alike in every way."""
    return kind in _GROUPABLE


def only_counted(statement: Statement, sources: Sources) -> set[tuple[str, str]]:
    """Return tables' columns that a statement mentions as `count(column)` only.

    What is not understood is not counted only: a name that may be of several tables, `*`, NATURAL and USING.
    """
    tree = statement.tree
    if any(join.args.get("using") or join.args.get("method") for join in tree.find_all(exp.Join)):
        return set()
    counted: set[tuple[str, str]] = set()
    others: set[tuple[str, str]] = set()
    unclear: set[str] = set()
    for column in tree.find_all(exp.Column):
        if isinstance(column.this, exp.Star):
            return set()
        select = column.find_ancestor(exp.Select)
        node = None if select is None else sources.resolve(column, select)
        if node is None:
            unclear.add(column.name.lower())
        elif _is_counted(column):
            counted.add((node.source.table, node.column))
        else:
            others.add((node.source.table, node.column))
    has_stars = any(not isinstance(star.parent, exp.Count) for star in tree.find_all(exp.Star))
    return set() if has_stars else {entry for entry in counted - others if entry[1].lower() not in unclear}


def _is_counted(column: exp.Column) -> bool:
    count: Any = column.parent
    return isinstance(count, exp.Count) and count.this is column and not isinstance(count.parent, exp.Window)
