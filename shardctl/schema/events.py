"""What happens on a shard while a run is at work on it.

Given to `on_event` from the threads that do the work: what takes events has to be safe for that, and quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on one shard."""

    shard_id: str


@dataclass(frozen=True, slots=True)
class LockWaited(Event):
    """Another run is at work on the shard, and this one waits for it; told once."""

    holder: str
    """Who holds the lock, in words."""
    wait_s: float
    """How long it will be waited for at most."""


@dataclass(frozen=True, slots=True)
class RevisionStarted(Event):
    """A revision starts."""

    revision: str
    direction: str
    number: int
    """Which of the shard's revisions in this run it is, from 1."""
    total: int


@dataclass(frozen=True, slots=True)
class RevisionFinished(Event):
    """A revision is applied, or undone, and about to be committed with the version table."""

    revision: str
    direction: str
    seconds: float
    number: int
    total: int


@dataclass(frozen=True, slots=True)
class RevisionResumed(Event):
    """A revision that an earlier run left in the middle goes on behind its last finished statement."""

    revision: str
    direction: str
    statements: int
    """How many of its statements are finished already."""


@dataclass(frozen=True, slots=True)
class Retried(Event):
    """A revision gave up waiting for a lock, was rolled back, and will be tried again."""

    revision: str | None
    """None: it was the version table that was locked."""
    attempt: int
    """From 1."""
    wait_s: float
    """Seconds until then."""
    error: str


@dataclass(frozen=True, slots=True)
class Printed(Event):
    """env.py or a revision has printed a line."""

    line: str


@dataclass(frozen=True, slots=True)
class HistoryNotKept(Event):
    """The shard's run history cannot be written, and the run goes on without it."""

    reason: str


OnEvent = Callable[[Event], None]


def write_printed(event: object) -> None:
    """Listen where nobody else does: write what is printed to standard error, behind the shard's name."""
    if isinstance(event, Printed):
        sys.stderr.write(f"{event.shard_id}: {event.line}\n")
