"""A run on a terminal: one live line for each shard at work, and a bar for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shardctl.cli import diagnostics
from shardctl.cli.migrate.record import noteworthy

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.progress import BarColumn, Progress, TaskID

    from shardctl.schema.plan import MigrationPlan
    from shardctl.schema.rollout import RunEvent

_LINES_LEFT = 4
"""Of the terminal, for what is said meanwhile."""
_BESIDE_BAR = 36
"""Columns that the line of all shards takes without its bar."""


@contextmanager
def live(plan: MigrationPlan, doing: str) -> Iterator[Callable[[RunEvent], None]]:
    """Show the shards at work, and yield what takes the events."""
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
    drawn = BarColumn()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        drawn,
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
    )
    lines = Lines(shards, bar, bar.add_task(doing, total=len(plan.to_run)))
    with Live(Screen(shards, bar, drawn), console=console, transient=True, refresh_per_second=8):
        yield lines.take


class Screen:
    """As many of the shards at work as the terminal has room for now, which may be resized, and the bar below them."""

    def __init__(self, shards: Progress, bar: Progress, drawn: BarColumn) -> None:
        self._shards = shards
        self._bar = bar
        self._drawn = drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        tasks = self._shards.tasks
        room = max(console.height - _LINES_LEFT, 1)
        shown = tasks if len(tasks) <= room else tasks[: room - 1]
        if shown:
            yield self._shards.make_tasks_table(shown)
        if len(shown) < len(tasks):
            yield Text(f"  and {len(tasks) - len(shown)} more")
        self._drawn.bar_width = min(40, max(4, options.max_width - _BESIDE_BAR))
        yield self._bar


class Lines:
    """The lines of the shards at work; Rich locks them against the threads that change them."""

    def __init__(self, shards: Progress, bar: Progress, all_shards: TaskID) -> None:
        self._shards = shards
        self._bar = bar
        self._all_shards = all_shards
        self._lines: dict[str, TaskID] = {}
        self._pause: TaskID | None = None

    def take(self, event: RunEvent) -> None:
        """Show an event."""
        from shardctl.schema import events
        from shardctl.schema.rollout import ShardFinished, ShardStarted, WaveAwaited, WaveStarted

        match event:
            case WaveAwaited():
                pause = f"{event.wave.name} starts in {event.seconds:g} s, of which passed:"
                self._pause = self._shards.add_task(pause, total=None, step="")
            case WaveStarted():
                if self._pause is not None:
                    self._shards.remove_task(self._pause)
                    self._pause = None
                self._bar.update(self._all_shards, description=event.wave.name)
            case ShardStarted(shard_id):
                self._lines[shard_id] = self._shards.add_task(shard_id, total=None, step="")
            case events.RevisionStarted():
                self._say(event.shard_id, f"{event.revision} ({event.number} of {event.total})")
            case ShardFinished(shard_id):
                if shard_id in self._lines:
                    self._shards.remove_task(self._lines.pop(shard_id))
                    self._bar.advance(self._all_shards)
            case events.Printed():
                diagnostics.say(f"{event.shard_id}: {event.line}")
            case _:
                note = noteworthy(event)
                if note is not None:
                    self._say(event.shard_id, note.partition(": ")[2])

    def _say(self, shard_id: str, text: str) -> None:
        if shard_id in self._lines:
            self._shards.update(self._lines[shard_id], step=text)
