"""What came of a migration on one shard, in a form that says what is left to do."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError, StatementError

from shardctl.errors import Interrupted, ShardctlError, ShardError
from shardctl.fleet import LiveShard
from shardctl.fleet.live_shard import driver_line
from shardctl.schema.goals import Direction
from shardctl.schema.journal import HalfApplied
from shardctl.schema.limits import is_lock_timeout
from shardctl.schema.shard_environment import Progress

_DONE = {Direction.UPGRADE: "upgraded", Direction.DOWNGRADE: "downgraded", Direction.STAMP: "stamped"}


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """One shard brought to a revision."""

    from_: tuple[str, ...]
    to: tuple[str, ...]
    applied: tuple[str, ...] = ()
    """The revisions that ran, first to last."""
    direction: Direction = Direction.UPGRADE

    @property
    def outcome(self) -> str:
        if self.applied:
            return _DONE[self.direction]
        return "at head" if self.direction is Direction.UPGRADE else "unchanged"


class MigrationFailed(ShardError):
    """One shard was not brought to the revision."""

    def __init__(
        self,
        message: str,
        *,
        from_: tuple[str, ...],
        to: tuple[str, ...] | None,
        revision: str | None,
        is_half_done: bool,
        facts: Sequence[str],
        hint: str | None = None,
    ) -> None:
        super().__init__(message, facts=facts, hint=hint)
        self.from_ = from_
        self.to = to
        """What the version table says now; None if it cannot be read."""
        self.revision = revision
        """The revision that failed; None if env.py did."""
        self.is_half_done = is_half_done
        """Whether parts of the revision may have stayed."""


def failure(
    shard: LiveShard,
    progress: Progress,
    *,
    before: tuple[str, ...],
    after: tuple[str, ...] | None,
    unreadable: str = "",
    attempts: int = 1,
    done_statements: int | None = None,
) -> ShardctlError:
    """Return the error of a shard that was not brought to its goal.

    Args:
        shard: The shard.
        progress: How far env.py came.
        before: The shard's revisions when the run began.
        after: Its revisions now; None if they cannot be read.
        unreadable: Why they cannot.
        attempts: How often the revision was tried.
        done_statements: How many statements of it are done and journaled; None where there is no journal.
    """
    error, revision = progress.error, progress.revision
    if after is None:
        left = f"the shard's revision cannot be read now: {unreadable}"
    else:
        left = f"at {', '.join(f'`{entry}`' for entry in after)}" if after else "at no revision"
    if isinstance(error, Interrupted):
        whole = f"the shard is whole, {left}"
        state = _journaled(shard, str(revision), done_statements, left) if done_statements else whole
        return Interrupted(error.message, facts=[state])
    is_half_done = revision is not None and (not shard.backend.is_transactional_ddl or progress.left_transaction)
    if after is None:
        extent = "may be half applied" if is_half_done else "is there as a whole, or not at all"
        state = f"`{revision}` {extent}; {left}" if revision is not None else left
    elif revision is None:
        state = f"the shard is {left}"
    elif progress.left_transaction:
        state = f"revision `{revision}` committed in an `autocommit_block` and may be half applied; the shard is {left}"
    elif done_statements is not None and not isinstance(error, HalfApplied):
        state = _journaled(shard, str(revision), done_statements, left)
        is_half_done = done_statements > 0
    elif is_half_done:
        state = f"{shard.backend.name} rolls back no CREATE or ALTER: `{revision}` may be half applied; still {left}"
    else:
        state = f"rolled back: still {left}"
    return MigrationFailed(
        _what_failed(progress),
        from_=before,
        to=after,
        revision=revision,
        is_half_done=is_half_done,
        facts=[*_line(progress), *_locked_statement(error, attempts), *_facts_of(error), state],
        hint=error.hint if isinstance(error, ShardctlError) else None,
    )


def _journaled(shard: LiveShard, revision: str, done: int, left: str) -> str:
    if not done:
        return f"nothing of `{revision}` is left: still {left}"
    statements = "first statement is" if done == 1 else f"first {done} statements are"
    return f"the {statements} done, and the next run of `{revision}` goes on behind; still {left}"


def _line(progress: Progress) -> list[str]:
    """Say which line of the revision's file failed: the error's own words seldom do."""
    error = progress.error
    if error is None or isinstance(error, ShardctlError):
        return []
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_globals.get("revision") == progress.revision and "down_revision" in frame.f_globals:
            return [f"`{Path(frame.f_code.co_filename).name}`, line {line}"]
    return []


def _facts_of(error: BaseException | None) -> tuple[str, ...]:
    return error.facts if isinstance(error, ShardctlError) else ()


def _locked_statement(error: BaseException | None, attempts: int) -> list[str]:
    """Say what was waited for: the driver's words do not name it."""
    if not is_lock_timeout(error) or not isinstance(error, StatementError):
        return []
    times = f", tried {attempts} times" if attempts > 1 else ""
    return [f"locked by others{times}: {' '.join((error.statement or '').split())[:200]}"]


def _what_failed(progress: Progress) -> str:
    where = f"revision `{progress.revision}`" if progress.revision else "env.py"
    where = "making the version table" if progress.is_making_version_table else where
    error = progress.error
    if isinstance(error, HalfApplied):
        return error.message
    if isinstance(error, ShardctlError):
        return f"{where}: {error.message}"
    if error is not None:
        original = error.orig if isinstance(error, SQLAlchemyError) and hasattr(error, "orig") else None
        return f"{where} failed: {type(original or error).__name__}: {driver_line(error)}"
    if progress.revision:
        return f"{where} failed, and env.py swallowed the error"
    if progress.has_asked:
        return "env.py ended without an error, but the version table does not have the revision"
    return "env.py ended without `context.run_migrations()`"
