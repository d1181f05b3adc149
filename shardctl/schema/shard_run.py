"""One run on one shard: its lock, its limits, its history, and another attempt where others were in the way."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from shardctl.errors import Interrupted, ShardctlError
from shardctl.fleet import LiveShard
from shardctl.fleet.live_shard import driver_line
from shardctl.schema import events
from shardctl.schema.fitness import refuse_unversioned
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.history import FAILED, HISTORY, INTERRUPTED, JOURNAL, Scribe, who
from shardctl.schema.journal import HalfApplied, Journal
from shardctl.schema.limits import Terms, is_lock_timeout, pause_s, set_limits
from shardctl.schema.locks import held
from shardctl.schema.printed import printed_to
from shardctl.schema.revisions import Scripts, ShardRevision
from shardctl.schema.run_env import run_env
from shardctl.schema.shard_environment import Progress
from shardctl.schema.steps import Step, revision_of
from shardctl.schema.transactions import Violations, read_violations, refuse_violations


@dataclass(slots=True)
class ShardRun:
    """What one run does on one shard: the `Course` of its env.py."""

    shard: LiveShard
    scripts: Scripts
    goal: Goal
    terms: Terms
    stop: threading.Event
    tell: events.OnEvent
    scribe: Scribe
    attempts: int = 1
    applied_ids: list[str] = field(default_factory=list)
    journal: Journal | None = None
    _own: Connection | None = None
    _session: Any = None
    """The driver's connection that took the lock."""
    _planned: list[Step] = field(default_factory=list)
    _has_history: bool = False
    _started: float = 0.0
    _violations: Violations | None = None
    _is_waiting: bool = True
    """Whether the revision that the history says runs has not started."""

    @contextmanager
    def locked(self, connection: Connection) -> Iterator[None]:
        """Hold the shard's lock, and limit the session that has it."""
        if self._own is None:
            self._own, self._session = connection, connection.connection.dbapi_connection
        with held(self.shard, connection, wait_s=self.terms.lock_wait_s, stop=self.stop, on_event=self.tell):
            self._limit(connection)
            yield

    def _limit(self, connection: Connection) -> None:
        with self.shard.backend.autocommit(connection):
            set_limits(connection, self.terms, f"shardctl {who()} pid {os.getpid()}")

    def open_history(self, connection: Connection, before: ShardRevision) -> None:
        """Make the tables that the run writes to, and read what an earlier run left.

        Raises:
            HalfApplied: It left a revision in the middle, and another one is to run.
            SQLAlchemyError: Whether it did cannot be read.
        """
        tables = (HISTORY,) if self.shard.backend.is_transactional_ddl else (HISTORY, JOURNAL)
        try:
            with self.shard.backend.autocommit(connection):
                self.scribe.open(connection, tables, before.own_tables)
                if JOURNAL in tables:
                    self.journal = Journal(self.shard.shard_id, self.goal.direction)
                    self.journal.load(connection)
                    self._check_left(self.journal, connection, before)
                self.scribe.start(connection, before.pending[0])
        except SQLAlchemyError as error:
            if connection.invalidated or JOURNAL.name in before.own_tables:
                raise
            self.journal = None
            connection.rollback()
            self.tell(events.HistoryNotKept(self.shard.shard_id, driver_line(error)))
        else:
            self._has_history = True

    def _check_left(self, journal: Journal, connection: Connection, before: ShardRevision) -> None:
        """Refuse to leave a half-applied revision where it is."""
        if self.goal.direction is Direction.STAMP:
            return
        if not journal.found:
            refuse_unversioned(self.shard, before, is_unversioned=bool(before.tables and not before.revisions))
        lineage = self.scripts.lineage(before.revisions)
        for (direction, revision), entries in list(journal.found.items()):
            if (direction == Direction.UPGRADE) is (revision in lineage):  # by hand, or by Alembic itself
                journal.drop(connection, direction, revision)
            elif (direction, revision) != (self.goal.direction, before.pending[0]):
                raise HalfApplied(self.shard.shard_id, revision, direction, len(entries), "an earlier run ended there")

    def settle(self, connection: Connection) -> int | None:
        """Return how many statements of the revision that failed are done, where they are journaled."""
        if self.journal is None or connection.closed or connection.invalidated:
            return None
        with suppress(SQLAlchemyError), self.shard.backend.autocommit(connection):
            return self.journal.settle(connection)
        return None

    def close_history(self, connection: Connection, error: ShardctlError) -> None:
        """Write how the run failed, if that can be written."""
        if not self._has_history:
            return
        with suppress(SQLAlchemyError, ShardctlError):
            if connection.closed or connection.invalidated:
                with self.shard.connect(read_only=False) as new, self.shard.backend.autocommit(new):
                    self._write_end(new, error)
            else:
                with self.shard.backend.autocommit(connection):
                    self._write_end(connection, error)

    def _write_end(self, connection: Connection, error: ShardctlError) -> None:
        if isinstance(error, Interrupted) and self._is_waiting:
            self.scribe.withdraw(connection)
        else:
            is_cancelled = self.stop.is_set() and self.shard.backend.is_transactional_ddl
            is_interrupted = isinstance(error, Interrupted) or is_cancelled
            self.scribe.close(connection, INTERRUPTED if is_interrupted else FAILED, error.message)

    def run_env(self, connection: Connection) -> Progress:
        """Run env.py, again where it only had to wait for others."""
        shard_id, tell = self.shard.shard_id, self.tell
        while True:
            with printed_to(lambda line: tell(events.Printed(shard_id, line))):
                progress = run_env(self.shard, self.scripts, connection, self)
            if not self._is_worth_another(progress) or connection.closed or connection.invalidated:
                return progress
            connection.rollback()
            self.settle(connection)
            wait_s = pause_s(self.attempts)
            assert progress.error is not None
            revision, error = progress.revision, driver_line(progress.error)
            self.tell(events.Retried(self.shard.shard_id, revision, self.attempts, wait_s, error))
            if self.stop.wait(wait_s):
                progress.error = Interrupted("stopped before another attempt")
                return progress
            self.attempts += 1

    def _is_worth_another(self, progress: Progress) -> bool:
        can_go_on = self.shard.backend.is_transactional_ddl or self.journal is not None
        return (
            can_go_on
            and not progress.left_transaction
            and self.attempts <= self.terms.retries
            and is_lock_timeout(progress.error)
        )

    @contextmanager
    def on_connection(self, connection: Connection) -> Iterator[None]:
        """Have the lock, and limits, where the revisions will run: env.py may have made it another connection."""
        if self._has_lost_lock():
            with self.locked(connection):
                yield
            return
        if connection is not self._own:
            self._limit(connection)
        yield

    def _has_lost_lock(self) -> bool:
        """Whether the session that took the lock is over; SQLAlchemy connects again without a word."""
        own = self._own
        if own is None or self.shard.backend.name == "sqlite":
            return False
        return own.closed or own.invalidated or own.connection.dbapi_connection is not self._session

    def steps(self, revisions: tuple[str, ...]) -> Iterator[Step]:
        self._planned = self.scripts.steps(self.goal, revisions)
        for step in self._planned:
            if self.stop.is_set():
                raise Interrupted("stopped before the next revision")
            yield step

    @contextmanager
    def around(self, step: Step, connection: Connection) -> Iterator[None]:
        self._is_waiting, self._started = False, time.monotonic()
        shard_id, revision, direction = self.shard.shard_id, revision_of(step), self.goal.direction
        self.tell(events.RevisionStarted(shard_id, revision, direction, *self._at(step)))
        if self._violations is None:
            self._violations = read_violations(connection)
        if self.journal is None or direction is Direction.STAMP:
            yield
            return
        left = len(self.journal.found.get((direction, revision), ()))
        if left:
            self.tell(events.RevisionResumed(shard_id, revision, direction, left))
        with self.journal.keep(connection, revision):
            yield

    def applied(self, step: Step, connection: Connection) -> None:
        number, _ = self._at(step)
        violations = read_violations(connection)
        refuse_violations(self._violations or Counter(), violations)
        self._violations = violations
        if self.journal is not None and self.goal.direction is Direction.STAMP:
            self.journal.forget_all(connection)
        elif self.journal is not None:
            self.journal.forget(connection)
        if self._has_history:
            following = revision_of(self._planned[number]) if number < len(self._planned) else None
            self.scribe.finish(connection, following)

    def committed(self, step: Step) -> None:
        number, total = self._at(step)
        self._is_waiting, self.attempts = True, 1
        self.applied_ids.append(revision_of(step))
        seconds = time.monotonic() - self._started
        self.tell(
            events.RevisionFinished(self.shard.shard_id, revision_of(step), self.goal.direction, seconds, number, total)
        )

    def _at(self, step: Step) -> tuple[int, int]:
        return self._planned.index(step) + 1, len(self._planned)
