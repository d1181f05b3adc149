"""The live shards of this run: engines, sessions, and one function on many of them."""

from shardctl.fleet.fan_out import Outcome, fan_out, grouped_problems
from shardctl.fleet.fleet import Fleet, connect
from shardctl.fleet.live_shard import LiveShard

__all__ = ["Fleet", "LiveShard", "Outcome", "connect", "fan_out", "grouped_problems"]
