"""A SQLAlchemy SELECT -> how its answers over several shards become one; or why they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Alias,
    CompoundSelect,
    Function,
    Select,
    Subquery,
    TextualSelect,
    type_coerce,
)
from sqlalchemy.orm import FromStatement
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.selectable import _CompoundSelectKeyword
from sqlalchemy.types import NullType

from shardctl.errors import QueryRefused
from shardctl.fleet.rules import Reference
from shardctl.query.orm.froms import is_table, leaves_of, preserved_leaves
from shardctl.query.orm.groups import Groups, plan_groups
from shardctl.query.orm.parts import (
    OrderKey,
    aggregates,
    check_expression,
    elements,
    group_keys,
    is_entity,
    limits,
    name_of,
    order_keys,
    refuse,
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
        _check_groups_of_entities(statement, columns, grouped, placement)
        puts_together = False
    if puts_together or (statement._distinct and not _is_distinct_by_shard(statement, columns, placement)):
        return plan_groups(statement, grouped, order, puts_together=puts_together)
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
    source: Any = sources[0] if len(sources) == 1 and is_plain else None
    while isinstance(source, Alias | Subquery):
        source = source.element
    if not isinstance(source, Select):
        return None
    function = columns[0]
    while hasattr(function, "element") and not isinstance(function, Function):
        function = function.element
    arguments = list(getattr(function, "clauses", ()))
    is_count = name_of(function) == "count" and (not arguments or _is_star(arguments[0]))
    return source if is_count else None


def _is_star(argument: Any) -> bool:
    return isinstance(argument, ColumnClause) and argument.is_literal and argument.name == "*"


def _check_groups_of_entities(
    statement: Select[Any], columns: Sequence[Any], grouped: Sequence[Any], placement: Placement | None
) -> None:
    """Let groups pass that are single rows of a class: no two shards have parts of one."""
    keys = {base for key in grouped for base in getattr(key, "base_columns", ())}
    for column in columns:
        if _is_on_one_shard(statement, column, placement):
            mapper = column._annotations["parententity"].mapper
            if set(mapper.primary_key) <= keys:
                return
    refuse("groups with a mapped class in the select list cannot be merged", columns[0], hint="select its columns")


def _is_distinct_by_shard(statement: Select[Any], columns: Sequence[Any], placement: Placement | None) -> bool:
    """Say whether no row can be on two shards: objects of different shards are different ones."""
    return any(_is_on_one_shard(statement, column, placement) for column in columns)


def _is_on_one_shard(statement: Select[Any], column: Any, placement: Placement | None) -> bool:
    """Say whether an entry of a select list is an object that one shard only has, and never None."""
    if not is_entity(column) or _is_reference(column._annotations["parententity"].mapper, placement):
        return False
    kept = {hash(leaf) for leaf in preserved_leaves(statement)}
    return all(is_table(leaf) and hash(leaf) in kept for leaf in leaves_of(column))


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
