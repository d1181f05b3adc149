"""`shardctl migrate lint`: pending revisions, examined before they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.findings import SEVERITIES, LintFormat, write
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard
    from shardctl.schema.lint.examine import Report, Target
    from shardctl.schema.revisions import Scripts


def lint(
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    all_revisions: Annotated[
        bool, typer.Option("--all-revisions", help="Every revision, without connecting to a shard.")
    ] = False,
    revision: Annotated[
        list[str] | None,
        typer.Option("--revision", metavar="REV", help="This one, without connecting to a shard; repeatable."),
    ] = None,
    dialect: Annotated[
        list[str] | None,
        typer.Option("--dialect", metavar="ENGINE", help="For this engine, in place of the shards'; repeatable."),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="CODE", help="Leave this rule out; repeatable.")
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules.")] = False,
    explain: Annotated[str | None, typer.Option("--explain", metavar="CODE", help="Explain one rule.")] = None,
    format_: Annotated[
        LintFormat, typer.Option("--format", envvar="SHARDCTL_FORMAT", help="How to print the findings.")
    ] = LintFormat.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Examine pending revisions, and run nothing.

    Looks for locks that block writes, lost data, what an engine refuses, and what goes wrong on many shards. A comment
    `# shardctl: allow CODE reason` on the line or above it lets one pass. Exit code 1: errors or warnings.

    Examples: shardctl migrate lint; shardctl migrate lint --all-revisions --dialect postgresql; shardctl migrate lint
    --explain PG01
    """
    if rules or explain:
        _show_rules(explain, format_)
        return
    fleet = open_fleet(config, app)
    selected = select(fleet, shards=shard, labels=label, exclude=exclude)
    from shardctl.schema.lint.examine import check_codes, examine
    from shardctl.schema.revisions import load_scripts

    allowed = check_codes(allow or ())
    scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    with fleet:
        is_offline = bool(all_revisions or revision or dialect)
        targets = _named(scripts, selected, revision, dialect) if is_offline else _pending(fleet, selected, scripts)
        report = examine(scripts, targets, allow=allowed)
    write(report, format_)
    _summarize(report, targets)
    if not report.is_clean:
        raise typer.Exit(ExitCode.FINDINGS)


def _named(
    scripts: Scripts, shards: Sequence[LiveShard], revisions: Sequence[str] | None, dialects: Sequence[str] | None
) -> list[Target]:
    """Return what to examine without asking any shard: each revision by itself."""
    from shardctl.schema.lint.examine import target_of, target_of_engine

    wanted = [found for name in revisions or () for found in scripts.resolve(name)] or list(scripts.known)
    if dialects:
        return [target_of_engine(name, wanted) for name in dialects]
    return [target_of(shard, wanted, is_at_once=False) for shard in shards]


def _pending(fleet: Fleet, selected: Sequence[LiveShard], scripts: Scripts) -> list[Target]:
    """Return what the shards have before them; where none answers, every revision."""
    from shardctl.schema.lint.examine import target_of
    from shardctl.schema.plan import survey_revisions
    from shardctl.schema.revisions import Standing

    asked, left_out = without_offline(selected)
    found = collect(survey_revisions(fleet, asked, scripts), asked, doing="reading revisions")
    unknown = [f"{live.shard_id}: offline" for live in left_out]
    unknown += [outcome.problem for outcome in found if outcome.value is None]
    unfit = {Standing.UNKNOWN: "at a revision that is not in", Standing.UNVERSIONED: "has tables and no revision of"}
    targets = []
    for outcome in found:
        if outcome.value is None:
            continue
        if outcome.value.standing in unfit:
            unknown.append(f"{outcome.shard_id}: {unfit[outcome.value.standing]} `{scripts.folder.name}`")
        else:
            targets.append(target_of(outcome.shard, outcome.value.pending))
    for line in unknown:
        diagnostics.say(f"note: not examined for {line}")
    if not targets:
        diagnostics.say("note: no shard says what is pending there: every revision is examined by itself")
        return [target_of(shard, scripts.known, is_at_once=False) for shard in selected]
    return targets


def _summarize(report: Report, targets: Sequence[Target]) -> None:
    from collections import Counter

    from shardctl.schema.fitness import counted

    engines = ", ".join(dict.fromkeys(target.engine for target in targets))
    examined = f"{counted(len(report.examined), 'revision')} examined for {engines}"
    if not report.examined:
        diagnostics.say("nothing is pending")
        return
    counts = Counter(finding.severity.value for finding in report.findings)
    parts = [counted(counts[name], name) for name in SEVERITIES if counts[name]]
    parts += [f"{len(report.allowed)} allowed"] if report.allowed else []
    diagnostics.say(f"{examined}: {', '.join(parts) or 'nothing found'}")


def _show_rules(code: str | None, format_: LintFormat) -> None:
    from shardctl.schema.lint.examine import check_codes
    from shardctl.schema.lint.rules import RULES

    if code is None:
        if format_ in (LintFormat.GITHUB, LintFormat.SARIF):
            raise ConfigError(
                f"`--rules` has no format `{format_.value}`", hint="use table, json, ndjson, csv or markdown"
            )
        rows = [[rule.code, rule.severity.value, ", ".join(rule.engines), rule.title] for rule in RULES.values()]
        output.emit(["code", "severity", "engines", "what"], rows, Format(format_.value))
        return
    (known,) = check_codes([code])
    rule = RULES[known]
    head = f"{rule.code}: {rule.title} ({rule.severity.value}; {', '.join(rule.engines)})"
    spared = ["Tables that the same run creates are spared: they have no rows yet."] if rule.spares_new_tables else []
    safer = f"safer: {rule.safer.format_map(_Blanks())}"
    output.write("\n\n".join([head, rule.explanation, *spared, safer]) + "\n")


class _Blanks(dict[str, str]):
    """What stands for the names in a rule's own text."""

    def __missing__(self, key: str) -> str:
        return f"<{key}>"
