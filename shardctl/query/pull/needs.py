"""What is needed of a table's rows: filters, rows that they meet on their shard, and keys that are here already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from shardctl.fleet.quoting import quoted_name

ALIAS = "__t"
"""The name of the table in what a shard is sent, also inside of a subquery of its own."""


@dataclass(frozen=True, slots=True)
class Reduction:
    """Rows of a table matter only if a column of theirs has a value that a column of another one has."""

    column: str
    table: str
    """The scan that brings the other table's rows."""
    other_column: str


Keys = Mapping[Reduction, str]
"""The values that a reduction leaves, as a list of SQL."""


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
    local: tuple[str, ...] = ()
    """Conditions with subqueries, likewise."""
    instead: Reduction | None = None
    """What makes it superfluous, once the other table's rows are here."""

    def sql(self, keys: Keys, engine: str) -> str:
        """Return the condition, or nothing if there is none that would leave rows out."""
        found = conditions(self.filters + self.local, self.reductions, keys, engine)
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
    local: tuple[str, ...] = ()
    """Conditions with subqueries that a shard can answer for its own rows."""
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

    def worthwhile(self, keys: Keys, rows: Mapping[str, int], own: int) -> Need:
        """Return the need without semi-joins that filters alone make, and of more rows than there are to leave out.

        Args:
            keys: What is known already.
            rows: About how many rows each scan brings by its filters.
            own: How many this one does.
        """
        kept = [
            semijoin
            for semijoin in self.semijoins
            if semijoin.local or any(entry in keys for entry in semijoin.reductions) or rows.get(semijoin.scan, 0) < own
        ]
        return replace(self, semijoins=tuple(kept))

    def sql(self, keys: Keys, engine: str) -> str:
        """Return the condition, or nothing if every row is needed."""
        joined = [text for semijoin in self.semijoins if (text := semijoin.sql(keys, engine))]
        own = conditions(self.filters + self.local, self.reductions, keys, engine)
        return " AND ".join(filter(None, [own, *joined]))

    @property
    def is_reducible(self) -> bool:
        """Whether more than filters leaves rows out."""
        return bool(self.reductions or self.local or self.semijoins)


def conditions(filters: tuple[str, ...], reductions: tuple[Reduction, ...], keys: Keys, engine: str) -> str:
    """Return filters and lists of keys as one condition."""
    found = [f"({text})" for text in filters]
    found += [
        f"{ALIAS}.{quoted_name(reduction.column, engine)} IN ({keys[reduction]})"
        for reduction in reductions
        if reduction in keys
    ]
    return " AND ".join(found)
