"""What may be asked of a shard in place of all rows of a table: filters, and the keys of rows that are here already.

A condition is sent only if it is of shapes that cannot fail and mean the same on one table alone; the statement, which
runs over what was pulled, has it still.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from shardctl.query.parse import Statement, Tokens
from shardctl.query.pull.pieces import conjunct_pieces, conjuncts, disjuncts, renamed
from shardctl.query.pull.sources import Node, Source, Sources

ALIAS = "__t"

_SHAPES = (
    exp.Column,
    exp.Identifier,
    exp.Literal,
    exp.Boolean,
    exp.Null,
    exp.Paren,
    exp.And,
    exp.Or,
    exp.Not,
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.In,
    exp.Between,
    exp.Like,
    exp.ILike,
    exp.Escape,
    exp.Is,
    exp.Neg,
    exp.Add,
    exp.Sub,
    exp.Mul,
    exp.Interval,
    exp.Var,
    exp.Substring,
    exp.Lower,
    exp.Upper,
    exp.Length,
    exp.Coalesce,
)


@dataclass(frozen=True, slots=True)
class Reduction:
    """Rows of a table matter only if a column of theirs has a value that a column of another one has."""

    column: str
    table: str
    """The other table's key."""
    other_column: str


class Conditions:
    """The conditions of a statement, by the source whose rows they are about."""

    def __init__(self, statement: Statement, sources: Sources) -> None:
        self._statement = statement
        self._sources = sources
        self._pieces: Mapping[exp.Expression, Tokens] = conjunct_pieces(statement)
        self._links: list[tuple[Node, Node]] = []
        for source in sources.all:
            self._links.extend(self._links_of(source))

    def filters(self, source: Source) -> tuple[str, ...]:
        """Return the conditions that a source's rows must fulfil, as text in which its columns are of `__t`."""
        found = (self._filter(part, source) for part in source.conditions)
        return tuple(dict.fromkeys(text for text in found if text))

    def _filter(self, part: exp.Expression, source: Source) -> str:
        """Return what a condition says of one source's rows; nothing if it says nothing of them alone."""
        if part in self._pieces and self._is_about(part, source):
            return renamed(self._statement, self._pieces[part], self._folded, source.alias, ALIAS)
        branches = list(disjuncts(part))
        if len(branches) < 2:
            return ""
        texts = []
        for branch in branches:
            found = dict.fromkeys(filter(None, (self._filter(inner, source) for inner in conjuncts(branch))))
            if not found:
                return ""
            texts.append(" AND ".join(f"({text})" for text in found))
        return " OR ".join(f"({text})" for text in dict.fromkeys(texts))

    def reductions(self, source: Source) -> tuple[Reduction, ...]:
        """Return by which other tables' values a source's rows can be told to matter, directly or through others."""
        found: list[Reduction] = []
        for start in dict.fromkeys(node for node, _ in self._links if node.source is source):
            seen = {start}
            waiting = [start]
            while waiting:
                node = waiting.pop(0)
                for target in (target for origin, target in self._links if origin == node and target not in seen):
                    seen.add(target)
                    waiting.append(target)
                    if target.source.table != source.table:
                        found.append(Reduction(start.column, target.source.table, target.column))
        return tuple(dict.fromkeys(found))

    def compared(self, source: Source) -> tuple[str, ...]:
        """Return the columns of a source that are compared with other columns: worth an index."""
        linked = [node.column for link in self._links for node in link if node.source is source]
        return tuple(dict.fromkeys(linked))

    def _folded(self, token: Any) -> str:
        text = str(token.text)
        return text if token.kind == "IDENTIFIER" and self._statement.engine == "postgresql" else text.lower()

    def _is_about(self, part: exp.Expression, source: Source) -> bool:
        if source.select is None or not all(isinstance(node, _SHAPES) or _is_date(node) for node in part.walk()):
            return False
        if self._statement.engine == "mysql" and '"' in self._statement.slice(self._pieces[part]):
            return False  # a string or a name, as the server's mode has it
        columns = list(part.find_all(exp.Column))
        found = [self._sources.resolve(column, source.select) for column in columns]
        return bool(columns) and all(node is not None and node.source is source for node in found)

    def _links_of(self, source: Source) -> Iterable[tuple[Node, Node]]:
        """Yield pairs of columns: rows of the first one's source matter only with a value of the second one."""
        if source.select is None:
            return
        for part in source.conditions:
            if isinstance(part, exp.EQ):
                yield from self._equal(part, source)
            elif source.is_inner and isinstance(part, exp.In):
                yield from self._within(part, source)
            elif source.is_inner and isinstance(part, exp.Exists):
                yield from self._existing(part, source)

    def _equal(self, part: exp.EQ, source: Source) -> Iterable[tuple[Node, Node]]:
        assert source.select is not None
        sides = [self._column(side, source.select) for side in (part.left, part.right)]
        for node, other in (sides, sides[::-1]):
            if node is None or other is None or node.source is not source or other.source is source:
                continue
            # Its equal in the same SELECT, or in one around it, must be there: not so the optional side of a join.
            if other.source.is_inner or not source.is_inner or other.source.select is not source.select:
                yield node, other

    def _within(self, part: exp.In, source: Source) -> Iterable[tuple[Node, Node]]:
        query = part.args.get("query")
        inner = query.this if isinstance(query, exp.Subquery) else query
        node = self._column(part.this, source.select)
        if node is None or node.source is not source or not isinstance(inner, exp.Select):
            return
        if len(inner.expressions) != 1 or part.args.get("expressions"):
            return
        other = self._column(inner.expressions[0].unalias(), inner)
        if other is None or other.source.select is not inner or not other.source.is_inner:
            return
        yield node, other
        if _is_bare(inner):
            yield other, node

    def _existing(self, part: exp.Exists, source: Source) -> Iterable[tuple[Node, Node]]:
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
                if node is None or other is None or node.source is not source:
                    continue
                if other.source.select is inner and other.source.is_inner:
                    yield node, other

    def _column(self, node: Any, select: exp.Select | None) -> Node | None:
        if not isinstance(node, exp.Column) or select is None:
            return None
        return self._sources.resolve(node, select)


def _is_bare(select: exp.Select) -> bool:
    """Whether a SELECT only joins and filters rows."""
    used = {name.rstrip("_") for name, value in select.args.items() if value}
    return used <= {"expressions", "from", "joins", "where"} and not select.find(exp.Window, exp.AggFunc)


def _is_date(node: Any) -> bool:
    """Whether a node is a typed literal, such as DATE '2024-01-31', or its type."""
    if isinstance(node, exp.DataType):
        return isinstance(node.parent, exp.Cast) and isinstance(node.parent.this, exp.Literal)
    return isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal)
