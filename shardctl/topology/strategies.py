"""Strategies: a sharding key -> the shard that owns it.

A strategy must give one key the same answer for ever, because rows were stored by it.
Changing a strategy, or its parameters, means moving rows.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Protocol

from shardctl.errors import NoPlacement
from shardctl.topology.buckets import Key, bucket_of


class Strategy(Protocol):
    """Maps a sharding key to the shard that owns it."""

    name: ClassVar[str]

    @property
    def shard_ids(self) -> tuple[str, ...]:
        """Every shard that this strategy can answer, in the order of the file."""
        ...

    def place(self, key: Key) -> str:
        """Return the shard of a key.

        Raises:
            NoPlacement: The key has no shard.
        """
        ...

    def between(self, low: Any, high: Any) -> frozenset[str] | None:
        """Return the shards that can hold keys of `low` <= key <= `high` (None: unbounded), or None if any can."""
        ...

    def explain(self, key: Key) -> str:
        """Say in a few words how `place` comes to its answer."""
        ...


def key_text(value: Any) -> str:
    """Return the text by which a value is found in a lookup or a directory.

    Raises:
        NoPlacement: The value has no text that every database agrees on.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case enum.Enum():
            return value.name
        case str() | int():
            return str(value)
        case uuid.UUID():
            return str(value)
        case datetime.date() | datetime.datetime():
            return value.isoformat()
    raise NoPlacement(f"a sharding key cannot be a {type(value).__name__}: {value!r}")


@dataclass(frozen=True, slots=True)
class Lookup:
    """A list of values, each with its shard."""

    name: ClassVar[str] = "lookup"
    shards: Mapping[str, str]
    """Value, as `key_text` gives it, to shard."""

    @property
    def shard_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.shards.values()))

    def place(self, key: Key) -> str:
        text = key_text(key[0])
        try:
            return self.shards[text]
        except KeyError:
            known = ", ".join(f"`{value}`" for value in list(self.shards)[:8])
            raise NoPlacement(f"the lookup has no shard for `{text}`", hint=f"it knows {known}") from None

    def between(self, low: Any, high: Any) -> frozenset[str] | None:
        return None

    def explain(self, key: Key) -> str:
        return f"lookup `{key_text(key[0])}`"


@dataclass(frozen=True, slots=True)
class Hash:
    """1024 virtual buckets, each with its shard."""

    name: ClassVar[str] = "hash"
    buckets: tuple[str, ...]
    """The shard of each bucket."""

    @property
    def shard_ids(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.buckets)))

    def place(self, key: Key) -> str:
        return self.buckets[bucket_of(key)]

    def between(self, low: Any, high: Any) -> frozenset[str] | None:
        return None

    def explain(self, key: Key) -> str:
        return f"hash bucket {bucket_of(key)}"


@dataclass(frozen=True, slots=True)
class Range:
    """Ascending ranges of values, each with its shard."""

    name: ClassVar[str] = "range"
    bounds: tuple[Any, ...]
    """The upper bounds, each exclusive; a value at or above the last one belongs to the last shard, if there is one."""
    shards: tuple[str, ...]
    """One for each bound, and one more where the last range has no bound."""

    def __post_init__(self) -> None:
        if any(bound != bound for bound in self.bounds) or any(not low < high for low, high in pairwise(self.bounds)):
            raise ValueError("the bounds must ascend")

    @property
    def shard_ids(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.shards))

    def place(self, key: Key) -> str:
        try:
            return self.shards[self._index(key[0])]
        except IndexError:
            raise NoPlacement(
                f"`{key[0]}` is above the last range, which ends below `{self.bounds[-1]}`",
                hint="add a last range without `below`",
            ) from None

    def between(self, low: Any, high: Any) -> frozenset[str] | None:
        first = 0 if low is None else self._index(low)
        last = len(self.shards) - 1 if high is None else self._index(high)
        return frozenset(self.shards[first : last + 1])

    def explain(self, key: Key) -> str:
        index = self._index(key[0])
        return f"range below `{self.bounds[index]}`" if index < len(self.bounds) else "last range"

    def _index(self, value: Any) -> int:
        try:
            return bisect_right(self.bounds, _as_bound(value, self.bounds))
        except TypeError:
            raise NoPlacement(
                f"`{value!r}` cannot be compared with the bounds of the ranges ({self.bounds[0]!r}, …)"
            ) from None


def _as_bound(value: Any, bounds: Sequence[Any]) -> Any:
    """Make a date comparable with datetime bounds, and the other way round; refuse a text's order against numbers."""
    if not bounds:
        return value
    bound = bounds[0]
    if isinstance(bound, datetime.datetime) and type(value) is datetime.date:
        return datetime.datetime.combine(value, datetime.time.min, bound.tzinfo)
    if isinstance(value, bool) or (type(bound) is datetime.date and getattr(value, "tzinfo", None)):
        raise TypeError  # an instant is on two dates, depending on where one asks
    if type(bound) is datetime.date and isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(bound, float) and isinstance(value, decimal.Decimal):
        return float(value)
    return value


@dataclass(frozen=True, slots=True)
class Directory:
    """A table in one of the shards that records the shard of each key.

    `read` is given by the fleet, which can reach the table; the answer is never kept, because entries may change.
    """

    name: ClassVar[str] = "directory"
    shards: tuple[str, ...]
    """Every shard of the fleet: an entry may name any of them."""
    on: str
    """The shard that holds the directory table."""
    table: str
    key_column: str = "key"
    shard_column: str = "shard_id"
    default: str | None = None
    """The shard of a key without an entry."""
    read: Callable[[str], str | None] | None = None

    @property
    def shard_ids(self) -> tuple[str, ...]:
        return self.shards

    def place(self, key: Key) -> str:
        text = key_text(key[0])
        if self.read is None:
            raise NoPlacement(f"the directory `{self.table}` on shard `{self.on}` cannot be read without a fleet")
        shard_id = self.read(text) or self.default
        if shard_id is None:
            raise NoPlacement(
                f"the directory `{self.table}` on shard `{self.on}` has no entry for `{text}`",
                hint=f"insert it there first, or give the table a `default` shard: {self.key_column}, "
                f"{self.shard_column}",
            )
        if shard_id not in self.shards:
            raise NoPlacement(
                f"the directory `{self.table}` on shard `{self.on}` sends `{text}` to `{shard_id}`, which is no shard"
            )
        return shard_id

    def between(self, low: Any, high: Any) -> frozenset[str] | None:
        return None

    def explain(self, key: Key) -> str:
        return f"directory `{self.table}` entry `{key_text(key[0])}`"
