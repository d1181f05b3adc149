"""Integer columns that MySQL is asked to find a fraction in.

MariaDB rounds such a constant to look it up in an index that is not unique, and finds rows that a scan of the table
does not: which of both happens depends on indexes that a copy of the table does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from sqlglot import exp

from shardctl.query.gatherers.shapes import TableShape
from shardctl.query.parameters import MISSING, bound_value
from shardctl.query.parse import Statement, shown
from shardctl.query.refusals import REFUSALS

_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,3})?", re.IGNORECASE | re.ASCII)
"""What MySQL reads of a text as a number."""


def check_rounding(statement: Statement, shapes: Mapping[str, TableShape]) -> None:
    """Refuse an equality of an integer column, or of what must be equal to one, and a fraction.

    Raises:
        QueryRefused: There is one.
    """
    found = [(node, *pair) for node, *pair in _equalities(statement.tree) if _is_fraction(pair[1])]
    if not found:
        return
    integers = {column.name.lower() for shape in shapes.values() for column in shape.columns if column.is_integer}
    names = _closure(integers, statement.tree)
    for node, column, _ in found:
        if isinstance(column, exp.Column) and column.name.lower() in names:
            REFUSALS["rounding"].refuse(shown(node), column.name)


def _equalities(tree: exp.Expression) -> Iterator[tuple[Any, Any, Any]]:
    """Yield what is compared for being equal: the comparison, and both sides, either way round."""
    for node in tree.find_all(exp.EQ, exp.NullSafeEQ, exp.In):
        others = node.expressions if isinstance(node, exp.In) else [node.expression]
        others = others if len(others) == 1 else []  # of several values, the index finds what is equal only
        query = node.args.get("query")
        if query is not None:
            others = [query.this if isinstance(query, exp.Subquery) else query]
        for other in others:
            for one, another in _pairs(node.this, other):
                yield node, one, another
                yield node, another, one


def _pairs(one: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the sides of a comparison; of rows and of a query's columns, one by one."""
    one, other = one.unnest(), other.unnest() if isinstance(other, exp.Paren) else other
    if isinstance(other, exp.Any | exp.All):
        other = other.this.unnest()
    others = other.selects if isinstance(other, exp.Query) else getattr(other, "expressions", [])
    if isinstance(one, exp.Tuple):
        for part, another in zip(one.expressions, others, strict=False):
            yield from _pairs(part, another)
    elif isinstance(other, exp.Query):
        yield from ((one, another.unalias()) for another in others[:1])
    else:
        yield one, other


def _closure(names: set[str], tree: exp.Expression) -> set[str]:
    """Add the names of columns that are equal to one of these, or another name for one."""
    links = [
        (one.name.lower(), other.name.lower())
        for _, one, other in _equalities(tree)
        if isinstance(one, exp.Column) and isinstance(other, exp.Column)
    ]
    links += [
        (node.this.name.lower(), node.alias.lower())
        for node in tree.find_all(exp.Alias)
        if isinstance(node.this, exp.Column)
    ]
    found = set(names)
    for _ in links:
        found |= {other for one, other in links if one in found}
    return found


def _is_fraction(node: Any) -> bool:
    """Whether a constant is read as a number that is no integer."""
    if isinstance(node, exp.Paren | exp.Neg):
        return _is_fraction(node.this)
    if isinstance(node, exp.Placeholder):
        value = bound_value(str(node.name))
        return value is not MISSING and _is_fractional(str(value))
    if isinstance(node, exp.Literal):
        return _is_fractional(str(node.this))
    return isinstance(node, exp.Expression) and node.sql().upper() == "PI()"


def _is_fractional(text: str) -> bool:
    found = _NUMBER.match(text)
    return found is not None and Decimal(found[0].strip()) % 1 != 0
