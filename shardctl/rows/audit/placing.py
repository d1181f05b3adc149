"""Sharding keys as they are stored -> the shards that their rows belong on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Table, TypeDecorator, select

from shardctl.errors import NoPlacement, ShardError
from shardctl.fleet import Fleet
from shardctl.fleet.binding import directory_table
from shardctl.fleet.rules import Sharded
from shardctl.rows.audit.reading import rows_of
from shardctl.topology.strategies import Directory, key_text

REMEMBERED = 50_000
"""Keys at the most whose shard is not asked for again."""
AT_ONCE = 500
"""Entries of a directory in one statement."""

KeyValues = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the rows of a key belong."""

    shard_id: str | None
    why_not: str = ""
    """Why nothing says where, if nothing does."""


@dataclass(slots=True)
class Placer:
    """Places keys by the rule of one class."""

    fleet: Fleet
    rule: Sharded
    known: dict[KeyValues, Placed] = field(default_factory=dict)
    at: dict[str, Placed] = field(default_factory=dict)
    """One for each shard."""
    is_converted: bool = False
    """Whether an application's own types make something else of what is loaded."""

    def __post_init__(self) -> None:
        self.is_converted = any(isinstance(column.type, TypeDecorator) for column in self.rule.columns)

    def place_all(self, keys: Iterable[KeyValues]) -> Mapping[KeyValues, Placed]:
        """Return the shard of each key, which a directory is asked for with few statements.

        Raises:
            ShardError: The directory cannot be read.
        """
        if len(self.known) > REMEMBERED:
            self.known.clear()
        new = [key for key in dict.fromkeys(keys) if key not in self.known]
        strategy: Any = self.rule.strategy
        if isinstance(strategy, Directory) and new:
            strategy = replace(strategy, read=self._entries(strategy, new).get)
        for key in new:
            self.known[key] = self._place(strategy, key)
        return self.known

    def _place(self, strategy: Any, key: KeyValues) -> Placed:
        try:
            stored = self._stored(key) if self.is_converted else key
            if None in stored:
                return Placed(None, f"{self.rule.attributes[stored.index(None)]} is not set")
            shard_id = strategy.place(stored)
        except NoPlacement as error:
            return Placed(None, error.message)
        found = self.at.get(shard_id)
        if found is None:
            found = self.at[shard_id] = Placed(shard_id)
        return found

    def _stored(self, key: KeyValues) -> KeyValues:
        columns = self.rule.columns
        return tuple(self.rule.stored(column, value) for column, value in zip(columns, key, strict=True))

    def _entries(self, directory: Directory, keys: Iterable[KeyValues]) -> dict[str, str | None]:
        """Read the entries of keys as the directory's own database finds them."""
        texts = list(dict.fromkeys(text for key in keys if (text := self._text(key)) is not None))
        shard = self.fleet.shard(directory.on)
        if shard.is_offline:
            raise ShardError(f"the directory `{directory.table}` is on shard `{directory.on}`, which is offline")
        table = self._directory(directory)
        key_column, shard_column = table.c[directory.key_column], table.c[directory.shard_column]
        found: dict[str, str | None] = {}
        for start in range(0, len(texts), AT_ONCE):
            asked = texts[start : start + AT_ONCE]
            statement = select(key_column, shard_column).where(key_column.in_(asked))
            entries = {str(key): shard_id for key, shard_id in rows_of(shard, statement)}
            found |= {text: entries.get(text) for text in asked}
            if not entries.keys() <= set(asked) and directory.read is not None:
                # The database holds other spellings equal to what was asked: it says which.
                found |= {text: directory.read(text) for text in asked if text not in entries}
        return found

    def _text(self, key: KeyValues) -> str | None:
        try:
            (value,) = self._stored(key)
            return None if value is None else key_text(value)
        except NoPlacement:
            return None

    def _directory(self, directory: Directory) -> Table:
        own = next((table for name, table in self.fleet.models.tables.items() if name == directory.table), None)
        return directory_table(directory) if own is None else own
