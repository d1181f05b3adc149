"""`shardctl audit`: rows that are not where they should be, or not as they should be."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from shardctl.cli import diagnostics, options
from shardctl.cli.output import Format
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import ConfigError, Interrupted, UnknownName

if TYPE_CHECKING:
    from shardctl.rows.audit.run import Audit

CHECKS = ("placement", "duplicates", "orphans", "reference", "sequences")

CHUNK = 20_000
"""Rows of one statement at the most."""


def complete_check(incomplete: str) -> list[str]:
    """Return the checks that begin so."""
    return [name for name in CHECKS if name.startswith(incomplete)]


def audit(
    checks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHECK", help="placement, duplicates, orphans, reference, sequences.", autocompletion=complete_check
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table", metavar="NAME", help="This class or table; repeatable.", autocompletion=options.complete_class
        ),
    ] = None,
    sample: Annotated[str | None, typer.Option(metavar="SHARE", help="Look at some rows only: 1%, or 0.01.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="COLUMN=VALUE", help="Rows whose column is at least this.")
    ] = None,
    max_findings: Annotated[int, typer.Option("--max-findings", min=1, help="Of each check at the most.")] = 1_000,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="ROWS", min=1, help="Rows a second at the most, of all shards.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the same audit was interrupted.")] = False,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.001, max=86_400, help="For each read of a shard."),
    ] = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Find rows that are not where they should be, or not as they should be.

    Nothing is changed, and rows are read in short transactions. Exit code 1: there are findings; 4: a shard did not
    answer.

    Examples: shardctl audit; shardctl audit placement --table Report --sample 1%; shardctl audit duplicates --resume
    """
    fleet = open_fleet(config, app)
    selected, offline = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    if not selected:
        raise ConfigError("every shard that is meant is offline")
    from shardctl.cli.audit_report import Report
    from shardctl.rows.audit.finding import Pace, Scope
    from shardctl.rows.audit.marks import marks_of
    from shardctl.rows.audit.run import Audit
    from shardctl.rows.audit.tally import known_as
    from shardctl.rows.audit.targets import find_targets, read_since

    names = _names(checks)
    targets = find_targets(fleet, table or [])
    conditions, whole = read_since(targets, since) if since is not None else ({}, [])
    marks = marks_of(
        fleet.shard_map,
        {
            "checks": names,
            "tables": [known_as(fleet, target) for target in targets],
            "shards": [live.shard_id for live in selected],
            "sample": sample,
            "since": since,
            "max findings": max_findings,
        },
    )
    if resume:
        marks.read()
    scope = Scope(
        fleet=fleet,
        targets=targets,
        shards=selected,
        sample=_share(sample),
        since=conditions,
        max_findings=max_findings,
        chunk=_chunk(rate, len(selected)),
        timeout_s=timeout or fleet.shard_map.timeout_s,
        pace=Pace(rate),
        marks=marks,
    )
    found = Audit(scope, names)
    report = Report(found, offline, config, app, whole=[known_as(fleet, target) for target in whole])
    with fleet:
        _run(found)
    marks.remove()
    report.print(format_)
    report.keep()
    report.conclude()


def _names(checks: Sequence[str] | None) -> list[str]:
    """Return the checks that are meant, in the order in which they run."""
    for name in checks or ():
        if name not in CHECKS:
            raise UnknownName(f"there is no check `{name}`", name=name, known=CHECKS)
    return [name for name in CHECKS if not checks or name in checks]


def _chunk(rate: float | None, shards: int) -> int:
    """Return how many rows are read at once: with a rate, what all shards together may read in a second."""
    return CHUNK if rate is None else max(1, min(CHUNK, round(rate / shards)))


def _share(sample: str | None) -> float | None:
    """Read `1%` or `0.01`; None: all."""
    if sample is None:
        return None
    try:
        share = float(sample.removesuffix("%")) / (100 if sample.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ConfigError(f"`--sample {sample}` is no share of the rows", hint="for example `--sample 1%`, or 0.01")
    return share if share < 1 else None


def _run(found: Audit) -> None:
    """Run the checks, and say how it goes.

    Raises:
        Interrupted: By ^C; what was looked at is kept for `--resume`.
    """
    from shardctl.cli.audit_progress import watching
    from shardctl.rows.audit.finding import Skipped
    from shardctl.rows.audit.targets import estimate_rows

    with diagnostics.working(f"asking {len(found.scope.shards)} shards"):
        estimates = estimate_rows(found.scope) if diagnostics.can_redraw() else {}
    try:
        with watching(estimates) as watch, closing(found.run()) as items:
            found.told = watch.told
            for item in items:
                if isinstance(item, Skipped):
                    watch.skipped(item.name)
    except KeyboardInterrupt:
        found.scope.marks.write()
        raise _interrupted(found) from None


def _interrupted(found: Audit) -> Interrupted:
    facts = [
        f"{check}: {table}: {sum(by_shard.values()):,} rows on {len(by_shard)} shards"
        for check, tables in found.looked.items()
        for table, by_shard in tables.items()
    ]
    if found.findings:
        facts.append(f"findings so far: {len(found.findings)}")
    problem = found.scope.marks.problem
    return Interrupted(
        f"interrupted while auditing: {found.rows:,} rows were looked at",
        facts=[*facts, *([problem] if problem else [])],
        hint=None if problem else "the same command with `--resume` goes on from there",
    )
