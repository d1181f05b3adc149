"""One table, mentioned several times: mentions that need different rows of it are brought apart, as copies.

The copies have names of their own in the statement's text; nothing else of it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from sqlglot import exp

from shardctl.query.gatherers.shapes import TableShape
from shardctl.query.parse import Statement, parse
from shardctl.query.pull.checks import names_in
from shardctl.query.pull.conditions import Conditions
from shardctl.query.pull.links import is_membership
from shardctl.query.pull.needs import Local, Need, Reduction, Semijoin
from shardctl.query.pull.sources import Node, Source
from shardctl.query.ties import Ties

_COPY = "__copy"


@dataclass(frozen=True, slots=True)
class Copy:
    """What is brought for some of the mentions of a table."""

    name: str
    table: str
    """By `table_key`."""
    mentions: tuple[Source, ...]
    needs: tuple[Need, ...]


class Mentions:
    """What each mention of a table needs.

    Args:
        statement: The statement.
        shapes: Its tables, by `table_key`.
        ties: Which of its rows live together.
        holders: The shards to read each table from.
        homes: The shards that have each table.
    """

    def __init__(
        self,
        statement: Statement,
        shapes: Mapping[str, TableShape],
        ties: Ties,
        holders: Mapping[str, Sequence[str]],
        homes: Mapping[str, Sequence[str]],
    ) -> None:
        self._statement = statement
        self._shapes = shapes
        self._ties = ties
        self._holders = holders
        self._homes = homes
        self._conditions = Conditions(statement, ties, self._lives_beside)
        self._filters = {source: self._conditions.filters(source) for source in ties.sources.all}
        self._local = {source: self._conditions.local(source) for source in ties.sources.all}

    def copies(self) -> list[Copy]:
        """Return what is brought, each mention in one copy."""
        found: list[Copy] = []
        for key, shape in self._shapes.items():
            mentions = [source for source in self._ties.sources.all if source.table == key]
            for i, group in enumerate(self._groups(mentions)):
                name = shape.name if i == 0 else self._free_name([copy.name for copy in found])
                found.append(Copy(name, key, tuple(group), ()))
        names = {source: copy.name for copy in found for source in copy.mentions}
        return [replace(copy, needs=self._needs(copy, names)) for copy in found]

    def renamed(self, copies: Sequence[Copy]) -> Statement:
        """Return the statement with the copies' names in the place of their tables'."""
        names = {
            id(source.node): copy.name
            for copy in copies
            if copy.name != self._shapes[copy.table].name
            for source in copy.mentions
        }
        text = self._statement.sql
        for table in sorted(self._statement.tables, key=lambda table: -int(table.this.meta["start"])):
            if id(table) in names:
                start, end = (table.this.meta[name] - self._statement.offset for name in ("start", "end"))
                written = "" if table.args.get("alias") is not None else f" AS {text[start : end + 1]}"
                text = text[:start] + names[id(table)] + written + text[end + 1 :]
        return self._statement if not names else parse(text, self._statement.engine)

    def compared(self, copy: Copy) -> tuple[str, ...]:
        """Return the columns that are compared with others: worth an index."""
        return tuple(dict.fromkeys(column for source in copy.mentions for column in self._conditions.compared(source)))

    def are_single(self, copy: Copy) -> bool:
        """Whether it makes no difference if a row is there once or several times: for EXISTS and IN."""
        return all(source.select is not None and is_membership(source.select) for source in copy.mentions)

    def _groups(self, mentions: Sequence[Source]) -> list[list[Source]]:
        """Put together the mentions that need the same rows, or whose rows are told by filters alone."""
        own_names = {source: self._shapes[source.table].name for source in self._ties.sources.all}
        needs = {source: self._need(source, own_names) for source in mentions}
        if not needs or any(need == Need() or _names_an_output(source) for source, need in needs.items()):
            return [list(mentions)]
        groups: dict[Need, list[Source]] = {}
        for source, need in needs.items():
            groups.setdefault(need if need.is_reducible else Need(), []).append(source)
        return list(groups.values())

    def _needs(self, copy: Copy, names: Mapping[Source, str]) -> tuple[Need, ...]:
        return tuple(dict.fromkeys(self._need(source, names) for source in copy.mentions)) or (Need(),)

    def _need(self, source: Source, names: Mapping[Source, str]) -> Need:
        if source.select is None:
            return Need()
        reductions = self._reductions(source, names)
        semijoins = self._semijoins(source, reductions, names)
        return Need(self._filters[source], reductions, self._own_local(source, reductions, names), semijoins)

    def _own_local(
        self, source: Source, reductions: Sequence[Reduction], names: Mapping[Source, str]
    ) -> tuple[Local, ...]:
        found = []
        for text, within in self._local[source]:
            instead = None if within is None else Reduction(within[0], names[within[1].source], within[1].column)
            found.append(Local(text, instead if instead in reductions else None))
        return tuple(found)

    def _surely_local(self, source: Source, names: Mapping[Source, str]) -> tuple[Local, ...]:
        """Return the conditions that fail for no row of a source that is brought.

        Others do not tell which rows of their own subqueries matter: over these, a row that is brought for another
        mention would fail no longer. `NOT EXISTS` is true where its rows were left out.
        """
        alike = [other for other, name in names.items() if name == names[source]]
        each = [set(self._own_local(other, self._reductions(other, names), names)) for other in alike]
        return tuple(
            entry
            for entry in self._own_local(source, self._reductions(source, names), names)
            if entry.instead is None and all(entry in found for found in each)
        )

    def _reductions(self, source: Source, names: Mapping[Source, str]) -> tuple[Reduction, ...]:
        """Return the reductions by integers, whose lists mean the same everywhere."""
        return tuple(
            dict.fromkeys(
                Reduction(column, names[target.source], target.column)
                for column, target in self._conditions.reached(source)
                if names[target.source] != names[source]
                and self._is_integer(Node(source, column))
                and self._is_integer(target)
            )
        )

    def _semijoins(
        self, source: Source, reductions: Sequence[Reduction], names: Mapping[Source, str]
    ) -> tuple[Semijoin, ...]:
        found = []
        for other in self._ties.sources.all:
            pairs = self._ties.tied_columns(source, other) if self._lives_beside(source, other) else ()
            if not pairs:
                continue
            columns, others = tuple(own for own, _ in pairs), tuple(their for _, their in pairs)
            farther = tuple(entry for entry in self._reductions(other, names) if entry.column not in others)
            instead = Reduction(columns[0], names[other], others[0])
            filters, local = self._filters[other], self._surely_local(other, names)
            if filters or local or farther:
                by_keys = instead if len(pairs) == 1 and instead in reductions else None
                name = self._shapes[other.table].name
                found.append(Semijoin(columns, name, others, names[other], filters, farther, local, by_keys))
        return tuple(dict.fromkeys(found))

    def _lives_beside(self, source: Source, other: Source) -> bool:
        """Whether every shard that a source's rows are read from has the other one's table."""
        return set(self._holders[source.table]) <= set(self._homes[other.table])

    def _is_integer(self, node: Node) -> bool:
        column = self._shapes[node.source.table].column(node.column)
        return column is not None and column.is_integer

    def _free_name(self, taken: Sequence[str]) -> str:
        used = names_in(self._statement) | set(taken)
        return next(name for number in count(1) if (name := f"{_COPY}{number}") not in used)


def _names_an_output(source: Source) -> bool:
    """Whether a mention is in an output without a name, which SQLite and MySQL call by its text."""
    node: Any = source.node
    while node is not None and node.parent is not None:
        if isinstance(node.parent, exp.Select) and node.arg_key == "expressions" and not isinstance(node, exp.Alias):
            return True
        node = node.parent
    return source.node is None
