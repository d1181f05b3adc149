"""Who is told what happens in a run: the report, and a terminal, a log, or the reader of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shardctl.cli import diagnostics
from shardctl.cli.migrate.record import Record, noteworthy
from shardctl.cli.output import Format

if TYPE_CHECKING:
    from shardctl.cli.migrate.report import Report
    from shardctl.schema.rollout import RunEvent


class Audience:
    """Passes events on; they come from several threads."""

    def __init__(self) -> None:
        self.record = Record()
        self._listeners: list[Callable[[RunEvent], None]] = [self.record.take]

    def tell(self, event: RunEvent) -> None:
        """Tell everybody."""
        for listener in self._listeners:
            listener(event)

    @contextmanager
    def shown(self, report: Report, format_: Format, *, is_asked: bool) -> Iterator[None]:
        """Show what is told: live on a terminal, elsewhere a line for each shard; as a stream if that is the format.

        Args:
            report: Of this run.
            format_: What goes to standard output.
            is_asked: Whether questions come in between, which a live display would overwrite.
        """
        if format_ is Format.NDJSON:
            from shardctl.cli.migrate.stream import Stream

            stream = Stream(report)
            stream.begin()
            self._listeners.append(stream.take)
            yield
            stream.end()
        elif diagnostics.can_redraw() and not is_asked:
            from shardctl.cli.migrate.live import live

            with live(report.plan, report.doing) as take:
                self._listeners.append(take)
                yield
        else:
            self._listeners.append(lambda event: _say(event, report))
            yield


def _say(event: RunEvent, report: Report) -> None:
    from shardctl.schema.rollout import ShardFinished, WaveAwaited, WaveStarted

    match event:
        case WaveStarted():
            if len(report.plan.waves) > 1:
                diagnostics.say(f"{event.wave.name}: {diagnostics.listed(event.wave.shard_ids)}")
        case WaveAwaited():
            diagnostics.say(f"{event.wave.name} starts in {event.seconds:g} s")
        case ShardFinished(shard_id, outcome):
            if shard_id in report.rollout.started:
                took = f"{'in' if outcome.is_ok else 'after'} {outcome.seconds:.1f} s"
                diagnostics.say(f"{shard_id}: {report.outcome_of(shard_id)} {took}")
        case _:
            text = noteworthy(event)
            if text:
                diagnostics.say(text)
