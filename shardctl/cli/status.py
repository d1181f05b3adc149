"""`shardctl status`: where every shard stands, and how the last run on it ended."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import raise_unread
from shardctl.cli.history import is_running, moment
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline
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


def status(
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    summary: Annotated[
        bool | None,
        typer.Option(
            "--summary/--no-summary", help=f"One line for each revision; the default above {MOST_ROWS} shards."
        ),
    ] = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Show where each shard stands, and how its last run ended.

    It works while a run is at work. A shard that does not answer is a row of its own; exit code 4 then, or 3 if none
    answers.
    """
    fleet = open_fleet(config, app)
    selected = select(fleet, shards=shard, labels=label, exclude=exclude)
    asked, _ = without_offline(selected)
    from shardctl.schema.revisions import load_scripts
    from shardctl.schema.status import read_status

    scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    with fleet:
        found = collect(read_status(fleet, asked, scripts, timeout_s=timeout), asked, doing="asking")
    is_short = len(selected) > MOST_ROWS if summary is None else summary
    if format_ in (Format.JSON, Format.NDJSON):
        _emit_objects(selected, found, scripts, format_)
    elif is_short:
        output.emit(SUMMARY, _summary(selected, found), format_)
        _say_exceptions(found)
    else:
        by_shard = {outcome.shard_id: outcome for outcome in found}
        output.emit(COLUMNS, [_row(live, by_shard.get(live.shard_id)) for live in selected], format_)
    if format_ is Format.TABLE:
        _say_half_applied(found)
        _say_skew(found, scripts)
    raise_unread(found)


def _row(live: LiveShard, outcome: Outcome[ShardStatus] | None) -> list[object]:
    if outcome is None:
        return [live.shard_id, None, None, "not asked: offline", None, None, None, None]
    if outcome.value is None:
        return [live.shard_id, None, None, _trouble(outcome), None, None, outcome.problem.partition(": ")[2], None]
    from shardctl.schema.status import behind_of

    revision, last = outcome.value.revision, outcome.value.last
    return [
        live.shard_id,
        str(revision) or None,
        behind_of(revision),
        "half-applied" if outcome.value.left else revision.standing.value,
        f"{last.direction} {last.revision} {last.outcome}" if last else None,
        moment(last) if last else None,
        _note(outcome.value),
        last.who if last else None,
    ]


def _trouble(outcome: Outcome[ShardStatus]) -> str:
    return "unreachable" if isinstance(outcome.error, ShardUnreachable) else "unreadable"


def _note(found: ShardStatus) -> str | None:
    last = found.last
    if last is None:
        return found.problem or None
    return f"process {last.pid}" if is_running(last) else last.error


def _emit_objects(
    selected: list[LiveShard], found: list[Outcome[ShardStatus]], scripts: Scripts, format_: Format
) -> None:
    from shardctl.schema.revisions import messages_of
    from shardctl.schema.status import levels

    messages = messages_of(scripts)
    by_shard = {outcome.shard_id: outcome for outcome in found}
    rows = [_object(live, by_shard.get(live.shard_id), messages) for live in selected]
    skew = [
        {
            "revisions": level.revisions,
            "standing": level.standing.value,
            "behind": level.behind,
            "shards": level.shard_ids,
        }
        for level in levels(found)
    ]
    output.emit(OBJECT, rows, format_, extra={"heads": list(scripts.heads), "levels": skew})


def _object(live: LiveShard, outcome: Outcome[ShardStatus] | None, messages: dict[str, str]) -> list[object]:
    from shardctl.schema.status import behind_of

    if outcome is None or outcome.value is None:
        standing = _trouble(outcome) if outcome else "not asked"
        error = outcome.error.message if outcome and outcome.error else None
        return [live.shard_id, live.shard.state.value, None, standing, None, None, None, None, error]
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


def _summary(selected: list[LiveShard], found: list[Outcome[ShardStatus]]) -> list[list[object]]:
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
            others.setdefault(_trouble(outcome) if outcome else "offline", []).append(live.shard_id)
    return rows + [[None, name, None, len(ids), diagnostics.listed(ids)] for name, ids in others.items()]


def _say_exceptions(found: list[Outcome[ShardStatus]]) -> None:
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


def _say_half_applied(found: list[Outcome[ShardStatus]]) -> None:
    """Say which revisions were left in the middle, and how they go on."""
    for outcome in found:
        left = outcome.value.left if outcome.value else None
        if left is not None:
            command = "migrate" if left.direction == "upgrade" else "migrate downgrade TARGET"
            goes_on = "goes on behind it" if left.is_done else "goes on with it, if it can be done again"
            diagnostics.say(f"{outcome.shard_id}: {left}; `shardctl {command} --shard {outcome.shard_id}` {goes_on}")


def _say_skew(found: list[Outcome[ShardStatus]], scripts: Scripts) -> None:
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
