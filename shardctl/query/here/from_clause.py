"""FROM and WHERE: the sources of a SELECT, and conditions on their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from shardctl.query.here.kinds import not_listed
from shardctl.query.here.scopes import Columns, Query, Scope, columns_of, renamed
from shardctl.query.here.writer import Writer, check_parts
from shardctl.query.parse import Statement, args_of, shown

TableOf = Callable[[exp.Table, str], tuple[str, Columns]]
MarkOf = Callable[[exp.Expression, exp.Select, exp.Expression | None, Mapping[int, str]], str | None]
_JOINS = {"": "CROSS JOIN", "INNER": "JOIN", "CROSS": "CROSS JOIN", "LEFT": "LEFT JOIN", "RIGHT": "RIGHT JOIN"}
_JOINS |= {"FULL": "FULL JOIN"}


@dataclass(frozen=True)
class FromWriter:
    """Writes what SELECTs read; the arguments are those of a StatementWriter."""

    _statement: Statement
    _writer: Writer
    _query: Callable[[Any, Scope | None, Mapping[str, tuple[str, Query]]], Query]
    _table: TableOf
    _mark: MarkOf
    _numbers: Iterator[int]

    def write(self, node: exp.Select, scope: Scope, names: dict[int, str]) -> str:
        """Write FROM and its joins, and add to a scope what they bring."""
        clause = args_of(node, "from")
        if clause is None:
            return ""
        text = f" FROM {self._source(clause.this, scope, names)}"
        for join in node.args.get("joins") or []:
            words = {str(join.args.get(name) or "").upper() for name in ("method", "side", "kind")} - {"", "OUTER"}
            check_parts(join, frozenset({"this", "on", "method", "side", "kind"}))
            if len(words) > 1 or not words <= set(_JOINS):
                raise not_listed(f"`{shown(join)}`")
            on, word = join.args.get("on"), next(iter(words), "")
            source = self._source(join.this, scope, names)
            if on is None:
                is_comma = not words
                if word not in ("", "CROSS"):
                    raise not_listed(f"`{shown(join)}`")
                text += f", {source}" if is_comma else f" CROSS JOIN {source}"
            else:
                kind = "JOIN" if word in ("", "CROSS") else _JOINS[word]
                text += f" {kind} {source} ON {self.condition(on, node, join.this, scope, names)}"
        return text

    def _source(self, node: Any, scope: Scope, names: dict[int, str]) -> str:
        name = f"s{next(self._numbers)}"
        names[id(node)] = name
        alias = node.args.get("alias")
        if isinstance(node, exp.Table):
            if any(value for key, value in node.args.items() if key not in ("this", "alias")):
                raise not_listed(f"`{shown(node)}`")
            key = self._statement.fold(node.this)
            if key in scope.ctes:
                text, query = scope.ctes[key]
                columns = columns_of(query, name)
            else:
                text, columns = self._table(node, name)
        elif isinstance(node, exp.Subquery) and alias is not None:
            if any(value for word, value in node.args.items() if word not in ("this", "alias")):
                raise not_listed(f"`{shown(node)}`")
            # No LATERAL: it sees what is around the SELECT that it stands in, and not its neighbours.
            query = self._query(node.this, scope.parent, scope.ctes)
            query = renamed(query, [self._statement.fold(column) for column in alias.args.get("columns") or []])
            text, columns, key = f"({query.sql})", columns_of(query, name), ""
        else:
            raise not_listed(f"`{shown(node)}`")
        if isinstance(node, exp.Table) and alias is not None and alias.args.get("columns"):
            raise not_listed(f"`{shown(node)}`")
        called = self._statement.fold(alias.this) if alias is not None else key
        if any(called == other for other, _ in scope.sources):
            raise not_listed(f"two tables of the name `{called}`")
        scope.sources.append((called, columns))
        return f"{text} AS {name}"

    def condition(self, node: Any, select: exp.Select, joined: Any, scope: Scope, names: Mapping[int, str]) -> str:
        """Write a WHERE or ON, in which what concerns one table alone is what its shards said of each row."""
        if isinstance(node, exp.Paren):
            return self.condition(node.this, select, joined, scope, names)
        if isinstance(node, exp.And):
            parts = (self.condition(side, select, joined, scope, names) for side in (node.left, node.right))
            return "(" + " AND ".join(parts) + ")"
        marked = self._mark(node, select, joined, names)
        return self._writer.condition(node, scope) if marked is None else marked
