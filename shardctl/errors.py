"""The errors a caller is meant to catch, and the exit code that each one means.

An error carries a message (what failed, and where), facts (indented lines below it) and a hint (one thing to do next).
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says when it ends."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    FAILED = 3
    PARTIAL = 4
    REFUSED = 5
    LOCKED = 6
    BUG = 70
    INTERRUPTED = 130


class ShardctlError(Exception):
    """The base of every error that shardctl raises on purpose.

    Args:
        message: What failed and where: lower case, no full stop.
        facts: Further lines, the driver's own among them.
        hint: What to do next.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, facts: Iterable[str] = (), hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.facts = tuple(facts)
        self.hint = hint


class ConfigError(ShardctlError):
    """The shard map, the models, or the command line is wrong."""

    exit_code = ExitCode.USAGE


class UnknownName(ConfigError):
    """A name that nothing answers to; the hint names the nearest one that exists."""

    def __init__(self, message: str, *, name: str, known: Iterable[str], hint: str | None = None) -> None:
        candidates = sorted(set(known))
        nearest = nearest_name(name, candidates)
        if nearest is not None:
            suggestion = f"did you mean `{nearest}`?"
            hint = f"{suggestion} {hint}" if hint else suggestion
        elif candidates and hint is None:
            shown = ", ".join(f"`{candidate}`" for candidate in candidates[:8])
            hint = f"use one of {shown}" + (f" and {len(candidates) - 8} more" if len(candidates) > 8 else "")
        super().__init__(message, hint=hint)


class QueryRefused(ShardctlError):
    """A statement whose answer over several shards might be wrong."""

    exit_code = ExitCode.REFUSED


class UnreadableStatement(QueryRefused):
    """A statement that is none in the dialect that it should be in."""

    exit_code = ExitCode.USAGE


class NoPlacement(ShardctlError):
    """A key, or an object, that the shard map gives no shard to."""

    exit_code = ExitCode.USAGE


class ShardError(ShardctlError):
    """One shard failed; the message names it."""


class ShardUnreachable(ShardError):
    """One shard could not be connected to."""


class PartialFailure(ShardctlError):
    """Some shards are done, some are not: run it again."""

    exit_code = ExitCode.PARTIAL


class Refused(ShardctlError):
    """Refused because of the state of the world, or declined by the user."""

    exit_code = ExitCode.REFUSED


class Locked(ShardctlError):
    """Another run is at work on the shard; the message names it."""

    exit_code = ExitCode.LOCKED


class Interrupted(ShardctlError):
    """Stopped by the user; the facts say what is left."""

    exit_code = ExitCode.INTERRUPTED


class Abandoned(KeyboardInterrupt):
    """A second ^C, while shards were waited for that cannot roll back what runs on them."""

    def __init__(self, shard_ids: Iterable[str]) -> None:
        super().__init__()
        self.shard_ids = tuple(shard_ids)


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like `name`, or None if none does."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[matches[0]] if matches else None
