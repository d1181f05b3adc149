"""What is told while a run is at work, kept for the report: the steps of each shard, their seconds, its retries."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardctl.schema.rollout import RunEvent


class Record:
    """The steps and retries of a run, by shard; events come from several threads."""

    def __init__(self) -> None:
        self.steps: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.retries: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, event: RunEvent) -> None:
        """Keep what the report says of an event."""
        from shardctl.schema.events import Retried, RevisionFinished

        with self._lock:
            match event:
                case RevisionFinished():
                    step = {
                        "revision": event.revision,
                        "direction": event.direction,
                        "seconds": round(event.seconds, 3),
                    }
                    self.steps[event.shard_id].append(step)
                case Retried():
                    self.retries[event.shard_id] += 1


def noteworthy(event: RunEvent) -> str | None:
    """Return a line for an event that is out of the ordinary."""
    from shardctl.schema.events import HistoryNotKept, LockWaited, Printed, Retried, RevisionResumed

    match event:
        case LockWaited():
            return f"{event.shard_id}: waiting up to {event.wait_s:g} s for its lock, held by {event.holder}"
        case Retried():
            what = f"`{event.revision}`" if event.revision else "the version table"
            again = f"attempt {event.attempt + 1} in {event.wait_s:.1f} s"
            return f"{event.shard_id}: {what} was locked by others; {again}"
        case RevisionResumed():
            statements = "first statement" if event.statements == 1 else f"{event.statements} finished statements"
            return f"{event.shard_id}: `{event.revision}` goes on behind its {statements}"
        case Printed():
            return f"{event.shard_id}: {event.line}"
        case HistoryNotKept():
            return f"{event.shard_id}: note: its history is not kept: {event.reason}"
    return None
