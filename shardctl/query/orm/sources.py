"""Joins and subqueries of a SQLAlchemy SELECT: each shard must find in its own rows all that belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardctl.fleet.placement import Placement


def check_sources(statement: Any, placement: Placement | None) -> None:
    return None
