"""Which shards are at work, so that an interrupted run ends when they have: done, or rolled back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from shardctl.errors import Abandoned, Interrupted
from shardctl.fleet import LiveShard

OnWait = Callable[[Sequence[str]], None]
"""Told which shards are waited for after ^C."""

ROLLBACK_S = 3.0


class Watch:
    """The shards that are at work."""

    def __init__(self, on_wait: OnWait | None = None) -> None:
        self.stop = threading.Event()
        self._on_wait = on_wait
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        self._running: set[str] = set()

    @contextmanager
    def at_work(self, shard: LiveShard) -> Iterator[None]:
        """Count a shard among those at work.

        Raises:
            Interrupted: No shard may start any more.
        """
        with self._changed:
            if self.stop.is_set():
                raise Interrupted("not started")
            self._running.add(shard.shard_id)
            if not shard.backend.is_transactional_ddl:
                self._busy.add(shard.shard_id)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(shard.shard_id)
                self._running.discard(shard.shard_id)
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the shards that cannot roll back what runs, and a little for the others, which were cancelled.

        Raises:
            Abandoned: ^C came again.
        """
        with self._changed:
            try:
                if self._busy and self._on_wait is not None:
                    self._on_wait(sorted(self._busy))
                self._changed.wait_for(lambda: not self._busy)
                self._changed.wait_for(lambda: not self._running, ROLLBACK_S)
            except KeyboardInterrupt as error:
                raise Abandoned(sorted(self._busy)) from error
