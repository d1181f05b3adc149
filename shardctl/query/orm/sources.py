"""Joins and subqueries of a SQLAlchemy SELECT: each shard must find beside its own rows all that belong to them.

Two tables live together if one follows the other, or both refer to the rows that they follow; or if they have one
sharding key and strategy, and the statement ties the keys. Tables without a rule are trusted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import CompoundSelect, Join, Select, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ColumnClause, Grouping
from sqlalchemy.sql.selectable import AliasedReturnsRows, SelectBase, SelectStatementGrouping

from shardctl.fleet.placement import Placement
from shardctl.fleet.predicates import PredicateReader
from shardctl.fleet.rules import Follow, Reference, Sharded
from shardctl.query.orm.anchors import anchors, mean_one_shard
from shardctl.query.orm.froms import (
    is_about,
    is_limited,
    is_table,
    preserved_leaves,
    subqueries,
    tables_in,
    without_end,
)
from shardctl.query.orm.parts import check_expression, refuse, shown
from shardctl.topology.routing import And, route

IsRowwise = Callable[[Any, Placement | None], bool]
"""Says whether a SELECT's answers can be put one after another."""


def check_sources(
    statement: Any, placement: Placement | None, is_rowwise: IsRowwise, *, only: str | None = None
) -> None:
    """Refuse a SELECT whose joins or subqueries need rows of other shards.

    Args:
        statement: The statement.
        placement: Where rows belong; None: not known, so everything is trusted.
        is_rowwise: Says whether a SELECT's answers can be put one after another.
        only: The shard that is asked, if it is a single one, for what the statement says of a sharding key: the rest of
            what the statement reads may be elsewhere all the same.

    Raises:
        QueryRefused: The join or subquery is in the facts.
    """
    if placement is None:
        return
    if isinstance(statement, CompoundSelect):
        are_copies = [
            all(isinstance(placement.rule(table), Reference) for table in tables_in(part)) for part in statement.selects
        ]
        if only is None and any(are_copies) and not all(are_copies):
            part = statement.selects[are_copies.index(True)]
            refuse("each shard has the rows of a reference table, which would come once from each", part)
        for select in statement.selects:
            check_sources(select, placement, is_rowwise, only=only)
    elif isinstance(statement, Select):
        _Sources(placement, is_rowwise, only).check(statement)


