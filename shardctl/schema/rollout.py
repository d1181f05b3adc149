"""`migrate`: shards brought to a goal, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager

from shardctl.errors import Abandoned, Interrupted
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.fan_out import MAX_JOBS
from shardctl.schema.apply import MigrationResult, upgrade
from shardctl.schema.goals import UPGRADE_TO_HEAD, Goal
from shardctl.schema.proxies import context_local_proxies
from shardctl.schema.revisions import Scripts

OnWait = Callable[[Sequence[str]], None]
"""Told which shards are waited for after ^C."""


def migrate(
    fleet: Fleet,
    shards: Iterable[LiveShard],
    scripts: Scripts,
    *,
    jobs: int = MAX_JOBS,
    goal: Goal = UPGRADE_TO_HEAD,
    on_wait: OnWait | None = None,
) -> Generator[Outcome[MigrationResult], None, None]:
    """Bring shards to a revision, several at a time, and yield the outcomes as they come.

    Closing the generator starts no further shard and no further revision. Statements that run are cancelled where the
    revision is then rolled back; where CREATE and ALTER cannot be (MySQL), the revisions that run are waited for.

    Args:
        fleet: The shards' fleet.
        shards: The shards.
        scripts: The project's revisions.
        jobs: Shards at work at one time.
        goal: What to bring them to.
        on_wait: Told which shards are waited for, when it is closed or interrupted.

    Raises:
        ConfigError: There is no such revision, or the project has several heads.
        Abandoned: It was interrupted again while it waited.
    """
    scripts.check(goal)
    context_local_proxies()
    watch = Watch(on_wait)

    def run(shard: LiveShard) -> MigrationResult:
        with watch.at_work(shard):
            return upgrade(shard, scripts, goal, stop=watch.stop)

    outcomes = fleet.fan_out(run, shards, jobs=jobs)
    try:
        yield from outcomes
    finally:
        watch.stop.set()
        outcomes.close()
        watch.wait()


class Watch:
    """Which shards are at work that must not be left in the middle of a revision."""

    def __init__(self, on_wait: OnWait | None = None) -> None:
        self.stop = threading.Event()
        self._on_wait = on_wait
        self._changed = threading.Condition()
        self._busy: set[str] = set()

    @contextmanager
    def at_work(self, shard: LiveShard) -> Iterator[None]:
        with self._changed:
            if self.stop.is_set():
                raise Interrupted("not started")
            if not shard.backend.is_transactional_ddl:
                self._busy.add(shard.shard_id)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(shard.shard_id)
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait for these shards.

        Raises:
            Abandoned: ^C came again.
        """
        with self._changed:
            try:
                if self._busy and self._on_wait is not None:
                    self._on_wait(sorted(self._busy))
                self._changed.wait_for(lambda: not self._busy)
            except KeyboardInterrupt as error:
                raise Abandoned(sorted(self._busy)) from error
