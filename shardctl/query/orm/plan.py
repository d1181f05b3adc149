"""A SQLAlchemy SELECT -> how its answers over several shards become one; or why they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import CompoundSelect, Function, Select, Subquery, TextClause, TextualSelect, literal_column, type_coerce
from sqlalchemy.orm import FromStatement
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import ColumnClause, ColumnElement, FunctionFilter, UnaryExpression
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause, _CompoundSelectKeyword
from sqlalchemy.types import NullType

from shardctl.errors import QueryRefused
from shardctl.fleet.rules import Reference
from shardctl.query.orm.parts import (
    OrderKey,
    aggregates,
    are_same,
    check_expression,
    elements,
    group_keys,
    is_subquery,
    limits,
    name_of,
    order_keys,
    refuse,
    without_end,
)

if TYPE_CHECKING:
    from shardctl.fleet.placement import Placement

HIDDEN = "__s"
"""Begins the names of the columns that are added for sorting."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of all shards, one after another or merged by their sort keys."""

    statement: Any
    """For every shard: with the sort keys as last columns."""
    keys: tuple[OrderKey, ...] = ()
    limit: int | None = None
    offset: int = 0


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


@dataclass(frozen=True, slots=True)
class Count:
    """The number of rows of a statement that has to be merged itself."""

    statement: Any
    source: Any


Plan = Rows | Groups | Count


def plan(statement: Any, placement: Placement | None) -> Plan:
    """Plan a SELECT for several shards.

    Raises:
        QueryRefused: The merged answer would not be, or may not be, what one database would give.
    """
    if isinstance(statement, FromStatement):
        statement, outer = statement.element, statement
        inner = plan(statement, placement) if isinstance(statement, Select | CompoundSelect | TextualSelect) else None
        if isinstance(inner, Rows) and not inner.keys and inner.limit is None and not inner.offset:
            return Rows(outer)
        refuse("this statement's rows cannot be merged", statement)
    if isinstance(statement, TextualSelect):
        return Rows(statement)  # the caller reads SQL text in its shards' dialect
    if isinstance(statement, CompoundSelect):
        return _plan_compound(statement, placement)
    if not isinstance(statement, Select):
        refuse("this statement cannot be merged", statement)
    _check_distinct_on(statement)
    counted = _counted(statement)
    if counted is not None and not is_rowwise(counted, placement):
        return Count(statement, counted)
    for part in (*statement._raw_columns, *statement._order_by_clauses, *statement._having_criteria):
        check_expression(part)
    return _plan_select(statement, placement)


def is_rowwise(statement: Any, placement: Placement | None) -> bool:
    """Say whether the rows of all shards, one after another, are the rows that one database would give."""
    try:
        found = plan(statement, placement)
    except QueryRefused:
        return False
    return isinstance(found, Rows) and found.limit is None and not found.offset


def _plan_select(statement: Select[Any], placement: Placement | None) -> Plan:
    columns = list(statement._raw_columns)
    order = order_keys(statement)
    has_entities = any(is_entity(column) for column in columns)
    grouped = group_keys(statement)
    puts_together = (
        bool(grouped)
        or bool(statement._having_criteria)
        or any(True for part in (*columns, *(key.expression for key in order)) for _ in aggregates(part))
    )
    if puts_together and has_entities:
        _check_groups_of_entities(columns, grouped, placement)
        puts_together = False
    if puts_together or (statement._distinct and not _is_distinct_by_shard(columns, placement)):
        return _plan_groups(statement, grouped, order, puts_together=puts_together)
    if statement._distinct:
        _check_distinct_order(columns, order)
    limit, offset = limits(statement)
    own = statement
    if limit is not None or offset:
        own = own.limit(None if limit is None else limit + offset).offset(None)
    hidden = [type_coerce(key.expression, NullType()).label(f"{HIDDEN}{i}") for i, key in enumerate(order)]
    if not hidden:
        return Rows(own, (), limit, offset)
    return Rows(own.add_columns(*hidden), tuple(order), limit, offset)


