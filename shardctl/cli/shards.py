"""`shardctl shards`: the shards, and which of them answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.output import Format
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard, Outcome
    from shardctl.fleet.pulse import Pulse
    from shardctl.schema.revisions import Scripts

COLUMNS = ["shard", "engine", "state", "reachable", "latency_ms", "revision", "labels", "url"]


def shards(
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """List the shards: engine, state, reachability, latency, revision.

    Exit code 1: a shard that is not declared offline does not answer.
    """
    fleet = open_fleet(config, app)
    selected = select(fleet, shards=shard, labels=label, exclude=exclude)
    asked, _ = without_offline(selected)
    scripts = _scripts(fleet)
    with fleet, diagnostics.working(f"asking {len(asked)} shards"):
        taken = fleet.fan_out(lambda live: _ask(live, scripts), asked, timeout_s=timeout or fleet.shard_map.timeout_s)
        outcomes = {outcome.shard_id: outcome for outcome in taken}
    output.emit(COLUMNS, [_row(live, outcomes.get(live.shard_id)) for live in selected], format_)
    problems = [outcomes[live.shard_id].problem for live in asked if not outcomes[live.shard_id].is_ok]
    for problem in problems:
        diagnostics.say(problem)
    hints = dict.fromkeys(outcome.error.hint for outcome in outcomes.values() if outcome.error and outcome.error.hint)
    for hint in hints:
        diagnostics.say(f"\nhint: {hint}")
    if problems:
        raise typer.Exit(ExitCode.FINDINGS)


def _scripts(fleet: Fleet) -> Scripts | None:
    """Return the project's migrations, which may give the version table a name of their own."""
    from shardctl.schema.revisions import load_scripts

    if fleet.shard_map.migrations is None:
        return None
    try:
        return load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    except ConfigError as error:
        diagnostics.say(f"note: revisions are read from `alembic_version`: {error.message}")
        return None


def _ask(shard: LiveShard, scripts: Scripts | None) -> tuple[Pulse, str]:
    """Connect to a shard, and ask it for a sign of life and for its revision."""
    from shardctl.fleet.pulse import take_pulse
    from shardctl.schema.revisions import DEFAULT_VERSION_TABLE, read_revisions
    from shardctl.schema.run_env import version_table_of

    version_table = DEFAULT_VERSION_TABLE if scripts is None else version_table_of(shard, scripts)
    with shard.connect() as connection:
        return take_pulse(connection, shard), ", ".join(read_revisions(connection, version_table))


def _row(live: LiveShard, outcome: Outcome[tuple[Pulse, str]] | None) -> list[object]:
    labels = ", ".join(f"{key}={value}" for key, value in live.shard.labels.items())
    url = live.shard.safe_url + (f" ({live.shard.schema})" if live.shard.schema else "")
    if outcome is None:
        return [live.shard_id, live.backend.name, live.shard.state.value, "not asked", None, None, labels, url]
    if outcome.value is None:
        return [live.shard_id, live.backend.name, live.shard.state.value, "no", None, None, labels, url]
    pulse, revision = outcome.value
    return [
        live.shard_id,
        pulse.engine,
        live.shard.state.value,
        "yes",
        pulse.latency_ms,
        revision or None,
        labels,
        url,
    ]
