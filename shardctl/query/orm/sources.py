"""Joins and subqueries of a SQLAlchemy SELECT: each shard must find beside its own rows all that belong to them.

Two tables live together if one follows the other, or both follow a third, and the statement ties exactly the columns by
which they do; or if they have one sharding key and strategy, and it ties the keys. Tables without a rule are trusted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import CompoundSelect, Join, Select, Table
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnClause, Grouping
from sqlalchemy.sql.selectable import AliasedReturnsRows, SelectBase, SelectStatementGrouping

from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import Follow, Reference, Sharded
from shardctl.query.orm.parts import elements, is_subquery, refuse, shown, without_end

Anchor = tuple[tuple[Any, ...], Any]
"""Columns, and what decides the shard of a row by them."""


def check_sources(
    statement: Any, placement: Placement | None, is_rowwise: Callable[[Any, Placement | None], bool]
) -> None:
    """Refuse a SELECT whose joins or subqueries need rows of other shards.

    Args:
        statement: The statement.
        placement: Where rows belong; None: not known, so everything is trusted.
        is_rowwise: Says whether a SELECT's answers can be put one after another.

    Raises:
        QueryRefused: The join or subquery is in the facts.
    """
    if placement is None:
        return
    if isinstance(statement, CompoundSelect):
        for select in statement.selects:
            check_sources(select, placement, is_rowwise)
    elif isinstance(statement, Select):
        _Sources(placement, is_rowwise).check(statement)


@dataclass
class _Sources:
    """The sources of a statement, and the columns that are equal wherever their rows meet."""

    placement: Placement
    is_rowwise: Callable[[Any, Placement | None], bool]
    leaves: list[Any] = field(default_factory=list)
    ties: dict[Any, Any] = field(default_factory=dict)
    """Union-find: a column of a source -> another one that is equal to it."""

    def check(self, statement: Select[Any]) -> None:
        self._add(statement)
        self._check_tied(self.leaves)
        for subquery, binary in _subqueries(statement):
            inner = _Sources(self.placement, self.is_rowwise, list(self.leaves), dict(self.ties))
            inner.add_subquery(subquery, binary)

    def add_subquery(self, subquery: Select[Any], binary: Any) -> None:
        """Check a subquery in an expression, whose rows must be beside the row that the expression is of."""
        outer = len(self.leaves)
        self._add(subquery)
        if all(self._is_reference(leaf) for leaf in self.leaves[outer:]):
            return
        if binary is not None:
            columns = list(subquery.selected_columns)
            self._tie(binary.left, columns[0])
            if subquery._limit_clause is not None or subquery._offset_clause is not None:
                refuse("LIMIT in a subquery would count one shard's rows only", subquery)
            is_nullable = any(getattr(base, "nullable", True) for base in columns[0].base_columns)
            if binary.operator is operators.not_in_op and is_nullable:
                refuse("NOT IN would miss NULLs of other shards", binary, hint="use `~exists()`")
        self._check_tied(self.leaves, what=subquery)
        for inner, own in _subqueries(subquery):
            _Sources(self.placement, self.is_rowwise, list(self.leaves), dict(self.ties)).add_subquery(inner, own)

    def _add(self, statement: Select[Any]) -> None:
        # Without its end: eager joins are then beside the tables, and looked at like all others.
        for source in without_end(statement).get_final_froms():
            self._add_source(source)
        if statement.whereclause is not None:
            self._add_condition(statement.whereclause)

    def _add_source(self, source: Any) -> None:
        if isinstance(source, Join):
            self._check_outer(source)
            self._add_source(source.left)
            self._add_source(source.right)
            if source.onclause is not None:
                self._add_condition(source.onclause)
            return
        inner = source.element if isinstance(source, AliasedReturnsRows) else None
        while isinstance(inner, SelectStatementGrouping | AliasedReturnsRows):
            inner = inner.element
        if isinstance(inner, SelectBase):
            if not self.is_rowwise(inner, self.placement) and not self._is_all_reference(inner):
                self._check_grouped_at_home(inner)
            check_sources(inner, self.placement, self.is_rowwise)
        self.leaves.append(source)

    def _check_outer(self, join: Join) -> None:
        if (join.isouter or join.full) and self._is_all_reference(join.left) and not self._is_all_reference(join.right):
            refuse("an outer join from a reference table would find its rows unmatched on other shards", join)

    def _check_grouped_at_home(self, inner: Any) -> None:
        """Let a subquery pass that groups by what decides the shard: no two shards have parts of one group."""
        keys = {base for key in getattr(inner, "_group_by_clauses", ()) for base in getattr(key, "base_columns", ())}
        tables = [element for element in visitors.iterate(inner) if isinstance(element, Table)]
        at_home = any(set(columns) <= keys for table in tables for columns, _ in self._anchors(table))
        has_end = (
            getattr(inner, "_limit_clause", None) is not None or getattr(inner, "_offset_clause", None) is not None
        )
        if not at_home or has_end:
            refuse("a subquery would see one shard's rows only", inner)

    def _add_condition(self, condition: Any) -> None:
        if isinstance(condition, Grouping):
            self._add_condition(condition.element)
        elif isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
            for part in condition.clauses:
                self._add_condition(part)
        elif isinstance(condition, BinaryExpression) and condition.operator is operators.eq:
            self._tie(condition.left, condition.right)

    def _tie(self, one: Any, other: Any) -> None:
        if isinstance(one, ColumnClause) and isinstance(other, ColumnClause):
            self.ties[self._found(_key(one))] = self._found(_key(other))

    def _found(self, column: Any) -> Any:
        while column in self.ties and self.ties[column] != column:
            column = self.ties[column]
        return column

    def _check_tied(self, leaves: list[Any], what: Any = None) -> None:
        waiting = [leaf for leaf in leaves if self._rules(leaf)]
        known = waiting[:1]
        waiting = waiting[1:]
        while waiting:
            found = next((leaf for leaf in waiting if any(self._live_together(leaf, other) for other in known)), None)
            if found is None:
                names = ", ".join(f"`{_name(leaf)}`" for leaf in known)
                if what is not None:
                    refuse(f"a subquery would see one shard's rows of `{_name(waiting[0])}` only", what)
                refuse(f"nothing ties the rows of `{_name(waiting[0])}` and {names} to one shard", waiting[0])
            known.append(found)
            waiting.remove(found)

    def _live_together(self, one: Any, other: Any) -> bool:
        return any(
            self._is_one_decider(decider, another) and self._are_tied(one, columns, other, others)
            for table in _tables(one)
            for columns, decider in self._anchors(table)
            for another_table in _tables(other)
            for others, another in self._anchors(another_table)
        )

    def _is_one_decider(self, one: Any, other: Any) -> bool:
        return type(one) is type(other) and bool(one == other)

    def _are_tied(self, one: Any, columns: Iterable[Any], other: Any, others: Iterable[Any]) -> bool:
        return all(
            self._found((hash(one), own)) == self._found((hash(other), their))
            for own, their in zip(columns, others, strict=True)
        )

    def _anchors(self, table: Table) -> Iterator[Anchor]:
        """Yield the columns by which the shard of a table's row is decided, its own or as a parent's."""
        rule = self.placement.rule(table)
        if isinstance(rule, Sharded):
            yield rule.columns, rule.strategy
        for follow in self.placement.follows():
            pairs = sorted(follow.relationship.local_remote_pairs or (), key=lambda pair: str(pair[1]))
            remotes = tuple(remote for _, remote in pairs)
            if rule is follow:
                yield tuple(local for local, _ in pairs), remotes
            if pairs and hash(remotes[0].table) == hash(table):
                yield remotes, remotes

    def _rules(self, leaf: Any) -> list[Any]:
        return [rule for table in _tables(leaf) if isinstance(rule := self.placement.rule(table), Sharded | Follow)]

    def _is_reference(self, leaf: Any) -> bool:
        tables = _tables(leaf)
        return bool(tables) and all(isinstance(self.placement.rule(table), Reference) for table in tables)

    def _is_all_reference(self, source: Any) -> bool:
        return self._is_reference(source)


def _key(column: Any) -> tuple[int, Any]:
    base = next(iter(column.base_columns), column)
    return hash(column.table), base


def _tables(source: Any) -> list[Any]:
    return [element for element in visitors.iterate(source) if isinstance(element, Table)]


def _name(source: Any) -> str:
    name = str(getattr(source, "name", None) or shown(source))
    return re.sub(r"%\(\w+ (\w+)\)s", r"\1", name)  # an alias that SQLAlchemy has yet to number


def _subqueries(statement: Select[Any]) -> Iterator[tuple[Select[Any], Any]]:
    """Yield the subqueries in a statement's expressions, with the IN that one is in."""
    parts: list[Any] = [*statement._raw_columns, *statement._having_criteria, *statement._order_by_clauses]
    parts += [] if statement.whereclause is None else [statement.whereclause]
    parts += [join.onclause for join in statement.get_final_froms() if isinstance(join, Join)]
    for part in parts:
        if part is None or is_subquery(part):
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
                yield select, seen.get(id(select))


def _select(element: Any) -> Select[Any] | None:
    while element is not None and not isinstance(element, Select):
        element = getattr(element, "element", None)
    return element
