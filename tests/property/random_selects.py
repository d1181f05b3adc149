# ruff: noqa: E501
"""Random `select()`s of mapped classes: what a session over shards merges, and what it almost can.

Where there are fewer rows than all, or an order, the order is total: every statement has one right answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import Select, and_, case, distinct, exists, func, literal, not_, or_, select, union_all
from sqlalchemy.orm import aliased, joinedload

from tests.property.drawing import Choices
from tests.property.random_fleets import VALUES, RandomSchema, RandomTable, carried

NUMBERS = ("int", "big", "dec", "flt")
INTEGERS = ("int", "big")
ANY = ("int", "big", "txt", "day", "dec", "flt", "bool")
GROUPS = (NUMBERS, ("txt",), ("day",), ("bool",))


@dataclass(frozen=True)
class Drawn:
    """A statement, and whether its rows come in an order."""

    statement: Any
    is_ordered: bool = False


@dataclass(frozen=True)
class Source:
    """A class in FROM, or an alias of one, or a subquery with columns of it."""

    table: RandomTable
    entity: Any
    kinds: Mapping[str, str]
    is_class: bool = True

    def column(self, name: str) -> Any:
        return getattr(self.entity if self.is_class else self.entity.c, name)


class SelectWriter:
    """Writes one statement.

    Args:
        choices: What to draw with.
        schema: The tables.
        classes: What they are mapped to, by their names.
    """

    def __init__(self, choices: Choices, schema: RandomSchema, classes: Mapping[str, type]) -> None:
        self.c = choices
        self.schema = schema
        self.classes = classes

    # FROM

    def table(self, near: RandomTable | None) -> RandomTable:
        options = list(self.schema.tables)
        if near is not None and not self.c.one_in(4):
            own = carried(near)
            options = [
                table
                for table in options
                if table is near or table.parent is near or near.parent is table
                or (own is not None and (other := carried(table)) is not None and other[0] == own[0])
            ]  # fmt: skip
        return self.c.pick(options)

    def source(self, near: RandomTable | None = None, *, plain: bool = False) -> Source:
        table = self.table(near)
        made = self.classes[table.name]
        if plain:
            return Source(table, made, table.kinds)
        if not self.c.one_in(8):
            return Source(table, aliased(made), table.kinds)
        return self.derived(Source(table, aliased(made), table.kinds))

    def derived(self, source: Source) -> Source:
        """Draw a subquery: some of the rows, groups, or the first few."""
        keys = [name for name in _key(source.table) if name in source.kinds]
        inner = select(*(source.column(name) for name in source.kinds))
        if not self.c.one_in(3):
            inner = inner.where(self.condition([source], 0))
        form = self.c.number(0, 4)
        kinds = dict(source.kinds)
        if form == 0 and keys:
            columns = [source.column(name) for name in keys]
            inner = select(*columns, func.count().label("total")).select_from(source.entity).group_by(*columns)
            kinds = {**{name: kinds[name] for name in keys}, "total": "int"}
        elif form == 1:
            inner = inner.distinct()
        elif form == 2:
            inner = inner.order_by(source.column("id")).limit(self.c.number(0, 6))
        return Source(source.table, inner.subquery(), kinds, is_class=False)

    def joined(self, statement: Select[Any], sources: list[Source]) -> Select[Any]:
        """Add joins to what is selected from the first source."""
        statement = statement.select_from(sources[0].entity)
        for _ in range(self.c.pick([0, 0, 1, 1, 2])):
            before = self.c.pick(sources)
            more = self.source(before.table)
            tie = self.tie(more, before)
            sources.append(more)
            form = self.c.number(0, 9)
            if form == 9:
                statement = statement.where(tie).select_from(more.entity)
            else:
                statement = statement.join(more.entity, tie, isouter=form > 5, full=form == 8 and self._has_full)
        return statement

    @property
    def _has_full(self) -> bool:
        return self.schema.engine == "sqlite"  # PostgreSQL knows how to for some conditions only

    def tie(self, one: Source, other: Source) -> Any:
        """Draw what ties two sources' rows: by what they live together by, or almost."""
        pairs = self.pairs(one, other)
        if not pairs:
            return self.simple([one, other])
        sure = [a == b if self.c.one_in(2) else b == a for a, b in pairs]
        a, b = self.c.pick(pairs)
        form = self.c.number(0, 15)
        if form < 9:
            return and_(*sure)
        if form < 11:
            return and_(*sure, self.simple([one, other]))
        return [
            or_(and_(*sure), self.simple([one])),
            a.is_not_distinct_from(b),
            a >= b,
            func.coalesce(a, b) == b,
            sure[0],
        ][form - 11]

    def pairs(self, one: Source, other: Source) -> list[tuple[Any, Any]]:
        """Return columns to tie: the keys, the follower's and its parent's, or any that compare."""
        keys = _key(one.table), _key(other.table)
        found: list[list[tuple[str, str]]] = []
        if len(keys[0]) == len(keys[1]):
            found += [list(zip(*keys, strict=True))] * 3
        if one.table.parent is other.table:
            found += [list(one.table.ties)] * 3
        if other.table.parent is one.table:
            found += [[(theirs, mine) for mine, theirs in other.table.ties]] * 3
        if not found or self.c.one_in(5):
            found = [[(x, y)] for x in one.kinds for y in other.kinds]
        found = [
            ties for ties in found
            if all(x in one.kinds and y in other.kinds and _group(one.kinds[x]) is _group(other.kinds[y]) for x, y in ties)
        ]  # fmt: skip
        return [(one.column(x), other.column(y)) for x, y in self.c.pick(found)] if found else []

    # Values and conditions

    def column(self, sources: Sequence[Source], kinds: Sequence[str] = ANY) -> tuple[Any, str]:
        found = [(source, name) for source in sources for name, kind in source.kinds.items() if kind in kinds]
        if not found:
            return literal(1), "int"
        source, name = self.c.pick(found)
        return source.column(name), source.kinds[name]

    def number(self, sources: Sequence[Source]) -> Any:
        column, _ = self.column(sources, NUMBERS)
        form = self.c.number(0, 7)
        if form < 5:
            return column
        return [column + 1, func.coalesce(column, 3), case((self.simple(sources), column), else_=2)][form - 5]

    def expression(self, sources: Sequence[Source], depth: int) -> Any:
        form = self.c.number(0, 9)
        if form == 7:
            return self.number(sources)
        if form == 8:
            return func.upper(self.column(sources, ("txt",))[0])
        if form == 9 and depth:
            return self.scalar(sources) if self.c.one_in(2) else case((self.nested(sources), 1), else_=0)
        return self.column(sources)[0]

    def simple(self, sources: Sequence[Source]) -> Any:
        column, kind = self.column(sources)
        keys = [name for name in _key(sources[0].table) if name in sources[0].kinds]
        if keys and self.c.one_in(3):
            name = self.c.pick(keys)
            column, kind = sources[0].column(name), sources[0].kinds[name]
        values = VALUES[kind]
        if kind == "bool":
            return self.c.pick([column.is_(True), column.is_(None), not_(column)])
        value = self.c.pick(values)
        form = self.c.number(0, 8)
        if form < 3:
            return column == value
        return [
            column < value,
            column >= value,
            column != value,
            column.is_(None),
            column.in_([self.c.pick(values), self.c.pick(values)]),
            not_(column.in_([value])),
        ][form - 3]

    def condition(self, sources: Sequence[Source], depth: int) -> Any:
        parts = [
            self.nested(sources) if depth and self.c.one_in(3) else self.simple(sources)
            for _ in range(self.c.pick([1, 1, 2, 3]))
        ]
        found = self.c.pick([and_, and_, or_])(*parts)
        return not_(found) if self.c.one_in(8) else found

    def nested(self, sources: Sequence[Source]) -> Any:
        """Draw a condition with a subquery."""
        outer = self.c.pick(sources)
        inner = self.source(outer.table)
        form = self.c.number(0, 9)
        if form < 4:
            found = exists().where(self.tie(inner, outer))
            found = found.where(self.simple([inner])) if self.c.one_in(2) else found
            return found if form < 2 else ~found
        if form < 7:
            pairs = self.pairs(inner, outer)
            if pairs:
                x, y = self.c.pick(pairs)
                chosen = select(x)
                chosen = chosen.where(self.simple([inner])) if self.c.one_in(2) else chosen
                chosen = chosen.group_by(x).having(func.count() > 1) if self.c.one_in(5) else chosen
                return y.in_(chosen) if form < 6 else y.not_in(chosen)
        if form == 7 and outer.is_class and outer.table.parent is not None:
            return outer.entity.above.has() if self.c.one_in(2) else ~outer.entity.above.has()
        return self.c.pick([self.scalar(sources) >= 2, self.column(sources, NUMBERS)[0] == self.scalar(sources)])

    def scalar(self, sources: Sequence[Source]) -> Any:
        outer = self.c.pick(sources)
        inner = self.source(outer.table)
        column, _ = self.column([inner], INTEGERS)
        found = select(self.c.pick([func.max, func.count, func.sum])(column)).select_from(inner.entity)
        return (found if self.c.one_in(4) else found.where(self.tie(inner, outer))).scalar_subquery()

    def where(self, statement: Select[Any], sources: Sequence[Source], depth: int = 1) -> Select[Any]:
        return statement if self.c.one_in(3) else statement.where(self.condition(sources, depth))

    # Statements

    def statement(self) -> Drawn:
        return self.c.pick([self.rows, self.rows, self.objects, self.grouped, self.grouped, self.distinct, self.counted, self.united])()  # fmt: skip

    def ended(self, statement: Any, order: Sequence[Any]) -> Drawn:
        """Draw an order, which these complete, and how many rows of it."""
        form = self.c.number(0, 3)
        if not form or not order:
            return Drawn(statement)
        parts = [part.desc() if self.c.one_in(3) else part for part in order]
        if self.schema.engine != "mysql" and self.c.one_in(4):
            parts[0] = self.c.pick([parts[0].nulls_first(), parts[0].nulls_last()])
        statement = statement.order_by(*parts)
        if form > 1:
            statement = statement.limit(self.c.number(0, 8))
            statement = statement.offset(self.c.number(0, 4)) if self.c.one_in(3) else statement
        return Drawn(statement, is_ordered=True)

    def rows(self) -> Drawn:
        sources = [self.source()]
        statement = self.joined(select(), sources)
        listed = [self.expression(sources, 1) for _ in range(self.c.number(1, 3))]
        statement = self.where(statement.add_columns(*listed), sources)
        return self.ended(statement, self.total(sources))

    def total(self, sources: Sequence[Source]) -> list[Any]:
        """Return what puts rows into one order; nothing if they cannot be told apart."""
        if not all("id" in source.kinds for source in sources):
            return []
        first = [] if self.c.one_in(3) else [self.expression(sources, 0)]
        return [*first, *(source.column("id") for source in sources)]

    def objects(self) -> Drawn:
        sources = [self.source(plain=True)]
        options = []
        if sources[0].table.parent is not None and self.c.one_in(3):
            options.append(joinedload(sources[0].entity.above))
        statement = self.joined(select(sources[0].entity).options(*options), sources)
        statement = self.where(statement, sources)
        if self.c.one_in(4):
            order = [sources[0].column(self.c.pick(list(sources[0].kinds))), sources[0].column("id")]
            return self.ended(statement.distinct(), order)
        return self.ended(statement, self.total(sources))

    def aggregate(self, sources: Sequence[Source]) -> Any:
        column, _ = self.column(sources)
        return self.c.pick(
            [
                func.count(),
                func.count(column),
                func.count(distinct(column)),
                func.sum(self.number(sources)),
                func.avg(self.number(sources)),
                func.sum(distinct(self.column(sources, INTEGERS)[0])),
                func.max(self.column(sources, ("txt", "day", "int"))[0]),
                func.min(self.column(sources, NUMBERS)[0]),
                func.coalesce(func.sum(self.column(sources, INTEGERS)[0]), 0) + 1,
            ]
        )

    def grouped(self) -> Drawn:
        sources = [self.source()]
        statement = self.joined(select(), sources)
        keys = [self.column(sources)[0] for _ in range(self.c.pick([0, 1, 1, 2]))]
        own = [sources[0].column(name) for name in _key(sources[0].table) if name in sources[0].kinds]
        keys = own if own and self.c.one_in(4) else keys
        totals = [self.aggregate(sources) for _ in range(self.c.number(1, 2))]
        statement = self.where(statement.add_columns(*keys, *totals), sources)
        if keys:
            statement = statement.group_by(*keys)
        if self.c.one_in(4):
            statement = statement.having(func.count() > self.c.number(0, 2))
        return self.ended(statement, [totals[0], *keys] if keys and self.c.one_in(2) else keys)

    def distinct(self) -> Drawn:
        sources = [self.source()]
        statement = self.joined(select(), sources)
        listed = [self.column(sources)[0] for _ in range(self.c.number(1, 2))]
        return self.ended(self.where(statement.add_columns(*listed), sources).distinct(), listed)

    def counted(self) -> Drawn:
        """Draw what `Query.count()` asks: how many rows another statement has."""
        inner = self.c.pick([self.rows, self.objects, self.grouped, self.distinct])().statement
        named = inner.with_only_columns(*(column.label(f"c{i}") for i, column in enumerate(inner.selected_columns)))
        return Drawn(select(func.count()).select_from(named.subquery()))

    def united(self) -> Drawn:
        one, other = self.source(), self.source()
        pairs = self.pairs(one, other)
        if not pairs:
            return self.rows()
        x, y = self.c.pick(pairs)
        return Drawn(union_all(self.where(select(x), [one]), self.where(select(y), [other])))


def _key(table: RandomTable) -> tuple[str, ...]:
    own = carried(table)
    return own[1] if own is not None else ("id",)


def _group(kind: str) -> Any:
    return next(group for group in GROUPS if kind in group)


@st.composite
def random_selects(draw: st.DrawFn, schema: RandomSchema, classes: Mapping[str, type]) -> Drawn:
    """Draw a statement over a schema's classes."""
    return SelectWriter(Choices(draw), schema, classes).statement()
