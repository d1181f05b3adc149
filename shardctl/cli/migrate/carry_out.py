"""A request carried out: planned, shown, confirmed, run, reported."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from shardctl.cli import diagnostics
from shardctl.cli.failures import LEAVE_OUT, one_error
from shardctl.cli.migrate.audience import Audience
from shardctl.cli.migrate.plan_view import emit_plan, say_plan
from shardctl.cli.migrate.report import Report
from shardctl.cli.migrate.request import Prepared, Request, prepare
from shardctl.cli.migrate.sql import emit_scripts
from shardctl.cli.progress import say_waiting
from shardctl.errors import Abandoned, ConfigError, Refused

if TYPE_CHECKING:
    from shardctl.schema.plan import MigrationPlan
    from shardctl.schema.rollout import Upgrade
    from shardctl.schema.waves import Wave


def carry_out(request: Request) -> None:
    """Bring the shards that are meant to the revision that is meant.

    Raises:
        ShardctlError: Something is wrong with the request, or went wrong on shards.
    """
    if request.confirm_each_wave and not diagnostics.is_terminal():
        raise ConfigError("`--confirm-each-wave` needs a terminal", hint="without one, `--pause SECONDS` leaves time")
    prepared = prepare(request)
    with prepared.fleet:
        if request.sql or request.sql_dir is not None:
            emit_scripts(prepared, request.sql_dir, request.format_)
            return
        if request.dry_run:
            emit_plan(prepared.plan, request.format_)
            _raise_plan_problems(prepared)
            return
        if prepared.plan.waves and not request.yes:
            say_plan(prepared.plan)
            _confirm(prepared.plan)
        report = _run(prepared, request)
    report.emit(request.format_)
    report.raise_problems()


def _confirm(plan: MigrationPlan) -> None:
    if not plan.is_destructive:
        diagnostics.confirm("run these migrations?", yes=False)
        return
    to_run = plan.to_run
    expected = to_run[0].shard_id if len(to_run) == 1 else str(len(to_run))
    what = "the shard's name" if len(to_run) == 1 else "the number of shards"
    diagnostics.confirm_typed(f"downgrades take data away; type {what} to go on:", expected)


def _run(prepared: Prepared, request: Request) -> Report:
    from shardctl.schema.apply import upgrade
    from shardctl.schema.rollout import Rollout

    audience = Audience()
    gate = Gate() if request.confirm_each_wave else None
    rollout = Rollout(
        prepared.fleet,
        prepared.plan,
        prepared.scripts,
        policy=request.policy,
        gate=gate,
        on_event=audience.tell,
        on_wait=say_waiting,
        upgrade_one=_isolated(prepared) if request.isolate else upgrade,
    )
    report = Report(rollout, prepared.scripts, audience.record)
    with audience.shown(report, request.format_, is_asked=gate is not None):
        try:
            with closing(iter(rollout)) as outcomes:
                for _ in outcomes:
                    pass
        except KeyboardInterrupt as error:
            report.is_interrupted = True
            report.abandoned = error.shard_ids if isinstance(error, Abandoned) else ()
    report.is_declined = gate is not None and gate.is_declined
    return report


def _isolated(prepared: Prepared) -> Upgrade:
    from shardctl.schema.isolation import Isolation

    return Isolation(prepared.fleet, lambda shard_id, line: diagnostics.say(f"{shard_id}: {line}")).upgrade


class Gate:
    """Asks before each further wave."""

    def __init__(self) -> None:
        self.is_declined = False

    def __call__(self, wave: Wave) -> bool:
        """Say whether the wave is wanted."""
        self.is_declined = not diagnostics.ask(f"go on with {wave.name}: {diagnostics.listed(wave.shard_ids)}?")
        return not self.is_declined


def _raise_plan_problems(prepared: Prepared) -> None:
    problems, total = prepared.problems, len(prepared.plan.shards)
    if problems:
        # Nothing was to be done: what is refused is so whatever the other shards are.
        is_refused = all(isinstance(outcome.error, Refused) for outcome in problems)
        hint = LEAVE_OUT if len(problems) < total else None
        message = f"{len(problems)} of {total} shards cannot be migrated"
        raise one_error(message, problems, is_partial=hint is not None and not is_refused, hint=hint)
