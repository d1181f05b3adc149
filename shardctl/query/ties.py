"""Which rows of a statement live together: by equal sharding keys, or with the row that they follow.

Pure. The rule to protect: two mentions of tables are tied only if every row of the one that plays a part is on the
shard of its rows of the other, wherever the rows are where the rules place them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlglot import exp

from shardctl.query.pull.links import links_of
from shardctl.query.pull.sources import Node, Source, Sources
from shardctl.query.sharding import KeyedTable


class Ties:
    """What holds between the mentions of tables in a statement.

    Args:
        sources: The mentions.
        tables: What the shard map says of their tables, where it does.
    """

    def __init__(self, sources: Sources, tables: Mapping[str, KeyedTable]) -> None:
        self.sources = sources
        self.links = links_of(sources)
        self._tables = tables

    def table(self, source: Source) -> KeyedTable | None:
        """Return what the shard map says of a source's table."""
        return self._tables.get(source.table)

    def is_reference(self, source: Source) -> bool:
        """Whether every shard has all rows of a source's table."""
        table = self.table(source)
        return table is not None and table.is_reference

    def key(self, source: Source) -> tuple[Node, ...]:
        """Return the columns whose values say on which shard a source's rows are; none if nothing is known of them."""
        table = self.table(source)
        key = None if table is None else table.key
        return () if key is None else tuple(Node(source, column) for column in key.columns)

    def equal_to(self, node: Node) -> list[Node]:
        """Return a column, and all whose values its rows must have, as far as being equal is the same for all."""
        found = [node]
        for one in found:
            found += [
                other
                for origin, other in self.links
                if origin == one
                and other not in found
                and self.type_of(other) is self.type_of(node) is not None
                and self.is_exact(node)
                and self.is_exact(other)
            ]
        return found

    def are_tied(self, one: Source, other: Source) -> bool:
        """Whether rows of one source matter only with rows of the other that are on the same shard."""
        return bool(self.tied_columns(one, other))

    def tied_columns(self, one: Source, other: Source) -> tuple[tuple[str, str], ...]:
        """Return the columns of one source, and of the other, whose equality ties them; none if they are not tied."""
        if one is other:
            return ()
        if self._lives_with(one, other):
            ties = self._tables[one.table].ties
            wanted = [(Node(one, own), Node(other, their)) for own, their in ties]
        elif self._lives_with(other, one):
            ties = self._tables[other.table].ties
            wanted = [(Node(one, their), Node(other, own)) for own, their in ties]
        else:
            wanted = []
        if wanted and all((mine, theirs) in self.links or theirs in self.equal_to(mine) for mine, theirs in wanted):
            return tuple((mine.column, theirs.column) for mine, theirs in wanted)
        pairs = list(zip(self.key(one), self.key(other), strict=False))
        if self.are_placed_alike(one, other) and all(theirs in self.equal_to(mine) for mine, theirs in pairs):
            return tuple((mine.column, theirs.column) for mine, theirs in pairs)
        return ()

    def are_placed_alike(self, one: Source, other: Source) -> bool:
        """Whether equal sharding keys of two sources mean one shard."""
        tables = self.table(one), self.table(other)
        keys = [None if table is None else table.key for table in tables]
        if keys[0] is None or keys[1] is None or keys[0].strategy != keys[1].strategy:
            return False
        if len(keys[0].columns) != len(keys[1].columns):
            return False
        return all(
            self.type_of(mine) is self.type_of(theirs) is not None and self.is_exact(mine) and self.is_exact(theirs)
            for mine, theirs in zip(self.key(one), self.key(other), strict=True)
        )

    def is_by_shard(self, columns: Iterable[Any], select: exp.Select) -> bool:
        """Whether rows of a SELECT that are equal in these columns are on one shard: they have its sharding key."""
        nodes = [self.sources.resolve(column, select) for column in columns if isinstance(column, exp.Column)]
        known = {equal for node in nodes if node is not None for equal in self._equal_in(node, select)}
        for source in self.sources.of(select):
            table, key = self.table(source), self.key(source)
            if table is None or not key or not source.is_inner:
                continue
            if all(node in known and node.column in table.exact and node.column in table.never_null for node in key):
                return True
        return False

    def _equal_in(self, node: Node, select: exp.Select) -> list[Node]:
        return [other for other in self.equal_to(node) if other.source.select is select] if node.source.is_inner else []

    def type_of(self, node: Node) -> type | None:
        """Return what `constant_type` says of a column."""
        table = self.table(node.source)
        return None if table is None else table.types.get(node.column)

    def is_exact(self, node: Node) -> bool:
        """Whether a column's values are equal for the database when they are for Python."""
        table = self.table(node.source)
        return table is not None and node.column in table.exact

    def is_never_null(self, node: Node) -> bool:
        """Whether a column is never NULL, not even because an outer join found nothing."""
        table = self.table(node.source)
        return table is not None and node.source.is_inner and node.column in table.never_null

    def _lives_with(self, child: Source, parent: Source) -> bool:
        tables = self.table(child), self.table(parent)
        return tables[0] is not None and tables[1] is not None and tables[0].parent == tables[1].name
