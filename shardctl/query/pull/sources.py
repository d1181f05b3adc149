"""Where a statement reads tables, and what each SELECT demands of the rows that it reads from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlglot import exp

from shardctl.query.gatherers.shapes import TableShape
from shardctl.query.parse import Statement, args_of
from shardctl.query.pull.pieces import conjuncts

_PLAIN = {"this", "alias"}


@dataclass(eq=False)
class Source:
    """One mention of a table, in the FROM of one SELECT."""

    table: str
    alias: str
    select: exp.Select | None
    """None: nothing is known of its place, and all of its rows may matter."""
    conditions: list[exp.Expression] = field(default_factory=list)
    """Rows that fail one of these play no part in the answer."""
    is_inner: bool = False
    """Whether a row of the SELECT always has a row of this table in it."""
    node: exp.Table | None = None
    """Where it stands in the statement."""


@dataclass(frozen=True)
class Node:
    """A column of one source."""

    source: Source
    column: str


class Sources:
    """The tables of a statement, each where it is mentioned.

    Args:
        statement: The statement.
        shapes: The tables, by the name that `table_key` gives.
        is_sure: Whether the tables have no other columns: one may be what a name without a table means.
    """

    def __init__(self, statement: Statement, shapes: Mapping[str, TableShape], *, is_sure: bool = True) -> None:
        self._statement = statement
        self._shapes = shapes
        self._is_sure = is_sure
        self.all: list[Source] = []
        self.assumed: set[tuple[str, str, bool]] = set()
        """Tables and columns, and whether they have them: what names without a table were taken to mean by."""
        self._by_select: dict[int, dict[str, Source | None]] = {}
        placed: set[int] = set()
        for select in statement.tree.find_all(exp.Select):
            placed |= self._read_select(select)
        for table in statement.tables:
            key = table_key(statement, table)
            if id(table) not in placed and key in shapes:
                self.all.append(Source(key, "", None))

    def of(self, select: exp.Select) -> list[Source]:
        """Return the sources in a SELECT's FROM, as far as they are tables that are known."""
        return [source for source in self._by_select.get(id(select), {}).values() if source is not None]

    def is_whole(self, select: exp.Select) -> bool:
        """Whether everything in a SELECT's FROM is a known table, joined in a known way."""
        found = self._by_select.get(id(select), {"": None}).values()
        return all(source is not None and source.select is not None for source in found)

    def resolve(self, column: exp.Column, select: exp.Select) -> Node | None:
        """Return which source a column is of, as seen from a SELECT; None if that is not sure."""
        name = self._statement.fold(column.this)
        qualifier = self._statement.fold(column.args.get("table"))
        if column.args.get("db") is not None:
            return None
        scope: Any = select
        while scope is not None:
            if isinstance(scope, exp.Select):
                found = self._in_scope(scope, qualifier, name)
                if not qualifier:
                    self._assume(scope, name, found)
                if found is not False:
                    return found
                if not qualifier and not self._is_sure:
                    return None
                if not qualifier and any(entry.alias_or_name.lower() == name.lower() for entry in scope.expressions):
                    return None  # SQLite would take the output for it
            if isinstance(scope, exp.CTE):  # it does not see the FROM that its WITH stands before
                owner = scope.parent.parent if scope.parent is not None else None
                scope = owner.parent if owner is not None else None
            else:
                scope = scope.parent
        return None

    def _assume(self, scope: exp.Select, name: str, found: Node | Literal[False] | None) -> None:
        for source in self.of(scope):
            self.assumed.add((source.table, name, isinstance(found, Node) and source is found.source))

    def _in_scope(self, scope: exp.Select, qualifier: str, name: str) -> Node | Literal[False] | None:
        """Return the column; None if it may be one of several; False if this SELECT has none of this name."""
        sources = self._by_select.get(id(scope))
        if sources is None:
            return None
        if qualifier:
            if qualifier not in sources:
                return None if "" in sources else False
            return self._node(sources[qualifier], name)
        if any(source is None for source in sources.values()):
            return None
        nodes = [node for source in sources.values() if (node := self._node(source, name)) is not None]
        return False if not nodes else nodes[0] if len(nodes) == 1 else None

    def _node(self, source: Source | None, name: str) -> Node | None:
        column = None if source is None else self._shapes[source.table].column(name)
        if column is not None and column.name != name and self._statement.engine == "postgresql":
            return None
        return None if source is None or column is None else Node(source, column.name)

    def _read_select(self, select: exp.Select) -> set[int]:
        """Add a SELECT's sources, and return the tables among them."""
        origin = args_of(select, "from")
        joins: list[exp.Join] = select.args.get("joins") or []
        nodes: list[tuple[Any, exp.Join | None]] = [(origin.this, None)] if origin is not None else []
        nodes += [(join.this, join) for join in joins]
        named: dict[str, Source | None] = {}
        self._by_select[id(select)] = named
        is_simple = all(_words(join) <= {"LEFT", "OUTER", "INNER", "CROSS"} for join in joins)
        is_simple = is_simple and not select.args.get("laterals")
        everywhere = list(conjuncts(_condition(select.args.get("where"))))
        everywhere += [part for join in joins if not _is_left(join) for part in conjuncts(join.args.get("on"))]
        placed: set[int] = set()
        for node, join in nodes:
            source = self._source(node, select if is_simple else None)
            alias = alias_of(self._statement, node)
            named["" if alias in named else alias] = source  # a name that is there twice is nobody's
            if source is None:
                continue
            placed.add(id(node))
            self.all.append(source)
            if is_simple:
                source.is_inner = join is None or not _is_left(join)
                own = join.args.get("on") if join is not None else None
                source.conditions = everywhere if source.is_inner else list(conjuncts(own))
        return placed

    def _source(self, node: Any, select: exp.Select | None) -> Source | None:
        if not isinstance(node, exp.Table) or not any(node is table for table in self._statement.tables):
            return None
        key = table_key(self._statement, node)
        alias = node.args.get("alias")
        if key not in self._shapes or any(value for name, value in node.args.items() if name not in _PLAIN):
            return None
        if alias is not None and alias.args.get("columns"):
            return None
        return Source(key, alias_of(self._statement, node), select, node=node)


def table_key(statement: Statement, table: exp.Table) -> str:
    """Return the name under which a table's shape is kept: as the engine's catalogue has it, as far as that is sure."""
    if statement.engine == "mysql":
        return str(table.name)
    return statement.fold(table.this)


def alias_of(statement: Statement, node: Any) -> str:
    """Return the name that a part of FROM goes by; nothing if it has none."""
    alias = node.args.get("alias") if isinstance(node, exp.Expression) else None
    if isinstance(alias, exp.TableAlias) and alias.this is not None:
        return statement.fold(alias.this)
    if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
        return statement.fold(node.this)
    return ""


def _condition(clause: exp.Expression | None) -> Any:
    return None if clause is None else clause.this


def _words(join: exp.Join) -> set[str]:
    return {str(join.args.get(name) or "").upper() for name in ("method", "side", "kind", "match_condition")} - {""}


def _is_left(join: exp.Join) -> bool:
    return "LEFT" in _words(join)


def aliases(sources: Iterable[Source]) -> set[str]:
    """Return every name that a table goes by."""
    return {name for source in sources for name in (source.alias, source.table) if name}
