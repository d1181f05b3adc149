"""What Alembic runs to bring a shard from its revisions to a goal: pure, no database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic.runtime.migration import RevisionStep, StampStep
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from shardctl.errors import Refused
from shardctl.schema.goals import Direction, Goal

Step = RevisionStep | StampStep
"""A revision that is run, or one that is only written down."""


def steps_to(
    directory: ScriptDirectory, goal: Goal, wanted: tuple[str, ...] | None, revisions: tuple[str, ...]
) -> list[Step]:
    """Return what Alembic runs.

    Args:
        directory: The project's revisions.
        goal: The goal.
        wanted: The revisions that it stands for; None if that depends on where the shard is.
        revisions: The shard's own.

    Raises:
        Refused: The goal cannot be reached from there.
    """
    if goal.purges:
        return _replacing(directory, revisions, wanted or ())
    current: Any = revisions  # as alembic.command passes it on
    try:
        if goal.direction is Direction.STAMP:
            return list(directory._stamp_revs(wanted or goal.target, current))
        if goal.direction is Direction.DOWNGRADE:
            return list(directory._downgrade_revs(goal.target, current))
        if wanted is not None and set(wanted) <= set(revisions):
            return []
        return list(directory._upgrade_revs(goal.target, current))
    except (CommandError, AssertionError) as error:
        # The first is not always the latter: `0001+9` fails inside of Alembic.
        raise _unreachable(directory, goal, revisions, error) from error


def revision_of(step: Step) -> str:
    """Return the id of the revision that a step runs, or, for a stamp, writes."""
    if isinstance(step, RevisionStep):
        return str(step.revision.revision)
    return ", ".join(step.to_revisions) or "base"


def _replacing(directory: ScriptDirectory, revisions: Sequence[str], wanted: Sequence[str]) -> list[Step]:
    """Return the steps from revisions that the project need not have; where there is one to write, the first does all.

    Alembic's own purge commits an empty version table in between.
    """
    old = [revision for revision in revisions if revision not in wanted]
    new = [revision for revision in wanted if revision not in revisions]

    def step(old: Sequence[str], new: Sequence[str], *, is_branch: bool = True) -> Step:
        return StampStep(tuple(old), tuple(new), bool(new), is_branch, directory.revision_map)

    first = [step(old, new[:1], is_branch=False)] if old and new else [step([revision], []) for revision in old]
    return [*first, *(step([], [revision]) for revision in (new[1:] if old else new))]


def _unreachable(directory: ScriptDirectory, goal: Goal, revisions: tuple[str, ...], error: Exception) -> Refused:
    place = ", ".join(f"`{revision}`" for revision in revisions) or "`base`"
    text = str(error).partition("\n")[0]
    if not goal.is_count or len(revisions) > 1:
        return Refused(f"`{goal.target}` cannot be reached from {place}" + (f": {text}" if text else ""))
    if "-" in goal.target:
        number, where = len(list(directory.iterate_revisions(revisions, "base"))) if revisions else 0, "behind"
    else:
        number, where = len(list(directory.iterate_revisions("heads", revisions or "base"))), "ahead"
    lie = "no revision lies" if not number else "1 revision lies" if number == 1 else f"{number} revisions lie"
    return Refused(f"cannot go `{goal.target}` from {place}: {'only ' if number else ''}{lie} {where}")
