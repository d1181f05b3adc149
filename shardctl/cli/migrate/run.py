"""`shardctl migrate`: Alembic's migrations, on one shard or on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.output import Format
from shardctl.cli.progress import collect, raise_failures, say_waiting
from shardctl.cli.project import open_fleet, select, writable

if TYPE_CHECKING:
    from shardctl.fleet import Outcome
    from shardctl.schema.apply import MigrationResult
    from shardctl.schema.revisions import ShardRevision

COLUMNS = ["shard", "from", "to", "seconds", "outcome"]


def migrate(
    context: typer.Context,
    all_shards: options.AllShards = False,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, max=32, help="Shards at work at one time.")] = 32,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Upgrade shards to the head of the project's Alembic migrations.

    Shards run at the same time. One that fails does not stop the others, and running it again continues. Exit code 4:
    some shards failed.

    Examples: shardctl migrate --all-shards; shardctl migrate --shard asia --dry-run
    """
    if context.invoked_subcommand is not None:
        return
    fleet = open_fleet(config, app)
    chosen = select(fleet, shards=shard, labels=label, exclude=exclude, all_shards=all_shards)
    selected = writable(chosen, is_named=bool(shard))
    from shardctl.schema.plan import survey_revisions
    from shardctl.schema.revisions import load_scripts
    from shardctl.schema.rollout import migrate as upgrade_shards

    scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    head = ", ".join(scripts.resolve("head"))
    with fleet:
        found = collect(survey_revisions(fleet, selected, scripts), selected, doing="reading revisions")
        if dry_run:
            output.emit(["shard", "from", "to", "pending"], [_plan_row(outcome, head) for outcome in found], format_)
            raise_failures(found, done="looked at")
            return
        if any(outcome.is_ok and outcome.result.pending for outcome in found) and not yes:
            for outcome in found:
                diagnostics.say("  " + _plan_line(outcome, head))
            diagnostics.confirm("run these migrations?", yes=yes)
        outcomes = collect(
            upgrade_shards(fleet, selected, scripts, jobs=jobs, on_wait=say_waiting),
            selected,
            doing="migrating",
            describe=_line,
        )
    output.emit(COLUMNS, [_row(outcome) for outcome in outcomes], format_)
    raise_failures(outcomes, done="migrated")


def _plan_row(outcome: Outcome[ShardRevision], head: str) -> list[object]:
    if outcome.value is None:
        return [outcome.shard_id, None, None, None]
    found = outcome.value
    return [
        outcome.shard_id,
        str(found) or None,
        head if found.pending else str(found),
        ", ".join(found.pending) or None,
    ]


def _plan_line(outcome: Outcome[ShardRevision], head: str) -> str:
    if outcome.value is None:
        return outcome.problem
    found = outcome.value
    if not found.pending:
        return f"{outcome.shard_id}: at {found}"
    from shardctl.schema.apply import counted

    return f"{outcome.shard_id}: {str(found) or 'empty'} -> {head} ({counted(len(found.pending), 'revision')})"


def _line(outcome: Outcome[MigrationResult]) -> str:
    if outcome.value is None:
        return f"{outcome.shard_id}: failed after {outcome.seconds:.1f} s"
    return f"{outcome.shard_id}: {outcome.value.outcome} in {outcome.seconds:.1f} s"


def _row(outcome: Outcome[MigrationResult]) -> list[object]:
    if outcome.value is None:
        before = getattr(outcome.error, "from_", ())
        after = getattr(outcome.error, "to", None) or ()
        return [outcome.shard_id, _names(before), _names(after), round(outcome.seconds, 2), "failed"]
    result = outcome.value
    return [outcome.shard_id, _names(result.from_), _names(result.to), round(outcome.seconds, 2), result.outcome]


def _names(revisions: tuple[str, ...]) -> str | None:
    return ", ".join(revisions) or None
