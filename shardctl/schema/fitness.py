"""Which shards a plan fits, and why it does not fit others."""

from __future__ import annotations

from shardctl.errors import Refused
from shardctl.fleet import LiveShard
from shardctl.schema.goals import UPGRADE_TO_HEAD, Direction, Goal
from shardctl.schema.revisions import Scripts, ShardRevision, Standing


def refuse_changed(found: ShardRevision, expected: tuple[str, ...] | None) -> None:
    """Refuse a shard that is not where the plan saw it.

    Raises:
        Refused: It is somewhere else.
    """
    if expected is not None and set(found.revisions) != set(expected):
        was, now = (", ".join(f"`{entry}`" for entry in revisions) for revisions in (expected, found.revisions))
        raise Refused(
            f"changed since the plan: it was at {was or 'no revision'}, and is at {now or 'no revision'}",
            hint="run the same command again: it makes a new plan",
        )


def refuse_unfit(shard: LiveShard, scripts: Scripts, found: ShardRevision, goal: Goal = UPGRADE_TO_HEAD) -> None:
    """Refuse a shard that the project's revisions cannot be run on.

    Raises:
        Refused: Its revision is unknown here, or it has tables and no revision, and is not to be stamped with one.
    """
    if found.standing is Standing.UNKNOWN and not goal.purges:
        strange = ", ".join(f"`{revision}`" for revision in found.revisions if revision not in scripts.known)
        raise Refused(
            f"the shard is at revision {strange}, which `{scripts.folder.name}` does not have",
            hint="a newer version of the project migrated it: use that one; if the revision is lost,"
            f" `shardctl migrate stamp REVISION --purge --shard {shard.shard_id}` writes down another",
        )
    is_unversioned = found.standing is Standing.UNVERSIONED and goal.direction is not Direction.STAMP
    refuse_unversioned(shard, found, is_unversioned=is_unversioned)


def refuse_unversioned(shard: LiveShard, found: ShardRevision, *, is_unversioned: bool) -> None:
    """Refuse a shard whose tables no migration made.

    Raises:
        Refused: It is one.
    """
    if is_unversioned:
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
