"""The parts of a SQLAlchemy SELECT, as far as merging has to know them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy import ColumnElement, Label, Select, Table, TextClause
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import (
    ColumnClause,
    FunctionFilter,
    Over,
    UnaryExpression,
    WithinGroup,
    _label_reference,
    _textual_label_reference,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause, SelectBase
from sqlalchemy.sql.util import _deep_deannotate

from shardctl.errors import QueryRefused

MERGEABLE = frozenset({"count", "sum", "min", "max", "avg"})
"""The aggregates that can be put together from each shard's."""

PER_ROW = frozenset(
    """
    abs cast ceil ceiling char_length coalesce concat current_date current_time current_timestamp date date_trunc day
    extract floor greatest ifnull instr least left length localtime localtimestamp lower lpad ltrim mod month now nullif
    replace right round rpad rtrim strftime substr substring timezone trim upper year
    """.split()
)
"""Functions that are known to look at one row."""

NAME_ONE_SHARD = 'name one shard: `bind_arguments={"shard_id": …}` or `.options(set_shard_id(…))`'


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One entry of ORDER BY."""

    expression: ColumnElement[Any]
    desc: bool
    nulls_first: bool | None
    """None: as the engine does."""


def refuse(why: str, part: Any, *, hint: str = NAME_ONE_SHARD) -> NoReturn:
    """Refuse a statement, and show the part that is why."""
    raise QueryRefused(f"over several shards, {why}", facts=[f"in: {shown(part)}"], hint=hint)


def shown(part: Any) -> str:
    """Return a part of a statement on one line, as far as SQLAlchemy can write it by itself."""
    try:
        text = " ".join(str(part).split())
    except Exception:  # what only its dialect can write
        text = type(part).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."


def elements(expression: Any) -> Iterator[Any]:
    """Yield an expression and what is in it, but not what is in its subqueries."""
    yield expression
    if not is_subquery(expression):
        for child in expression.get_children():
            yield from elements(child)


def is_subquery(element: Any) -> bool:
    """Say whether an element is a SELECT of its own, in whatever it is wrapped."""
    return isinstance(element, SelectBase | FromClause) and not isinstance(element, Table | FunctionElement)


def is_entity(column: Any) -> bool:
    """Say whether an entry of a select list is a mapped class."""
    is_source = isinstance(column, FromClause) and not isinstance(column, FunctionElement)
    return is_source and "parententity" in column._annotations


def is_aggregate(element: Any) -> bool:
    """Say whether an element is an aggregate that can be merged."""
    if isinstance(element, FunctionFilter):
        return is_aggregate(element.func)
    if not isinstance(element, FunctionElement) or name_of(element) not in MERGEABLE:
        return False
    # With several arguments, `min` and `max` are functions of one row in SQLite.
    return len(list(element.clauses)) <= 1 or name_of(element) not in {"min", "max"}


def name_of(function: Any) -> str:
    return str(getattr(function, "name", type(function).__name__)).lower()


def aggregates(expression: Any) -> Iterator[Any]:
    """Yield the aggregates in an expression; what is in one is its own."""
    if is_aggregate(expression):
        yield expression
    elif not is_subquery(expression):
        for child in expression.get_children():
            yield from aggregates(child)


def unknown_functions(expressions: Any) -> list[str]:
    """Return the functions of which only the engine knows whether they look at one row."""
    found = (
        name_of(element)
        for expression in expressions
        for element in elements(expression)
        if isinstance(element, FunctionElement)
    )
    return [name for name in dict.fromkeys(found) if name not in MERGEABLE | PER_ROW and name.isidentifier()]


def check_expression(expression: Any) -> None:
    """Refuse what would see one shard's rows only, or cannot be read."""
    for element in elements(expression):
        if isinstance(element, Over):
            refuse("a window function would see one shard's rows only", element)
        if isinstance(element, WithinGroup):
            refuse("an ordered aggregate cannot be merged", element)
        is_text = isinstance(element, TextClause) or (isinstance(element, ColumnClause) and element.is_literal)
        if is_text and "(" in str(element):
            refuse("SQL text in an expression cannot be read", element, hint="write it with `func` and columns")


def order_keys(statement: Select[Any]) -> list[OrderKey]:
    """Return a statement's ORDER BY."""
    return [_order_key(clause, statement) for clause in statement._order_by_clauses]


def _order_key(clause: Any, statement: Select[Any]) -> OrderKey:
    desc = False
    nulls_first: bool | None = None
    while True:
        modifier = getattr(clause, "modifier", None) if isinstance(clause, UnaryExpression) else None
        if isinstance(clause, _label_reference):
            clause = clause.element
        elif isinstance(clause, _textual_label_reference):
            clause = named_column(statement, str(clause.element))
        elif modifier in (operators.desc_op, operators.asc_op):
            desc, clause = modifier is operators.desc_op, clause.element
        elif modifier in (operators.nulls_first_op, operators.nulls_last_op):
            nulls_first, clause = modifier is operators.nulls_first_op, clause.element
        elif isinstance(clause, Label):
            clause = clause.element
        else:
            break
    if isinstance(clause, TextClause) or (isinstance(clause, ColumnClause) and clause.is_literal):
        refuse("SQL text in ORDER BY cannot be read", clause, hint="order by a column, or an expression")
    return OrderKey(clause, desc, nulls_first)


def named_column(statement: Select[Any], name: str) -> Any:
    """Return the column of the result that a text in ORDER BY or GROUP BY names."""
    found = [column for column in statement.selected_columns if getattr(column, "name", None) == name]
    if len(found) != 1:
        refuse(f"`{name}` does not name one column of the result", name, hint="order by the expression itself")
    return found[0]


def group_keys(statement: Select[Any]) -> list[Any]:
    """Return a statement's GROUP BY, labels replaced by what they stand for."""
    keys = []
    for clause in statement._group_by_clauses:
        key: Any = clause
        while isinstance(key, _label_reference | _textual_label_reference | Label):
            is_text = isinstance(key, _textual_label_reference)
            key = named_column(statement, str(key.element)) if is_text else key.element
        if isinstance(key, TextClause):
            refuse("SQL text in GROUP BY cannot be read", key, hint="group by a column, or an expression")
        keys.append(key)
    return keys


def limits(statement: Any) -> tuple[int | None, int]:
    """Return LIMIT (or FETCH) and OFFSET as numbers."""
    if getattr(statement, "_fetch_clause", None) is not None:
        refuse("FETCH cannot be merged", statement._fetch_clause, hint="use `limit()`")
    values = []
    for clause in (statement._limit_clause, statement._offset_clause):
        value = getattr(clause, "effective_value", None) if clause is not None else None
        if clause is not None and not isinstance(value, int):
            refuse("LIMIT and OFFSET must be numbers", clause)
        values.append(value)
    return values[0], values[1] or 0


def are_same(one: Any, other: Any) -> bool:
    """Say whether two expressions are one: of the same columns of the same sources, with the same values."""
    if one is other:
        return True
    # Of its annotations, `desc()` takes one from a mapped column.
    keys = [_deep_deannotate(expression)._generate_cache_key() for expression in (one, other)]
    if any(key is None for key in keys) or keys[0].key != keys[1].key:
        return False
    values = [[parameter.effective_value for parameter in key.bindparams] for key in keys]
    # A cache key has no names for aliases; what is annotated has the hash of what it was.
    tables = [
        [hash(part.table) for part in elements(expression) if isinstance(part, ColumnClause)]
        for expression in (one, other)
    ]
    return bool(values[0] == values[1] and tables[0] == tables[1])
