"""A run on a terminal: one live line for each shard at work, and a bar for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shardctl.cli import diagnostics
from shardctl.cli.migrate.record import noteworthy

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from shardctl.schema.events import Event
    from shardctl.schema.plan import MigrationPlan
    from shardctl.schema.rollout import WaveStarted

_LINES_LEFT = 4
"""Of the terminal, for what is said meanwhile."""


@contextmanager
def live(plan: MigrationPlan, doing: str) -> Iterator[Callable[[Event | WaveStarted], None]]:
    """Show the shards at work, and yield what takes the events."""
    from rich.console import Group
    from rich.live import Live
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = diagnostics.console()
    shards = Progress(
        TextColumn("  {task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[step]}", markup=False),
        console=console,
    )
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
    )
    lines = Lines(shards, bar, bar.add_task(doing, total=len(plan.to_run)), console.height - _LINES_LEFT)
    with Live(Group(shards, bar), console=console, transient=True, refresh_per_second=8):
        yield lines.take


class Lines:
    """The lines of the shards at work; Rich locks them against the threads that change them."""

    def __init__(self, shards: Progress, bar: Progress, all_shards: TaskID, most: int) -> None:
        self._shards = shards
        self._bar = bar
        self._all_shards = all_shards
        self._most = most
        self._lines: dict[str, TaskID] = {}

    def take(self, event: Event | WaveStarted) -> None:
        """Show an event."""
        from shardctl.schema import events
        from shardctl.schema.rollout import ShardFinished, ShardStarted, WaveStarted

        match event:
            case WaveStarted():
                self._bar.update(self._all_shards, description=event.wave.name)
            case ShardStarted(shard_id):
                is_shown = len(self._lines) < self._most
                self._lines[shard_id] = self._shards.add_task(shard_id, total=None, step="", visible=is_shown)
            case events.RevisionStarted():
                self._say(event.shard_id, f"{event.revision} ({event.number} of {event.total})")
            case ShardFinished(shard_id):
                if shard_id in self._lines:
                    self._shards.remove_task(self._lines.pop(shard_id))
                    self._bar.advance(self._all_shards)
            case _:
                note = noteworthy(event)
                if note is not None:
                    self._say(event.shard_id, note.partition(": ")[2])

    def _say(self, shard_id: str, text: str) -> None:
        if shard_id in self._lines:
            self._shards.update(self._lines[shard_id], step=text)
