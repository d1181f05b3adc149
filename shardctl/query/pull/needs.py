"""What is needed of a table's rows: filters, rows that they meet on their shard, and keys that are here already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from shardctl.fleet.quoting import quoted_name

ALIAS = "__t"
"""The name of the table in what a shard is sent, also inside of a subquery of its own."""
_LONG = 32
"""Values in a list that is worth an array."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """Rows of a table matter only if a column of theirs has a value that a column of another one has."""

    column: str
    table: str
    """The scan that brings the other table's rows."""
    other_column: str


@dataclass(frozen=True, slots=True)
class KeyList:
    """The values that a reduction leaves: integers."""

    count: int
    listed: str
    """With commas between them."""
    is_wide: bool = False
    """Whether one of them has more than 32 bits."""
    is_last: bool = False
    """Whether an engine had better not look for rows by them: another list leaves fewer."""

    @classmethod
    def of(cls, values: Sequence[int]) -> KeyList:
        """Return the list of some values."""
        is_wide = any(abs(value) >= 1 << 31 for value in values)
        return cls(len(values), ",".join(map(str, sorted(values))), is_wide)

    def sql(self, column: str, engine: str) -> str:
        """Return the condition that a column has one of the values."""
        if engine != "postgresql" or self.count < _LONG:
            return f"{column} IN ({self.listed or 'NULL'})"
        # One constant to read, in place of as many as there are values. Of two lists for the columns of one index,
        # PostgreSQL would look for each pair; for an expression there is no index.
        column = f"({column} + 0)" if self.is_last else column
        return f"{column} = ANY('{{{self.listed}}}'::{'int8' if self.is_wide else 'int4'}[])"


Keys = Mapping[Reduction, KeyList]


@dataclass(frozen=True, slots=True)
class Local:
    """A condition with subqueries that a shard can answer for its own rows."""

    text: str
    instead: Reduction | None = None
    """What makes it superfluous, once the subquery's rows are here."""


@dataclass(frozen=True, slots=True)
class Semijoin:
    """Rows matter only if their shard has rows of another table that they meet."""

    columns: tuple[str, ...]
    table: str
    other_columns: tuple[str, ...]
    scan: str
    """The scan that brings the other table's rows."""
    filters: tuple[str, ...]
    """Of the other table's rows."""
    reductions: tuple[Reduction, ...]
    """Likewise."""
    local: tuple[Local, ...] = ()
    """Likewise."""
    instead: Reduction | None = None
    """What makes it superfluous, once the other table's rows are here."""

    def sql(self, keys: Keys, engine: str) -> str:
        """Return the condition, or nothing if there is none that would leave rows out."""
        found = conditions(self.filters + needed(self.local, keys), self.reductions, keys, engine)
        if not found or self.instead in keys:
            return ""
        listed = ", ".join(f"{ALIAS}.{quoted_name(name, engine)}" for name in self.columns)
        listed = f"({listed})" if len(self.columns) > 1 else listed
        others = ", ".join(f"{ALIAS}.{quoted_name(name, engine)}" for name in self.other_columns)
        return f"{listed} IN (SELECT {others} FROM {quoted_name(self.table, engine)} AS {ALIAS} WHERE {found})"


@dataclass(frozen=True, slots=True)
class Need:
    """What one mention of a table needs of its rows."""

    filters: tuple[str, ...] = ()
    reductions: tuple[Reduction, ...] = ()
    local: tuple[Local, ...] = ()
    semijoins: tuple[Semijoin, ...] = ()

    def all_reductions(self) -> Iterator[Reduction]:
        """Yield the reductions, also those of the rows that this one's rows meet."""
        yield from self.reductions
        for semijoin in self.semijoins:
            yield from semijoin.reductions

    def keeping(self, is_known: Callable[[Reduction], bool]) -> Need:
        """Return the need with those reductions only whose keys can be found."""
        return replace(
            self,
            reductions=tuple(filter(is_known, self.reductions)),
            semijoins=tuple(
                replace(semijoin, reductions=tuple(filter(is_known, semijoin.reductions)))
                for semijoin in self.semijoins
            ),
        )

    def sql(self, keys: Keys, engine: str) -> str:
        """Return the condition, or nothing if every row is needed."""
        joined = [text for semijoin in self.semijoins if (text := semijoin.sql(keys, engine))]
        own = conditions(self.filters + needed(self.local, keys), self.reductions, keys, engine)
        return " AND ".join(filter(None, [own, *joined]))

    @property
    def is_reducible(self) -> bool:
        """Whether more than filters leaves rows out."""
        return bool(self.reductions or self.local or self.semijoins)


def needed(local: Iterable[Local], keys: Keys) -> tuple[str, ...]:
    """Return the conditions for which there are no keys instead."""
    return tuple(entry.text for entry in local if entry.instead not in keys)


def conditions(filters: tuple[str, ...], reductions: tuple[Reduction, ...], keys: Keys, engine: str) -> str:
    """Return filters and lists of keys as one condition."""
    found = [f"({text})" for text in filters]
    found += [
        keys[reduction].sql(f"{ALIAS}.{quoted_name(reduction.column, engine)}", engine)
        for reduction in reductions
        if reduction in keys
    ]
    return " AND ".join(found)
