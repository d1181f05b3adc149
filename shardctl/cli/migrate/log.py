"""`shardctl migrate log`: the project's revisions, and which shards stand where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import ExitCode

if TYPE_CHECKING:
    from shardctl.schema.lineage import Link

COLUMNS = ["revision", "after", "message", "marks", "shards"]
OBJECT = ["revision", "after", "message", "is_head", "is_branch_point", "labels", "depends_on", "file", "shards"]


def log(
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """List the revisions, newest first, with the shards that are there.

    Exit code 1: a shard does not answer, or is at a revision that the project does not have.

    Examples: shardctl migrate log; shardctl migrate log --label wave=canary --format json
    """
    fleet = open_fleet(config, app)
    asked, left_out = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    from shardctl.schema.lineage import read_lineage, standing_at
    from shardctl.schema.plan import survey_revisions
    from shardctl.schema.revisions import load_scripts

    scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    with fleet:
        found = collect(survey_revisions(fleet, asked, scripts), asked, doing="reading revisions")
    at = standing_at({outcome.shard_id: outcome.value.revisions for outcome in found if outcome.value is not None})
    links = read_lineage(scripts)
    output.emit(*_listed(links, at, format_), format_)
    strange = {revision: names for revision, names in at.items() if revision not in {*scripts.known, "base"}}
    for revision, names in strange.items():
        diagnostics.say(f"{diagnostics.listed(names)}: at revision `{revision}`, which the project does not have")
    for outcome in found:
        if outcome.error is not None:
            diagnostics.say(outcome.problem)
    if left_out:
        diagnostics.say(f"note: offline: {diagnostics.listed([live.shard_id for live in left_out])}")
    if strange or not all(outcome.is_ok for outcome in found):
        raise typer.Exit(ExitCode.FINDINGS)


def _listed(links: list[Link], at: dict[str, list[str]], format_: Format) -> tuple[list[str], list[list[object]]]:
    """Return the columns and the rows; a row for what is before the first revision only if a shard is there."""
    if format_ in (Format.JSON, Format.NDJSON):
        return OBJECT, [_object(link, at.get(link.revision, [])) for link in links]
    rows: list[list[object]] = [
        [
            link.revision,
            ", ".join(link.after) or None,
            link.message or None,
            ", ".join(link.marks) or None,
            ", ".join(at.get(link.revision, [])) or None,
        ]
        for link in links
    ]
    if "base" in at:
        rows.append(["base", None, None, None, ", ".join(at["base"])])
    return COLUMNS, rows


def _object(link: Link, shard_ids: list[str]) -> list[object]:
    return [
        link.revision,
        list(link.after),
        link.message,
        link.is_head,
        link.is_branch_point,
        list(link.labels),
        list(link.depends_on),
        link.file,
        shard_ids,
    ]
