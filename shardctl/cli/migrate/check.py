"""`shardctl migrate check`: whether every shard is where the project's migrations end."""

from __future__ import annotations

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.output import Format
from shardctl.cli.progress import collect, raise_unread
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import ExitCode

COLUMNS = ["shard", "finding", "detail"]


def check(
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Say which shards are not at the head of the migrations.

    For a gate before a deployment. Exit code 1: a shard is behind, at an unknown revision, or has tables and no
    revision; 4, or 3: some shards, or all, could not be read.
    """
    fleet = open_fleet(config, app)
    asked, offline = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    from shardctl.schema.apply import counted
    from shardctl.schema.check import find_lagging
    from shardctl.schema.revisions import load_scripts
    from shardctl.schema.status import read_all_revisions

    scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    with fleet:
        found = collect(read_all_revisions(fleet, asked, scripts), asked, doing="reading revisions")
    findings = find_lagging(found, scripts)
    if findings or format_ is not Format.TABLE:
        output.emit(COLUMNS, [[entry.shard_id, entry.finding, entry.detail] for entry in findings], format_)
    if offline:
        diagnostics.say(f"note: left out: {', '.join(f'{live.shard_id} is offline' for live in offline)}")
    raise_unread(found)
    if findings:
        raise typer.Exit(ExitCode.FINDINGS)
    diagnostics.say(f"clean: {counted(len(found), 'shard')} at {', '.join(scripts.heads) or 'no revision'}")
