"""One shard brought to a revision: locked, read, limited, run by the project's own env.py, and read back.

That env.py ended without an error proves nothing: only what the shard's version table says afterwards does.
"""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from dataclasses import replace

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from shardctl.errors import ShardctlError
from shardctl.fleet import LiveShard
from shardctl.schema import events
from shardctl.schema.fitness import refuse_changed, refuse_unfit
from shardctl.schema.goals import UPGRADE_TO_HEAD, Goal
from shardctl.schema.history import Scribe
from shardctl.schema.limits import Terms
from shardctl.schema.printed import apart
from shardctl.schema.results import MigrationResult, failure
from shardctl.schema.revisions import Scripts, read_revisions, read_standing
from shardctl.schema.run_env import check_place, check_steady, version_table_of
from shardctl.schema.shard_run import ShardRun


def upgrade(
    shard: LiveShard,
    scripts: Scripts,
    goal: Goal = UPGRADE_TO_HEAD,
    *,
    expected: tuple[str, ...] | None = None,
    terms: Terms | None = None,
    stop: threading.Event | None = None,
    on_event: events.OnEvent | None = None,
    run_id: str | None = None,
) -> MigrationResult:
    """Bring one shard to a revision, up or down, or record that it is there.

    Args:
        shard: The shard.
        scripts: The project's revisions.
        goal: What to bring it to.
        expected: The revisions that the plan saw; None: whatever it is at.
        terms: How long to wait, and how often to try.
        stop: When set, no further revision is started.
        on_event: Told what happens, from this thread.
        run_id: Names the run in the shard's history; None: a new one.

    Raises:
        Locked: Another run is at work on the shard.
        MigrationFailed: A revision, or env.py, failed; the facts say what state is left.
        Refused: The shard is not as planned, its revision is unknown here, or it has tables and no revision.
        Interrupted: `stop` was set.
        ConfigError: There is no such revision, or the project has several heads.
    """
    version_table = version_table_of(shard, scripts)
    if not shard.backend.is_transactional_ddl:
        shard = replace(shard, _open=set())  # out of reach of `cancel`, which would leave half a revision
    run = ShardRun(
        shard,
        scripts,
        goal,
        terms or Terms(),
        stop or threading.Event(),
        apart(on_event or events.write_printed),
        Scribe(run_id or uuid.uuid4().hex, goal.direction),
    )
    with shard.connect(read_only=False) as connection:
        check_steady(shard, connection)
        with shard.backend.autocommit(connection):
            check_place(shard, connection)
        with run.locked(connection):
            with shard.backend.autocommit(connection):
                before = read_standing(connection, scripts, version_table, goal)
            refuse_changed(before, expected)
            refuse_unfit(shard, scripts, before, goal)
            if not before.pending:
                return MigrationResult(before.revisions, before.revisions, direction=goal.direction)
            run.open_history(connection, before)
            progress = run.run_env(connection)
            after, unreadable = _read_back(shard, connection, version_table)
            if progress.error is None and after is not None and after == scripts.after(goal, before.revisions):
                return MigrationResult(before.revisions, after, tuple(run.applied_ids), goal.direction)
            done_statements = run.settle(connection)
            error = failure(
                shard,
                progress,
                before=before.revisions,
                after=after,
                unreadable=unreadable,
                attempts=run.attempts,
                done_statements=done_statements,
            )
            run.close_history(connection, error)
            raise error from progress.error


def _read_back(shard: LiveShard, connection: Connection, version_table: str) -> tuple[tuple[str, ...] | None, str]:
    """Read what is committed: on the same connection, or on a new one if env.py or the server closed it."""
    try:
        if not connection.closed and not connection.invalidated:
            with suppress(SQLAlchemyError), shard.backend.autocommit(connection):
                return read_revisions(connection, version_table), ""
        with shard.connect() as new:
            return read_revisions(new, version_table), ""
    except ShardctlError as error:
        return None, error.message
