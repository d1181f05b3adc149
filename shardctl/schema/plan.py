"""What a run will do on each shard, read without changing anything: what is shown is the object that runs."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shardctl.errors import ShardctlError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.schema.fitness import counted, refuse_unfit
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.revisions import Scripts, ShardRevision, messages_of
from shardctl.schema.status import read_all_revisions
from shardctl.schema.steps import revision_of
from shardctl.schema.waves import Rules, Wave, ordered, split


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One revision that a shard will run."""

    revision: str
    direction: Direction
    message: str = ""
    """The first line of its docstring."""

    @property
    def is_destructive(self) -> bool:
        """Whether it may take data away."""
        return self.direction is Direction.DOWNGRADE

    def __str__(self) -> str:
        return f"{self.revision} {self.message}".rstrip()


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """What one shard will run."""

    shard_id: str
    before: tuple[str, ...] = ()
    """Its revisions when the plan was made: if they are others when it runs, it is refused."""
    after: tuple[str, ...] = ()
    steps: tuple[PlannedStep, ...] = ()
    problem: ShardctlError | None = field(default=None, compare=False)
    """Why it cannot be run: it does not answer, its revision is unknown, it has tables and no revision."""

    @property
    def path(self) -> str:
        """Where the steps lead, in words."""
        revisions = f"{names_of(self.before)} -> {names_of(self.after)}"
        if not self.steps or self.steps[0].direction is Direction.STAMP:
            return revisions
        return f"{revisions} ({counted(len(self.steps), 'revision')}{_described(self.steps)})"


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What a run will do."""

    goal: Goal
    shards: Mapping[str, ShardPlan]
    """Of every shard that was asked for, in their order."""
    waves: tuple[Wave, ...] = ()
    """Of the shards that have something to run."""

    @property
    def is_destructive(self) -> bool:
        return any(step.is_destructive for plan in self.to_run for step in plan.steps)

    @property
    def to_run(self) -> list[ShardPlan]:
        """The shards that have something to run, in the order in which they do."""
        return [self.shards[shard_id] for wave in self.waves for shard_id in wave.shard_ids]

    @property
    def in_order(self) -> list[ShardPlan]:
        """All shards: in the order of the waves where there are several, otherwise in their own."""
        if len(self.waves) < 2:
            return list(self.shards.values())
        return [*self.to_run, *(plan for plan in self.shards.values() if not plan.steps)]

    @property
    def problems(self) -> list[ShardPlan]:
        """The shards that cannot be run."""
        return [plan for plan in self.shards.values() if plan.problem is not None]

    def wave_of(self, shard_id: str) -> Wave | None:
        """Return the wave in which a shard runs; None if it does not."""
        return next((wave for wave in self.waves if shard_id in wave.shard_ids), None)


def survey_revisions(
    fleet: Fleet, shards: Iterable[LiveShard], scripts: Scripts
) -> Generator[Outcome[ShardRevision], None, None]:
    """Read where shards stand among the project's revisions, on as few connections as possible."""
    return read_all_revisions(fleet, shards, scripts)


def survey_sizes(fleet: Fleet, shards: Iterable[LiveShard]) -> dict[str, int]:
    """Read how many bytes shards take, several at a time; those that cannot say are left out."""
    found = fleet.fan_out(size_of, shards, timeout_s=fleet.shard_map.timeout_s)
    return {outcome.shard_id: outcome.value for outcome in found if outcome.value is not None}


def size_of(shard: LiveShard) -> int:
    """Return how many bytes a shard takes, by the catalogue's own figures."""
    query = {
        "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        "postgresql": "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'm')",
        "mysql": "SELECT coalesce(sum(data_length + index_length), 0) FROM information_schema.tables "
        "WHERE table_schema = database()",
    }[shard.backend.name]
    with shard.connect() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


def plan_migration(
    goal: Goal,
    found: Sequence[Outcome[ShardRevision]],
    scripts: Scripts,
    *,
    rules: Rules | None = None,
    sizes: Mapping[str, int] | None = None,
) -> MigrationPlan:
    """Plan how shards are brought to a goal.

    Args:
        goal: What to bring them to.
        found: Where each of them stands, in the order of the shard map.
        scripts: The project's revisions.
        rules: How they become waves; None: one wave.
        sizes: Bytes, by shard, where the order needs them.

    Raises:
        ConfigError: There is no such revision, or the project has several heads.
    """
    scripts.check(goal)
    rules, messages = rules or Rules(), messages_of(scripts)
    paths: dict[tuple[str, ...], tuple[tuple[str, ...], tuple[PlannedStep, ...]]] = {}

    def plan(outcome: Outcome[ShardRevision]) -> ShardPlan:
        standing: ShardRevision | None = None
        try:
            standing = outcome.result
            refuse_unfit(outcome.shard, scripts, standing, goal)
            before = standing.revisions
            if before not in paths:
                steps = [revision_of(step) for step in scripts.steps(goal, before)]
                planned = tuple(PlannedStep(step, goal.direction, messages.get(step, "")) for step in steps)
                paths[before] = scripts.after(goal, before), planned
            return ShardPlan(outcome.shard_id, before, *paths[before])
        except ShardctlError as problem:
            before = standing.revisions if standing is not None else ()
            return ShardPlan(outcome.shard_id, before, before, problem=problem)

    shards = {outcome.shard_id: plan(outcome) for outcome in found}
    in_order = ordered([outcome.shard.shard for outcome in found], rules.order, sizes)
    to_run = [shard.shard_id for shard in in_order if shards[shard.shard_id].steps]
    return MigrationPlan(goal, shards, split(to_run, rules.canaries, rules.size))


def names_of(revisions: Sequence[str]) -> str:
    """Return revisions in words; `base` if there are none."""
    return ", ".join(revisions) or "base"


def _described(steps: Sequence[PlannedStep], most: int = 3) -> str:
    messages = [step.message or step.revision for step in steps]
    shown = "; ".join(messages[:most]) + (f" and {len(messages) - most} more" if len(messages) > most else "")
    return f": {shown}" if any(step.message for step in steps) else ""
