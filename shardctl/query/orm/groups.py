"""A SELECT of aggregates, GROUP BY or DISTINCT: what each shard computes of it, and how that is merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Function, Select, literal_column, type_coerce
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import ColumnClause, ColumnElement, FunctionFilter, UnaryExpression
from sqlalchemy.types import NullType

from shardctl.query.orm.froms import with_columns
from shardctl.query.orm.parts import (
    OrderKey,
    aggregates,
    are_same,
    is_entity,
    is_subquery,
    limits,
    name_of,
    refuse,
)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate, and the partial columns that it is merged from."""

    kind: str
    columns: tuple[int, ...]
    type_: Any
    is_distinct: bool = False


@dataclass(slots=True)
class Groups:
    """Partial results of the shards, to be merged in the fleet's own engine."""

    statement: Any = None
    """For every shard: the groups' keys and the parts of the aggregates."""
    columns: list[Any] = field(default_factory=list)
    """What each shard computes: `__c<n>` in the merged relation."""
    grouped: list[int] = field(default_factory=list)
    """The columns that each shard groups by."""
    compared: set[int] = field(default_factory=set)
    """The columns whose values are compared when they are merged, so that a text's collation matters."""
    keys: list[tuple[Any, int]] = field(default_factory=list)
    """What the statement groups by."""
    aggregates: list[Aggregate] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    having: list[Any] = field(default_factory=list)
    order: list[OrderKey] = field(default_factory=list)
    limit: int | None = None
    offset: int = 0


def plan_groups(
    statement: Select[Any], grouped: Sequence[Any], order: Sequence[OrderKey], *, puts_together: bool
) -> Groups:
    """Plan a SELECT of aggregates, or of distinct columns.

    Args:
        statement: The statement.
        grouped: Its GROUP BY.
        order: Its ORDER BY.
        puts_together: Whether it has GROUP BY or aggregates; otherwise DISTINCT groups by all of its columns.

    Raises:
        QueryRefused: Its groups cannot be merged.
    """
    columns = list(statement._raw_columns)
    for column in columns:
        if is_entity(column) or "bundle" in column._annotations:
            refuse("DISTINCT and GROUP BY take columns, not classes", column, hint="select its columns")
    groups = Groups(names=list(statement.subquery().c.keys()))
    for key in grouped if puts_together else columns:
        plain = getattr(key, "element", key) if key.__visit_name__ == "label" else key
        groups.keys.append((plain, _column(groups, plain, is_grouped=True)))
    groups.outputs = [_merged(groups, column) for column in columns]
    groups.having = [_merged(groups, clause) for clause in statement._having_criteria]
    groups.order = [OrderKey(_merged(groups, key.expression), key.desc, key.nulls_first) for key in order]
    if puts_together and statement._distinct:
        refuse("DISTINCT beside GROUP BY cannot be merged", columns[0])
    groups.limit, groups.offset = limits(statement)
    if not groups.columns:
        _column(groups, literal_column("1"), is_grouped=True)
    own = with_columns(
        statement, *(type_coerce(column, NullType()).label(f"__c{i}") for i, column in enumerate(groups.columns))
    )
    own._having_criteria, own._distinct = (), False
    # By their positions: what is computed with parameters would not be found equal to itself.
    own = own.group_by(None)
    groups.statement = own.group_by(*(literal_column(str(i + 1)) for i in groups.grouped))
    return groups


def _column(groups: Groups, expression: Any, *, is_grouped: bool = False) -> int:
    for number, known in enumerate(groups.columns):
        if are_same(known, expression):
            found = number
            break
    else:
        groups.columns.append(expression)
        found = len(groups.columns) - 1
    if is_grouped and found not in groups.grouped:
        groups.grouped.append(found)
        groups.compared.add(found)
    return found


def _merged(groups: Groups, expression: Any) -> Any:
    """Return an expression over the merged relation: `__c<n>` for keys, `__a<n>` for aggregates."""

    def replace(element: Any, **_: Any) -> Any:
        part: Any = element
        for key, number in groups.keys:
            if element is key or (isinstance(element, ColumnElement) and are_same(key, element)):
                return ColumnClause(f"__c{number}", key.type)
        if next(aggregates(element), None) is element:
            return ColumnClause(f"__a{_aggregate(groups, part)}", part.type)
        if is_subquery(element):
            refuse("a subquery beside an aggregate would see one shard's rows only", element)
        if isinstance(element, ColumnClause) and (element.table is not None or element.is_literal):
            refuse("a column that is neither grouped by nor in an aggregate has no one value", element)
        return None

    return visitors.replacement_traverse(expression, {}, replace)


def _aggregate(groups: Groups, element: Any) -> int:
    function = element.func if isinstance(element, FunctionFilter) else element
    kind, arguments = name_of(function), list(function.clauses)
    inner = arguments[0] if len(arguments) == 1 else None
    if len(arguments) > 1 or any(True for argument in arguments for _ in aggregates(argument)):
        refuse("this aggregate cannot be merged", element)
    distinct = _distinct_argument(inner)
    if distinct is not None and kind in {"count", "sum", "avg"}:
        if isinstance(element, FunctionFilter):
            refuse("an aggregate with DISTINCT and FILTER cannot be merged", element)
        columns: tuple[int, ...] = (_column(groups, distinct, is_grouped=True),)
    elif kind == "avg":
        columns = tuple(_column(groups, _of_kind(element, part)) for part in ("sum", "count"))
    else:
        columns, distinct = (_column(groups, element),), None
        groups.compared.update(columns if kind in {"min", "max"} else ())
    groups.aggregates.append(Aggregate(kind, columns, element.type, distinct is not None))
    return len(groups.aggregates) - 1


def _distinct_argument(argument: Any) -> Any:
    if isinstance(argument, UnaryExpression) and argument.operator is operators.distinct_op:
        return argument.element
    if isinstance(argument, Function) and name_of(argument) == "distinct":
        return next(iter(argument.clauses))
    return None


def _of_kind(element: Any, kind: str) -> Any:
    """Return `sum` or `count` of what another aggregate is of."""
    function = element.func if isinstance(element, FunctionFilter) else element
    own: Any = Function(kind, *function.clauses, type_=function.type)
    return own.filter(element.criterion) if isinstance(element, FunctionFilter) else own
