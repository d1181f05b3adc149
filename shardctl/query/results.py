"""What comes of a query: its rows, and where they are from."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from shardctl.query.engines import Row
from shardctl.query.plan import QueryPlan


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One answer, and where it came from."""

    columns: tuple[str, ...]
    rows: list[Row]
    shard_ids: tuple[str, ...]
    """The shards that were asked."""
    seconds: float
    plan: QueryPlan
    rows_pulled: int = 0
    """Rows that were brought to one place for it; 0 where the shards' answers were merged."""


@dataclass(frozen=True, slots=True)
class QueryRows:
    """One answer whose rows come as they are read."""

    columns: tuple[str, ...]
    rows: Generator[Row, None, None]
    """To be read to the end; closing it cancels what still runs. An error may come in place of any row."""
    shard_ids: tuple[str, ...]
    plan: QueryPlan
