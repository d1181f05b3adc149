"""`shardctl init`: databases, schemas and tables on every shard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import raise_failures
from shardctl.cli.output import Format
from shardctl.cli.progress import collect, say_waiting
from shardctl.cli.project import open_fleet, select, writable
from shardctl.errors import ExitCode

if TYPE_CHECKING:
    from shardctl.fleet import Outcome
    from shardctl.schema.create import InitResult
    from shardctl.schema.needs import ShardNeeds

COLUMNS = ["shard", "created", "revision", "outcome"]


def init(
    from_models: Annotated[bool, typer.Option("--from-models", help="Tables from the models, not migrations.")] = False,
    schemas_only: Annotated[bool, typer.Option("--schemas-only", help="Stop before the tables.")] = False,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Create what shards lack: databases, schemas, tables.

    The tables come from the migrations where there are any, otherwise from the models. What exists is left as it is.

    Examples: shardctl init; shardctl init --dry-run; shardctl init --shard asia --yes
    """
    fleet = open_fleet(config, app)
    selected = writable(select(fleet, shards=shard, labels=label, exclude=exclude), is_named=bool(shard))
    from shardctl.schema.create import init as create
    from shardctl.schema.create import plan_init
    from shardctl.schema.needs import survey_needs
    from shardctl.schema.revisions import load_scripts

    shard_map = fleet.shard_map
    scripts = None
    if shard_map.migrations is not None and not from_models:
        scripts = load_scripts(shard_map.migrations, where=shard_map.where)
    plan = plan_init(fleet, scripts, schemas_only=schemas_only)
    with fleet:
        needs = collect(survey_needs(fleet, selected, plan), selected, doing="looking at the shards")
        if dry_run:
            output.emit(["shard", "missing", "revision"], [_need_row(outcome) for outcome in needs], format_)
            raise_failures(needs, done="looked at")
            return
        if any(outcome.is_ok and outcome.result.missing for outcome in needs) and not yes:
            for outcome in needs:
                diagnostics.say("  " + _need_line(outcome))
            diagnostics.confirm("create what is missing?", yes=yes)
        outcomes = collect(
            create(fleet, selected, plan, on_wait=say_waiting), selected, doing="creating what is missing"
        )
    output.emit(COLUMNS, [_row(outcome) for outcome in outcomes], format_)
    _conclude(outcomes)


def _need_row(outcome: Outcome[ShardNeeds]) -> list[object]:
    if outcome.value is None:
        return [outcome.shard_id, None, None]
    need = outcome.value
    missing = "tables without a revision" if need.is_unversioned else ", ".join(need.missing) or "nothing"
    return [outcome.shard_id, missing, str(need.revision) or None if need.revision else None]


def _need_line(outcome: Outcome[ShardNeeds]) -> str:
    shard_id, missing, _ = _need_row(outcome)
    return outcome.problem or f"{shard_id}: {missing}"


def _row(outcome: Outcome[InitResult]) -> list[object]:
    if outcome.value is None:
        return [outcome.shard_id, None, None, "failed"]
    result = outcome.value
    return [outcome.shard_id, ", ".join(result.created) or None, ", ".join(result.revision) or None, result.outcome]


def _conclude(outcomes: list[Outcome[InitResult]]) -> None:
    """Say what the table does not show, and end with the code that it means."""
    for outcome in outcomes:
        for note in outcome.value.notes if outcome.value else ():
            diagnostics.say(f"{outcome.shard_id}: {note}")
    raise_failures(outcomes, done="initialised")
    if any(outcome.value and outcome.value.outcome == "unversioned" for outcome in outcomes):
        raise typer.Exit(ExitCode.FINDINGS)
