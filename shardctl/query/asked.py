"""What the shards were asked for one query, and how long each took: noted where it happens, read where it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardctl.fleet import Outcome


@dataclass(slots=True)
class Asked:
    """Seconds by shard; of one that was asked several times, together."""

    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def slowest(self) -> tuple[str, float] | None:
        """The shard that took longest, and its seconds."""
        return max(self.seconds.items(), key=lambda entry: entry[1]) if self.seconds else None


_ASKED: ContextVar[Asked | None] = ContextVar("asked", default=None)


@contextmanager
def noting() -> Iterator[Asked]:
    """Have `note` write down what is asked meanwhile."""
    asked = Asked()
    token = _ASKED.set(asked)
    try:
        yield asked
    finally:
        _ASKED.reset(token)


def note(outcomes: Iterable[Outcome[Any]]) -> None:
    """Write down how long shards took."""
    asked = _ASKED.get()
    if asked is not None:
        for outcome in outcomes:
            asked.seconds[outcome.shard_id] = asked.seconds.get(outcome.shard_id, 0.0) + outcome.seconds
