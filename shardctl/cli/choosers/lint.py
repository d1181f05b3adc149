"""`shardctl choosers lint`: what an application's choosers answer, checked before rows are lost from sight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import failed_of, one_error
from shardctl.cli.findings import wrapped
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper

    from shardctl.fleet import Fleet, LiveShard, Outcome
    from shardctl.rows.choosers.report import Finding, Report, Timing
    from shardctl.rows.choosers.stored import Sample

MOST_ROWS = 1_000
"""Of one class, on all shards together, but one of each shard at least."""
COLUMNS = ["code", "severity", "class", "chooser", "what", "times", "example"]
TIMES = ["class", "chooser", "median ms", "max ms", "calls", "raised"]


def lint(
    class_: Annotated[
        list[str] | None,
        typer.Argument(metavar="CLASS", autocompletion=options.complete_class, help="Without any, all classes."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=1, help="Generated objects of a class; rows of it on a shard.")
    ] = 25,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same number, the same objects.")] = 0,
    no_rows: Annotated[bool, typer.Option("--no-rows", help="Generated objects only, without a connection.")] = False,
    max_ms: Annotated[
        float | None, typer.Option("--max-ms", metavar="MS", min=0, help="What a chooser may take, in the median.")
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="CODE", help="Leave this rule out; repeatable.")
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules.")] = False,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Ask the choosers about generated objects and stored rows.

    Looks for answers that SQLAlchemy cannot use, that change, that contradict one another, or that lose rows. Nothing
    is written: what a chooser would write is refused. Exit code 1: errors or warnings; 4: a shard could not be read.

    Examples: shardctl choosers lint; shardctl choosers lint WeatherLocation --no-rows; shardctl choosers lint --rules
    """
    if rules:
        _show_rules(format_)
        return
    fleet = open_fleet(config, app)
    mappers = _classes(fleet, class_ or ())
    selected, offline = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    from shardctl.rows.choosers.lint import Wish, lint_choosers
    from shardctl.rows.choosers.rules import check_codes

    allowed = check_codes(allow or ())
    with fleet:
        outcomes = [] if no_rows else _read(fleet, mappers, selected, samples, timeout)
        found = [outcome.result for outcome in outcomes if outcome.is_ok]
        with diagnostics.counting("asking the choosers", len(mappers)) as advance:
            wish = Wish(samples, seed, max_ms, allowed, told=lambda _name: advance(None))
            report = lint_choosers(fleet, mappers, found, wish)
    _print(report, mappers, format_, seed=seed)
    _summarize(report, mappers, [] if no_rows else [live.shard_id for live in offline])
    if failed_of(outcomes):
        raise one_error(
            f"rows of {len(failed_of(outcomes))} of {len(outcomes)} shards were not looked at",
            failed_of(outcomes),
            is_partial=True,
            hint="`--exclude NAME` leaves a shard out, and `--no-rows` all of them",
        )
    if not report.is_clean:
        raise typer.Exit(ExitCode.FINDINGS)


def _classes(fleet: Fleet, names: Sequence[str]) -> list[Mapper[Any]]:
    """Return the mappers of the classes that are named, or of all.

    Raises:
        ConfigError: A table is named that no class is mapped to, or there are no classes.
    """
    from sqlalchemy import Table

    if not names:
        found = list(fleet.models.mappers.values())
        if not found:
            raise ConfigError("choosers are asked about mapped classes, and the models have tables only")
        return found
    targets = {name: fleet.models.find(name) for name in names}
    for name, target in targets.items():
        if isinstance(target, Table):
            raise ConfigError(f"`{name}` is a table that no class is mapped to: no chooser is asked about it")
    return [target for target in dict.fromkeys(targets.values()) if not isinstance(target, Table)]


def _read(
    fleet: Fleet, mappers: Sequence[Mapper[Any]], shards: list[LiveShard], limit: int, timeout: float | None
) -> list[Outcome[Sample]]:
    from shardctl.rows.choosers.stored import read_samples

    limit = max(1, min(limit, MOST_ROWS // len(shards))) if shards else limit
    timeout_s = timeout or fleet.shard_map.timeout_s
    return collect(read_samples(fleet, mappers, shards, limit=limit, timeout_s=timeout_s), shards, doing="reading rows")


def _print(report: Report, mappers: Sequence[Mapper[Any]], format_: Format, *, seed: int) -> None:
    rows = [_row(finding) for finding in report.findings]
    times = [_times(timing) for timing in report.timings]
    if format_ not in (Format.TABLE, Format.MARKDOWN):
        keys = [name.replace(" ", "_") for name in TIMES]
        extra = {
            "examined": [mapper.class_.__name__ for mapper in mappers],
            "seed": seed,
            "generated": report.generated,
            "stored": report.stored,
            "timings": [dict(zip(keys, entry, strict=True)) for entry in times],
        }
        output.emit(COLUMNS, rows, format_, extra=extra)
        return
    if format_ is Format.TABLE:
        output.write(wrapped([line for finding in report.findings for line in _lines(finding)]))
    elif rows:
        output.emit(COLUMNS, rows, format_)
    output.write("\n" if rows else "")
    output.emit(TIMES, [[*entry[:2], f"{entry[2]:9.3f}", f"{entry[3]:9.3f}", *entry[4:]] for entry in times], format_)


def _lines(finding: Finding) -> list[str]:
    """Return a finding as a person reads it: a table would cut what matters."""
    rule = finding.rule
    whose = f"{finding.chooser} of {finding.class_name}" if finding.class_name else finding.chooser
    times = f" ({finding.count} times)" if finding.count > 1 else ""
    return [f"{rule.severity.value} {rule.code}: {whose} {finding.what}{times}", f"    {finding.example}"]


def _row(finding: Finding) -> list[Any]:
    rule = finding.rule
    where = (finding.class_name, finding.chooser)
    return [rule.code, rule.severity.value, *where, finding.what, finding.count, finding.example]


def _times(timing: Timing) -> list[Any]:
    where = (timing.class_name, timing.chooser)
    return [*where, round(timing.median_ms, 3), round(timing.max_ms, 3), len(timing.seconds), timing.raised]


def _summarize(report: Report, mappers: Sequence[Mapper[Any]], offline: Sequence[str]) -> None:
    for note in [*report.notes, *(f"{shard_id} is offline: its rows are not looked at" for shard_id in offline)]:
        diagnostics.say(f"note: {note}")
    counts = Counter(finding.rule.severity.value for finding in report.findings)
    found = ", ".join(_counted(counts[name], name) for name in ("error", "warning", "info") if counts[name])
    numbers = {"class": len(mappers), "generated object": report.generated, "stored row": report.stored}
    looked = ", ".join(_counted(number, noun) for noun, number in numbers.items())
    diagnostics.say(f"{looked}: {found or 'nothing found'}")


def _counted(number: int, noun: str) -> str:
    plural = {"class": "classes", "info": "info"}.get(noun, f"{noun}s")
    return f"{number} {noun if number == 1 else plural}"


def _show_rules(format_: Format) -> None:
    from shardctl.rows.choosers.rules import RULES

    rows = [[rule.code, rule.severity.value, rule.title] for rule in RULES.values()]
    output.emit(["code", "severity", "what"], rows, format_)
