"""What became of a run: one row for each shard, and one error for all that went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardctl.cli import diagnostics, output
from shardctl.cli.failures import failed_of, fix, one_error
from shardctl.cli.output import Format
from shardctl.errors import ExitCode, Interrupted, Refused, ShardctlError

if TYPE_CHECKING:
    from shardctl.cli.migrate.record import Record
    from shardctl.fleet import Outcome
    from shardctl.schema.plan import MigrationPlan, ShardPlan
    from shardctl.schema.results import MigrationResult
    from shardctl.schema.revisions import Scripts
    from shardctl.schema.rollout import Rollout

COLUMNS = ["wave", "shard", "from", "to", "seconds", "outcome"]
OBJECT = ["shard", "wave", "outcome", "from", "to", "steps", "seconds", "retries", "error", "facts", "hint"]

_DONE = {"upgrade": "upgraded", "downgrade": "downgraded", "stamp": "stamped"}
_VERBS = {"upgrade": "migrated", "downgrade": "downgraded", "stamp": "stamped"}
_DOING = {"upgrade": "migrating", "downgrade": "downgrading", "stamp": "stamping"}


@dataclass(slots=True)
class Report:
    """What became of a run, or has become of it so far."""

    rollout: Rollout
    scripts: Scripts
    record: Record
    is_interrupted: bool = False
    abandoned: tuple[str, ...] = ()
    """The shards that a second ^C left in the middle of a revision."""
    is_declined: bool = False
    """Whether a wave was not wanted."""

    @property
    def plan(self) -> MigrationPlan:
        return self.rollout.plan

    @property
    def doing(self) -> str:
        return _DOING[self.plan.goal.direction.value]

    def outcome_of(self, shard_id: str) -> str:
        """Return what became of a shard, in one or two words."""
        outcome = self.rollout.outcomes.get(shard_id)
        shard = self.plan.shards[shard_id]
        if outcome is None:
            return "abandoned" if shard_id in self.rollout.started else "not started"
        if outcome.error is not None:
            return self._failed(outcome.error)
        if shard.steps:
            return _DONE[self.plan.goal.direction.value]
        return "at head" if set(self.scripts.heads) <= set(shard.before) else "unchanged"

    def _failed(self, error: ShardctlError) -> str:
        if error.exit_code == ExitCode.LOCKED:
            return "locked"
        if error.exit_code == ExitCode.REFUSED:
            return "refused"
        if isinstance(error, Interrupted):
            return "stopped"
        if self.rollout.is_stopped and not getattr(error, "is_half_done", True):
            return "rolled back"
        return "failed"

    def emit(self, format_: Format) -> None:
        """Write the rows."""
        plans = self.plan.in_order
        if format_ is Format.NDJSON:  # was streamed
            return
        if format_ is Format.JSON:
            rows = [list(self.entry(shard.shard_id).values()) for shard in plans]
            output.emit(OBJECT, rows, format_, extra=self.head() | self.summary())
            return
        skip = 1 if format_ is Format.TABLE and len(self.plan.waves) < 2 else 0
        output.emit(COLUMNS[skip:], [self._row(shard)[skip:] for shard in plans], format_)

    def head(self) -> dict[str, Any]:
        """Return what a machine wants to know of the plan."""
        goal = self.plan.goal
        waves = [
            {"wave": wave.number, "is_canary": wave.is_canary, "shards": list(wave.shard_ids)}
            for wave in self.plan.waves
        ]
        return {
            "run": self.rollout.run_id,
            "goal": {"direction": goal.direction.value, "target": goal.target},
            "waves": waves,
        }

    def summary(self) -> dict[str, Any]:
        """Return what a machine wants to know of the end."""
        return {
            "total": len(self.plan.shards),
            "done": len(self._done),
            "not_started": self.rollout.not_started,
            "exit_code": int(problem.exit_code) if (problem := self.problem()) else 0,
        }

    def _row(self, shard: ShardPlan) -> list[object]:
        before, after, seconds = self._way(shard)
        wave = self.plan.wave_of(shard.shard_id)
        return [
            wave.number if wave else None,
            shard.shard_id,
            ", ".join(before) or None,
            ", ".join(after or ()) or None,
            seconds,
            self.outcome_of(shard.shard_id),
        ]

    def _way(self, shard: ShardPlan) -> tuple[tuple[str, ...], tuple[str, ...] | None, float | None]:
        """Return where a shard was, where it is (None: nobody knows), and the seconds between."""
        outcome = self.rollout.outcomes.get(shard.shard_id)
        if outcome is None:
            return shard.before, None if shard.shard_id in self.rollout.started else shard.before, None
        seconds = round(outcome.seconds, 2) if shard.shard_id in self.rollout.started else None
        if outcome.value is not None:
            return outcome.value.from_, outcome.value.to, seconds
        left = getattr(outcome.error, "to", None if seconds is not None else shard.before)
        return getattr(outcome.error, "from_", shard.before), left, seconds

    def entry(self, shard_id: str) -> dict[str, Any]:
        """Return what a machine wants to know of one shard."""
        shard = self.plan.shards[shard_id]
        before, after, seconds = self._way(shard)
        wave = self.plan.wave_of(shard_id)
        outcome = self.rollout.outcomes.get(shard_id)
        error = outcome.error if outcome else None
        values = [
            shard_id,
            wave.number if wave else None,
            self.outcome_of(shard_id),
            list(before),
            None if after is None else list(after),
            self.record.steps.get(shard_id, []),
            seconds,
            self.record.retries[shard_id],
            error.message if error else None,
            list(error.facts) if error else [],
            error.hint if error else None,
        ]
        return dict(zip(OBJECT, values, strict=True))

    def raise_problems(self) -> None:
        """Raise `problem`, if there is one."""
        problem = self.problem()
        if problem is not None:
            raise problem

    def problem(self) -> ShardctlError | None:
        """Return one error for everything that went wrong.

        Interrupted by ^C; PartialFailure where some shards are done; Refused or Locked if that is all that happened.
        """
        outcomes = [found for name in self.plan.shards if (found := self.rollout.outcomes.get(name))]
        failed = failed_of(outcomes)
        if self.is_interrupted:
            return self._interrupted()
        if self.is_declined:
            hint = self._run_again("shards that are done are skipped")
            return Refused(f"declined: {self._summary()}", facts=self._not_started(), hint=hint)
        return self._failures(failed) if failed else None

    @property
    def _done(self) -> list[str]:
        return [name for name in self.plan.shards if (found := self.rollout.outcomes.get(name)) and found.is_ok]

    def _summary(self) -> str:
        direction, target = self.plan.goal.direction.value, self.plan.goal.target
        if target in ("head", "heads"):
            target = ", ".join(self.scripts.heads)
        to = "" if self.plan.goal.is_relative else f" to {target}"
        text = f"{_VERBS[direction]} {len(self._done)} of {len(self.plan.shards)} shards{to}"
        if not self.rollout.not_started:
            return text
        if self.is_declined:
            refused = self.plan.wave_of(self.rollout.not_started[0])
            return f"{text}; {refused.name} not started" if refused else text
        wave = self.rollout.wave
        if wave is None:
            return f"{text}; none was started"
        return f"{text}; {wave.name} stopped" if len(self.plan.waves) > 1 else f"{text}; stopped"

    def _not_started(self) -> list[str]:
        names = self.rollout.not_started
        return [f"not started: {diagnostics.listed(names)}"] if names else []

    def _failures(self, failed: list[Outcome[MigrationResult]]) -> ShardctlError:
        is_partial = bool(self._done)
        return one_error(
            self._summary(), failed, is_partial=is_partial, facts=self._not_started(), hint=self._again(failed)
        )

    def _again(self, failed: list[Outcome[MigrationResult]]) -> str:
        if self.rollout.not_started and not self.rollout.started:
            return f"{fix(failed)}, or leave them out by `--exclude`, or pass `--on-error continue`"
        if all(outcome.error and outcome.error.exit_code == ExitCode.LOCKED for outcome in failed):
            return f"then {self._run_again('finished shards are skipped')}"
        return f"{fix(failed)} and {self._run_again('finished shards are skipped')}"

    def _run_again(self, otherwise: str) -> str:
        goal = self.plan.goal
        if not goal.is_count:
            return f"run the same command again; {otherwise}"
        if not any(self.plan.shards[name].steps for name in self._done):
            return "run the same command again"
        return f"run it for the rest only, by `--shard`: `{goal.target}` would take finished shards further"

    def _interrupted(self) -> Interrupted:
        by_outcome: dict[str, list[str]] = {}
        for name in self.plan.shards:
            by_outcome.setdefault("done" if name in self._done else self.outcome_of(name), []).append(name)
        facts = [f"{outcome}: {diagnostics.listed(names)}" for outcome, names in by_outcome.items()]
        message = f"interrupted while {self.doing}: "
        message += f"{len(self._done)} of {len(self.plan.shards)} shards are done"
        if self.abandoned:
            hint = "`shardctl status` says where they are; a statement may go on in the server for a while"
            return Interrupted(message, facts=facts, hint=hint)
        return Interrupted(message, facts=facts, hint=self._run_again("shards that are done are skipped"))
