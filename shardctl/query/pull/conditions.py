"""What may be asked of a shard in place of all rows of a table: filters, and the keys of rows that are here already.

A condition is sent only if it is of shapes that cannot fail and mean the same on one table alone; the statement, which
runs over what was pulled, has it still.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from shardctl.query.parameters import bound_value
from shardctl.query.parse import Statement, Tokens
from shardctl.query.pull.links import links_of
from shardctl.query.pull.pieces import conjunct_pieces, conjuncts, disjuncts, renamed
from shardctl.query.pull.sources import Source, Sources

ALIAS = "__t"

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
        self._links = links_of(sources)

    def filters(self, source: Source) -> tuple[str, ...]:
        """Return the conditions that a source's rows must fulfil, as text in which its columns are of `__t`."""
        found = (self._filter(part, source) for part in source.conditions)
        return tuple(dict.fromkeys(text for text in found if text))

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
        if any(isinstance(bound_value(str(node.name)), float) for node in part.find_all(exp.Placeholder)):
            return False  # PostgreSQL's COPY would take it for a NUMERIC
        columns = list(part.find_all(exp.Column))
        found = [self._sources.resolve(column, source.select) for column in columns]
        return bool(columns) and all(node is not None and node.source is source for node in found)


def _is_date(node: Any) -> bool:
    """Whether a node is a typed literal, such as DATE '2024-01-31', or its type."""
    if isinstance(node, exp.DataType):
        return isinstance(node.parent, exp.Cast) and isinstance(node.parent.this, exp.Literal)
    return isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal)
