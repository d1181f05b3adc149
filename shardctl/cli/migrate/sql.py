"""`--sql`: the scripts of a plan, to standard output or to a directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from shardctl.cli import diagnostics, output
from shardctl.cli.failures import LEAVE_OUT, failed_of, one_error
from shardctl.cli.migrate.request import Prepared
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.errors import ConfigError, ShardctlError

if TYPE_CHECKING:
    from shardctl.schema.offline import Script


def emit_scripts(prepared: Prepared, folder: Path | None, format_: Format) -> None:
    """Write what the shards of a plan would run: each text once, or one file for each shard.

    Raises:
        PartialFailure: Some shards have no script.
        ShardctlError: None has, or a file cannot be written.
    """
    from shardctl.schema.offline import grouped, render_scripts

    plan = prepared.plan
    shards = [prepared.fleet.shards[shard.shard_id] for shard in plan.to_run]
    outcomes = collect(render_scripts(prepared.fleet, plan, prepared.scripts), shards, doing="rendering")
    found = grouped({outcome.shard_id: outcome.value for outcome in outcomes if outcome.value is not None}, plan)
    if folder is not None and found:
        written = _write(found, folder)
        output.emit(["shard", "file"], [[shard_id, str(file)] for shard_id, file in written.items()], format_)
    elif folder is None:
        output.write("\n".join(str(script) for script in found))
    if not shards and not plan.problems:
        diagnostics.say("note: nothing to run")
    failed = [*prepared.problems, *failed_of(outcomes)]
    if failed:
        message = f"no SQL for {len(failed)} of {len(plan.shards)} shards"
        is_partial = len(failed) < len(plan.shards)
        raise one_error(message, failed, is_partial=is_partial, hint=LEAVE_OUT if is_partial else None)


def _write(found: list[Script], folder: Path) -> dict[str, Path]:
    by_shard = {shard_id: script for script in found for shard_id in script.shard_ids}
    files = {shard_id: folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', shard_id)}.sql" for shard_id in by_shard}
    if len(set(files.values())) < len(files):
        raise ConfigError("two shards would have the same file", hint="write them one by one: `--shard NAME --sql`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for shard_id, file in files.items():
            script = by_shard[shard_id]
            part = file.with_suffix(".part")  # never half a file under its own name
            part.write_text(str(type(script)((shard_id,), script.before, script.after, script.text)), encoding="utf-8")
            part.replace(file)
    except OSError as error:
        raise ShardctlError(f"cannot write to `{folder}`: {error.strerror}") from error
    return files
