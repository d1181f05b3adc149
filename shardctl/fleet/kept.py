"""Connections that stay open for the next query: within a server's budget, for a minute, and only if nothing failed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from sqlalchemy import Connection

IDLE_S = 60.0
"""How long a connection is kept that nobody uses."""


@dataclass(frozen=True, slots=True)
class _Idle:
    shard_id: str
    connection: Connection
    place: Hashable
    since: float


class Kept:
    """The connections to one server: those in use are counted, those that wait for the next query are kept.

    Args:
        budget: Connections at most, of all of the server's shards; what waits makes room for what is needed.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._in_use = 0
        self._idle: list[_Idle] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def take(self, shard_id: str, place: Hashable, *, is_fresh: bool = False) -> Connection | None:
        """Return a connection to a shard that was kept, if there is one; otherwise make room for a new one.

        Args:
            shard_id: The shard.
            place: What the connection must lead to: of a file, which one has its name now.
            is_fresh: Whether none that was kept will do: then they are lost.
        """
        found: Connection | None = None
        with self._lock:
            stale = self._forget_stale(shard_id, place, is_fresh=is_fresh)
            own = next((idle for idle in reversed(self._idle) if idle.shard_id == shard_id), None)
            if own is not None:
                self._idle.remove(own)
                found = own.connection
            while found is None and self._idle and self._in_use + len(self._idle) >= self._budget:
                stale.append(self._idle.pop(0))
            self._in_use += 1
        _close(stale)
        return found

    def make_room(self) -> None:
        """Count a connection that is not kept, and close one that waits if they would be too many."""
        with self._lock:
            stale = self._idle[: max(0, self._in_use + len(self._idle) + 1 - self._budget)]
            del self._idle[: len(stale)]
            self._in_use += 1
        _close(stale)

    def give(self, shard_id: str, place: Hashable, connection: Connection) -> None:
        """Keep a connection that is as it was when it was new, if there is room for it."""
        idle = _Idle(shard_id, connection, place, time.monotonic())
        with self._lock:
            self._in_use -= 1
            is_kept = self._in_use + len(self._idle) < self._budget
            if is_kept:
                self._idle.append(idle)
        if not is_kept:
            _close([idle])

    def closed(self) -> None:
        """Count one connection less."""
        with self._lock:
            self._in_use -= 1

    def close(self) -> None:
        """Close what waits."""
        with self._lock:
            idle, self._idle = self._idle, []
        _close(idle)

    def _forget_stale(self, shard_id: str, place: Hashable, *, is_fresh: bool) -> list[_Idle]:
        if self._pid != os.getpid():  # after a fork they are the parent's, who still uses them
            self._pid, self._idle, self._in_use = os.getpid(), [], 0
        oldest = time.monotonic() - IDLE_S
        stale = [
            idle
            for idle in self._idle
            if idle.since < oldest or (idle.shard_id == shard_id and (is_fresh or idle.place != place))
        ]
        if stale:
            self._idle = [idle for idle in self._idle if idle not in stale]
        return stale


def _close(idle: list[_Idle]) -> None:
    for entry in idle:
        with suppress(SQLAlchemyError):
            entry.connection.close()
