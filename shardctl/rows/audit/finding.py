"""What a check of stored rows found, and what it was asked to look at."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement

from shardctl.errors import ShardctlError
from shardctl.fleet import Fleet, LiveShard
from shardctl.rows.audit.marks import Marks
from shardctl.rows.identities import Target

SAMPLES = 5
"""Primary keys that a finding shows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows of one table that are wrong in one way."""

    check: str
    """`placement`, `duplicates`, `orphans`, `reference` or `sequences`."""
    kind: str
    """In what way, in a word or two: `misplaced`, `on several shards`, `parent elsewhere`, `row missing` …"""
    name: str
    """The class, or the table."""
    shards: tuple[str, ...]
    """The shards that the rows are on."""
    count: int
    """How many rows."""
    samples: tuple[tuple[Any, ...], ...]
    """Primary keys of some of them, in their columns' order."""
    detail: str
    """What is wrong, with the values that say so."""
    mend: str
    """The command to type next."""
    is_exact: bool = True
    """Whether `count` is all there are: not where the check looked at a part only."""
    measured: str = ""
    """Values that say how wrong it is, and may be others in the next run."""

    @property
    def finding_id(self) -> str:
        """Return a name that the same fault has in every run: no counts or samples are in it."""
        parts = "\x1f".join((self.check, self.kind, self.name, *self.shards, self.detail))
        return hashlib.sha256(parts.encode()).hexdigest()[:8]

    @property
    def said(self) -> str:
        """What is wrong, with all values."""
        return f"{self.detail}: {self.measured}" if self.measured else self.detail


@dataclass(frozen=True, slots=True)
class Trouble:
    """A shard that could not be asked: what is said of the others holds without it."""

    shard_id: str
    error: ShardctlError
    name: str = ""
    """The class, or the table, if it is about one."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Rows that a check does not look at, or not as it would: no fault."""

    check: str
    name: str
    """The class, or the table."""
    why: str
    """In a few words that go after the name and a colon."""


class Pace:
    """Holds all shards of a run together to so many rows a second.

    Args:
        rows_per_s: None: as fast as they come.
    """

    def __init__(self, rows_per_s: float | None) -> None:
        self._rows_per_s = rows_per_s
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def wait(self, rows: int) -> None:
        """Wait until this many rows, which were just read, are paid for; hold no transaction meanwhile."""
        if self._rows_per_s is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + rows / self._rows_per_s
            seconds = self._free_at - time.monotonic()
        time.sleep(max(0.0, seconds))


@dataclass(frozen=True, slots=True)
class Scope:
    """What a check looks at, and how."""

    fleet: Fleet
    targets: Sequence[Target]
    """Classes, and tables without one."""
    shards: Sequence[LiveShard]
    """Those that may be asked; the others are offline."""
    sample: float | None = None
    """The share of the rows to look at, above 0 and below 1; None: all."""
    since: Mapping[str, ColumnElement[bool]] = field(default_factory=dict)
    """By `Table.key`, a condition on its rows; a table that is not in it has no such column, and is looked at whole."""
    max_findings: int = 1_000
    """Findings of one check at the most."""
    chunk: int = 20_000
    """Rows of one statement at the most, and so of one transaction."""
    timeout_s: float | None = None
    """Seconds for one statement."""
    pace: Pace = field(default_factory=lambda: Pace(None))
    told: Callable[[str, str, int], None] = lambda _table, _shard_id, _rows: None
    """Called with what has been looked at: a table, a shard, and the rows since the last call."""
    marks: Marks = field(default_factory=Marks)
    """Where a check may keep how far it came; one that keeps nothing is run again as a whole."""


Check = Callable[[Scope], Iterator[Finding | Trouble | Skipped]]
"""Looks at stored rows, and yields what it finds as it finds it."""
