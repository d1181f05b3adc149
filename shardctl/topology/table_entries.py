"""`[tables.<name>]` -> the rule by which a class's rows are placed."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shardctl.topology.buckets import parse_buckets, spread_buckets
from shardctl.topology.entries import Entries
from shardctl.topology.model import FollowingTable, IdentityScope, ReferenceTable, ShardedTable, TableRule
from shardctl.topology.strategies import Directory, Hash, Lookup, Range, Strategy

_BOUND_TYPES = (int, float, str, datetime.date, datetime.time)
_STRATEGY_KEYS: dict[str, tuple[str, ...]] = {
    "lookup": ("key", "shards"),
    "hash": ("key", "shards", "buckets"),
    "range": ("key", "ranges"),
    "directory": ("key", "on", "table", "key_column", "shard_column", "default"),
    "follow": ("parent",),
    "reference": ("shards",),
}


@dataclass(frozen=True, slots=True)
class TableEntries(Entries):
    """Reads the placement rules of a shard map.

    Args:
        shard_ids: The shards that rules may name.
    """

    shard_ids: tuple[str, ...]

    def rule(self, name: str, entry: Any) -> TableRule:
        path = f"tables.{name}"
        if not isinstance(entry, dict):
            self.fail(f"`{path}` is not a table", hint=f'write `[{path}]` and `strategy = "…"` below it')
        kind = self.text(entry, "strategy", path)
        if kind is None:
            self.fail(f"`{path}` has no `strategy`", hint=f"use one of {_quoted(_STRATEGY_KEYS)}")
        if kind not in _STRATEGY_KEYS:
            self.choice(kind, _STRATEGY_KEYS, f"{path}.strategy", "a known strategy")
        common = ("strategy",) if kind == "reference" else ("strategy", "identity")
        self.only(entry, (*common, *_STRATEGY_KEYS[kind]), path)
        if kind == "follow":
            parent = self.text(entry, "parent", path)
            if parent is None:
                self.fail(
                    f"`{path}` has no `parent`", hint="name the relationship of this class that leads to its parent"
                )
            return FollowingTable(name, parent, self.identity(entry, path))
        if kind == "reference":
            return ReferenceTable(name, self.shard_list(entry, path) or self.shard_ids)
        strategy = self.strategy(kind, entry, path)
        return ShardedTable(name, strategy, self.key(entry, kind, path), self.identity(entry, path))

    def identity(self, entry: dict[str, Any], path: str) -> IdentityScope | None:
        text = self.text(entry, "identity", path)
        if text is not None and text not in set(IdentityScope):
            self.choice(text, IdentityScope, f"{path}.identity", f"one of {_quoted(IdentityScope)}")
        return IdentityScope(text) if text else None

    def key(self, entry: dict[str, Any], kind: str, path: str) -> tuple[str, ...]:
        key = entry.get("key")
        columns = (key,) if isinstance(key, str) else tuple(key) if isinstance(key, list) else ()
        if not columns or not all(isinstance(column, str) and column for column in columns):
            self.fail(f"`{path}` has no `key`", hint="name the mapped attribute that decides the shard")
        if len(columns) > 1 and kind != "hash":
            self.fail(f"`{path}.key` has {len(columns)} columns; only `hash` takes several")
        return columns

    def strategy(self, kind: str, entry: dict[str, Any], path: str) -> Strategy:
        match kind:
            case "lookup":
                values = self.table(entry, "shards", path)
                if not values:
                    self.fail(f"`{path}` has no `shards`", hint='write `shards = { "a value" = "a shard" }`')
                for value, shard_id in values.items():
                    self.known_shard(shard_id, f"{path}.shards.{value}")
                return Lookup(values)
            case "hash":
                return self.hash_strategy(entry, path)
            case "range":
                return self.range_strategy(entry, path)
            case _:
                return self.directory(entry, path)

    def hash_strategy(self, entry: dict[str, Any], path: str) -> Hash:
        if ("buckets" in entry) == ("shards" in entry):
            self.fail(
                f"`{path}` needs either `buckets` or `shards`",
                hint='write `shards = ["a", "b"]`, and append later ones',
            )
        if "shards" in entry:
            return Hash(spread_buckets(self.shard_list(entry, path)))
        ranges = self.table(entry, "buckets", path)
        for shard_id, text in ranges.items():
            self.known_shard(shard_id, f"{path}.buckets.{shard_id}")
            if not isinstance(text, str):
                self.fail(f"`{path}.buckets.{shard_id}` is not text as `0-255, 300`")
        try:
            return Hash(parse_buckets(ranges))
        except ValueError as error:
            self.fail(f"`{path}.buckets`: {error}")

    def range_strategy(self, entry: dict[str, Any], path: str) -> Range:
        ranges = entry.get("ranges")
        if not isinstance(ranges, list) or not ranges:
            self.fail(
                f"`{path}` has no `ranges`", hint='write `ranges = [{ below = 1000, shard = "a" }, { shard = "b" }]`'
            )
        for number, part in enumerate(ranges):
            where = f"{path}.ranges[{number}]"
            if isinstance(part, dict) and not isinstance(part.get("below", 0), _BOUND_TYPES):
                self.fail(f"`{where}.below` must be a number, text, a date or a time, not `{part['below']!r}`")
            if not isinstance(part, dict) or "shard" not in part:
                self.fail(f"`{where}` has no `shard`")
            self.only(part, ("below", "shard"), where)
            self.known_shard(part["shard"], f"{where}.shard")
            if "below" not in part and number != len(ranges) - 1:
                self.fail(f"`{where}` has no `below`", hint="only the last range may be without an upper bound")
        bounds = tuple(part["below"] for part in ranges if "below" in part)
        try:
            return Range(bounds, tuple(part["shard"] for part in ranges))
        except (ValueError, TypeError):
            self.fail(f"`{path}.ranges` do not ascend", hint="each `below` must be greater than the one before it")

    def directory(self, entry: dict[str, Any], path: str) -> Directory:
        on, table = self.text(entry, "on", path), self.text(entry, "table", path)
        if on is None or table is None:
            self.fail(f"`{path}` needs `on`, the shard that holds the directory, and `table`, its name")
        self.known_shard(on, f"{path}.on")
        default = self.text(entry, "default", path)
        if default is not None:
            self.known_shard(default, f"{path}.default")
        return Directory(
            shards=self.shard_ids,
            on=on,
            table=table,
            key_column=self.text(entry, "key_column", path) or "key",
            shard_column=self.text(entry, "shard_column", path) or "shard_id",
            default=default,
        )

    def shard_list(self, entry: dict[str, Any], path: str) -> tuple[str, ...]:
        names = entry.get("shards", [])
        if not isinstance(names, list) or ("shards" in entry and not names):
            self.fail(f"`{path}.shards` is not a list of shards", hint=f"for example `{list(self.shard_ids[:2])}`")
        for number, shard_id in enumerate(names):
            self.known_shard(shard_id, f"{path}.shards[{number}]")
        if len(set(names)) < len(names):
            self.fail(f"`{path}.shards` names a shard twice")
        return tuple(names)

    def known_shard(self, shard_id: Any, path: str) -> None:
        if not isinstance(shard_id, str) or shard_id not in self.shard_ids:
            self.choice(str(shard_id), self.shard_ids, path, "one of the shards")


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
