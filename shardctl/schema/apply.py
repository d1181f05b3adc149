"""`migrate`: each shard to the head, by the project's own env.py, and then read back.

That env.py ended without an error proves nothing: only what the shard's version table says afterwards does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from alembic.runtime.migration import RevisionStep, StampStep
from sqlalchemy.exc import SQLAlchemyError

from shardctl.errors import Interrupted, Refused, ShardctlError, ShardError
from shardctl.fleet import LiveShard
from shardctl.fleet.live_shard import driver_line
from shardctl.schema.goals import UPGRADE_TO_HEAD, Direction, Goal
from shardctl.schema.revisions import Scripts, ShardRevision, Standing, read_revisions, read_standing
from shardctl.schema.run_env import Progress, check_place, run_env, version_table_of


@dataclass(frozen=True, slots=True)
class MigrationResult:
    """One shard brought to a revision."""

    from_: tuple[str, ...]
    to: tuple[str, ...]
    applied: tuple[str, ...] = ()
    """The revisions that ran, first to last."""

    @property
    def outcome(self) -> str:
        return "upgraded" if self.applied else "at head"


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


def upgrade(
    shard: LiveShard, scripts: Scripts, goal: Goal = UPGRADE_TO_HEAD, *, stop: threading.Event | None = None
) -> MigrationResult:
    """Bring one shard to a revision.

    Args:
        shard: The shard.
        scripts: The project's revisions.
        goal: What to bring it to.
        stop: When set, no further revision is started.

    Raises:
        MigrationFailed: A revision, or env.py, failed; the facts say what state is left.
        Refused: The shard's revision is unknown here, or it has tables and no revision.
        ConfigError: There is no such revision, or the project has several heads.
    """
    version_table = version_table_of(shard, scripts)
    if not shard.backend.is_transactional_ddl:
        shard = replace(shard, _open=set())  # out of reach of `cancel`, which would leave half a revision
    with shard.connect(read_only=False) as connection:
        check_place(shard, connection)
        before = read_standing(connection, scripts, version_table, goal)
        refuse_unfit(shard, scripts, before, goal)
        if not before.pending:
            return MigrationResult(before.revisions, before.revisions)
        connection.rollback()

        def steps(revisions: tuple[str, ...]) -> Iterator[RevisionStep | StampStep]:
            for step in scripts.steps(goal, revisions):
                if stop is not None and stop.is_set():
                    raise Interrupted("stopped before the next revision")
                yield step

        progress = run_env(shard, scripts, connection, steps)
    after, unreadable = _read_back(shard, scripts)
    if progress.error is None and after is not None and after == scripts.after(goal, before.revisions):
        return MigrationResult(before.revisions, after, tuple(progress.applied))
    raise _failure(shard, before, after, unreadable, progress) from progress.error


def refuse_unfit(shard: LiveShard, scripts: Scripts, found: ShardRevision, goal: Goal = UPGRADE_TO_HEAD) -> None:
    """Refuse a shard that the project's revisions cannot be run on.

    Raises:
        Refused: Its revision is unknown here, or it has tables and no revision, and is not to be stamped with one.
    """
    if found.standing is Standing.UNKNOWN:
        strange = ", ".join(f"`{revision}`" for revision in found.revisions if revision not in scripts.known)
        raise Refused(
            f"the shard is at revision {strange}, which `{scripts.folder.name}` does not have",
            hint="a newer version of the project migrated it: use that one",
        )
    if found.standing is Standing.UNVERSIONED and goal.direction is not Direction.STAMP:
        raise Refused(
            f"the shard has {counted(len(found.tables), 'table')} and no revision",
            hint=f"if its tables are those of the head, `{adopt_command(shard)}` adopts it",
        )


def adopt_command(shard: LiveShard) -> str:
    """Return the command that records the head as the revision of a shard that has its tables already."""
    return f"shardctl migrate stamp head --shard {shard.shard_id}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"


def _read_back(shard: LiveShard, scripts: Scripts) -> tuple[tuple[str, ...] | None, str]:
    """Read the version table on a connection of its own."""
    try:
        with shard.connect() as connection:
            return read_revisions(connection, version_table_of(shard, scripts)), ""
    except ShardctlError as error:
        return None, error.message


def _failure(
    shard: LiveShard, before: ShardRevision, after: tuple[str, ...] | None, unreadable: str, progress: Progress
) -> ShardctlError:
    error, revision = progress.error, progress.revision
    if after is None:
        left = f"its revision cannot be read now: {unreadable}"
    else:
        left = f"at {', '.join(f'`{entry}`' for entry in after)}" if after else "at no revision"
    if isinstance(error, Interrupted):
        return Interrupted(error.message, facts=[f"the shard is whole, {left}"])
    is_half_done = revision is not None and (not shard.backend.is_transactional_ddl or progress.left_transaction)
    if revision is None:
        state = f"the shard is {left}" if after is not None else left
    elif progress.left_transaction:
        state = f"revision `{revision}` committed in an `autocommit_block` and may be half applied; the shard is {left}"
    elif is_half_done:
        state = f"{shard.backend.name} rolls back no CREATE or ALTER: `{revision}` may be half applied; still {left}"
    else:
        state = f"rolled back: still {left}"
    return MigrationFailed(
        _what_failed(progress),
        from_=before.revisions,
        to=after,
        revision=revision,
        is_half_done=is_half_done,
        facts=[state],
        hint=error.hint if isinstance(error, ShardctlError) else None,
    )


def _what_failed(progress: Progress) -> str:
    where = f"revision `{progress.revision}`" if progress.revision else "env.py"
    error = progress.error
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