def is_entity(column: Any) -> bool:
    """Say whether an entry of a select list is a mapped class."""
    return isinstance(column, FromClause) and not isinstance(column, FunctionElement) and "parententity" in column._annotations


def _plan_compound(statement: CompoundSelect[Any], placement: Placement | None) -> Rows:
    if statement.keyword is not _CompoundSelectKeyword.UNION_ALL:
        refuse(f"{statement.keyword.name.replace('_', ' ')} would compare one shard's rows only", statement)
    if statement._order_by_clauses or limits(statement) != (None, 0):
        refuse("ORDER BY and LIMIT of a UNION cannot be merged", statement)
    for select in statement.selects:
        if not is_rowwise(select, placement):
            refuse("a part of this UNION ALL cannot be merged", select)
    return Rows(statement)


def _check_distinct_on(statement: Select[Any]) -> None:
    if statement._distinct_on:
        refuse("DISTINCT ON cannot be merged", statement._distinct_on[0])


def _counted(statement: Select[Any]) -> Any:
    """Return the SELECT whose rows are counted, if that is all that a statement does: as `Query.count()` has it."""
    columns = statement._raw_columns
    sources = statement.get_final_froms() if len(columns) == 1 else []
    is_plain = not (statement.whereclause is not None or statement._group_by_clauses or statement._having_criteria)
    if len(sources) != 1 or not isinstance(sources[0], Subquery) or not is_plain:
        return None
    function = columns[0]
    while hasattr(function, "element") and not isinstance(function, Function):
        function = function.element
    arguments = list(getattr(function, "clauses", ()))
    is_count = name_of(function) == "count" and (not arguments or _is_star(arguments[0]))
    return sources[0].element if is_count and isinstance(sources[0].element, Select) else None


def _is_star(argument: Any) -> bool:
    return isinstance(argument, ColumnClause) and argument.is_literal and argument.name == "*"


def _check_groups_of_entities(columns: Sequence[Any], grouped: Sequence[Any], placement: Placement | None) -> None:
    """Let groups pass that are single rows of a class: no two shards have parts of one."""
    keys = {base for key in grouped for base in getattr(key, "base_columns", ())}
    for column in columns:
        if is_entity(column):
            mapper = column._annotations["parententity"].mapper
            if set(mapper.primary_key) <= keys and not _is_reference(mapper, placement):
                return
    refuse("groups with a mapped class in the select list cannot be merged", columns[0], hint="select its columns")


def _is_distinct_by_shard(columns: Sequence[Any], placement: Placement | None) -> bool:
    """Say whether no row can be on two shards: objects of different shards are different ones."""
    return any(
        is_entity(column) and not _is_reference(column._annotations["parententity"].mapper, placement)
        for column in columns
    )


def _is_reference(mapper: Any, placement: Placement | None) -> bool:
    return placement is not None and isinstance(placement.rule(mapper), Reference)


def _check_distinct_order(columns: Sequence[Any], order: Sequence[OrderKey]) -> None:
    """Refuse sort keys that would make more rows distinct."""
    tables = {table for column in columns if is_entity(column) for table in column._annotations["parententity"].tables}
    for key in order:
        for element in elements(key.expression):
            table = getattr(element, "table", None)
            if table is not None and not any(base.table in tables for base in element.base_columns):
                refuse("DISTINCT can be ordered by what is selected only", key.expression)


def _plan_groups(
    statement: Select[Any], grouped: Sequence[Any], order: Sequence[OrderKey], *, puts_together: bool
) -> Groups:
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
    own = without_end(statement).with_only_columns(
        *(type_coerce(column, NullType()).label(f"__c{i}") for i, column in enumerate(groups.columns)),
        maintain_column_froms=True,
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
        for key, number in groups.keys:
            if element is key or (isinstance(element, ColumnElement) and are_same(key, element)):
                return ColumnClause(f"__c{number}", key.type)
        if next(aggregates(element), None) is element:
            return ColumnClause(f"__a{_aggregate(groups, element)}", element.type)
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
    own = Function(kind, *function.clauses, type_=function.type)
    return own.filter(element.criterion) if isinstance(element, FunctionFilter) else own
