"""Outcomes as they come: a live line on a terminal, one line for each shard elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from shardctl.cli import diagnostics
from shardctl.errors import Abandoned, Interrupted

if TYPE_CHECKING:
    from shardctl.fleet import LiveShard, Outcome

T = TypeVar("T")


def collect(
    outcomes: Generator[Outcome[T], None, None],
    shards: list[LiveShard],
    *,
    doing: str,
    describe: Callable[[Outcome[T]], str] | None = None,
) -> list[Outcome[T]]:
    """Wait for every shard's outcome, and say how it goes; return them in the order of `shards`.

    Args:
        outcomes: What `fan_out` yields.
        shards: The shards at work.
        doing: What is done, as `migrating`.
        describe: An outcome in one line; None says nothing of single shards.

    Raises:
        Interrupted: By ^C; the facts say which shards are done.
    """
    done: dict[str, Outcome[T]] = {}
    with closing(outcomes), diagnostics.counting(doing, len(shards)) as advance:
        try:
            for outcome in outcomes:
                done[outcome.shard_id] = outcome
                advance(describe(outcome) if describe else None)
        except KeyboardInterrupt as error:
            outcomes.close()
            abandoned = error.shard_ids if isinstance(error, Abandoned) else ()
            raise _interrupted(doing, done, shards, abandoned) from None
    return [done[shard.shard_id] for shard in shards]


def say_waiting(shard_ids: Sequence[str]) -> None:
    """Say why ^C does not end the command at once."""
    names = diagnostics.listed(shard_ids)
    diagnostics.say(f"interrupted: waiting for {names}, which cannot roll back what runs; ^C again abandons it")


def _interrupted(
    doing: str, done: dict[str, Outcome[T]], shards: list[LiveShard], abandoned: Sequence[str]
) -> Interrupted:
    finished = [shard.shard_id for shard in shards if shard.shard_id in done and done[shard.shard_id].is_ok]
    unfinished = [shard.shard_id for shard in shards if shard.shard_id not in finished]
    facts = [f"done: {diagnostics.listed(finished)}"] if finished else []
    facts.append(f"not done: {diagnostics.listed(unfinished)}")
    message = f"interrupted while {doing}: {len(finished)} of {len(shards)} shards are done"
    if abandoned:
        facts.append(f"abandoned: {diagnostics.listed(abandoned)}; a revision may be half applied there")
        return Interrupted(message, facts=facts, hint="look at what was abandoned before you run it again")
    return Interrupted(
        message,
        facts=facts,
        hint="run the same command again; shards that are done are skipped",
    )
