"""The line below an answer on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardctl.cli.amounts import size_text

if TYPE_CHECKING:
    from shardctl.query import QueryResult, QueryRows
    from shardctl.query.asked import Asked


def footer(result: QueryResult | QueryRows, count: int, seconds: float, asked: Asked, size: int) -> str:
    """Return the line below an answer: where it is from, and what it took."""
    rows = f"{count} row{'' if count == 1 else 's'}"
    shards = f"{len(result.shard_ids)} shard{'' if len(result.shard_ids) == 1 else 's'}"
    if result.plan.pruned is not None:
        shards = f"{len(result.shard_ids)} of {result.plan.pruned.candidates} shards, by the sharding key,"
    received = "" if asked.all_received is None else f"{size_text(asked.all_received)} received, "
    text = f"{rows} from {shards} in {seconds:.2f} s ({result.plan.reason}); {received}{size_text(size)} printed"
    slowest = asked.slowest
    return text + (f"; slowest `{slowest[0]}`, {slowest[1]:.2f} s" if slowest and len(result.shard_ids) > 1 else "")
