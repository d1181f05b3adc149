"""What the shards were asked for one query, and what that took: noted where it happens, read where it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shardctl.query.received import bytes_received

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.fleet import LiveShard, Outcome


@dataclass(slots=True)
class Asked:
    """Seconds, rows and bytes by shard; of one that was asked several times, together."""

    seconds: dict[str, float] = field(default_factory=dict)
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    """By shard and by table that was pulled; the table is empty for the rows of the shard's own answer."""
    received: dict[str, int | None] = field(default_factory=dict)
    """Bytes; None where they are not known."""

    @property
    def slowest(self) -> tuple[str, float] | None:
        """The shard that took longest, and its seconds."""
        return max(self.seconds.items(), key=lambda entry: entry[1]) if self.seconds else None

    @property
    def all_received(self) -> int | None:
        """The bytes from all shards; None unless they are known of each."""
        known = [size for size in self.received.values() if size is not None]
        return sum(known) if known and len(known) == len(self.received) else None


_ASKED: ContextVar[Asked | None] = ContextVar("asked", default=None)


@contextmanager
def noting() -> Iterator[Asked]:
    """Have `note` write down what is asked meanwhile, here and in the threads that are started for it."""
    asked = Asked()
    token = _ASKED.set(asked)
    try:
        yield asked
    finally:
        _ASKED.reset(token)


def note(outcomes: Iterable[Outcome[Any]]) -> None:
    """Write down how long shards took."""
    asked = _ASKED.get()
    if asked is not None:
        for outcome in outcomes:
            asked.seconds[outcome.shard_id] = asked.seconds.get(outcome.shard_id, 0.0) + outcome.seconds


def note_rows(shard_id: str, count: int, table: str = "") -> None:
    """Write down that rows have come; a shard is read by one thread at a time."""
    asked = _ASKED.get()
    if asked is not None:
        asked.rows[shard_id, table] = asked.rows.get((shard_id, table), 0) + count


@contextmanager
def reading(shard: LiveShard) -> Iterator[Connection]:
    """Open a connection to read a part of the answer, and write down the bytes that come in over it."""
    with shard.connect(keep=True) as connection, counting(shard, connection):
        yield connection


@contextmanager
def counting(shard: LiveShard, connection: Connection) -> Iterator[None]:
    """Write down the bytes that come in over a shard's connection meanwhile."""
    asked = _ASKED.get()
    if asked is None:
        yield
        return
    raw = connection.connection.driver_connection
    before = bytes_received(raw)
    try:
        yield
    finally:
        after = bytes_received(raw)
        earlier = asked.received.get(shard.shard_id, 0)
        is_known = before is not None and after is not None and earlier is not None
        asked.received[shard.shard_id] = earlier + after - before if is_known else None  # type: ignore[operator]
