"""The chunks in which one shard's rows are read: one after the other, or some of them where a sample is enough."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, select

from shardctl.rows.audit.finding import Scope
from shardctl.rows.audit.keys import Key, Value
from shardctl.rows.audit.marks import State, from_saved, to_saved

SAMPLED_AT_ONCE = 200
"""Rows in a row that a sample takes: the first of the table, and others at random distances."""


@dataclass(slots=True)
class Cursor:
    """How far a shard's rows of one table have been read."""

    last: Value | None = None
    rows: int = 0
    is_done: bool = False

    def saved(self) -> State:
        """Return it as JSON can hold it."""
        return {"last": to_saved(self.last), "rows": self.rows, "is_done": self.is_done}

    @classmethod
    def restored(cls, saved: State) -> Cursor:
        """Return what was saved."""
        return cls(from_saved(saved["last"]), saved["rows"], saved["is_done"])


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows between two keys."""

    first: Value | None
    """The key before them; None: there is none."""
    last: Value | None
    """The last one's key; None: the rows go on to the end."""


def next_chunk(
    connection: Connection, scope: Scope, key: Key, cursor: Cursor, where: list[ColumnElement[bool]]
) -> Chunk | None:
    """Find where the next chunk begins and ends; None: there is none."""
    if scope.sample is None:
        return Chunk(cursor.last, key_at(connection, key, cursor.last, scope.chunk - 1, where))
    first = cursor.last
    if first is not None:
        distance = SAMPLED_AT_ONCE * (1 / scope.sample - 1) * random.uniform(0.5, 1.5)
        first = key_at(connection, key, first, max(0, round(distance) - 1), where)
        if first is None:
            return None
    return Chunk(first, key_at(connection, key, first, SAMPLED_AT_ONCE - 1, where))


def key_at(
    connection: Connection, key: Key, after: Value | None, offset: int, where: list[ColumnElement[bool]]
) -> Value | None:
    """Return the key so many rows behind another one; None where the rows end before."""
    parts = key.parts
    statement = select(*parts).where(*key.between(after, None), *where).order_by(*parts).limit(1).offset(offset)
    found = key.loaded(connection.execute(statement).all())
    return key.whole(found[0]) if found else None
