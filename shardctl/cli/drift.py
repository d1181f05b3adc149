"""`shardctl drift`: what the schemas of the shards have otherwise than the models, and than one another."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import raise_failures
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.cli.recorded import is_whole, keep
from shardctl.errors import ConfigError, ExitCode, Refused, UnknownName
from shardctl.schema.catalogue import KINDS

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard
    from shardctl.schema.comparison import Drift
    from shardctl.schema.drift import GroupedFinding
    from shardctl.schema.revisions import Scripts

COLUMNS = ["shards", "object", "finding", "against"]


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds of objects that begin so."""
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def drift(
    against: Annotated[
        str | None,
        typer.Option(metavar="models|majority|SHARD", help="Compare with this only, in place of models and majority."),
    ] = None,
    sql: Annotated[bool, typer.Option("--sql", help="Print what would mend it, as SQL; nothing is run.")] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="Leave out: view, index, comment …; repeatable.", autocompletion=complete_kind
        ),
    ] = None,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Compare schemas with the models, and with one another.

    Shards at different revisions are not compared with one another, and with the models only at the head. Nothing is
    changed. Exit code 1: something differs.

    Examples: shardctl drift; shardctl drift --against asia --ignore comment; shardctl drift --sql
    """
    for kind in ignore or ():
        if kind not in KINDS:
            raise UnknownName(f"`--ignore {kind}` is no kind of object", name=kind, known=KINDS)
    fleet = open_fleet(config, app)
    asked = _with_reference(fleet, select(fleet, shards=shard, labels=label, exclude=exclude), against)
    from shardctl.schema.comparison import find_drift
    from shardctl.schema.fingerprint import read_fingerprints

    scripts = _scripts(fleet)
    with fleet:
        read = collect(read_fingerprints(fleet, asked, scripts), asked, doing="reading schemas")
        fingerprints = {outcome.shard_id: outcome.result for outcome in read if outcome.is_ok}
        with diagnostics.working("comparing"):
            found = find_drift(fleet, fingerprints, scripts, against=against, ignored=frozenset(ignore or ()))
    for note in found.notes:
        diagnostics.say(f"note: {note}")
    if sql:
        output.write(_sql(fleet, found))
    elif found.groups or format_ is not Format.TABLE:
        output.emit(COLUMNS, [_row(group, format_) for group in found.groups], format_)
    failed = {outcome.shard_id: outcome for outcome in found.failed}
    raise_failures([failed.get(outcome.shard_id, outcome) for outcome in read], done="compared", is_read=True)
    if not ignore and against is None and found.compared and is_whole(fleet, asked):
        _keep(fleet, found)
    _conclude(found)


def _keep(fleet: Fleet, found: Drift) -> None:
    """Keep how many findings there are of each kind of object, for `shardctl status`."""
    findings = Counter(group.finding.object.kind for group in found.groups)
    keep(fleet, "drift", {"findings": findings, "looked_at": list(found.compared)})


def _with_reference(fleet: Fleet, selected: list[LiveShard], against: str | None) -> list[LiveShard]:
    """Return the shards to read: without those that are offline, and with the one that they are compared with."""
    if against not in (None, "models", "majority"):
        reference = fleet.shard(str(against))
        selected = [live for live in fleet.shards.values() if live in selected or live is reference]
    asked, offline = without_offline(selected)
    if offline:
        diagnostics.say(f"note: left out: {', '.join(f'{live.shard_id} is offline' for live in offline)}")
    if not asked:
        raise ConfigError("every shard that is meant is offline")
    return asked


def _conclude(found: Drift) -> None:
    """End with the code that the findings mean."""
    if found.groups:
        raise typer.Exit(ExitCode.FINDINGS)
    if not found.compared:
        raise Refused("there was nothing to compare with")
    diagnostics.say(f"no drift: {len(found.compared)} shard{'s' if len(found.compared) > 1 else ''} compared")


def _scripts(fleet: Fleet) -> Scripts | None:
    from shardctl.schema.revisions import load_scripts

    if fleet.shard_map.migrations is None:
        return None
    return load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)


def _row(group: GroupedFinding, format_: Format) -> list[object]:
    finding = group.finding
    if format_ in (Format.JSON, Format.NDJSON):
        return [group.shard_ids, str(finding.object), finding.text, finding.against]
    return [", ".join(group.shard_ids), str(finding.object), finding.text, ", ".join(finding.against)]


def _sql(fleet: Fleet, found: Drift) -> str:
    """Return a script: the findings as comments, and below each group of shards what would mend them."""
    parts = [f"-- {', '.join(group.shard_ids)}: {group.finding.object} {group.finding.text}" for group in found.groups]
    for shard_ids, statements in found.sql.items():
        places = [_place(fleet.shard(shard_id)) for shard_id in shard_ids]
        parts.append(f"\n-- on {', '.join(places)}:\n{statements}")
    return "\n".join(parts) + "\n" if parts else ""


def _place(live: LiveShard) -> str:
    return f"{live.shard_id} (schema {live.shard.schema})" if live.shard.schema else live.shard_id
