"""`shardctl status`: one screen of all shards, which a person on call reads first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardctl.cli import options, output, standing
from shardctl.cli.failures import raise_unread
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import cluster_name, open_fleet, select, without_offline
from shardctl.errors import ConfigError

if TYPE_CHECKING:
    from shardctl.cli.status_reading import LastCheck, Seen
    from shardctl.cli.status_screen import Screen
    from shardctl.fleet import Fleet, LiveShard, Outcome
    from shardctl.schema.revisions import Scripts
    from shardctl.schema.status import ShardStatus

MEASURED = ["engine", "latency_ms", "rows", "rows_are", "bytes", "bytes_are", "skew"]


def status(
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    summary: Annotated[
        bool | None,
        typer.Option(
            "--summary/--no-summary", help=f"One line for each revision; the default above {standing.MOST_ROWS} shards."
        ),
    ] = None,
    watch: Annotated[
        float | None,
        typer.Option(
            "--watch", metavar="[SECONDS]", min=0.1, max=86_400, help="Ask again and again, until ^C; every 2 seconds."
        ),
    ] = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Show all shards on one screen: who is up, where, and how full.

    Shards, sizes and last runs are asked for now; what checks found was recorded by them, and has its age. Rows with ~
    are the engine's estimate. A shard that does not answer is a row of its own; exit code 4 then, or 3 if none answers.
    """
    if watch is not None and (format_ is not Format.TABLE or not output.is_terminal()):
        raise ConfigError("`--watch` draws on a terminal, and only there", hint="`watch shardctl status`, or a loop")
    fleet = open_fleet(config, app)
    selected = select(fleet, shards=shard, labels=label, exclude=exclude)
    asked, _ = without_offline(selected)
    from shardctl.cli.status_reading import last_checks, not_counted, read_seen

    scripts = _scripts(fleet)
    without = not_counted(fleet)
    if watch is not None:
        from shardctl.cli.status_watch import watch_shards

        watch_shards(fleet, selected, scripts, without, every_s=watch, timeout_s=timeout)
        return
    with fleet:
        found = collect(read_seen(fleet, asked, scripts, timeout_s=timeout), asked, doing="asking")
    screen = screen_of(fleet, selected, found, scripts, without, last_checks(fleet))
    is_short = len(selected) > standing.MOST_ROWS if summary is None else summary
    show(screen, found, scripts, format_, is_short=is_short)
    raise_unread(found)


def screen_of(
    fleet: Fleet,
    selected: Sequence[LiveShard],
    found: Sequence[Outcome[Seen]],
    scripts: Scripts | None,
    without: frozenset[str],
    checks: Mapping[str, LastCheck | None],
) -> Screen:
    """Put together what is shown."""
    from shardctl.cli.status_reading import rows_of
    from shardctl.cli.status_screen import Screen

    rows = {}
    for outcome in found:
        if outcome.value is not None:
            number, known = rows_of(outcome.value, without)
            rows[outcome.shard_id] = (number, known.value)
    heads = list(scripts.heads) if scripts is not None else None
    by_shard = {outcome.shard_id: outcome for outcome in found}
    return Screen(cluster_name(fleet), heads, selected, by_shard, rows, checks)


def show(
    screen: Screen, found: Sequence[Outcome[Seen]], scripts: Scripts | None, format_: Format, *, is_short: bool
) -> None:
    """Print the screen, or what it shows for machines."""
    from shardctl.cli.status_screen import check_lines, draw, head_line

    standings = [_standing(outcome) for outcome in found]
    if format_ in (Format.JSON, Format.NDJSON):
        _emit_objects(screen, standings, scripts, format_)
        return
    if is_short and scripts is not None:
        rows = standing.summary(screen.shards, standings)
        if format_ is Format.TABLE:
            output.write_drawn(lambda _, is_plain: head_line(screen, is_plain=is_plain) + "\n")
        output.emit(standing.SUMMARY, rows, format_)
        if format_ is Format.TABLE:
            output.write("\n" + check_lines(screen))
        standing.say_exceptions(standings)
    elif format_ is Format.TABLE:
        output.write_drawn(lambda stream, is_plain: draw(screen, stream, is_plain=is_plain))
    else:
        _emit_rows(screen, standings, format_)
    if format_ is Format.TABLE and scripts is not None:
        standing.say_half_applied(standings)
        standing.say_skew(standings, scripts)


def _scripts(fleet: Fleet) -> Scripts | None:
    """Return the project's migrations, if it has any."""
    from shardctl.schema.revisions import load_scripts

    if fleet.shard_map.migrations is None:
        return None
    return load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)


def _standing(outcome: Outcome[Seen]) -> Outcome[ShardStatus]:
    from shardctl.fleet import Outcome as Made

    return Made(outcome.shard, outcome.seconds, outcome.value.status if outcome.value else None, outcome.error)


def _emit_objects(
    screen: Screen, standings: Sequence[Outcome[ShardStatus]], scripts: Scripts | None, format_: Format
) -> None:
    from shardctl.schema.revisions import messages_of

    messages = messages_of(scripts) if scripts is not None else {}
    by_shard = {outcome.shard_id: outcome for outcome in standings}
    rows = [
        [*standing.object_of(live, by_shard.get(live.shard_id), messages), *_measured(screen, live)]
        for live in screen.shards
    ]
    extra = {
        **(standing.heads_and_levels(standings, scripts) if scripts is not None else {"heads": [], "levels": []}),
        "cluster": screen.name,
        "problems": screen.problems,
        "checks": {check: _check(last) for check, last in screen.checks.items()},
    }
    output.emit([*standing.OBJECT, *MEASURED], rows, format_, extra=extra)


def _emit_rows(screen: Screen, standings: Sequence[Outcome[ShardStatus]], format_: Format) -> None:
    by_shard = {outcome.shard_id: outcome for outcome in standings}
    rows = [
        [*standing.row_of(live, by_shard.get(live.shard_id)), live.shard.state.value, *_measured(screen, live)]
        for live in screen.shards
    ]
    output.emit([*standing.COLUMNS, "state", *MEASURED], rows, format_)


def _measured(screen: Screen, live: LiveShard) -> list[object]:
    outcome = screen.found.get(live.shard_id)
    if outcome is None or outcome.value is None:
        return [live.backend.name, *[None] * (len(MEASURED) - 1)]
    rows, known = screen.rows[live.shard_id]
    skew = screen.skew(live.shard_id)
    size, pulse = outcome.value.size, outcome.value.pulse
    return [
        pulse.engine,
        pulse.latency_ms,
        rows,
        known if rows is not None else "unknown",
        size.bytes if size else None,
        size.bytes_are if size and size.bytes is not None else "unknown",
        None if skew is None else round(skew, 6),
    ]


def _check(last: LastCheck | None) -> dict[str, Any] | None:
    if last is None:
        return None
    return {"when": last.when.isoformat(), "findings": dict(last.findings), "count": last.count}
