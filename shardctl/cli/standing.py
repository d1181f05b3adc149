"""Where shards stand among the revisions, in words: what `status` and `migrate status` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shardctl.cli import diagnostics
from shardctl.cli.history import is_running, moment
from shardctl.errors import ShardUnreachable

if TYPE_CHECKING:
    from shardctl.fleet import LiveShard, Outcome
    from shardctl.schema.revisions import Scripts
    from shardctl.schema.status import ShardStatus

COLUMNS = ["shard", "revision", "behind", "standing", "last run", "when (UTC)", "note", "by"]
SUMMARY = ["revision", "standing", "behind", "shards", "names"]
OBJECT = ["shard", "state", "revisions", "standing", "behind", "pending", "last_run", "half_applied", "error"]

MOST_ROWS = 40
"""More shards than this are summed up, unless each is asked for."""


def trouble(outcome: Outcome[Any]) -> str:
    """Return what is the matter with a shard that could not be read, in a word."""
    return "unreachable" if isinstance(outcome.error, ShardUnreachable) else "unreadable"


def note(found: ShardStatus) -> str | None:
    """Return what is to be said of a shard's last run: its process while it runs, then its error."""
    last = found.last
    if last is None:
        return found.problem or None
    return f"process {last.pid}" if is_running(last) else last.error


def row_of(live: LiveShard, outcome: Outcome[ShardStatus] | None) -> list[object]:
    """Return a shard's line: None stands for one that was not asked."""
    if outcome is None:
        return [live.shard_id, None, None, "not asked: offline", None, None, None, None]
    if outcome.error is not None:
        return [live.shard_id, None, None, trouble(outcome), None, None, outcome.error.message, None]
    if outcome.value is None:  # a project without migrations
        return [live.shard_id, *[None] * (len(COLUMNS) - 1)]
    from shardctl.schema.status import behind_of

    revision, last = outcome.value.revision, outcome.value.last
    return [
        live.shard_id,
        str(revision) or None,
        behind_of(revision),
        "half-applied" if outcome.value.left else revision.standing.value,
        f"{last.direction} {last.revision} {last.outcome}" if last else None,
        moment(last) if last else None,
        note(outcome.value),
        last.who if last else None,
    ]


def object_of(live: LiveShard, outcome: Outcome[ShardStatus] | None, messages: dict[str, str]) -> list[object]:
    """Return a shard's object of JSON, with all that is known."""
    from shardctl.schema.status import behind_of

    if outcome is None or outcome.error is not None:
        standing = trouble(outcome) if outcome else "not asked"
        error = outcome.error.message if outcome and outcome.error else None
        return [live.shard_id, live.shard.state.value, None, standing, None, None, None, None, error]
    if outcome.value is None:  # a project without migrations
        return [live.shard_id, live.shard.state.value, *[None] * (len(OBJECT) - 2)]
    revision = outcome.value.revision
    return [
        live.shard_id,
        live.shard.state.value,
        list(revision.revisions),
        revision.standing.value,
        behind_of(revision),
        [{"revision": name, "message": messages[name]} for name in revision.pending] if behind_of(revision) else [],
        asdict(outcome.value.last) if outcome.value.last else None,
        asdict(outcome.value.left) if outcome.value.left else None,
        outcome.value.problem or None,
    ]


def heads_and_levels(found: Sequence[Outcome[ShardStatus]], scripts: Scripts) -> dict[str, Any]:
    """Return the project's heads, and where shards stand with the shards that stand there, for JSON."""
    from shardctl.schema.status import levels

    skew = [
        {
            "revisions": level.revisions,
            "standing": level.standing.value,
            "behind": level.behind,
            "shards": level.shard_ids,
        }
        for level in levels(found)
    ]
    return {"heads": list(scripts.heads), "levels": skew}


def summary(selected: Sequence[LiveShard], found: Sequence[Outcome[ShardStatus]]) -> list[list[object]]:
    """Return a line for each place where shards stand, and one for those that cannot be read."""
    from shardctl.schema.status import levels

    rows: list[list[object]] = [
        [
            ", ".join(level.revisions) or None,
            level.standing.value,
            level.behind,
            len(level.shard_ids),
            diagnostics.listed(level.shard_ids),
        ]
        for level in levels(found)
    ]
    others: dict[str, list[str]] = {}
    by_shard = {outcome.shard_id: outcome for outcome in found}
    for live in selected:
        outcome = by_shard.get(live.shard_id)
        if outcome is None or outcome.value is None:
            others.setdefault(trouble(outcome) if outcome else "offline", []).append(live.shard_id)
    return rows + [[None, name, None, len(ids), diagnostics.listed(ids)] for name, ids in others.items()]


def say_exceptions(found: Sequence[Outcome[ShardStatus]]) -> None:
    """Say which last runs did not end well, or have not ended."""
    for outcome in found:
        last = outcome.value.last if outcome.value else None
        if outcome.value is not None and outcome.value.problem:
            diagnostics.say(f"{outcome.shard_id}: {outcome.value.problem}")
        if last is not None and last.outcome != "done":
            text = f"{last.direction} {last.revision} {last.outcome}"
            by = (
                f"since {moment(last)} by {last.who}, process {last.pid}"
                if is_running(last)
                else f"{moment(last)} by {last.who}"
            )
            diagnostics.say(f"{outcome.shard_id}: {text} {by}" + (f": {last.error}" if last.error else ""))


def say_half_applied(found: Sequence[Outcome[ShardStatus]]) -> None:
    """Say which revisions were left in the middle, and how they go on."""
    for outcome in found:
        left = outcome.value.left if outcome.value else None
        if left is not None:
            command = "migrate" if left.direction == "upgrade" else "migrate downgrade TARGET"
            goes_on = "goes on behind it" if left.is_done else "goes on with it, if it can be done again"
            diagnostics.say(f"{outcome.shard_id}: {left}; `shardctl {command} --shard {outcome.shard_id}` {goes_on}")


def say_skew(found: Sequence[Outcome[ShardStatus]], scripts: Scripts) -> None:
    """Say how shards stand apart, and what is pending."""
    from shardctl.schema.revisions import messages_of
    from shardctl.schema.status import levels, pending_on

    places = levels(found)
    if len(places) > 1:
        names = [f"at {', '.join(level.revisions)}" if level.revisions else level.standing.value for level in places]
        parts = [f"{len(level.shard_ids)} {name}" for level, name in zip(places, names, strict=True)]
        diagnostics.say(f"skew: {', '.join(parts)}")
    pending = pending_on(found)
    if pending:
        diagnostics.say("pending:")
    messages = messages_of(scripts)
    for revision, shard_ids in pending.items():
        where = "all" if len(shard_ids) == len(found) else diagnostics.listed(shard_ids)
        diagnostics.say("  " + f"{revision} {messages[revision]}".rstrip(" .") + f" ({where})")
