"""A statement's SELECTs, written anew for DuckDB, clause by clause."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from sqlglot import exp

from shardctl.query.here.aggregates import write_aggregate
from shardctl.query.here.arithmetic import ARITHMETIC
from shardctl.query.here.comparisons import COMPARISONS
from shardctl.query.here.from_clause import FromWriter, MarkOf, TableOf
from shardctl.query.here.functions import FUNCTIONS
from shardctl.query.here.kinds import not_listed
from shardctl.query.here.ordering import limit, order_keys, output_at, position
from shardctl.query.here.scopes import Output, Query, Scope, renamed
from shardctl.query.here.values import Value, groupable, met
from shardctl.query.here.writer import Writer, check_parts
from shardctl.query.parse import Statement, args_of, shown

Ctes = Mapping[str, tuple[str, Query]]
_SELECT = set("expressions from joins where group having distinct order limit offset with".split())
_SET_OPERATION = set("this expression distinct order limit offset with".split())


class StatementWriter:
    """Writes one statement.

    Args:
        statement: The statement.
        table: The columns of a pulled table's mention, given the node and the name that it goes by in DuckDB.
        mark: A column that holds, for each row of a table, whether a condition is true of it; None: there is none.
    """

    def __init__(
        self,
        statement: Statement,
        table: TableOf,
        mark: MarkOf,
    ) -> None:
        self._statement = statement
        self._numbers = count()
        self.writer = Writer(
            statement.engine,
            self._subquery,
            lambda node, scope: write_aggregate(self.writer, node, scope),
            {**COMPARISONS, **ARITHMETIC, **FUNCTIONS},
        )
        self._sources = FromWriter(statement, self.writer, self._query, table, mark, self._numbers)

    def write(self) -> Query:
        """Write the whole statement.

        Raises:
            NotListed: A part of it is not on the list.
        """
        return self._query(self._statement.tree, None, {})

    def _subquery(self, node: Any, scope: Scope) -> tuple[str, list[Value]]:
        found = self._query(node, scope, scope.ctes)
        return found.sql, [output.value for output in found.outputs]

    def _query(self, node: Any, parent: Scope | None, ctes: Ctes) -> Query:
        if isinstance(node, exp.Subquery):
            if any(value for name, value in node.args.items() if name not in ("this", "alias")):
                raise not_listed(f"`{shown(node)}`")
            return self._query(node.this, parent, ctes)
        known = _SELECT if isinstance(node, exp.Select) else _SET_OPERATION
        if not isinstance(node, exp.Select | exp.SetOperation):
            raise not_listed(f"`{shown(node)}`")
        for name, value in node.args.items():
            if value and name.rstrip("_") not in known:
                raise not_listed(f"`{name.upper()}` in `{shown(node)}`")
        named, text = self._with(node, parent, ctes)
        if isinstance(node, exp.Select):
            found = self._select(node, parent, named)
        else:
            found = self._set_operation(node, parent, named)
        return replace(found, sql=text + found.sql)

    def _with(self, node: Any, parent: Scope | None, ctes: Ctes) -> tuple[Ctes, str]:
        clause = args_of(node, "with")
        if clause is None:
            return ctes, ""
        if clause.args.get("recursive"):
            raise not_listed("`WITH RECURSIVE`")
        named, texts = dict(ctes), []
        for cte in clause.expressions:
            found = self._query(cte.this, parent, named)
            name = f"w{next(self._numbers)}"
            texts.append(f"{name} AS ({found.sql})")
            alias = cte.args["alias"]
            found = renamed(found, [self._statement.fold(column) for column in alias.args.get("columns") or []])
            check_parts(cte, frozenset({"this", "alias"}))
            named[self._statement.fold(alias.this)] = (name, found)
        return named, f"WITH {', '.join(texts)} "

    def _select(self, node: exp.Select, parent: Scope | None, ctes: Ctes) -> Query:
        scope = Scope(self._statement, parent, ctes)
        names: dict[int, str] = {}
        origin = self._sources.write(node, scope, names)
        where = node.args.get("where")
        if where is not None:
            origin += f" WHERE {self._sources.condition(where.this, node, None, scope, names)}"
        items = self._items(node, scope)
        origin += self._group(node, scope, items)
        outputs = [self._output(entry, scope) for entry in items]
        if node.args.get("having") is not None:
            self._check_aliases(node.args["having"].this, items)
            origin += f" HAVING {self.writer.condition(node.args['having'].this, scope)}"
        listed = ", ".join(f"{output.value.sql} AS c{i}" for i, output in enumerate(outputs))
        distinct = node.args.get("distinct")
        found = Query(f"SELECT {listed}{origin}", tuple(outputs))
        if distinct is None:
            return self._ordered(node, found, lambda entry: self._order_value(entry, items, outputs, scope))
        return self._distinct(node, distinct, items, outputs, scope, origin)

    def _distinct(
        self, node: exp.Select, distinct: Any, items: Sequence[Any], outputs: list[Output], scope: Scope, origin: str
    ) -> Query:
        on = distinct.args.get("on")
        if on is not None:
            values = [self.writer.settled(entry, scope) for entry in (on.expressions or [on.this])]
            for value in values:
                self.writer.use("distinct on", value.kind, on)
            listed = ", ".join(f"{output.value.sql} AS c{i}" for i, output in enumerate(outputs))
            keys = ", ".join(value.sql for value in values)
            found = Query(f"SELECT DISTINCT ON ({keys}) {listed}{origin}", tuple(outputs))
            return self._ordered(node, found, lambda entry: self._order_value(entry, items, outputs, scope))
        listed = ", ".join(f"{self._unique(output.value, 'distinct')} AS c{i}" for i, output in enumerate(outputs))
        inner = Query(f"SELECT DISTINCT {listed}{origin}", tuple(outputs))
        return self._ordered_outside(node, inner, items)

    def _unique(self, value: Value, what: str) -> str:
        self.writer.use(what, value.kind)
        return groupable(value, self.writer.demands, self._statement.engine)

    def _items(self, node: exp.Select, scope: Scope) -> list[Any]:
        """Return the select list, with values in the place of stars."""
        found: list[Any] = []
        for entry in node.expressions:
            is_of_table = isinstance(entry, exp.Column) and isinstance(entry.this, exp.Star)
            if not isinstance(entry, exp.Star) and not is_of_table:
                found.append(entry)
                continue
            star = entry.this if is_of_table else entry
            if any(star.args.values()):
                raise not_listed(f"`{shown(entry)}`")
            wanted = self._statement.fold(entry.args.get("table")) if is_of_table else None
            chosen = [columns for alias, columns in scope.sources if wanted is None or alias == wanted]
            if not chosen or (wanted is not None and len(chosen) != 1):
                raise not_listed(f"`{shown(entry)}`")
            found += [Output(name, columns[name]) for columns in chosen for name in columns]
        return found

    def _output(self, entry: Any, scope: Scope) -> Output:
        if isinstance(entry, Output):
            return entry
        inner = entry.unalias()
        value = self.writer.settled(inner, scope)
        name = ""
        if isinstance(entry, exp.Alias):
            name = self._statement.fold(entry.args["alias"])
        elif isinstance(inner, exp.Column):
            name = self._statement.fold(inner.this)
        return Output(name, value)

    def _group(self, node: exp.Select, scope: Scope, items: Sequence[Any]) -> str:
        group = node.args.get("group")
        if group is None:
            return ""
        if any(value for name, value in group.args.items() if name != "expressions"):
            raise not_listed(f"`{shown(group)}`")
        keys = []
        for entry in group.expressions:
            chosen = self._group_node(entry, scope, items)
            value = chosen.value if isinstance(chosen, Output) else self.writer.settled(chosen, scope)
            key = self._unique(value, "group by")
            keys.append(key)
            if not isinstance(chosen, Output):
                scope.groups[chosen] = replace(value, sql=key)
        return f" GROUP BY {', '.join(keys)}"

    def _group_node(self, entry: Any, scope: Scope, items: Sequence[Any]) -> Any:
        """Return what a position or an output's name in GROUP BY stands for."""
        if isinstance(entry, exp.Literal):
            return output_at(items, entry)
        if isinstance(entry, exp.Column) and entry.args.get("table") is None:
            name = self._statement.fold(entry.this)
            named = [
                item
                for item in items
                if isinstance(item, exp.Alias) and self._statement.fold(item.args["alias"]) == name
            ]
            if named and scope.own("", name) is None:
                return named[0].unalias()
            if named and self._statement.engine == "mysql" and named[0].unalias() != entry:
                raise not_listed(f"`{shown(entry)}`, which is a column and an output,")
        self._check_aliases(entry, items)
        return entry

    def _check_aliases(self, node: exp.Expression, items: Sequence[Any]) -> None:
        """Refuse a name that MySQL may take for an output, and others for a column."""
        if self._statement.engine != "mysql":
            return
        aliases = {
            self._statement.fold(item.args["alias"]): item.unalias() for item in items if isinstance(item, exp.Alias)
        }
        for column in node.find_all(exp.Column):
            name = self._statement.fold(column.this) if isinstance(column.this, exp.Identifier) else ""
            if column.args.get("table") is None and name in aliases and aliases[name] != column:
                raise not_listed(f"`{name}`, which is an output,")

    def _order_value(self, entry: Any, items: Sequence[Any], outputs: Sequence[Output], scope: Scope) -> Value:
        if isinstance(entry, exp.Literal):
            return outputs[position(items, entry)].value
        if isinstance(entry, exp.Column) and entry.args.get("table") is None:
            name = self._statement.fold(entry.this)
            named = [output for output in outputs if output.name == name]
            if len(named) > 1 and len({output.value.sql for output in named}) > 1:
                raise not_listed(f"`{shown(entry)}`, which is the name of two outputs,")
            if named:
                return named[0].value
        self._check_aliases(entry, items)
        return self.writer.settled(entry, scope)

    def _ordered(self, node: Any, found: Query, value: Callable[[Any], Value]) -> Query:
        """Add ORDER BY and LIMIT."""
        sql = found.sql
        order = node.args.get("order")
        if order is not None:
            keys = [value(entry.this) for entry in order.expressions]
            sql += f" ORDER BY {order_keys(self.writer, order.expressions, keys)}"
        return replace(found, sql=sql + limit(node))

    def _ordered_outside(self, node: Any, inner: Query, items: Sequence[Any]) -> Query:
        """Add ORDER BY and LIMIT to a query that only its own outputs can order."""
        if node.args.get("order") is None:
            return replace(inner, sql=inner.sql + limit(node))
        columns = [replace(output.value, sql=f"o.c{i}", literal=None) for i, output in enumerate(inner.outputs)]
        named = [Output(output.name, column) for output, column in zip(inner.outputs, columns, strict=True)]

        def value(entry: Any) -> Value:
            if isinstance(entry, exp.Literal):
                return columns[position(columns, entry)]
            same = [i for i, item in enumerate(items) if isinstance(item, exp.Expression) and item.unalias() == entry]
            if same:
                return columns[same[0]]
            if isinstance(entry, exp.Column) and entry.args.get("table") is None:
                found = [output for output in named if output.name == self._statement.fold(entry.this)]
                if len(found) == 1:
                    return found[0].value
            raise not_listed(f"the order by `{shown(entry)}`")

        return self._ordered(node, replace(inner, sql=f"SELECT o.* FROM ({inner.sql}) AS o"), value)

    def _set_operation(self, node: Any, parent: Scope | None, ctes: Ctes) -> Query:
        inner = [side for side in (node.this, node.expression) if isinstance(side, exp.SetOperation)]
        if isinstance(node.expression, exp.SetOperation) or any(type(side) is not type(node) for side in inner):
            raise not_listed("several set operations without brackets")  # INTERSECT comes first, not so in every parser
        sides = [self._query(side, parent, ctes) for side in (node.this, node.expression)]
        if len(sides[0].outputs) != len(sides[1].outputs):
            raise not_listed(f"`{shown(node)}`")
        word = node.key.upper() + ("" if node.args.get("distinct") else " ALL")
        listed: list[list[str]] = [[], []]
        outputs = []
        for i, (left, right) in enumerate(zip(sides[0].outputs, sides[1].outputs, strict=True)):
            pair = [replace(output.value, sql=f"u.c{i}", literal=None) for output in (left, right)]
            one, other = met(pair[0], pair[1], self._statement.engine)
            if one.kind != other.kind:
                raise not_listed(f"{word} of {left.value.kind.name} and {right.value.kind.name}")
            if word == "UNION ALL":
                self.writer.use("union all", one.kind, node)
            for side, value in zip(listed, (one, other), strict=True):
                side.append(
                    f"{value.sql if word == 'UNION ALL' else self._unique(value, word.split()[0].lower())} AS c{i}"
                )
            outputs.append(Output(left.name, replace(one, origins=one.origins | other.origins)))
        texts = [f"SELECT {', '.join(own)} FROM ({side.sql}) AS u" for own, side in zip(listed, sides, strict=True)]
        return self._ordered_outside(node, Query(f" {word} ".join(f"({text})" for text in texts), tuple(outputs)), [])
