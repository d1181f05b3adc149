"""`shardctl migrate status`: where every shard stands, and how the last run on it ended."""

from __future__ import annotations

from typing import Annotated

import typer

from shardctl.cli import options, output, standing
from shardctl.cli.failures import raise_unread
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline


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
    from shardctl.schema.revisions import load_scripts, messages_of
    from shardctl.schema.status import read_status

    scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    with fleet:
        found = collect(read_status(fleet, asked, scripts, timeout_s=timeout), asked, doing="asking")
    by_shard = {outcome.shard_id: outcome for outcome in found}
    is_short = len(selected) > standing.MOST_ROWS if summary is None else summary
    if format_ in (Format.JSON, Format.NDJSON):
        messages = messages_of(scripts)
        objects = [standing.object_of(live, by_shard.get(live.shard_id), messages) for live in selected]
        output.emit(standing.OBJECT, objects, format_, extra=standing.heads_and_levels(found, scripts))
    elif is_short:
        output.emit(standing.SUMMARY, standing.summary(selected, found), format_)
        standing.say_exceptions(found)
    else:
        rows = [standing.row_of(live, by_shard.get(live.shard_id)) for live in selected]
        output.emit(standing.COLUMNS, rows, format_)
    if format_ is Format.TABLE:
        standing.say_half_applied(found)
        standing.say_skew(found, scripts)
    raise_unread(found)
