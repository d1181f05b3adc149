"""What may be asked of a shard in place of all rows of a table: filters, and the keys of rows that are here already.

A condition is sent only if it is of shapes that cannot fail and mean the same on one table alone; the statement, which
runs over what was pulled, has it still.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from shardctl.query.local import is_local, outermost_queries
from shardctl.query.parameters import bound_value
from shardctl.query.parse import Statement, Tokens
from shardctl.query.pull.needs import ALIAS
from shardctl.query.pull.pieces import conjunct_pieces, conjuncts, disjuncts, renamed
from shardctl.query.pull.sources import Node, Source
from shardctl.query.ties import Ties

_SHAPES = (
    exp.Column,
    exp.Identifier,
    exp.Literal,
    exp.Boolean,
    exp.Null,
    exp.Placeholder,
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

_IN_SUBQUERIES = (
    exp.Select,
    exp.From,
    exp.Join,
    exp.Where,
    exp.Group,
    exp.Having,
    exp.Table,
    exp.TableAlias,
    exp.Alias,
    exp.Subquery,
    exp.Exists,
    exp.Star,
    exp.Count,
    exp.Sum,
    exp.Avg,
    exp.Min,
    exp.Max,
)


class Conditions:
    """The conditions of a statement, by the source whose rows they are about.

    Args:
        statement: The statement.
        ties: Which of its rows live together.
        lives_beside: Whether every shard with rows of one source has the other one's table.
    """

    def __init__(
        self, statement: Statement, ties: Ties, lives_beside: Callable[[Source, Source], bool] | None = None
    ) -> None:
        self._statement = statement
        self._ties = ties
        self._lives_beside = lives_beside
        self._sources = ties.sources
        self._pieces: Mapping[exp.Expression, Tokens] = conjunct_pieces(statement)

    def filters(self, source: Source) -> tuple[str, ...]:
        """Return the conditions that a source's rows must fulfil, as text in which its columns are of `__t`."""
        found = (self._filter(part, source) for part in source.conditions)
        return tuple(dict.fromkeys(text for text in found if text))

    def local(self, source: Source) -> tuple[tuple[str, tuple[str, Node] | None], ...]:
        """Return likewise the conditions with subqueries that a shard can answer for each of the source's rows.

        Each with what it says: that a column of the row is among the values of a column of the subquery.
        """
        found = ((self._local(part, source), self._within(part, source)) for part in source.conditions)
        return tuple(dict.fromkeys((text, within) for text, within in found if text))

    def _within(self, part: exp.Expression, source: Source) -> tuple[str, Node] | None:
        query = part.args.get("query") if isinstance(part, exp.In) else None
        inner = query.this if isinstance(query, exp.Subquery) else query
        if source.select is None or not isinstance(inner, exp.Select) or len(inner.expressions) != 1:
            return None
        sides = [(part.this, source.select), (inner.expressions[0].unalias(), inner)]
        nodes = [self._sources.resolve(*side) for side in sides if isinstance(side[0], exp.Column)]
        if len(nodes) != 2 or nodes[0] is None or nodes[1] is None:
            return None
        return nodes[0].column, nodes[1]

    def whole(self, part: exp.Expression, source: Source) -> str:
        """Return a condition that is about one source's rows alone, as text; nothing if it is about more."""
        if part not in self._pieces or not self._is_about(part, source):
            return ""
        return renamed(self._statement, self._pieces[part], self._folded, source.alias, ALIAS)

    def _filter(self, part: exp.Expression, source: Source) -> str:
        """Return what a condition says of one source's rows; nothing if it says nothing of them alone."""
        own = self.whole(part, source)
        if own:
            return own
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

    def reached(self, source: Source) -> tuple[tuple[str, Node], ...]:
        """Return by which columns' values a source's rows can be told to matter: its own column, and the other one."""
        found: dict[tuple[str, Node], None] = {}
        for start in dict.fromkeys(node for node, _ in self._ties.links if node.source is source):
            seen = {start}
            waiting = [start]
            while waiting:
                node = waiting.pop(0)
                for target in (target for origin, target in self._ties.links if origin == node and target not in seen):
                    seen.add(target)
                    waiting.append(target)
                    if target.source is not source:
                        found[start.column, target] = None
        return tuple(found)

    def compared(self, source: Source) -> tuple[str, ...]:
        """Return the columns of a source that are compared with other columns: worth an index."""
        linked = [node.column for link in self._ties.links for node in link if node.source is source]
        return tuple(dict.fromkeys(linked))

    def _folded(self, token: Any) -> str:
        text = str(token.text)
        return text if token.kind == "IDENTIFIER" and self._statement.engine == "postgresql" else text.lower()

    def _local(self, part: exp.Expression, source: Source) -> str:
        queries = list(outermost_queries(part))
        if part not in self._pieces or not queries or not self._is_safe(part, source, _SHAPES + _IN_SUBQUERIES):
            return ""
        selects = [node for node in part.walk() if isinstance(node, exp.Select)]
        for column in part.find_all(exp.Column):
            scope = column.find_ancestor(exp.Select)
            node = None if scope is None else self._sources.resolve(column, scope)
            if node is None or not (node.source is source or any(node.source.select is own for own in selects)):
                return ""
        inner = [found for select in selects for found in self._sources.of(select)]
        is_beside = self._lives_beside is not None and all(self._lives_beside(source, found) for found in inner)
        if not is_beside or any(found.alias == source.alias for found in inner):
            return ""
        if not all(is_local(self._ties, query, [source]) for query in queries):
            return ""
        return renamed(self._statement, self._pieces[part], self._folded, source.alias, ALIAS)

    def _is_about(self, part: exp.Expression, source: Source) -> bool:
        if not self._is_safe(part, source, _SHAPES) or source.select is None:
            return False
        columns = list(part.find_all(exp.Column))
        found = [self._sources.resolve(column, source.select) for column in columns]
        return bool(columns) and all(node is not None and node.source is source for node in found)

    def _is_safe(self, part: exp.Expression, source: Source, shapes: tuple[type[Any], ...]) -> bool:
        if source.select is None or not all(isinstance(node, shapes) or _is_date(node) for node in part.walk()):
            return False
        if self._statement.engine == "mysql" and '"' in self._statement.slice(self._pieces[part]):
            return False  # a string or a name, as the server's mode has it
        # PostgreSQL's COPY would take a float for a NUMERIC.
        return not any(isinstance(bound_value(str(node.name)), float) for node in part.find_all(exp.Placeholder))


def _is_date(node: Any) -> bool:
    """Whether a node is a typed literal, such as DATE '2024-01-31', or its type."""
    if isinstance(node, exp.DataType):
        return isinstance(node.parent, exp.Cast) and isinstance(node.parent.this, exp.Literal)
    return isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal)
