"""One pass over a table's rows on all shards: a round of short reads after the other, and what they add up to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from shardctl.fleet import LiveShard
from shardctl.rows.audit.chunks import Cursor
from shardctl.rows.audit.finding import Finding, Scope, Skipped, Trouble
from shardctl.rows.audit.marks import State, Value
from shardctl.rows.audit.reading import on_each
from shardctl.rows.audit.tally import Tally


class ReadPart(Protocol):
    """What one read of a shard gave."""

    @property
    def rows(self) -> int:
        """How many rows were looked at."""
        ...

    @property
    def last(self) -> Value | None:
        """The key to go on behind; None: there are no more rows."""
        ...


P = TypeVar("P", bound=ReadPart)


@dataclass(slots=True)
class Pass:
    """A check of one table.

    Args:
        scope: What to look at.
        tally: What was found so far.
        shards: Those that have the table.
    """

    scope: Scope
    tally: Tally
    shards: Sequence[LiveShard]
    cursors: dict[str, Cursor] = field(default_factory=dict)
    troubled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.cursors = {shard.shard_id: Cursor() for shard in self.shards}
        state = self.scope.marks.get(self.tally.check, self.tally.name)
        if state is not None:
            self.tally.restore(state["tally"])
            self.cursors |= {shard_id: Cursor.restored(saved) for shard_id, saved in state["cursors"].items()}
        for shard_id, cursor in self.cursors.items():
            self.scope.told(self.tally.name, shard_id, cursor.rows)

    def rounds(
        self,
        read: Callable[[LiveShard, Cursor], P],
        absorb: Callable[[Mapping[LiveShard, P]], Sequence[Trouble]],
    ) -> Iterator[Trouble]:
        """Read until no shard has more rows.

        Args:
            read: Reads a shard's next rows.
            absorb: Adds what was read to the tally; a shard in trouble is left where it is, and not read further.
        """
        by_id = {shard.shard_id: shard for shard in self.shards}
        while active := [shard for shard in self.shards if self._goes_on(shard)]:
            parts, troubles = on_each(
                self.scope, active, lambda shard: read(shard, self.cursors[shard.shard_id]), name=self.tally.name
            )
            yield from self._note(troubles)
            yield from self._note(absorb({by_id[shard_id]: part for shard_id, part in parts.items()}))
            rows = 0
            for shard_id, part in parts.items():
                if shard_id not in self.troubled:
                    rows += part.rows
                    self._advance(shard_id, part)
            self.scope.marks.put(self.tally.check, self.tally.name, self._state())
            self.scope.pace.wait(rows)

    def _goes_on(self, shard: LiveShard) -> bool:
        return not self.cursors[shard.shard_id].is_done and shard.shard_id not in self.troubled

    def _note(self, troubles: Sequence[Trouble]) -> Sequence[Trouble]:
        self.troubled |= {trouble.shard_id for trouble in troubles}
        return troubles

    def _advance(self, shard_id: str, part: Any) -> None:
        cursor = self.cursors[shard_id]
        cursor.rows += part.rows
        cursor.is_done = part.last is None
        cursor.last = part.last
        self.scope.told(self.tally.name, shard_id, part.rows)

    def _state(self) -> State:
        cursors = {shard_id: cursor.saved() for shard_id, cursor in self.cursors.items()}
        return {"tally": self.tally.saved(), "cursors": cursors}

    def found(self) -> Iterator[Finding | Skipped]:
        """Yield what it all adds up to."""
        return self.tally.results(is_exact=self.scope.sample is None and not self.troubled)
