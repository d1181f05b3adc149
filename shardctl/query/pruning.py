"""Which shards the rows can be on that a statement needs: by its conditions on sharding keys.

Pure: strategies decide, and no shard is asked; only a directory is read. Each mention of a table is looked at by
itself: what its rows must be equal to, also through other tables, and whose rows they live with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from shardctl.errors import ShardError
from shardctl.query.key_values import UNKNOWN, constant
from shardctl.query.parse import Statement
from shardctl.query.pull.sources import Node, Source, Sources, table_key
from shardctl.query.sharding import KeyedTable
from shardctl.query.ties import Ties
from shardctl.topology.routing import ANYTHING, And, Compare, Op, Or, Predicate, route

_COMPARISONS: Mapping[type[exp.Expression], tuple[Op, Op]] = {
    exp.EQ: ("=", "="),
    exp.LT: ("<", ">"),
    exp.LTE: ("<=", ">="),
    exp.GT: (">", "<"),
    exp.GTE: (">=", "<="),
}
"""Each with what it is where the column is on the right."""
_LONGEST_REASON = 100

Keys = Mapping[Node, str]
"""Columns that are equal to a column of a sharding key, and that column."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """That conditions on sharding keys left shards out."""

    candidates: int
    """How many shards there were to ask."""
    reason: str


class Pruning:
    """What a statement's conditions say of shards.

    Args:
        statement: The statement, with class names resolved.
        tables: The tables that the shard map has rules for, by `table_key`.
        holders: The shards that hold each table of the statement, of those that were chosen.
        engines: The engines of these shards.
    """

    def __init__(
        self,
        statement: Statement,
        tables: Mapping[str, KeyedTable],
        holders: Mapping[str, Collection[str]],
        engines: Iterable[str],
    ) -> None:
        self._tables = tables
        self._engines = tuple(engines)
        self._sources = Sources(statement, {key: table.shape for key, table in tables.items()}, is_sure=False)
        self._ties = Ties(self._sources, tables)
        self._mentioned = {table_key(statement, table) for table in statement.tables}
        self._reasons: dict[str, None] = {}
        # Settings of servers decide what these mean: they may see other conditions.
        unsure = ("\\", '"', "||") if "mysql" in self._engines else ("\\",)
        is_plain = not any(sign in statement.sql for sign in unsure)
        self._shards = {
            source: frozenset(holders[source.table])
            for source in self._sources.all
            if not tables[source.table].is_reference
        }
        self._holders = dict(self._shards)
        if is_plain:
            for source in self._shards:
                self._shards[source] &= self._by_key(source)
            self._spread()

    @property
    def reason(self) -> str:
        """The conditions that left shards out."""
        return "; ".join(self._reasons)

    def of_table(self, key: str) -> frozenset[str] | None:
        """Return the shards with rows of a table that the statement needs; None: it is not known of all its rows."""
        found = [shards for source, shards in self._shards.items() if source.table == key]
        return frozenset().union(*found) if found else None

    def of_select(self, select: exp.Expression) -> frozenset[str] | None:
        """Return the shards on which a SELECT that is run on each of them can find rows; None: any."""
        found = [shards for source, shards in self._shards.items() if source.select is select and source.is_inner]
        return frozenset.intersection(*found) if found else None

    def of_all(self) -> frozenset[str] | None:
        """Return the shards with all of the sharded rows that the statement needs; None: that is not sure."""
        if not self._shards or not self._mentioned <= self._tables.keys():
            return None
        return frozenset().union(*self._shards.values())

    def _by_key(self, source: Source) -> frozenset[str]:
        """Return the shards that a source's conditions on its own key, and on what is equal to it, leave."""
        key = self._tables[source.table].key
        everywhere = self._holders[source]
        if key is None or source.select is None:
            return everywhere
        nodes: dict[Node, str] = {}
        for column in key.columns:
            nodes.update(dict.fromkeys(self._ties.equal_to(Node(source, column)), column))
        parts: list[Predicate] = []
        for other in dict.fromkeys(node.source for node in nodes):
            parts += [self._read(part, other, nodes) for part in other.conditions]
        try:
            found = route(And(tuple(_flat(parts))), {"": key}, everywhere)
        except ShardError:  # a directory that cannot be read
            return everywhere
        if found.shard_ids != everywhere:
            text = re.sub(r"(^|, )\.", r"\1", found.reason)  # there is no table's name before the point
            text = text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "…"
            self._reasons[f"{text} -> {key.strategy.name}"] = None
        return found.shard_ids

    def _spread(self) -> None:
        """Let rows that live together be on the same shards, until nothing changes."""
        tied = [(one, other) for one in self._shards for other in self._shards if self._ties.are_tied(one, other)]
        changed = True
        while changed:
            changed = False
            for one, other in tied:
                left = self._shards[one] & self._shards[other]
                changed = changed or left != self._shards[one]
                self._shards[one] = left

    def _read(self, condition: Any, source: Source, keys: Keys) -> Predicate:
        """Return what a condition of a source says of a key; what is not understood is ANYTHING."""
        if isinstance(condition, exp.Paren):
            return self._read(condition.this, source, keys)
        if isinstance(condition, exp.And | exp.Or):
            parts = tuple(self._read(part, source, keys) for part in (condition.left, condition.right))
            return And(tuple(_flat(parts))) if isinstance(condition, exp.And) else Or(parts)
        # What else a parser notes of a comparison, such as that it is negated, may turn it round.
        used = {name for name, value in getattr(condition, "args", {}).items() if value}
        if type(condition) in _COMPARISONS and used == {"this", "expression"}:
            straight, mirrored = _COMPARISONS[type(condition)]
            found = self._compare(condition.left, straight, [condition.right], source, keys)
            if found is not ANYTHING:
                return found
            return self._compare(condition.right, mirrored, [condition.left], source, keys)
        if isinstance(condition, exp.In) and used == {"this", "expressions"}:
            return self._compare(condition.this, "in", condition.expressions, source, keys)
        if isinstance(condition, exp.Between) and used == {"this", "low", "high"}:
            limits = [condition.args["low"], condition.args["high"]]
            return self._compare(condition.this, "between", limits, source, keys)
        if isinstance(condition, exp.Is) and used == {"this", "expression"}:
            is_null = isinstance(condition.expression, exp.Null)
            return self._is_null(condition.this, source, keys) if is_null else ANYTHING
        return ANYTHING

    def _compare(self, side: Any, op: Op, others: list[Any], source: Source, keys: Keys) -> Predicate:
        node = self._key_node(side, source, keys)
        type_ = None if node is None else self._ties.type_of(node)
        if node is None or type_ is None:
            return ANYTHING
        values = []
        for other in others:
            found = [constant(other, type_, engine) for engine in self._engines]
            if any(value is UNKNOWN or value != found[0] for value in found):
                return ANYTHING
            values.append(found[0])
        if op != "in" and None in values:  # a setting of PostgreSQL makes IS NULL of `= NULL`
            return ANYTHING
        return Compare("", keys[node], op, tuple(values))

    def _is_null(self, side: Any, source: Source, keys: Keys) -> Predicate:
        """Read IS NULL: no row has it where the column cannot be NULL, nor is NULL because a join found nothing."""
        node = self._key_node(side, source, keys)
        if node is None or not node.source.is_inner:
            return ANYTHING
        is_never = node.column in self._tables[node.source.table].never_null
        return Compare("", keys[node], "=", (None,)) if is_never else ANYTHING

    def _key_node(self, side: Any, source: Source, keys: Keys) -> Node | None:
        if isinstance(side, exp.Paren):
            return self._key_node(side.this, source, keys)
        if not isinstance(side, exp.Column) or source.select is None:
            return None
        node = self._sources.resolve(side, source.select)
        return node if node in keys else None


def _flat(parts: Iterable[Predicate]) -> Iterable[Predicate]:
    """Yield the parts of ANDs inside an AND as its own: a key of several columns is placed by all of them."""
    for part in parts:
        if isinstance(part, And):
            yield from _flat(part.parts)
        else:
            yield part
