"""What looking for rows comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardctl.fleet import Outcome
from shardctl.fleet.choosers import Answer
from shardctl.rows.identities import Identity
from shardctl.rows.instances import Routing
from shardctl.rows.related import Related


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One row on one shard."""

    class_name: str
    primary_key: Identity
    shard_id: str
    values: Mapping[str, Any]
    expected: tuple[str, ...]
    """The shards it belongs on: one, or for a reference table all; empty if nothing says."""
    reason: str
    """Why these, or why nothing says."""
    shard_chooser: Answer | None = None
    asked: Identity | None = None
    """The primary key that was asked for: a database may hold another spelling equal to it."""
    is_duplicate: bool = False
    """Whether another shard holds a row with this key, which ought to name one row of the fleet."""
    related: Mapping[str, Related] = field(default_factory=dict)
    """By relationship, what hangs off the row."""

    @property
    def verdict(self) -> str:
        """Return `ok`, `misplaced`, `duplicate`, or `unknown` where nothing says where the row belongs."""
        if self.is_duplicate:
            return "duplicate"
        if not self.expected:
            return "unknown"
        return "ok" if self.shard_id in self.expected else "misplaced"

    @property
    def identity(self) -> Identity:
        """The primary key as it was asked for, or as it is if it was found by other columns."""
        return self.primary_key if self.asked is None else self.asked


@dataclass(frozen=True, slots=True)
class LackingCopy:
    """A row of a reference table that some of its shards do not have."""

    primary_key: Identity
    shard_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, and what could not be asked."""

    found: list[FoundRow]
    missing: list[Identity]
    """Primary keys that no shard which answered holds."""
    failed: list[Outcome[Any]]
    routing: list[Routing] = field(default_factory=list)
    is_cut: bool = False
    """Whether a shard has more rows than were asked for."""
    lacking: list[LackingCopy] = field(default_factory=list)
    is_complete: bool = True
    """Whether all shards answered, so that what is missing is on none of them."""
    asked: Sequence[Identity] = ()
    """The primary keys that were looked for, in their order."""
