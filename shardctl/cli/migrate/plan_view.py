"""A plan as it is shown: by `--dry-run`, and before the question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardctl.cli import diagnostics, output
from shardctl.cli.output import Format

if TYPE_CHECKING:
    from shardctl.schema.plan import MigrationPlan, ShardPlan

_MOST_NAMES = 4


def emit_plan(plan: MigrationPlan, format_: Format) -> None:
    """Write what each shard would run."""
    if format_ in (Format.JSON, Format.NDJSON):
        columns = ["shard", "wave", "from", "to", "steps", "problem"]
        goal = {"direction": plan.goal.direction.value, "target": plan.goal.target}
        waves = [
            {"wave": wave.number, "is_canary": wave.is_canary, "shards": list(wave.shard_ids)} for wave in plan.waves
        ]
        rows = [_object(plan, shard) for shard in plan.shards.values()]
        output.emit(columns, rows, format_, extra={"goal": goal, "waves": waves})
        return
    with_waves = format_ is not Format.TABLE or len(plan.waves) > 1
    rows = [_row(plan, shard)[0 if with_waves else 1 :] for shard in plan.in_order]
    output.emit(["wave", "shard", "from", "to", "pending"][0 if with_waves else 1 :], rows, format_)


def say_plan(plan: MigrationPlan) -> None:
    """Say what is about to run, one line for all shards that go the same way."""
    from shardctl.schema.fitness import counted

    by_path: dict[str, list[str]] = {}
    for shard in plan.to_run:
        by_path.setdefault(shard.path, []).append(shard.shard_id)
    for path, shard_ids in by_path.items():
        diagnostics.say(f"  {_listed(shard_ids)}: {path}")
    for shard in plan.problems:
        diagnostics.say(f"  {shard.shard_id}: {shard.problem.message if shard.problem else ''}")
    unmoved = [shard for shard in plan.shards.values() if not shard.steps and shard.problem is None]
    if unmoved:
        diagnostics.say(f"  nothing to run: {diagnostics.listed([shard.shard_id for shard in unmoved])}")
    if len(plan.waves) > 1:
        sizes = [f"{wave.name}: {counted(len(wave.shard_ids), 'shard')}" for wave in plan.waves]
        diagnostics.say("  " + diagnostics.listed(sizes))


def _listed(shard_ids: list[str]) -> str:
    if len(shard_ids) <= _MOST_NAMES:
        return ", ".join(shard_ids)
    return f"{len(shard_ids)} shards ({', '.join(shard_ids[:2])}, ...)"


def _row(plan: MigrationPlan, shard: ShardPlan) -> list[object]:
    wave = plan.wave_of(shard.shard_id)
    pending = ", ".join(str(step) for step in shard.steps)
    return [
        wave.number if wave else None,
        shard.shard_id,
        ", ".join(shard.before) or None,
        None if shard.problem else ", ".join(shard.after) or None,
        pending or None,
    ]


def _object(plan: MigrationPlan, shard: ShardPlan) -> list[object]:
    wave = plan.wave_of(shard.shard_id)
    steps = [
        {
            "revision": step.revision,
            "direction": step.direction.value,
            "message": step.message,
            "is_destructive": step.is_destructive,
        }
        for step in shard.steps
    ]
    return [
        shard.shard_id,
        wave.number if wave else None,
        list(shard.before),
        list(shard.after),
        steps,
        shard.problem.message if shard.problem else None,
    ]
