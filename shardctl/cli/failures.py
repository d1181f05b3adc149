"""What went wrong on shards, as one error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shardctl.errors import ExitCode, Locked, PartialFailure, Refused, ShardctlError

if TYPE_CHECKING:
    from shardctl.fleet import Outcome

MOST_HINTS = 4
"""Of single shards: many have the same trouble, each with its own name in the hint."""

LEAVE_OUT = "`--exclude NAME` leaves a shard out"


def failed_of(outcomes: Sequence[Outcome[Any]]) -> list[Outcome[Any]]:
    """Return those that failed."""
    return [outcome for outcome in outcomes if outcome.error is not None]


def one_error(
    message: str,
    failed: Sequence[Outcome[Any]],
    *,
    is_partial: bool,
    facts: Sequence[str] = (),
    hint: str | None = None,
) -> ShardctlError:
    """Return one error for all shards that failed.

    Args:
        message: What became of the command.
        failed: Their outcomes; their hints come first.
        is_partial: Whether something was done all the same.
        facts: Lines behind their problems.
        hint: What to do then.

    Returns:
        Locked, or Refused, if each was; PartialFailure if something was done, although not if each was locked.
    """
    from shardctl.fleet import grouped_problems

    codes = {outcome.error.exit_code for outcome in failed if outcome.error}
    kind: type[ShardctlError] = ShardctlError
    if codes == {ExitCode.LOCKED}:
        kind = Locked
    elif is_partial:
        kind = PartialFailure
    elif codes == {ExitCode.REFUSED}:
        kind = Refused
    own = list(dict.fromkeys(outcome.error.hint for outcome in failed if outcome.error and outcome.error.hint))
    shown = own[:MOST_HINTS] + ([f"and {len(own) - MOST_HINTS} more like these"] if len(own) > MOST_HINTS else [])
    hints = [*shown, *([hint] if hint else [])]
    return kind(message, facts=[*grouped_problems(failed), *facts], hint="\n      ".join(hints) or None)


def raise_failures(outcomes: Sequence[Outcome[Any]], *, done: str, is_read: bool = False) -> None:
    """Raise one error for all shards that failed.

    Args:
        outcomes: Of all shards.
        done: What happened to the others, as `migrated`.
        is_read: Whether shards are only read: there is nothing to skip then, and they can be left out.

    Raises:
        ShardctlError: That of `one_error`.
    """
    failed = failed_of(outcomes)
    if not failed:
        return
    message = f"{done} {len(outcomes) - len(failed)} of {len(outcomes)} shards"
    hint = LEAVE_OUT if is_read else f"{fix(failed)} and run the same command again; finished shards are skipped"
    raise one_error(message, failed, is_partial=len(failed) < len(outcomes), hint=hint)


def raise_unread(found: Sequence[Outcome[Any]]) -> None:
    """Raise one error for the shards that could not be read.

    Raises:
        ShardctlError: That of `one_error`.
    """
    failed = failed_of(found)
    if failed:
        message = f"{len(failed)} of {len(found)} shards could not be read"
        raise one_error(message, failed, is_partial=len(failed) < len(found), hint=LEAVE_OUT)


def fix(failed: Sequence[Outcome[Any]]) -> str:
    """Return what a hint begins with: to fix these shards, by name where they are few."""
    return f"fix {' and '.join(f'`{outcome.shard_id}`' for outcome in failed) if len(failed) <= 3 else 'them'}"
