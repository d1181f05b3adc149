"""`shardctl migrate check`: whether every shard is where the project's migrations end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import raise_unread
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import ExitCode

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, Outcome
    from shardctl.schema.check import GateFinding
    from shardctl.schema.fingerprint import Fingerprint
    from shardctl.schema.revisions import Scripts, ShardRevision

COLUMNS = ["shard", "finding", "detail"]


def check(
    drift: Annotated[
        bool, typer.Option("--drift/--no-drift", help="Also compare the schemas of shards at one revision.")
    ] = True,
    models: Annotated[
        bool, typer.Option("--models", help="Also look for changes of the models that no migration carries.")
    ] = False,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Say which shards are not at the head of the migrations.

    For a gate before a deployment. Exit code 1: a shard is behind, at an unknown revision, has tables and no revision,
    or a schema other than most at its revision; 4, or 3: some shards, or all, could not be read.
    """
    fleet = open_fleet(config, app)
    asked, offline = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    from shardctl.schema.check import find_drifted, find_lagging
    from shardctl.schema.fitness import counted
    from shardctl.schema.revisions import load_scripts
    from shardctl.schema.status import read_all_revisions

    scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    with fleet:
        found = collect(read_all_revisions(fleet, asked, scripts), asked, doing="reading revisions")
        findings = find_lagging(found, scripts)
        unread: list[Outcome[Any]] = []
        if drift or models:
            fingerprints = _fingerprints(fleet, found, scripts, unread)
        if drift:
            findings += find_drifted(fleet, fingerprints, scripts)
        if models:
            findings += _uncarried(fleet, fingerprints, findings, scripts, unread)
    order = list(fleet.shards)
    findings.sort(key=lambda entry: order.index(entry.shard_id))
    if findings or format_ is not Format.TABLE:
        output.emit(COLUMNS, [[entry.shard_id, entry.finding, entry.detail] for entry in findings], format_)
    if offline:
        diagnostics.say(f"note: left out: {', '.join(f'{live.shard_id} is offline' for live in offline)}")
    failed = {outcome.shard_id: outcome for outcome in unread}
    raise_unread([failed.get(outcome.shard_id, outcome) for outcome in found])
    if findings:
        raise typer.Exit(ExitCode.FINDINGS)
    diagnostics.say(f"clean: {counted(len(found), 'shard')} at {', '.join(scripts.heads) or 'no revision'}")


def _fingerprints(
    fleet: Fleet, found: list[Outcome[ShardRevision]], scripts: Scripts, unread: list[Outcome[Any]]
) -> dict[str, Fingerprint]:
    """Read the schemas of the shards that the migrations made."""
    from shardctl.schema.fingerprint import read_fingerprints

    made = [outcome.shard for outcome in found if outcome.value is not None and outcome.value.revisions]
    read = collect(read_fingerprints(fleet, made, scripts), made, doing="reading schemas")
    unread += [outcome for outcome in read if not outcome.is_ok]
    return {outcome.shard_id: outcome.result for outcome in read if outcome.is_ok}


def _uncarried(
    fleet: Fleet,
    fingerprints: dict[str, Fingerprint],
    findings: list[GateFinding],
    scripts: Scripts,
    unread: list[Outcome[Any]],
) -> list[GateFinding]:
    """Compare the models with the first shard that is as the migrations leave it."""
    from shardctl.schema.check import find_uncarried

    others = {entry.shard_id for entry in findings}
    reference = next((shard_id for shard_id in fingerprints if shard_id not in others), None)
    if reference is None:
        diagnostics.say("note: no shard is at the head and as the others: the models were not compared")
        return []
    made, failed = find_uncarried(fleet, reference, fingerprints[reference], scripts)
    unread += failed
    return made
