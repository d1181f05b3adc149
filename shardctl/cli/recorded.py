"""What runs found, kept for the next one: a record that cannot be kept is said, and stops nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shardctl.cli import diagnostics
from shardctl.errors import ShardctlError

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard


def keep(fleet: Fleet, kind: str, data: Mapping[str, Any]) -> None:
    """Keep what a run found.

    Args:
        fleet: Whose.
        kind: The command's name.
        data: What JSON can hold.
    """
    from shardctl.fleet.records import Records

    try:
        Records(fleet.shard_map).write(kind, data)
    except ShardctlError as error:
        diagnostics.say(f"note: {error.message}")


def is_whole(fleet: Fleet, asked: list[LiveShard]) -> bool:
    """Say whether all shards were asked that are not declared offline."""
    return all(live.is_offline or live in asked for live in fleet.shards.values())
