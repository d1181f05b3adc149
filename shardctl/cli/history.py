"""`shardctl history`: what ran on the shards, by what each of them remembers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import raise_unread
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import ConfigError

if TYPE_CHECKING:
    from shardctl.schema.history import HistoryEntry
    from shardctl.schema.runs import Run

COLUMNS = ["run", "when (UTC)", "direction", "revisions", "shards", "seconds", "outcome", "error", "by"]
OBJECT = ["run", "started_at", "direction", "revisions", "shards", "seconds", "outcome", "outcomes", "error", "who"]
ONE_RUN = ["shard", "revision", "direction", "when (UTC)", "seconds", "outcome", "error", "by"]
ONE_RUN_OBJECT = ["shard", "run_id", "revision", "direction", "started_at", "finished_at"]
ONE_RUN_OBJECT += ["seconds", "outcome", "who", "pid", "error"]

_MOST_REVISIONS = 3
_SHORT = 8  # letters of a run's id, which name it as well


def history(
    run: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="This run, by shard and revision; its first letters do.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only runs that did not end well.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most this many runs.")] = 20,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Show what ran on the shards, newest first.

    Each shard keeps its own history. Exit code 4: some could not be read.
    """
    fleet = open_fleet(config, app)
    asked, _ = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    from shardctl.schema.runs import Wanted, read_history, runs_of

    wanted = Wanted(run_id=run, runs=None if run else limit, is_failed=failed)
    with fleet:
        found = collect(read_history(fleet, asked, wanted, timeout_s=timeout), asked, doing="reading histories")
    runs = runs_of({outcome.shard_id: outcome.value for outcome in found if outcome.value})
    if failed:
        runs = [entry for entry in runs if entry.outcome not in ("running", "done")]
    if run is not None:
        _check(run, runs, is_whole=all(outcome.is_ok for outcome in found))
        _emit_run(runs, format_)
    elif format_ in (Format.JSON, Format.NDJSON):
        output.emit(OBJECT, [_object(entry) for entry in runs[:limit]], format_)
    elif runs or format_ is not Format.TABLE:
        width = _SHORT if format_ is Format.TABLE else None
        output.emit(COLUMNS, [_row(entry, width) for entry in runs[:limit]], format_)
    elif all(outcome.is_ok for outcome in found):
        diagnostics.say("no run failed on these shards" if failed else "nothing ran on these shards yet")
    raise_unread(found)


def moment(entry: HistoryEntry) -> str:
    """Return when a revision ended, or began if it runs."""
    return (entry.finished_at or entry.started_at).strftime("%Y-%m-%d %H:%M:%S")


def is_running(entry: HistoryEntry) -> bool:
    """Say whether a revision runs now."""
    return entry.outcome == "running"


def _check(run: str, runs: list[Run], *, is_whole: bool) -> None:
    if len(runs) > 1:
        names = diagnostics.listed([f"`{entry.run_id}`" for entry in runs])
        raise ConfigError(f"`{run}` is the beginning of {len(runs)} runs: {names}")
    if not runs and is_whole:
        raise ConfigError(f"no run `{run}` on these shards", hint="`shardctl history` lists the latest of them")


def _emit_run(runs: list[Run], format_: Format) -> None:
    entries = [(shard_id, entry) for run in runs for shard_id, found in run.entries.items() for entry in found]
    if format_ in (Format.JSON, Format.NDJSON):
        rows = [_entry_object(shard_id, entry) for shard_id, entry in entries]
        output.emit(ONE_RUN_OBJECT, rows, format_)
        return
    output.emit(ONE_RUN, [_entry_row(shard_id, entry) for shard_id, entry in entries], format_)


def _entry_object(shard_id: str, entry: HistoryEntry) -> list[object]:
    values = {"shard": shard_id, "seconds": entry.seconds, **asdict(entry)}
    return [values[name] for name in ONE_RUN_OBJECT]


def _entry_row(shard_id: str, entry: HistoryEntry) -> list[object]:
    seconds = None if entry.seconds is None else round(entry.seconds, 2)
    started = entry.started_at.strftime("%Y-%m-%d %H:%M:%S")
    return [
        shard_id,
        entry.revision,
        entry.direction,
        started,
        seconds,
        entry.outcome,
        entry.error,
        f"{entry.who}, process {entry.pid}",
    ]


def _row(run: Run, width: int | None) -> list[object]:
    first, revisions = run.first, run.revisions
    more = f" and {len(revisions) - _MOST_REVISIONS} more" if len(revisions) > _MOST_REVISIONS else ""
    return [
        run.run_id[:width],
        first.started_at.strftime("%Y-%m-%d %H:%M:%S"),
        first.direction,
        ", ".join(revisions[:_MOST_REVISIONS]) + more,
        len(run.entries),
        None if run.seconds is None else round(run.seconds, 2),
        _outcome(run),
        run.error,
        first.who,
    ]


def _outcome(run: Run) -> str:
    counts = Counter(run.outcomes.values())
    if len(counts) == 1:
        return run.outcome
    return ", ".join(f"{outcome} on {number}" for outcome, number in sorted(counts.items()))


def _object(run: Run) -> list[object]:
    first = run.first
    return [
        run.run_id,
        first.started_at,
        first.direction,
        list(run.revisions),
        list(run.entries),
        run.seconds,
        run.outcome,
        run.outcomes,
        run.error,
        first.who,
    ]
