"""How an audit goes: a live line on a terminal, one line for each table elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shardctl.cli import diagnostics

if TYPE_CHECKING:
    from rich.progress import Progress, Task


class Watch:
    """Is told what is looked at."""

    def __init__(self, estimates: Mapping[str, int]) -> None:
        self._estimates = dict(estimates)
        self._table: tuple[str, str] | None = None
        self._rows: dict[str, int] = {}
        self._check_rows = 0
        self._left_out = 0
        self.live: Progress | None = None
        self._task: Any = None

    def told(self, check: str, table: str, shard_id: str, rows: int) -> None:
        """Take up that so many more rows of a table were looked at on a shard."""
        if self._table != (check, table):
            self.end_table()
            if self._table is None or self._table[0] != check:
                self._check_rows = self._left_out = 0
                self._task = None
            self._table, self._rows = (check, table), {}
        self._rows[shard_id] = self._rows.get(shard_id, 0) + rows
        self._check_rows += rows
        self._draw()

    def skipped(self, table: str) -> None:
        """Take up that a table is not looked at."""
        self._left_out += self._estimates.get(table, 0)

    def end_table(self) -> None:
        """Say what was looked at of the last table."""
        if self._table is not None and self.live is None:
            check, table = self._table
            shards = f"{len(self._rows)} shard{'' if len(self._rows) == 1 else 's'}"
            diagnostics.say(f"{check}: {table}: {sum(self._rows.values()):,} rows on {shards}")

    def _draw(self) -> None:
        if self.live is None or self._table is None:
            return
        expected = sum(self._estimates.values()) - self._left_out
        total = expected if expected > self._check_rows else None
        if self._task is None:
            for task_id in self.live.task_ids:
                self.live.remove_task(task_id)
            self._task = self.live.add_task("", total=total)
        description = f"{self._table[0]}: {self._table[1]}"
        self.live.update(self._task, description=description, completed=self._check_rows, total=total)


@contextmanager
def watching(estimates: Mapping[str, int]) -> Iterator[Watch]:
    """Show how it goes until the end.

    Args:
        estimates: About how many rows each table has.
    """
    watch = Watch(estimates)
    if not diagnostics.can_redraw():
        yield watch
        watch.end_table()
        return
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class Rows(ProgressColumn):
        def render(self, task: Task) -> Text:
            of = f" of about {task.total:,.0f}" if task.total else ""
            return Text(f"{task.completed:,.0f}{of} rows")

    columns = (TextColumn("{task.description}"), BarColumn(), Rows(), TimeElapsedColumn(), TextColumn("left:"))
    with Progress(*columns, TimeRemainingColumn(), console=diagnostics.console(), transient=True) as live:
        watch.live = live
        yield watch
