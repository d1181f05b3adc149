"""What is shown while a run is at work."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from shardctl.cli import diagnostics
from shardctl.cli.migrate.live import Screen


def test_the_shards_that_a_terminal_has_no_room_for_are_counted_and_the_bar_stays() -> None:
    console = Console(file=io.StringIO(), width=80)
    shards = Progress(TextColumn("{task.description}"), console=console)
    drawn = BarColumn()
    bar = Progress(drawn, MofNCompleteColumn(), console=console)
    bar.add_task("wave 1", total=30, completed=30)
    tasks = [shards.add_task(f"shard_{number}") for number in range(30)]
    screen = Screen(shards, bar, drawn)

    def shown(width: int, height: int) -> list[str]:
        console.size = (width, height)  # type: ignore[assignment]
        with console.capture() as captured:
            console.print(screen)
        return [line.rstrip() for line in captured.get().splitlines()]

    lines = shown(80, 24)
    assert lines[:-1] == [*(f"shard_{number}" for number in range(19)), "  and 11 more"]
    assert lines[-1].endswith("30/30")
    assert shown(80, 12)[7:-1] == ["  and 23 more"]
    assert [line.count("━") for line in (shown(80, 12)[-1], shown(40, 12)[-1])] == [40, 4]
    for task in tasks[:15]:
        shards.remove_task(task)
    assert shown(80, 24)[:-1] == [f"shard_{number}" for number in range(15, 30)]


def test_a_line_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Stderr(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    monkeypatch.setattr(sys, "stderr", Stderr())
    diagnostics.say("asia: upgraded")
    assert written == ["asia: upgraded\n"]
