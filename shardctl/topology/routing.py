"""Which shards a predicate can be true on.

The rule to protect: a route may name a shard too many, never one too few. What is not understood is `ANYTHING`, and
every value that a strategy cannot place goes to all shards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shardctl.errors import NoPlacement
from shardctl.topology.strategies import Directory, Hash, Lookup, Strategy

_ALIKE = str.maketrans("jyvw", "iiuu")

Op = Literal["=", "in", "<", "<=", ">", ">=", "between"]


@dataclass(frozen=True, slots=True)
class Compare:
    """A sharding-key column of one table, compared with constants."""

    table: str
    column: str
    op: Op
    values: tuple[Any, ...]
    source: int = 0
    """Which of a statement's FROMs the column is of: one table may be there several times, under aliases."""


@dataclass(frozen=True, slots=True)
class And:
    """All of these."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of these."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Anything:
    """A condition that says nothing about a sharding key, or that is not understood."""


Predicate = Compare | And | Or | Anything
ANYTHING = Anything()


@dataclass(frozen=True, slots=True)
class RoutingKey:
    """How one table's sharding key decides."""

    strategy: Strategy
    columns: tuple[str, ...]
    is_exact: bool = True
    """Whether the database holds equal what Python does: not so for text under a collation that ignores case."""
    is_ordered: bool = True
    """Whether the database orders keys as Python does: not so for text under most locales."""


@dataclass(frozen=True, slots=True)
class Route:
    """The shards to ask, and why these."""

    shard_ids: frozenset[str]
    reason: str


def route(predicate: Predicate, keys: Mapping[str, RoutingKey], everywhere: Iterable[str]) -> Route:
    """Return the shards that can hold rows for which the predicate is true.

    Args:
        predicate: What the statement's WHERE says of sharding keys.
        keys: The sharding key of each table that the predicate names.
        everywhere: The shards to ask when nothing narrows them.
    """
    all_shards = frozenset(everywhere)
    reasons: list[str] = []
    found = _shards(predicate, keys, reasons)
    if found is None:
        return Route(all_shards, "no condition on a sharding key")
    return Route(found & all_shards, ", ".join(dict.fromkeys(reasons)))


def _shards(predicate: Predicate, keys: Mapping[str, RoutingKey], reasons: list[str]) -> frozenset[str] | None:
    """Return the shards, or None where every shard is possible."""
    match predicate:
        case And(parts):
            parts_shards = [_shards(part, keys, reasons) for part in parts]
            parts_shards.append(_composite(parts, keys, reasons))
            known = [shards for shards in parts_shards if shards is not None]
            return frozenset.intersection(*known) if known else None
        case Or(parts):
            union: frozenset[str] = frozenset()
            for part in parts:
                shards = _shards(part, keys, reasons)
                if shards is None:
                    return None
                union |= shards
            return union
        case Compare(table, column, op, values):
            key = keys.get(table)
            if key is None or key.columns != (column,):
                return None
            shards = _compare(key, op, values)
            if shards is not None:
                reasons.append(f"{table}.{column} {op} {', '.join(map(repr, values))}")
            return shards
        case Anything():
            return None


def _composite(
    parts: tuple[Predicate, ...], keys: Mapping[str, RoutingKey], reasons: list[str]
) -> frozenset[str] | None:
    """Place a composite key of which the parts of one AND fix every column."""
    fixed = {
        (part.table, part.source, part.column): part.values[0]
        for part in parts
        if isinstance(part, Compare) and part.op == "="
    }
    narrowed: list[frozenset[str]] = []
    for table, source in dict.fromkeys((table, source) for table, source, _ in fixed):
        key = keys.get(table)
        if key is None:
            continue
        values = tuple(fixed.get((table, source, column)) for column in key.columns)
        if len(key.columns) > 1 and None not in values:
            shards = _place(key, values)
            if shards is not None:
                reasons.append(f"{table}.({', '.join(key.columns)}) = {values!r}")
                narrowed.append(shards)
    return frozenset.intersection(*narrowed) if narrowed else None


def _compare(key: RoutingKey, op: Op, values: tuple[Any, ...]) -> frozenset[str] | None:
    if op in ("=", "in"):
        union: frozenset[str] = frozenset()
        for value in values:
            if value is None:  # NULL equals nothing: no row of any shard
                continue
            shards = _place(key, (value,))
            if shards is None:
                return None
            union |= shards
        return union
    if None in values or not _is_comparable(key, values):
        return None
    if not key.is_ordered:
        return None
    low, high = _bounds(op, values)
    try:
        return key.strategy.between(low, high)
    except NoPlacement:
        return None


def _bounds(op: Op, values: tuple[Any, ...]) -> tuple[Any, Any]:
    if op == "between":
        return values[0], values[1]
    return (None, values[0]) if op in ("<", "<=") else (values[0], None)


def _place(key: RoutingKey, values: tuple[Any, ...]) -> frozenset[str] | None:
    strategy = key.strategy
    if not _is_comparable(key, values):
        if isinstance(strategy, Lookup) and isinstance(values[0], str):
            return _loosely_equal(strategy, values[0])
        return None
    try:
        return frozenset([strategy.place(values)])
    except NoPlacement:
        return None


def _is_comparable(key: RoutingKey, values: tuple[Any, ...]) -> bool:
    """Say whether the database's comparison with these values is Python's, so that it may rule shards out."""
    if isinstance(key.strategy, Hash | Directory) and any(isinstance(value, float) for value in values):
        return False
    return key.is_exact or not any(isinstance(value, str) for value in values)


def _loosely_equal(lookup: Lookup, value: str) -> frozenset[str] | None:
    """Return the shards of every lookup value that a collation may hold equal to `value`."""
    wanted = folded(value)
    if wanted is None:
        return None
    found = frozenset(shard_id for text, shard_id in lookup.shards.items() if folded(text) in (wanted, None))
    return found or None


def folded(text: str) -> str | None:
    """Return what equal texts have in common under any collation; None if it is not ASCII: then nothing is sure.

    There are collations that hold `i`, `j` and `y` equal, or `u`, `v` and `w`.
    """
    if not all(" " <= char <= "~" for char in text):
        return None
    return text.rstrip(" ").lower().translate(_ALIKE)