@dataclass
class _Sources:
    """The sources of a statement, and the columns that are equal wherever their rows meet."""

    placement: Placement
    is_rowwise: IsRowwise
    only: str | None = None
    leaves: list[Any] = field(default_factory=list)
    ties: dict[Any, Any] = field(default_factory=dict)
    """Union-find: a column of a source -> another one that is equal to it."""
    beside: set[tuple[int, int]] = field(default_factory=set)
    """Optional sources, each with one that it lives with: what ties them holds for these two only."""
    optional: set[int] = field(default_factory=set)
    """Sources that a row may be without."""
    conditions: list[Any] = field(default_factory=list)
    """What all rows fulfil."""
    whole: set[int] = field(default_factory=set)
    """Subqueries all of whose rows are on the only shard."""

    def check(self, statement: Select[Any]) -> None:
        self._add(statement)
        self._check_tied(self.leaves)
        for subquery in subqueries(statement):
            self._copy().add_subquery(*subquery)

    def _copy(self) -> _Sources:
        return replace(
            self,
            leaves=list(self.leaves),
            ties=dict(self.ties),
            beside=set(self.beside),
            optional=set(self.optional),
            conditions=list(self.conditions),
            whole=set(self.whole),
        )

    def add_subquery(self, subquery: Select[Any], binary: Any, is_null_seen: bool) -> None:  # noqa: FBT001  # as `subqueries` has it
        """Check a subquery in an expression, whose rows must be beside the row that the expression is of."""
        outer = len(self.leaves)
        self._add(subquery)
        if not self._are_reference(self.leaves[outer:]):
            self._check_beside(subquery, self.leaves[:outer], self.leaves[outer:])
            if binary is not None:
                self._check_in(subquery, binary, is_null_seen=is_null_seen)
            self._check_tied(self.leaves, what=subquery)
        for inner in subqueries(subquery):
            self._copy().add_subquery(*inner)

    def _check_beside(self, subquery: Select[Any], outer: Sequence[Any], inner: Sequence[Any]) -> None:
        is_elsewhere = any(self._rules(leaf) and not self._is_whole(leaf) for leaf in inner)
        if is_elsewhere and outer and self._are_reference(outer):
            refuse("each shard has the rows of a reference table, and a subquery would see one shard's only", subquery)

    def _check_in(self, subquery: Select[Any], binary: Any, *, is_null_seen: bool) -> None:
        columns = list(subquery.selected_columns)
        self._tie(binary.left, columns[0])
        if is_limited(subquery):
            refuse("LIMIT in a subquery would count one shard's rows only", subquery)
        # NULL is not in nothing, and may be in anything: where its own side is NULL, other shards' rows matter too.
        may_be_null = self._may_be_null(columns[0]) or self._may_be_null(binary.left)
        if may_be_null and (is_null_seen or binary.operator is operators.not_in_op):
            refuse("NOT IN would miss NULLs of other shards", binary, hint="use `~exists()`")

    def _may_be_null(self, column: Any) -> bool:
        own = getattr(column, "table", None)
        is_sure = isinstance(column, ColumnClause) and is_table(own) and hash(own) not in self.optional
        return not is_sure or any(getattr(base, "nullable", True) for base in column.base_columns)

    def _add(self, statement: Select[Any]) -> None:
        if statement.whereclause is not None:
            self._add_condition(statement.whereclause)
        # Without its end: eager joins are then beside the tables, and looked at like all others.
        for source in without_end(statement).get_final_froms():
            self._add_source(source)

    def _add_source(self, source: Any) -> None:
        if isinstance(source, Join):
            self._add_join(source)
            return
        inner = source.element if isinstance(source, AliasedReturnsRows) else None
        while isinstance(inner, SelectStatementGrouping | AliasedReturnsRows):
            inner = inner.element
        if isinstance(inner, SelectBase):
            if self._is_whole_select(inner):
                self.whole.add(hash(source))
            elif not self.is_rowwise(inner, self.placement) and not self._is_reference(inner):
                self._check_grouped_at_home(inner)
            check_sources(inner, self.placement, self.is_rowwise, only=self.only)
        self.leaves.append(source)

    def _is_whole_select(self, inner: Any) -> bool:
        """Whether all rows that a subquery has anywhere are on the only shard that is asked."""
        if isinstance(inner, CompoundSelect):
            return all(map(self._is_whole_select, inner.selects))
        if self.only is None or not isinstance(inner, Select):
            return False
        own = _Sources(self.placement, self.is_rowwise, self.only)
        own._add(inner)
        return any(self._rules(leaf) and own._is_whole(leaf) for leaf in preserved_leaves(inner))

    def _is_whole(self, leaf: Any) -> bool:
        """Whether all rows that a source can have are on the only shard that is asked."""
        if self.only is None or hash(leaf) in self.whole:
            return self.only is not None
        if all(self.placement.shard_ids(table) == (self.only,) for table in tables_in(leaf)):
            return True
        table: Any = leaf.element if isinstance(leaf, AliasedReturnsRows) else leaf
        rule = self.placement.rule(table) if isinstance(table, Table) else None
        if not isinstance(rule, Sharded):
            return False
        keys = {column: (rule, name) for column, name in zip(rule.columns, rule.attributes, strict=True)}
        own = [part for part in self.conditions if is_about(part, leaf)]
        reader = PredicateReader(keys, None)
        found = route(And(tuple(map(reader.read, own))), {rule.name: rule.routing}, rule.strategy.shard_ids)
        return found.shard_ids <= {self.only}

    def _add_join(self, join: Join) -> None:
        start = len(self.leaves)
        self._add_source(join.left)
        middle = len(self.leaves)
        self._add_source(join.right)
        if join.isouter or join.full:
            self._add_optional(join, self.leaves[start:middle], self.leaves[middle:])
        elif join.onclause is not None:
            self._add_condition(join.onclause)

    def _add_optional(self, join: Join, left: Sequence[Any], right: Sequence[Any]) -> None:
        """Check an outer join by itself: rows that it leaves unmatched need not be equal in what it ties."""
        kept = (left, right) if join.full else (left,)
        are_whole = all(self._is_whole(leaf) for leaf in (*left, *right) if self._rules(leaf))
        if (
            self._are_reference(left) != self._are_reference(right)
            and any(map(self._are_reference, kept))
            and not (self.only is not None and are_whole)
        ):
            refuse("an outer join from a reference table would find its rows unmatched on other shards", join)
        self.optional.update(hash(leaf) for leaf in ((*left, *right) if join.full else right))
        inside = self._copy()
        if join.onclause is not None:
            inside._add_condition(join.onclause)
        inside._check_tied([*left, *right])
        for one in left:
            for other in right:
                if self._rules(one) and self._rules(other):
                    self.beside.add((hash(other), hash(one)))

    def _check_grouped_at_home(self, inner: Any) -> None:
        """Let a subquery pass that groups by what decides the shard: no two shards have parts of one group."""
        if not isinstance(inner, Select) or inner._distinct or is_limited(inner) or not self._has_own_groups(inner):
            refuse("a subquery would see one shard's rows only", inner)
        for part in (*inner._raw_columns, *inner._having_criteria):
            check_expression(part)

    def _has_own_groups(self, inner: Select[Any]) -> bool:
        keys = {_key(key) for key in inner._group_by_clauses if isinstance(key, ColumnClause)}
        return any(
            anchor.is_sure and all((hash(leaf), own) in keys and not own.nullable for own in anchor.columns)
            for leaf in filter(is_table, preserved_leaves(inner))
            for table in tables_in(leaf)
            for anchor in anchors(self.placement, table)
        )

    def _add_condition(self, condition: Any) -> None:
        self.conditions.append(condition)
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
        ruled = [leaf for leaf in leaves if self._rules(leaf)]
        known = [leaf for leaf in ruled if self._is_whole(leaf)] or ruled[:1]
        waiting = [leaf for leaf in ruled if not any(leaf is other for other in known)]
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
        if (hash(one), hash(other)) in self.beside:
            return True
        return any(
            mean_one_shard(own, their) and self._are_tied(one, own.columns, other, their.columns)
            for table in tables_in(one)
            for own in anchors(self.placement, table)
            for another in tables_in(other)
            for their in anchors(self.placement, another)
        )

    def _are_tied(self, one: Any, columns: Sequence[Any], other: Any, others: Sequence[Any]) -> bool:
        return all(
            self._found((hash(one), own)) == self._found((hash(other), their))
            for own, their in zip(columns, others, strict=True)
        )

    def _rules(self, leaf: Any) -> list[Any]:
        return [rule for table in tables_in(leaf) if isinstance(rule := self.placement.rule(table), Sharded | Follow)]

    def _is_reference(self, leaf: Any) -> bool:
        tables = tables_in(leaf)
        return bool(tables) and all(isinstance(self.placement.rule(table), Reference) for table in tables)

    def _are_reference(self, leaves: Sequence[Any]) -> bool:
        return all(self._is_reference(leaf) for leaf in leaves)


def _key(column: Any) -> tuple[int, Any]:
    base = next(iter(column.base_columns), column)
    return hash(column.table), base


def _name(source: Any) -> str:
    name = str(getattr(source, "name", None) or shown(source))
    return re.sub(r"%\(\w+ (\w+)\)s", r"\1", name)  # an alias that SQLAlchemy has yet to number
