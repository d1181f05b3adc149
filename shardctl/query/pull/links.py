"""Equalities between columns: which rows of one table matter only with a value that a row of another one has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlglot import exp

from shardctl.query.parse import clauses_of
from shardctl.query.pull.pieces import conjuncts
from shardctl.query.pull.sources import Node, Source, Sources

_GROUPING = {"expressions", "from", "joins", "where", "group", "having"}

Link = tuple[Node, Node]
"""Rows of the first column's source matter only with a value of the second column."""


def links_of(sources: Sources) -> list[Link]:
    """Return the links that a statement's joins, and its IN and EXISTS, make between its sources."""
    return [link for source in sources.all for link in _Links(sources, source).all()]


class _Links:
    def __init__(self, sources: Sources, source: Source) -> None:
        self._sources = sources
        self._source = source

    def all(self) -> Iterable[Link]:
        source = self._source
        if source.select is None:
            return
        for part in source.conditions:
            if isinstance(part, exp.EQ):
                yield from self._equal(part)
            elif source.is_inner and isinstance(part, exp.In):
                yield from self._within(part)
            elif source.is_inner and isinstance(part, exp.Exists):
                yield from self._existing(part)

    def _equal(self, part: exp.EQ) -> Iterable[Link]:
        source = self._source
        sides = [self._column(side, source.select) for side in (part.left, part.right)]
        for node, other in (sides, sides[::-1]):
            if node is None or other is None or node.source is not source or other.source is source:
                continue
            # Its equal in the same SELECT, or in one around it, must be there: not so the optional side of a join.
            if other.source.is_inner or not source.is_inner or other.source.select is not source.select:
                yield node, other

    def _within(self, part: exp.In) -> Iterable[Link]:
        query = part.args.get("query")
        inner = query.this if isinstance(query, exp.Subquery) else query
        node = self._column(part.this, self._source.select)
        if node is None or node.source is not self._source or not isinstance(inner, exp.Select):
            return
        if len(inner.expressions) != 1 or part.args.get("expressions"):
            return
        other = self._column(inner.expressions[0].unalias(), inner)
        if other is None or other.source.select is not inner or not other.source.is_inner:
            return
        yield node, other
        if _is_bare(inner) or self._is_grouped_by(inner, other):
            yield other, node

    def _is_grouped_by(self, select: exp.Select, node: Node) -> bool:
        """Whether a SELECT makes rows of groups that have a column in common, and does nothing more."""
        group = select.args.get("group")
        if group is None or not clauses_of(select) <= _GROUPING or select.find(exp.Window):
            return False
        return is_plain(group) and any(self._column(entry, select) == node for entry in group.expressions)

    def _existing(self, part: exp.Exists) -> Iterable[Link]:
        inner = part.this
        if not isinstance(inner, exp.Select) or not _is_bare(inner):
            return
        if not all(isinstance(entry.unalias(), exp.Star | exp.Literal | exp.Column) for entry in inner.expressions):
            return
        where = inner.args.get("where")
        for condition in conjuncts(None if where is None else where.this):
            if not isinstance(condition, exp.EQ):
                continue
            sides = [self._column(side, inner) for side in (condition.left, condition.right)]
            for node, other in (sides, sides[::-1]):
                if node is None or other is None or node.source is not self._source:
                    continue
                if other.source.select is inner and other.source.is_inner:
                    yield node, other

    def _column(self, node: Any, select: exp.Select | None) -> Node | None:
        if not isinstance(node, exp.Column) or select is None:
            return None
        return self._sources.resolve(node, select)


def _is_bare(select: exp.Select) -> bool:
    """Whether a SELECT only joins and filters rows."""
    is_simple = clauses_of(select) <= {"expressions", "from", "joins", "where"}
    return is_simple and not select.find(exp.Window, exp.AggFunc)


def is_plain(group: exp.Group) -> bool:
    """Whether a GROUP BY makes one set of groups: no ROLLUP or the like."""
    return clauses_of(group) == {"expressions"}


def asker_of(select: exp.Expression) -> Any:
    """Return what a subquery is a part of: an IN, an EXISTS, a comparison."""
    return select.parent.parent if isinstance(select.parent, exp.Subquery) else select.parent


def is_membership(select: exp.Select) -> bool:
    """Whether a SELECT only says whether there are rows, or whether a value is among them."""
    return isinstance(asker_of(select), exp.Exists | exp.In) and _is_bare(select)
