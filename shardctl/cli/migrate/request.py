"""From what the command line asks for to a plan: which shards, which revisions, in which waves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardctl.cli import diagnostics
from shardctl.cli.options import OnError
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, writable

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, Outcome
    from shardctl.schema.goals import Goal
    from shardctl.schema.plan import MigrationPlan
    from shardctl.schema.revisions import Scripts
    from shardctl.schema.rollout import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of a command that runs revisions."""

    direction: str
    target: str
    purge: bool = False
    all_shards: bool
    shard: list[str] | None
    label: list[str] | None
    exclude: list[str] | None
    part: str | None = None
    canary: list[str] | None = None
    wave_size: str | None = None
    order: str = "map"
    pause: float = 0.0
    confirm_each_wave: bool = False
    on_error: OnError = OnError.STOP
    max_failures: int | None = None
    jobs: int
    isolate: bool = False
    lock_wait: float
    lock_timeout: float
    statement_timeout: float | None
    retries: int
    dry_run: bool
    sql: bool
    sql_dir: Path | None
    yes: bool
    format_: Format
    config: Path | None
    app: str | None

    @property
    def goal(self) -> Goal:
        from shardctl.schema.goals import Direction, Goal

        return Goal(Direction(self.direction), self.target, self.purge)

    @property
    def policy(self) -> Policy:
        from shardctl.schema.limits import Terms
        from shardctl.schema.rollout import Policy

        stops_at = self.max_failures or (1 if self.on_error is OnError.STOP else None)
        terms = Terms(self.lock_wait, self.lock_timeout, self.statement_timeout, self.retries)
        return Policy(self.jobs, stops_at, self.pause, terms)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is needed to run a plan."""

    fleet: Fleet
    scripts: Scripts
    plan: MigrationPlan

    @property
    def problems(self) -> list[Outcome[Any]]:
        """The shards that cannot be run, with why."""
        from shardctl.fleet import Outcome

        return [Outcome(self.fleet.shards[plan.shard_id], 0.0, error=plan.problem) for plan in self.plan.problems]


def prepare(request: Request) -> Prepared:
    """Read where the shards stand, and plan.

    Raises:
        ConfigError: An option, a name or the target is wrong.
        Refused: A shard that was named must not be changed.
    """
    from shardctl.schema.waves import parse_order, parse_part, parse_wave_size

    size = parse_wave_size(request.wave_size) if request.wave_size else None
    order = parse_order(request.order)
    part = parse_part(request.part) if request.part else None
    fleet = open_fleet(request.config, request.app)
    chosen = select(
        fleet, shards=request.shard, labels=request.label, exclude=request.exclude, all_shards=request.all_shards
    )
    chosen = writable(chosen, is_named=bool(request.shard))
    from shardctl.schema.plan import plan_migration, survey_revisions, survey_sizes
    from shardctl.schema.revisions import load_scripts
    from shardctl.schema.waves import OrderBy, Rules, canaries_of, check_label, part_of

    declared = [live.shard for live in chosen]
    check_label(declared, order)
    rules = Rules(canaries_of(declared, request.canary or ()), size, order)
    selected = chosen
    if part is not None:
        own = part_of([live.shard_id for live in chosen], part)
        selected = [live for live in chosen if live.shard_id in own]
    scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    scripts.check(request.goal)
    found = collect(survey_revisions(fleet, selected, scripts), selected, doing="reading revisions")
    sizes = None
    if order.by is OrderBy.SIZE:
        with diagnostics.working("reading sizes"):
            sizes = survey_sizes(fleet, selected)
    return Prepared(fleet, scripts, plan_migration(request.goal, found, scripts, rules=rules, sizes=sizes))
