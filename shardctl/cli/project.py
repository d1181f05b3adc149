"""From the shared options to a fleet and the shards that are meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shardctl.cli import diagnostics, output
from shardctl.errors import ConfigError, Refused, UnknownName

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard


def open_fleet(config: Path | None, app: str | None) -> Fleet:
    """Open the fleet that the options name.

    Raises:
        ConfigError: There is none, or it cannot be used.
    """
    output.protect()
    with diagnostics.working("reading the shard map"):
        import shardctl
        from shardctl.fleet.engines import silence_pools

        silence_pools()
        return shardctl.open(config, app=app, pooled=False)


def cluster_name(fleet: Fleet) -> str:
    """Return what a fleet is called: by its application, its shard map, or the folder of that."""
    source = fleet.shard_map.source
    if source is None:
        return fleet.shard_map.app or "shards"
    return source.resolve().parent.name if source.name in ("shardctl.toml", "pyproject.toml") else source.stem


def note_broken_models(fleet: Fleet) -> None:
    """Say why class names and joins will not be understood; plain SQL works all the same."""
    if fleet.shard_map.models:
        try:
            _ = fleet.models
        except ConfigError as error:
            diagnostics.say(f"note: without models, classes and joins are not known: {error.message}")


def select(
    fleet: Fleet,
    *,
    shards: Sequence[str] | None,
    labels: Sequence[str] | None,
    exclude: Sequence[str] | None,
    all_shards: bool = True,
) -> list[LiveShard]:
    """Return the shards that the options mean, in the order of the shard map.

    Args:
        fleet: All of them.
        shards: Names.
        labels: `key=value` each; a shard must have all of them.
        exclude: Names to leave out.
        all_shards: Whether every shard is meant where neither names nor labels are given.

    Raises:
        UnknownName: A name or a label fits no shard.
        ConfigError: Nothing is selected.
    """
    wanted = {fleet.shard(name).shard_id for name in shards or ()}
    if labels:
        wanted |= _labelled(fleet, labels)
    if not shards and not labels:
        if not all_shards:
            raise ConfigError(
                "no shards named",
                hint="pass `--all-shards`, `--shard NAME` (repeatable) or `--label key=value`",
            )
        wanted = set(fleet.shards)
    wanted -= {fleet.shard(name).shard_id for name in exclude or ()}
    if not wanted:
        raise ConfigError("the options leave no shard", hint="`shardctl shards` lists all of them")
    return [shard for shard_id, shard in fleet.shards.items() if shard_id in wanted]


def without_offline(shards: Sequence[LiveShard]) -> tuple[list[LiveShard], list[LiveShard]]:
    """Part shards into those that may be contacted and those that are declared offline."""
    return [shard for shard in shards if not shard.is_offline], [shard for shard in shards if shard.is_offline]


def _labelled(fleet: Fleet, labels: Sequence[str]) -> set[str]:
    pairs = []
    for label in labels:
        key, separator, value = label.partition("=")
        if not separator:
            raise ConfigError(f"`--label {label}` is not `key=value`", hint="for example `--label wave=canary`")
        pairs.append((key, value))
    found = {
        shard_id
        for shard_id, live in fleet.shards.items()
        if all(live.shard.labels.get(key) == value for key, value in pairs)
    }
    if not found:
        known = {f"{key}={value}" for live in fleet.shards.values() for key, value in live.shard.labels.items()}
        strange = next((label for label in labels if label not in known), None)
        if strange is None:
            raise ConfigError(f"no shard has {' and '.join(f'`{label}`' for label in labels)} together")
        raise UnknownName(f"no shard has `{strange}`", name=strange, known=known)
    return found


def writable(shards: Sequence[LiveShard], *, is_named: bool) -> list[LiveShard]:
    """Leave out the shards that their state forbids to change, and say so.

    Args:
        shards: The selection.
        is_named: Whether each was named; then leaving it out is refused.

    Raises:
        Refused: A named shard is readonly or offline, or no other is left.
    """
    from shardctl.topology.model import ShardState

    barred = [live for live in shards if live.shard.state in (ShardState.READONLY, ShardState.OFFLINE)]
    states = [f"{live.shard_id} is {live.shard.state.value}" for live in barred]
    if barred and (is_named or len(barred) == len(shards)):
        raise Refused(
            "these shards must not be changed", facts=states, hint="set their `state` to `active` in the shard map"
        )
    if states:
        diagnostics.say(f"note: left out: {', '.join(states)}")
    return [live for live in shards if live not in barred]
