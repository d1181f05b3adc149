"""A plan carried out over the fleet: wave by wave, several shards at a time, until too many fail."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.fan_out import MAX_JOBS, run_one
from shardctl.schema.apply import upgrade
from shardctl.schema.events import Event, write_printed
from shardctl.schema.limits import Terms
from shardctl.schema.plan import MigrationPlan, ShardPlan
from shardctl.schema.proxies import context_local_proxies
from shardctl.schema.results import MigrationResult
from shardctl.schema.revisions import Scripts
from shardctl.schema.run_env import connections_of
from shardctl.schema.watch import OnWait, Watch
from shardctl.schema.waves import Wave

Gate = Callable[[Wave], bool]
"""Asked before each wave after the first; a wave that it refuses is not started, nor are those behind it."""
Upgrade = Callable[..., MigrationResult]
"""Brings one shard to a goal, with the arguments of `apply.upgrade`."""


@dataclass(frozen=True, slots=True)
class WaveStarted:
    """The shards of a wave may start."""

    wave: Wave


@dataclass(frozen=True, slots=True)
class WaveAwaited:
    """A wave starts after a pause."""

    wave: Wave
    seconds: float


@dataclass(frozen=True, slots=True)
class ShardStarted(Event):
    """A shard is at work."""


@dataclass(frozen=True, slots=True)
class ShardFinished(Event):
    """A shard is done, or failed, or had nothing to do."""

    outcome: Outcome[MigrationResult]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a run goes on."""

    jobs: int = MAX_JOBS
    """Shards at work at one time."""
    max_failures: int | None = 1
    """No shard is started once this many have failed; None: failures stop nothing."""
    pause_s: float = 0.0
    """Between two waves."""
    terms: Terms = field(default_factory=Terms)
    """For each shard."""


RunEvent = Event | WaveStarted | WaveAwaited
OnRunEvent = Callable[[RunEvent], None]


class Rollout:
    """One run of a plan. Iterating over it runs it, and yields the outcomes as they come.

    Ending the iteration early starts no further shard and no further revision. Statements that run are cancelled where
    the revision is then rolled back; where CREATE and ALTER cannot be (MySQL), the revisions that run are waited for.

    Args:
        fleet: The shards' fleet.
        plan: What runs; a shard whose revisions are others by then is refused.
        scripts: The project's revisions, those that the plan was made of.
        policy: How it goes on.
        gate: Asked before each wave after the first.
        on_event: Told what happens, from several threads.
        on_wait: Told which shards are waited for, when the run is interrupted.
        upgrade_one: Brings one shard to the goal; `Isolation.upgrade` does so in a process of its own.
    """

    def __init__(
        self,
        fleet: Fleet,
        plan: MigrationPlan,
        scripts: Scripts,
        *,
        policy: Policy | None = None,
        gate: Gate | None = None,
        on_event: OnRunEvent | None = None,
        on_wait: OnWait | None = None,
        upgrade_one: Upgrade = upgrade,
    ) -> None:
        self.run_id = uuid.uuid4().hex
        self.plan = plan
        self.outcomes: dict[str, Outcome[MigrationResult]] = {}
        """Of the shards that are done or failed, also of those that ended after the iteration was."""
        self.started: set[str] = set()
        self.wave: Wave | None = None
        """The last one that was started."""
        self._fleet = fleet
        self._scripts = scripts
        self._policy = policy or Policy()
        self._gate = gate
        self._tell: OnRunEvent = on_event or write_printed
        self._watch = Watch(on_wait)
        self._upgrade_one = upgrade_one
        self._lock = threading.Lock()

    @property
    def failures(self) -> int:
        """How many shards failed, those that could not be planned included."""
        with self._lock:
            return sum(not outcome.is_ok for outcome in self.outcomes.values())

    @property
    def not_started(self) -> list[str]:
        """The shards that have something to run and were not begun."""
        return [plan.shard_id for plan in self.plan.to_run if plan.shard_id not in self.started]

    @property
    def is_stopped(self) -> bool:
        """Whether the run was ended early."""
        return self._watch.stop.is_set()

    @property
    def may_go_on(self) -> bool:
        """Whether another shard may start."""
        most = self._policy.max_failures
        return most is None or self.failures < most

    def __iter__(self) -> Generator[Outcome[MigrationResult], None, None]:
        context_local_proxies()
        for plan in self.plan.shards.values():
            if not plan.steps:
                yield self._record(_unmoved(self._fleet.shards[plan.shard_id], plan))
        for wave in self.plan.waves:
            if not self.may_go_on or self._has_failed_canary() or not self._may_begin(wave):
                return
            self.wave = wave
            self._tell(WaveStarted(wave))
            yield from self._run_wave(wave)

    def _has_failed_canary(self) -> bool:
        """Whether the wave that was to show what goes wrong has shown it, however many failures are allowed."""
        wave = self.wave
        return wave is not None and wave.is_canary and any(not self.outcomes[name].is_ok for name in wave.shard_ids)

    def _may_begin(self, wave: Wave) -> bool:
        if wave.number == 1:
            return True
        if self._gate is not None and not self._gate(wave):
            return False
        if self._policy.pause_s:
            self._tell(WaveAwaited(wave, self._policy.pause_s))
            time.sleep(self._policy.pause_s)
        return True

    def _run_wave(self, wave: Wave) -> Iterator[Outcome[MigrationResult]]:
        shards = [self._fleet.shards[shard_id] for shard_id in wave.shard_ids]
        stop = self._watch.stop.set  # before statements are cancelled: no shard may go on to its next revision
        outcomes = self._fleet.fan_out(
            self._run,
            shards,
            jobs=self._policy.jobs,
            may_start=lambda: self.may_go_on,
            before_cancel=stop,
            connections=connections_of(self._scripts),
        )
        is_over = False
        try:
            yield from outcomes
            is_over = True
        finally:
            if not is_over:
                stop()
            outcomes.close()
            self._watch.wait()

    def _run(self, shard: LiveShard) -> MigrationResult:
        with self._watch.at_work(shard):
            self.started.add(shard.shard_id)
            self._tell(ShardStarted(shard.shard_id))
            outcome = self._record(run_one(shard, self._upgrade))
        return outcome.result

    def _upgrade(self, shard: LiveShard) -> MigrationResult:
        return self._upgrade_one(
            shard,
            self._scripts,
            self.plan.goal,
            expected=self.plan.shards[shard.shard_id].before,
            terms=self._policy.terms,
            stop=self._watch.stop,
            on_event=self._tell,
            run_id=self.run_id,
        )

    def _record(self, outcome: Outcome[MigrationResult]) -> Outcome[MigrationResult]:
        with self._lock:
            self.outcomes[outcome.shard_id] = outcome
        self._tell(ShardFinished(outcome.shard_id, outcome))
        return outcome


def _unmoved(shard: LiveShard, plan: ShardPlan) -> Outcome[MigrationResult]:
    """Return the outcome of a shard that has nothing to run, or cannot."""
    if plan.problem is not None:
        return Outcome(shard, 0.0, error=plan.problem)
    return Outcome(shard, 0.0, MigrationResult(plan.before, plan.after))
