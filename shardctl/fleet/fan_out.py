"""One function on many shards.

A shard's failure is an outcome, not an exception: the others go on. No server gets more connections than its budget.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from shardctl.errors import ShardctlError, ShardError
from shardctl.fleet.live_shard import LiveShard, driver_line
from shardctl.fleet.threads import start_thread

T = TypeVar("T")

MAX_JOBS = 32
CANCEL_S = 3.0


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What came of one shard: a value or an error."""

    shard: LiveShard
    seconds: float
    value: T | None = None
    error: ShardctlError | None = None

    @property
    def shard_id(self) -> str:
        return self.shard.shard_id

    @property
    def is_ok(self) -> bool:
        return self.error is None

    @property
    def result(self) -> T:
        """The value; the error of a shard that failed is raised."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]

    @property
    def problem(self) -> str:
        """The error on one line, with the shard's name."""
        return f"{self.shard_id}: {self.error.message}" if self.error else ""


def fan_out(
    shards: Iterable[LiveShard],
    run: Callable[[LiveShard], T],
    *,
    per_server: int,
    timeout_s: float | None = None,
    jobs: int = MAX_JOBS,
    may_start: Callable[[], bool] | None = None,
    before_cancel: Callable[[], None] | None = None,
) -> Generator[Outcome[T], None, None]:
    """Run a function on every shard, several at a time, and yield the outcomes as they come.

    Closing the generator starts no further shard and cancels the statements that run.

    Args:
        shards: The shards.
        run: The function; a ShardctlError or SQLAlchemyError that it raises becomes the shard's outcome.
        per_server: Shards of one server at work at one time.
        timeout_s: Seconds for one shard, from its start; then its statement is cancelled. None: no limit.
        jobs: Shards at work at one time.
        may_start: Asked before shards are started; once it says no, those that wait are left out.
        before_cancel: Called before statements are cancelled because the generator is closed, or was interrupted.
    """
    shards = list(shards)
    crew = _Crew(run, [shard for shard in shards if not shard.is_thread_bound], per_server, timeout_s, jobs)
    try:
        while crew.waiting or crew.running:
            if may_start is not None and not may_start():
                crew.waiting.clear()
                if not crew.running:
                    break
            crew.start_what_may_run()
            outcome = crew.next_outcome()
            if outcome is not None:
                yield outcome
        for shard in shards:
            if shard.is_thread_bound and (may_start is None or may_start()):
                yield run_one(shard, run)
    finally:
        if crew.running and before_cancel is not None:
            before_cancel()
        for shard in list(crew.running):
            crew.cancel(shard)
        crew.wait_for_cancels()


def run_one(shard: LiveShard, run: Callable[[LiveShard], T]) -> Outcome[T]:
    """Run a function on one shard, in this thread."""
    started = time.monotonic()
    value: T | None = None
    failure: ShardctlError | None = None
    try:
        value = run(shard)
    except ShardctlError as error:
        failure = error
    except SQLAlchemyError as error:
        failure = shard.failure(error)
    except OverflowError as error:  # of SQLite's driver, for an integer that SQLite does not have
        failure = ShardError(driver_line(error))
    return Outcome(shard, time.monotonic() - started, value, failure)


def grouped_problems(outcomes: Iterable[Outcome[T]]) -> list[str]:
    """Return the errors of the shards that failed, one line for all shards that failed alike, with their facts."""
    shard_ids: dict[tuple[str, ...], list[str]] = {}
    for outcome in outcomes:
        if outcome.error is not None:
            shard_ids.setdefault((outcome.error.message, *outcome.error.facts), []).append(outcome.shard_id)
    lines = []
    for (message, *facts), names in shard_ids.items():
        lines.append(f"{', '.join(names)}: {message}")
        lines.extend(f"  {fact}" for fact in facts)
    return lines


@dataclass(slots=True)
class _Crew(Generic[T]):
    """The shards that wait and run."""

    run: Callable[[LiveShard], T]
    waiting: list[LiveShard]
    per_server: int
    timeout_s: float | None
    jobs: int
    running: dict[LiveShard, float] = field(default_factory=dict)
    cancels: list[threading.Thread] = field(default_factory=list)
    done: queue.SimpleQueue[Outcome[T] | tuple[LiveShard, BaseException]] = field(default_factory=queue.SimpleQueue)

    def start_what_may_run(self) -> None:
        busy = Counter(shard.server for shard in self.running)
        for shard in list(self.waiting):
            if len(self.running) >= self.jobs:
                return
            if busy[shard.server] < self.per_server:
                busy[shard.server] += 1
                self.waiting.remove(shard)
                self.running[shard] = time.monotonic()
                context = contextvars.copy_context()
                start_thread(partial(context.run, self._work, shard), f"shard-{shard.shard_id}")

    def _work(self, shard: LiveShard) -> None:
        try:
            self.done.put(run_one(shard, self.run))
        except BaseException as error:
            self.done.put((shard, error))

    def next_outcome(self) -> Outcome[T] | None:
        """Wait for one outcome; None if a shard came back that had been given up, or nothing came for a while."""
        try:
            item = self.done.get(timeout=self._patience_s())
        except queue.Empty:
            return self._give_up_one()
        if isinstance(item, Outcome):
            return item if self.running.pop(item.shard, None) is not None else None
        shard, error = item
        if self.running.pop(shard, None) is None:
            return None
        raise error

    def _patience_s(self) -> float:
        if self.timeout_s is None or not self.running:
            return 1.0
        return max(0.0, min(self.running.values()) + self.timeout_s - time.monotonic())

    def _give_up_one(self) -> Outcome[T] | None:
        now = time.monotonic()
        for shard, started in self.running.items():
            if self.timeout_s is not None and now - started >= self.timeout_s:
                del self.running[shard]
                cancelled = "; its statement was cancelled" if shard.is_connected else ""
                self.cancel(shard)
                error = ShardError(f"no answer within {self.timeout_s:g} s{cancelled}")
                return Outcome(shard, now - started, error=error)
        return None

    def cancel(self, shard: LiveShard) -> None:
        """Cancel in a thread of its own: it may have to connect to a server that does not answer."""
        thread = threading.Thread(target=shard.cancel, daemon=True)
        thread.start()
        self.cancels.append(thread)

    def wait_for_cancels(self) -> None:
        """Let the servers hear of it before the process may end."""
        deadline = time.monotonic() + CANCEL_S
        for cancel in self.cancels:
            cancel.join(max(0.0, deadline - time.monotonic()))
