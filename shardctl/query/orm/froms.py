"""What a SELECT reads, what of it is optional, and what in it are SELECTs of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Join, Select, Table
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnClause, Grouping
from sqlalchemy.sql.selectable import AliasedReturnsRows

from shardctl.query.orm.parts import elements, is_subquery


def without_end(statement: Select[Any]) -> Any:
    """Return a statement without its ORDER BY, LIMIT and OFFSET."""
    return statement.order_by(None).limit(None).offset(None)


def with_columns(statement: Select[Any], *columns: Any) -> Any:
    """Return a statement with other columns, and without its ORDER BY, LIMIT and OFFSET."""
    bare = without_end(statement)
    if not bare._setup_joins:
        return bare.with_only_columns(*columns, maintain_column_froms=True)
    # What is joined would be beside the joins too, and then SQLAlchemy does not know to which of both it is joined.
    own = bare.with_only_columns(*columns)
    own._from_obj, own._setup_joins, own._memoized_select_entities = tuple(bare.get_final_froms()), (), ()
    return own


def leaves_of(source: Any, *, only_preserved: bool = False) -> Iterator[Any]:
    """Yield what a part of FROM joins; or only what has a row in each of its rows, not the optional side of a join."""
    if not isinstance(source, Join):
        yield source
        return
    if not (only_preserved and source.full):
        yield from leaves_of(source.left, only_preserved=only_preserved)
        if not (only_preserved and source.isouter):
            yield from leaves_of(source.right, only_preserved=only_preserved)


def preserved_leaves(statement: Select[Any]) -> list[Any]:
    """Return the sources of a statement that have a row in each of its rows."""
    sources = without_end(statement).get_final_froms()
    return [leaf for source in sources for leaf in leaves_of(source, only_preserved=True)]


def is_of_one_table(statement: Any) -> bool:
    """Say whether a statement reads one table, once: found without a look at its FROM, which takes longer."""
    if not isinstance(statement, Select) or statement._setup_joins or statement._from_obj or statement._with_options:
        return False
    tables = set()
    where = [] if statement.whereclause is None else [statement.whereclause]
    parts = (*statement._raw_columns, *where, *statement._having_criteria, *statement._order_by_clauses)
    for part in parts:
        for element in [part] if isinstance(part, Table) else elements(part):
            if is_subquery(element):
                return False
            tables.add(hash(element) if isinstance(element, Table) else hash(getattr(element, "table", None)))
    return len(tables - {hash(None)}) == 1


def is_table(source: Any) -> bool:
    """Say whether a source is a table, or an alias of one: not a subquery, whose columns may be NULL all the same."""
    return isinstance(source.element if isinstance(source, AliasedReturnsRows) else source, Table)


def tables_in(source: Any) -> list[Table]:
    """Return the tables in a part of a statement, also those in its subqueries."""
    return [element for element in visitors.iterate(source) if isinstance(element, Table)]


def is_about(condition: Any, leaf: Any) -> bool:
    """Say whether a condition is about the rows of one source alone."""
    columns = [element for element in elements(condition) if isinstance(element, ColumnClause)]
    has_subquery = any(is_subquery(element) for element in elements(condition))
    return bool(columns) and not has_subquery and all(hash(column.table) == hash(leaf) for column in columns)


def is_limited(statement: Any) -> bool:
    """Say whether a SELECT ends before its last row, or begins after its first."""
    return statement._limit_clause is not None or statement._offset_clause is not None


def subqueries(statement: Select[Any]) -> Iterator[tuple[Select[Any], Any, bool]]:
    """Yield the subqueries in a statement's expressions, with the IN that one is in.

    And whether it makes a difference if that IN is false or NULL: not in a condition that is to be true.
    """
    conditions = [clause for source in statement.get_final_froms() for clause in _on_clauses(source)]
    conditions += [] if statement.whereclause is None else [statement.whereclause]
    plain = {id(part) for condition in conditions for part in _parts(condition)}
    others = [*statement._raw_columns, *statement._having_criteria, *statement._order_by_clauses]
    for part in [*others, *conditions]:
        if is_subquery(part):
            continue
        seen: dict[int, Any] = {}
        for element in elements(part):
            if isinstance(element, BinaryExpression) and element.operator in (operators.in_op, operators.not_in_op):
                select = _select(element.right)
                if select is not None:
                    seen[id(select)] = element
        for element in elements(part):
            select = _select(element) if is_subquery(element) else None
            if select is not None:
                binary = seen.get(id(select))
                yield select, binary, id(binary) not in plain


def _parts(condition: Any) -> Iterator[Any]:
    """Yield what is joined by AND and OR."""
    yield condition
    if isinstance(condition, BooleanClauseList | Grouping):
        for part in condition.get_children():
            yield from _parts(part)


def _on_clauses(source: Any) -> Iterator[Any]:
    if isinstance(source, Join):
        yield from _on_clauses(source.left)
        yield from _on_clauses(source.right)
        if source.onclause is not None:
            yield source.onclause


def _select(element: Any) -> Select[Any] | None:
    while element is not None and not isinstance(element, Select):
        element = getattr(element, "element", None)
    return element
