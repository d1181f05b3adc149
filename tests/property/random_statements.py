# ruff: noqa: C901, E501
"""Random SELECTs over random tables, most of all such as use the sharding key almost rightly.

What has several right answers is not drawn, but for rows that tie at a LIMIT: a statement says how to compare.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.property.drawing import Choices
from tests.property.random_fleets import VALUES, RandomSchema, RandomTable, carried

NUMBERS = ("int", "big", "dec", "flt")
INTEGERS = ("int", "big")
ANY = ("int", "big", "txt", "day", "dec", "flt", "bool")
GROUPS = (("int", "big", "dec", "flt"), ("txt",), ("day",), ("bool",))
"""Kinds that every engine compares with one another."""


@dataclass(frozen=True)
class Drawn:
    """A statement, and how its answer is compared."""

    sql: str
    order: tuple[int, ...] | None = None
    """The columns that it sorts by; None: none."""
    is_total: bool = True
    """Whether rows that tie are the same."""
    unlimited: str = ""
    """The statement without its LIMIT, where other rows may be as right."""


@dataclass(frozen=True)
class Relation:
    """What stands in FROM: a table, or a subquery."""

    text: str
    kinds: Mapping[str, str]
    key: tuple[str, ...]
    """The columns that say where a row is."""
    tables: tuple[RandomTable, ...]
    """What its rows are of."""
    is_table: bool = True


@dataclass
class Scope:
    """The relations of one FROM, by alias, and those around it."""

    inside: dict[str, Relation] = field(default_factory=dict)
    outer: Scope | None = None

    def visible(self) -> dict[str, Relation]:
        return {**(self.outer.visible() if self.outer else {}), **self.inside}


class Writer:
    """Writes one statement.

    Args:
        choices: What to draw with.
        schema: The tables.
    """

    def __init__(self, choices: Choices, schema: RandomSchema) -> None:
        self.c = choices
        self.schema = schema
        self.engine = schema.engine
        self.with_: list[str] = []
        self.named: dict[str, Relation] = {}
        self.used = 0

    # Names and values

    def alias(self, taken: Sequence[str], around: Sequence[str] = ()) -> str:
        """Return a name for a relation; here and there one that has another meaning around it."""
        if around and self.c.one_in(6):
            again = [name for name in around if name not in taken]
            if again:
                return self.c.pick(again)
        self.used += 1
        return f"{'pqrs'[self.used % 4]}{self.used if self.used > 3 else ''}"

    def table(self, near: RandomTable | None = None) -> Relation:
        """Draw a table; near one, often one that lives with it."""
        options = list(self.schema.tables)
        if near is not None and not self.c.one_in(4):
            own = carried(near)
            options = [
                table
                for table in options
                if table is near or table.parent is near or near.parent is table
                or (own is not None and (other := carried(table)) is not None and other[0] == own[0])
            ]  # fmt: skip
        return relation_of(self.c.pick(options))

    def constant(self, kind: str) -> str:
        if self.c.one_in(25):
            return "NULL"
        if kind in INTEGERS and self.engine != "mysql" and self.c.one_in(20):
            return "2.5"  # for which MariaDB finds 3 where it chooses an index: there it is no oracle
        return literal(self.c.pick(VALUES[kind]), self.engine)

    def column(self, scope: Scope, kinds: Sequence[str] = ANY, *, outer: bool = False) -> tuple[str, str]:
        """Draw a column in scope, with its kind; `id` where there is none of these kinds."""
        near = scope.visible() if outer else scope.inside
        found = [
            (alias, name, kind)
            for alias, relation in near.items()
            for name, kind in relation.kinds.items()
            if kind in kinds
        ]
        if not found:
            return literal(VALUES[kinds[0]][1], self.engine), kinds[0]
        alias, name, kind = self.c.pick(found)
        is_clear = sum(name in relation.kinds for relation in scope.inside.values()) == 1
        if is_clear and alias in scope.inside and name in scope.inside[alias].kinds and self.c.one_in(5):
            return name, kind
        return f"{alias}.{name}", kind

    def number(self, scope: Scope) -> str:
        text, kind = self.column(scope, NUMBERS)
        form = self.c.number(0, 9)
        if form == 6:
            return f"{text} + 1"
        if form == 7:
            return f"coalesce({text}, 3)"
        if form == 8 and kind in INTEGERS:
            return f"{text} % 3"
        if form == 9:
            return f"CASE WHEN {self.simple(scope)} THEN {text} ELSE 2 END"
        return text

    def expression(self, scope: Scope, depth: int = 0) -> str:
        """Draw a value of one row."""
        form = self.c.number(0, 9)
        if form == 6:
            return self.number(scope)
        if form == 7:
            text, _ = self.column(scope, ("txt",))
            return self.c.pick([f"upper({text})", f"coalesce({text}, 'none')", f"length({text})"])
        if form == 8 and depth:
            return self.scalar(scope, depth)
        return self.column(scope)[0]

    def key(self, relation: Relation, alias: str) -> list[str]:
        return [f"{alias}.{name}" for name in relation.key if name in relation.kinds]

    # Conditions

    def simple(self, scope: Scope) -> str:
        """Draw a condition on one row, without a subquery."""
        if self.c.one_in(3):
            alias, relation = self.c.pick(list(scope.inside.items()))
            keys = [name for name in relation.key if name in relation.kinds]
            if keys:
                name = self.c.pick(keys)
                return self.compared(f"{alias}.{name}", relation.kinds[name], scope)
        return self.compared(*self.column(scope, outer=self.c.one_in(6)), scope)

    def compared(self, text: str, kind: str, scope: Scope) -> str:
        form = self.c.number(0, 9)
        operator = self.c.pick(["=", "=", "=", "<", ">", "<=", ">=", "<>"])
        if kind == "bool":
            return self.c.pick([text, f"NOT {text}", f"{text} IS NULL", f"{text} = {self.constant(kind)}"])
        if form == 5:
            return f"{text} IS {self.c.pick(['', 'NOT '])}NULL"
        if form == 6:
            listed = ", ".join(self.constant(kind) for _ in range(self.c.number(1, 3)))
            return f"{text} {self.c.pick(['', 'NOT '])}IN ({listed})"
        if form == 7:
            return f"{text} {self.c.pick(['', 'NOT '])}BETWEEN {self.constant(kind)} AND {self.constant(kind)}"
        if form == 8:
            other, _ = self.column(scope, next(group for group in GROUPS if kind in group), outer=True)
            return f"{text} {operator} {other}"
        if form == 9:
            return f"NOT ({text} {operator} {self.constant(kind)})"
        return f"{text} {operator} {self.constant(kind)}"

    def condition(self, scope: Scope, depth: int) -> str:
        """Draw a condition: simple ones, subqueries, and both joined by AND and OR."""
        parts = [self.nested(scope, depth) if depth and self.c.one_in(3) else self.simple(scope)]
        parts += [
            self.nested(scope, depth) if depth and self.c.one_in(4) else self.simple(scope)
            for _ in range(self.c.pick([0, 0, 1, 2]))
        ]
        text = parts[0]
        for part in parts[1:]:
            text = f"({text} {self.c.pick(['AND', 'AND', 'OR'])} {part})"
        return f"NOT {text}" if self.c.one_in(12) and text.startswith("(") else text

    def where(self, scope: Scope, depth: int, *more: str) -> str:
        parts = [part for part in more if part]
        if not self.c.one_in(3):
            parts.append(self.condition(scope, depth))
        if depth and self.c.one_in(5):
            parts.append(self.beside(scope))
        if depth and self.c.one_in(6):  # so that all of its rows are brought, also those that another mention needs not
            table = self.c.pick([table for relation in scope.visible().values() for table in relation.tables])
            parts.append(f"(SELECT count(*) FROM {table.name}) >= 0")
        if len(parts) == 2 and self.c.one_in(2):
            parts.reverse()
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    def beside(self, scope: Scope) -> str:
        """Draw a condition that a shard can answer for its own rows: what lives with a row is there, or is not."""
        alias, relation = self.c.pick(list(scope.inside.items()))
        other = self.table(relation.tables[0])
        name = self.alias([alias], [])
        pairs = self.pairs((name, other), (alias, relation))
        inner = Scope({name: other}, scope)
        tie = " AND ".join(f"{a} = {b}" for a, b in pairs) or self.simple(inner)
        rest = f"FROM {other.text} {name} WHERE {tie}{f' AND {self.simple(inner)}' if self.c.one_in(2) else ''}"
        if pairs and self.c.one_in(4):
            return f"{pairs[0][1]} {self.c.pick(['IN', 'NOT IN'])} (SELECT {pairs[0][0]} {rest})"
        if self.c.one_in(4):
            return f"(SELECT count(*) {rest}) {self.c.pick(['=', '<=', '>'])} {self.c.number(0, 2)}"
        return f"{self.c.pick(['NOT ', 'NOT ', ''])}EXISTS (SELECT 1 {rest})"

    def tie(self, inner: tuple[str, Relation], outer: tuple[str, Relation], scope: Scope) -> str:
        """Draw what ties two relations' rows: by what they live together by, or almost."""
        pairs = self.pairs(inner, outer)
        if not pairs:
            return "1 = 1" if self.c.one_in(3) else self.simple(scope)
        sure = " AND ".join(f"{a} = {b}" if self.c.number(0, 1) else f"{b} = {a}" for a, b in pairs)
        a, b = self.c.pick(pairs)
        form = self.c.number(0, 27)
        if form < 13:
            return sure
        if form < 16:
            return f"{sure} AND {self.simple(scope)}"
        if form == 16:
            return f"({sure} OR {self.simple(scope)})"
        if form == 17:
            return f"NOT ({a} {self.c.pick(['<>', '='])} {b})"
        if form == 18:
            same = {"postgresql": "IS NOT DISTINCT FROM", "mysql": "<=>", "sqlite": "IS"}[self.engine]
            return f"{a} {same} {b}"
        if form == 19:
            return f"({a} = {b} OR ({a} IS NULL AND {b} IS NULL))"
        if form == 20:
            return f"{a} {self.c.pick(['<>', '<', '>='])} {b}"
        if form == 21:
            return f"coalesce({a}, {b}) = {b}"
        if form == 22:
            return f"{a} IN ({b}, {a})" if self.c.one_in(2) else f"{a} IN ({b})"
        if form == 23:
            return f"{a} BETWEEN {b} AND {b}"
        if form == 24:
            return (
                f"({', '.join(x for x, _ in pairs)}) = ({', '.join(y for _, y in pairs)})" if len(pairs) > 1 else sure
            )
        if form == 25:  # a name without its table: the inner one's, if it has one of this name
            return f"{a.partition('.')[2]} = {b.partition('.')[2]}" if scope.outer is not None else sure
        if form == 26:
            return f"({sure}) IS {self.c.pick(['TRUE', 'NOT FALSE'])}"
        return f"CASE WHEN {sure} THEN {self.simple(scope)} ELSE 1 = 0 END"

    def pairs(self, inner: tuple[str, Relation], outer: tuple[str, Relation]) -> list[tuple[str, str]]:
        """Return pairs of columns to tie: the keys, the follower's and its parent's, or any that compare."""
        (a, mine), (b, theirs) = inner, outer
        found: list[list[tuple[str, str]]] = []
        if len(mine.key) == len(theirs.key) and mine.key:
            found += [list(zip(mine.key, theirs.key, strict=True))] * 3
        for one, other, is_turned in ((mine, theirs, False), (theirs, mine, True)):
            for table in one.tables:
                if table.parent is not None and table.parent in other.tables:
                    ties = [(y, x) if is_turned else (x, y) for x, y in table.ties]
                    found += [ties] * 3
        any_of = [
            [(x, y)] for x, kind in mine.kinds.items() for y, other_kind in theirs.kinds.items()
            if next(group for group in GROUPS if kind in group) == next(group for group in GROUPS if other_kind in group)
        ]  # fmt: skip
        if not found or self.c.one_in(5):
            found = any_of
        found = [
            ties for ties in found
            if all(x in mine.kinds and y in theirs.kinds and self.is_comparable(mine.kinds[x], theirs.kinds[y]) for x, y in ties)
        ]  # fmt: skip
        if not found:
            return []
        return [(f"{a}.{x}", f"{b}.{y}") for x, y in self.c.pick(found)]

    def is_comparable(self, kind: str, other: str) -> bool:
        return any(kind in group and other in group for group in GROUPS) or self.engine == "sqlite"

    def nested(self, scope: Scope, depth: int) -> str:
        """Draw a condition with a subquery."""
        form = self.c.number(0, 9)
        if form < 4:
            outer = self.c.pick(list(scope.visible().items()))
            inner, text = self.inner(scope, depth - 1, outer)
            column, _ = self.column(inner)
            listed = self.c.pick(["1", "*", column, column])
            if self.c.one_in(6):  # there is a row where none matches, or none where some do
                end = self.c.pick([" LIMIT 1", " LIMIT 1 OFFSET 1", " LIMIT 0", f" HAVING {self.having(inner)}", ""])
                listed = "count(*)" if end.startswith(" HAVING") or not end else "1"
                text += end
            elif self.c.one_in(6):
                listed = column
                text += f" GROUP BY {column} HAVING {self.having(inner)}"
            return f"{self.c.pick(['', 'NOT '])}EXISTS (SELECT {listed} {text})"
        if form < 8:
            return self.membership(scope, depth)
        if form == 8:
            text, _ = self.column(scope, NUMBERS)
            return f"{text} {self.c.pick(['=', '<', '>=', '<>'])} {self.scalar(scope, depth)}"
        if self.engine == "sqlite":
            return f"{self.scalar(scope, depth)} > {self.constant('int')}"
        text, _ = self.column(scope, INTEGERS)
        inner, rest = self.inner(scope, depth - 1, None)
        column, _ = self.column(inner, INTEGERS)
        operator = self.c.pick(["= ANY", "<> ALL", "> ALL", "< ANY"])
        return f"{text} {operator} (SELECT {column} {rest})"

    def inner(self, scope: Scope, depth: int, outer: tuple[str, Relation] | None) -> tuple[Scope, str]:
        """Draw a subquery's FROM and WHERE, tied to a relation around it, if there is one."""
        near = outer[1].tables[0] if outer is not None and outer[1].tables else None
        relation = self.table(near)
        alias = self.alias([], list(scope.visible()))
        inner = Scope({alias: relation}, scope)
        text = f"FROM {relation.text} {alias}"
        tie = ""
        if outer is not None:
            tie = self.tie((alias, relation), outer, inner)
            if outer[0] == alias:  # both sides mean the inner one now
                missing = [part for part in relation_columns(tie, alias) if part not in relation.kinds]
                tie = "" if missing else tie
        if self.c.one_in(6):
            more = self.table(relation.tables[0])
            second = self.alias([alias], [])
            inner.inside[second] = more
            kind = self.c.pick(["JOIN", "LEFT JOIN"])
            text += f" {kind} {more.text} {second} ON {self.tie((second, more), (alias, relation), inner)}"
        return inner, text + self.where(inner, depth, tie)

    def membership(self, scope: Scope, depth: int) -> str:
        """Draw IN or NOT IN a subquery, by the keys if it can be."""
        outer = self.c.pick(list(scope.inside.items()))
        near = outer[1].tables[0] if outer[1].tables else None
        relation = self.table(near)
        alias = self.alias([], list(scope.visible()))
        pairs = self.pairs((alias, relation), outer) if alias != outer[0] else []
        if not pairs:
            return self.simple(scope)
        inner = Scope({alias: relation}, scope)
        word = self.c.pick(["IN", "IN", "NOT IN"])
        form = self.c.number(0, 9)
        source = f"FROM {relation.text} {alias}"
        if form == 0 and len(pairs) > 1:
            left = f"({', '.join(y for _, y in pairs)})"
            return f"{left} {word} (SELECT {', '.join(x for x, _ in pairs)} {source}{self.where(inner, depth - 1)})"
        x, y = self.c.pick(pairs)
        where = self.where(inner, depth - 1, self.tie((alias, relation), outer, inner) if self.c.one_in(5) else "")
        if form == 1:
            return f"{y} {word} (SELECT {x} {source}{where} GROUP BY {x} HAVING {self.having(inner)})"
        if form == 2:
            group = f" GROUP BY {self.column(inner)[0]}" if not self.c.one_in(3) else ""
            return f"{y} {word} (SELECT {self.c.pick(['max', 'min'])}({x}) {source}{where}{group})"
        if form == 3:
            limited = f"SELECT {x} AS l {source}{self.where(Scope(inner.inside), 0)}"
            limited += f" ORDER BY {x} LIMIT {self.c.number(0, 4)}"
            return f"{y} {word} (SELECT l FROM ({limited}) z)"
        if form == 4:
            return f"{y} {word} (SELECT DISTINCT {x} {source}{where})"
        if form == 5:
            again, name = self.table(relation.tables[0]), f"{alias}x"
            other, _ = self.column(Scope({name: again}), self.group_of(relation, x))
            union = self.c.pick(["UNION", "UNION ALL", "EXCEPT"])
            return f"{y} {word} (SELECT {x} {source}{where} {union} SELECT {other} FROM {again.text} {name})"
        return f"{y} {word} (SELECT {x} {source}{where})"

    def group_of(self, relation: Relation, text: str) -> Sequence[str]:
        kind = relation.kinds[text.partition(".")[2]]
        return next(group for group in GROUPS if kind in group)

    def scalar(self, scope: Scope, depth: int) -> str:
        """Draw a subquery of one number."""
        outer = self.c.pick(list(scope.visible().items())) if not self.c.one_in(4) else None
        inner, rest = self.inner(scope, max(depth - 1, 0), outer)
        column, _ = self.column(inner, INTEGERS)
        if not column.isdigit() and self.c.one_in(6):
            return f"(SELECT {column} {rest} ORDER BY {column}{self.c.pick(['', ' DESC'])} LIMIT 1)"
        return f"(SELECT {self.c.pick(['max', 'min', 'count', 'sum'])}({column}) {rest})"

    # Aggregates and windows

    def aggregate(self, scope: Scope) -> str:
        form = self.c.number(0, 13)
        if form < 3:
            return self.filtered("count(*)", scope)
        if form == 3:
            return self.filtered(f"count({self.expression(scope)})", scope)
        if form == 4:
            return f"count(DISTINCT {self.expression(scope)})"
        if form == 5:
            return f"{self.c.pick(['sum', 'avg'])}(DISTINCT {self.number(scope)})"
        if form == 6:
            return f"{self.c.pick(['min', 'max'])}({self.column(scope, ('txt', 'day'))[0]})"
        if form == 7 and self.engine == "postgresql":
            text, _ = self.column(scope, ("txt",))
            return self.c.pick(
                [
                    f"string_agg({text}, ',' ORDER BY {text})",
                    f"bool_or({self.simple(scope)})",
                    f"stddev({self.number(scope)})",
                    f"array_agg({text} ORDER BY {text} DESC)",
                ]
            )
        if form == 7 and self.engine == "mysql":
            text, _ = self.column(scope, INTEGERS)
            return self.c.pick([f"group_concat({text} ORDER BY {text})", f"std({text})", f"bit_or({text})"])
        if form == 7:
            return f"total({self.number(scope)})"
        return self.filtered(f"{self.c.pick(['sum', 'min', 'max', 'avg'])}({self.number(scope)})", scope)

    def filtered(self, text: str, scope: Scope) -> str:
        if self.engine == "mysql" or not self.c.one_in(6):
            return text
        return f"{text} FILTER (WHERE {self.simple(scope)})"

    def having(self, scope: Scope) -> str:
        return f"{self.aggregate_number(scope)} {self.c.pick(['>', '=', '<='])} {self.c.number(0, 4)}"

    def aggregate_number(self, scope: Scope) -> str:
        return self.c.pick(
            ["count(*)", f"sum({self.column(scope, INTEGERS)[0]})", f"count(DISTINCT {self.column(scope)[0]})"]
        )

    def window(self, scope: Scope) -> str:
        """Draw a window function with one right answer: by rank, over peers, or in an order that ids complete."""
        parts = self.partition(scope)
        partition = f"PARTITION BY {', '.join(parts)} " if parts else ""
        ids = [f"{alias}.id" for alias, relation in scope.inside.items() if "id" in relation.kinds]
        is_complete = len(ids) == len(scope.inside)
        order = [f"{self.column(scope)[0]}{self.c.pick(['', ' DESC'])}" for _ in range(self.c.number(0, 1))]
        form = self.c.number(0, 9)
        if form < 3 or not is_complete:
            text = self.c.pick(["count(*)", f"sum({self.number(scope)})", f"max({self.number(scope)})"])
            if self.c.one_in(3):
                return f"{text} OVER ({partition.strip()})"
            return f"{text} OVER ({partition}ORDER BY {(order or [self.column(scope)[0]])[0]})"
        if form < 5:
            ranked = self.c.pick(["rank()", "dense_rank()"])
            return f"{ranked} OVER ({partition}ORDER BY {(order or [self.column(scope)[0]])[0]})"
        value = self.number(scope)
        text = self.c.pick(
            ["row_number()", "row_number()", "ntile(3)", f"lag({value})", f"lead({value}, 2)", f"first_value({value})"]
        )
        full = ", ".join([*order, *ids])
        if form == 9:
            text = f"sum({value})"
            return f"{text} OVER ({partition}ORDER BY {full} ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)"
        return f"{text} OVER ({partition}ORDER BY {full})"

    def partition(self, scope: Scope) -> list[str]:
        """Draw what rows are put together by: the key, more than it, almost it, or something else."""
        alias, relation = self.c.pick(list(scope.inside.items()))
        key = self.key(relation, alias)
        form = self.c.number(0, 9)
        if form < 4 and key:
            return key
        if form == 4 and key:
            return [*key, self.column(scope)[0]]
        if form == 5 and key:
            kind = relation.kinds[key[0].partition(".")[2]]
            if kind in INTEGERS:
                return [self.c.pick([f"{key[0]} % 2", f"{key[0]} + 0", f"coalesce({key[0]}, 3)"])]
            return [f"upper({key[0]})"] if kind == "txt" else key
        if form == 6:
            return []
        return [self.column(scope)[0] for _ in range(self.c.number(1, 2))]

    # FROM

    def sources(self, depth: int, outer: Scope | None = None) -> tuple[Scope, str]:
        """Draw FROM: tables and subqueries, tied or not."""
        scope = Scope(outer=outer)
        first = self.source(depth, None)
        alias = self.alias([], [])
        scope.inside[alias] = first
        text = f"FROM {first.text} {alias}"
        for _ in range(self.c.pick([0, 0, 0, 1, 1, 2])):
            near = first.tables[0] if first.tables else None
            more = self.source(depth, near)
            name = self.alias(list(scope.inside), [])
            before = self.c.pick(list(scope.inside.items()))
            scope.inside[name] = more
            kinds = ["JOIN", "JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "CROSS JOIN"]
            if self.engine != "mysql":
                kinds += ["FULL JOIN"] if self.c.one_in(3) else []
            kind = self.c.pick(kinds)
            on = self.tie((name, more), before, Scope(scope.inside))
            if kind == "FULL JOIN" and self.engine == "postgresql":  # it knows how to by equalities only
                pairs = self.pairs((name, more), before)
                on = " AND ".join(f"{a} = {b}" for a, b in pairs)
                kind = kind if on else "CROSS JOIN"
            shared = [
                n for n in more.key if n in more.kinds and n in before[1].kinds and more.kinds[n] == before[1].kinds[n]
            ]
            if kind == "JOIN" and len(scope.inside) == 2 and shared and self.c.one_in(12):
                # By USING, a key is one column of both.
                text += f" JOIN {more.text} {name} USING ({', '.join(shared)})"
            else:
                text += f" {kind} {more.text} {name}" + ("" if kind == "CROSS JOIN" else f" ON {on}")
        return scope, text

    def source(self, depth: int, near: RandomTable | None) -> Relation:
        if not depth or not self.c.one_in(5):
            return self.table(near)
        if self.named and self.c.one_in(2):
            return self.c.pick(list(self.named.values()))
        relation = self.derived(depth - 1, near)
        if self.c.one_in(2):
            return relation
        name = f"c{len(self.named)}"
        if self.c.one_in(6):  # a table that is of this name is not meant then
            name = self.c.pick([table.name for table in self.schema.tables if table.name not in self.named] or [name])
            if any(f" {name} " in text for text in self.with_):
                name = f"c{len(self.named)}"
        self.with_.append(f"{name} AS {relation.text}")
        self.named[name] = Relation(name, relation.kinds, relation.key, relation.tables, is_table=False)
        return self.named[name]

    def derived(self, depth: int, near: RandomTable | None) -> Relation:
        """Draw a subquery as a table: some rows, groups by the key or else, the first few, or a union."""
        base = self.table(near)
        alias = self.alias([], [])
        scope = Scope({alias: base})
        form = self.c.number(0, 7)
        where = self.where(scope, depth)
        keys = [name for name in base.key if name in base.kinds]
        source = f"FROM {base.text} {alias}{where}"
        if form < 2 and keys:
            listed = ", ".join(f"{alias}.{name}" for name in keys)
            number = self.aggregate_number(scope)
            kinds = {**{name: base.kinds[name] for name in keys}, "total": "int"}
            return Relation(f"(SELECT {listed}, {number} AS total {source} GROUP BY {listed})", kinds, base.key, base.tables, is_table=False)  # fmt: skip
        names = [name for name in base.kinds if name in keys or name == "id" or self.c.one_in(2)]
        kinds = {name: base.kinds[name] for name in names}
        listed = ", ".join(f"{alias}.{name}" for name in names)
        text = f"SELECT {listed} {source}"
        if form == 2:
            text = f"SELECT DISTINCT {listed} {source}"
        elif form == 3:
            order = ", ".join(f"{name}{self.c.pick(['', ' DESC'])}" for name in self.ordered(listed.split(", ")))
            text += f" ORDER BY {order} LIMIT {self.c.number(0, 9)}"
        elif form == 4:
            text = f"SELECT {listed}, {self.window(scope)} AS place {source}"
            return Relation(f"({text})", kinds, base.key, base.tables, is_table=False)
        elif form == 5:
            second = Scope({"y": base})
            more = ", ".join(f"y.{name}" for name in names)
            text += f" {self.c.pick(['UNION', 'UNION ALL', 'EXCEPT'])} SELECT {more} FROM {base.text} y{self.where(second, 0)}"
        return Relation(f"({text})", kinds, base.key, base.tables, is_table=False)

    def ordered(self, names: Sequence[str]) -> list[str]:
        return self.c.some(names, len(names), len(names))

    # Statements

    def statement(self) -> Drawn:
        form = self.c.pick([self.rows, self.rows, self.grouped, self.grouped, self.windows, self.united, self.counted])
        drawn = form()
        if not self.with_:
            return drawn
        head = f"WITH {', '.join(self.with_)} "
        return Drawn(head + drawn.sql, drawn.order, drawn.is_total, head + drawn.unlimited if drawn.unlimited else "")

    def ended(self, sql: str, width: int) -> Drawn:
        """Draw ORDER BY and LIMIT, by the numbers of the listed columns."""
        form = self.c.number(0, 5)
        if form < 2:
            return Drawn(sql)
        numbers = self.ordered(range(1, width + 1))
        is_total = form < 5
        if not is_total:
            numbers = numbers[: max(1, width - 1)]
        order = ", ".join(f"{number}{self.direction()}" for number in numbers)
        text = f"{sql} ORDER BY {order}"
        limit = self.limit()
        return Drawn(
            text + limit, tuple(number - 1 for number in numbers), is_total, text if limit and not is_total else ""
        )

    def direction(self) -> str:
        nulls = ["", "", " NULLS FIRST", " NULLS LAST"] if self.engine != "mysql" else [""]
        return self.c.pick(["", " DESC"]) + self.c.pick(nulls)

    def limit(self) -> str:
        if self.c.one_in(3):
            return ""
        return f" LIMIT {self.c.number(0, 9)}" + (f" OFFSET {self.c.number(0, 5)}" if self.c.one_in(3) else "")

    def rows(self) -> Drawn:
        scope, source = self.sources(2)
        count = self.c.number(1, 3)
        listed = [self.expression(scope, 1) for _ in range(count)]
        distinct = "DISTINCT " if self.c.one_in(5) else ""
        where = self.where(scope, 2)
        if not distinct and self.c.one_in(4) and all("id" in relation.kinds for relation in scope.inside.values()):
            # In an order that is not listed, which ids complete.
            star = self.c.pick(["*", ", ".join(listed)])
            order = [f"{self.expression(scope)}{self.direction()}", *(f"{alias}.id" for alias in scope.inside)]
            if star == "*" and len(scope.inside) > 1:
                star = ", ".join(f"{alias}.*" for alias in scope.inside)
            return Drawn(f"SELECT {star} {source}{where} ORDER BY {', '.join(order)}{self.limit()}", ())
        return self.ended(f"SELECT {distinct}{', '.join(listed)} {source}{where}", count)

    def grouped(self) -> Drawn:
        scope, source = self.sources(2)
        keys = self.partition(scope)
        # PostgreSQL and MySQL read a number in GROUP BY as a column's: none is drawn as a key.
        keys = [key for key in dict.fromkeys(keys) if any(char.isalpha() for char in key)]
        shown = [key for key in keys if not self.c.one_in(5)]
        totals = [self.aggregate(scope) for _ in range(self.c.number(1, 2))]
        if self.c.one_in(6):
            totals[0] = f"coalesce({self.aggregate_number(scope)}, 0) + 1"
        if keys and self.c.one_in(8):
            totals.append(f"rank() OVER (ORDER BY {self.aggregate_number(scope)})")
        listed = [*shown, *totals]
        sql = f"SELECT {', '.join(listed)} {source}{self.where(scope, 2)}"
        if keys:
            sql += f" GROUP BY {', '.join(keys)}"
            if self.c.one_in(3):
                sql += f" HAVING {self.having(scope)}"
                if self.c.one_in(4):
                    sql += f" AND count(*) < (SELECT count(*) {self.inner(Scope(), 0, None)[1]})"
        elif self.c.one_in(4):
            sql += f" HAVING {self.having(scope)}"
        return self.ended(sql, len(listed))

    def windows(self) -> Drawn:
        scope, source = self.sources(1)
        listed = [*(f"{alias}.id" for alias, r in scope.inside.items() if "id" in r.kinds), self.window(scope)]
        if self.c.one_in(4):
            listed.append(self.window(scope))
        sql = f"SELECT {', '.join(listed)} {source}{self.where(scope, 1)}"
        if self.c.one_in(4):  # the first of each group
            named = [f"{text} AS o{number}" for number, text in enumerate(listed)]
            inside = f"SELECT {', '.join(named)} {source}{self.where(scope, 1)}"
            return self.ended(f"SELECT * FROM ({inside}) z WHERE o{len(listed) - 1} <= 2", len(listed))
        return self.ended(sql, len(listed))

    def united(self) -> Drawn:
        """Draw a set operation: of keys or of other columns, of tables that live together or do not."""
        first = self.table()
        second = self.table(first.tables[0])
        pairs = self.pairs(("p", first), ("q", second))
        if not pairs:
            return self.rows()
        (a, b) = self.c.pick(pairs)
        more = self.c.one_in(2) and [(x, x) for x in first.kinds if second.kinds.get(x) == first.kinds[x]]
        columns = [(a, b)] if not more else [(a, b), *((f"p.{x}", f"q.{y}") for x, y in [self.c.pick(more)])]
        if self.c.one_in(4):
            columns.reverse()
        word = self.c.pick(["UNION", "UNION ALL", "INTERSECT", "EXCEPT"])
        left, right = Scope({"p": first}), Scope({"q": second})
        sql = f"SELECT {', '.join(x for x, _ in columns)} FROM {first.text} p{self.where(left, 1)} {word} "
        sql += f"SELECT {', '.join(y for _, y in columns)} FROM {second.text} q{self.where(right, 1)}"
        if self.c.one_in(4):
            return Drawn(f"SELECT count(*) FROM ({sql}) z")
        return self.ended(sql, len(columns))

    def counted(self) -> Drawn:
        """Draw an aggregate of what another statement answers."""
        scope, source = self.sources(1)
        keys = [key for key in dict.fromkeys(self.partition(scope)) if any(char.isalpha() for char in key)]
        named = ", ".join(f"{key} AS k{number}" for number, key in enumerate(keys))
        where = self.where(scope, 1)
        if not keys or self.c.one_in(3):
            distinct = self.c.pick(["", "DISTINCT "])
            text, _ = self.column(scope)
            return Drawn(f"SELECT count(*), count(o), count(DISTINCT o) FROM (SELECT {distinct}{text} AS o {source}{where}) z")  # fmt: skip
        inside = f"SELECT {named}, {self.aggregate_number(scope)} AS n {source}{where} GROUP BY {', '.join(keys)}"
        having = f" HAVING {self.having(scope)}" if self.c.one_in(3) else ""
        return Drawn(f"SELECT count(*), max(n), sum(n), count(DISTINCT k0) FROM ({inside}{having}) z")


def relation_of(table: RandomTable) -> Relation:
    own = carried(table)
    return Relation(table.name, table.kinds, own[1] if own is not None else ("id",), (table,))


def relation_columns(text: str, alias: str) -> list[str]:
    """Return the columns that a condition reads of an alias."""
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return [word.partition(".")[2] for word in words if word.startswith(f"{alias}.")]


def literal(value: Any, engine: str) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, datetime.date):
        return f"'{value}'" if engine == "sqlite" else f"DATE '{value}'"
    return str(value)


@st.composite
def random_statements(draw: st.DrawFn, schema: RandomSchema) -> Drawn:
    """Draw a statement over a schema's tables."""
    return Writer(Choices(draw), schema).statement()
