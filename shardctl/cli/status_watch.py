"""`shardctl status --watch`: the screen drawn over again, with the age of each shard's state."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.text import Text

from shardctl.cli import output
from shardctl.cli.amounts import age_text
from shardctl.cli.project import without_offline
from shardctl.cli.status import screen_of
from shardctl.cli.status_reading import LastCheck, Seen, last_checks, read_seen
from shardctl.cli.status_screen import Asked, draw

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard, Outcome
    from shardctl.schema.revisions import Scripts

_AROUND = 12  # lines of a screen that are not shards
_PATIENCE_S = 1.0
_TIMEOUT_S = 5.0
"""For each shard, unless told: what hangs must not keep the others from being asked again."""


@dataclass(slots=True)
class _Watched:
    """What was seen of the shards, and when; drawn by another thread while the next answers are waited for."""

    fleet: Fleet
    selected: list[LiveShard]
    scripts: Scripts | None
    without: frozenset[str]
    checks: Mapping[str, LastCheck | None]
    found: dict[str, Outcome[Seen]] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    """By shard, when its last outcome came, by the monotonic clock."""
    answered: dict[str, float] = field(default_factory=dict)
    """When it was last none that failed."""
    waiting: set[str] = field(default_factory=set)
    """Shards that were asked, and whose outcome has not come."""
    asked_at: float = 0.0

    def hear(self, outcome: Outcome[Seen]) -> None:
        """Take what came of a shard."""
        now = time.monotonic()
        self.heard[outcome.shard_id] = now
        if outcome.is_ok:
            self.answered[outcome.shard_id] = now
        self.found[outcome.shard_id] = outcome
        self.waiting.discard(outcome.shard_id)

    def ask(self, timeout_s: float | None) -> None:
        """Ask every shard once."""
        asked, _ = without_offline(self.selected)
        self.asked_at, self.waiting = time.monotonic(), {live.shard_id for live in asked}
        with closing(read_seen(self.fleet, asked, self.scripts, timeout_s=timeout_s)) as outcomes:
            for outcome in outcomes:
                self.hear(outcome)
        self.checks = last_checks(self.fleet)

    def text(self) -> Text:
        """Draw the screen as it is now."""
        stream = output.terminal()
        found = dict(self.found)
        screen = screen_of(self.fleet, self.selected, list(found.values()), self.scripts, self.without, self.checks)
        if len(self.selected) > shutil.get_terminal_size().lines - _AROUND:  # what is wrong must not be below the edge
            troubled = screen.troubled
            screen = replace(screen, shards=sorted(self.selected, key=lambda live: live.shard_id not in troubled))
        asked = {live.shard_id: self._asked(live.shard_id, found) for live in self.selected if not live.is_offline}
        return Text.from_ansi(draw(screen, stream, is_plain=output.is_plain(), asked=asked))

    def _asked(self, shard_id: str, found: Mapping[str, Outcome[Seen]]) -> Asked:
        now = time.monotonic()
        if shard_id not in found:
            return Asked("", "asking")
        notes = []
        if not found[shard_id].is_ok:
            answered = self.answered.get(shard_id)
            notes.append("never answered" if answered is None else f"last answer {age_text(now - answered)} ago")
        elif shard_id in self.waiting and now - self.asked_at > _PATIENCE_S:
            notes.append(f"no answer for {age_text(now - self.asked_at)}")
        return Asked(age_text(now - self.heard[shard_id]), "; ".join(notes))


def watch_shards(
    fleet: Fleet,
    selected: list[LiveShard],
    scripts: Scripts | None,
    without: frozenset[str],
    *,
    every_s: float,
    timeout_s: float | None,
) -> None:
    """Show the shards until ^C, which is how a person ends it.

    Args:
        fleet: Their fleet.
        selected: The shards.
        scripts: The project's migrations, if it has any.
        without: Tables whose rows are not counted.
        every_s: Seconds between two rounds.
        timeout_s: Seconds for each shard; None: those of the shard map, up to 5.
    """
    timeout_s = timeout_s or min(fleet.shard_map.timeout_s, _TIMEOUT_S)
    watched = _Watched(fleet, selected, scripts, without, last_checks(fleet))
    console = Console(file=output.terminal())
    try:
        with fleet, Live(get_renderable=watched.text, console=console, screen=True, refresh_per_second=4):
            while True:
                watched.ask(timeout_s)
                time.sleep(every_s)
    except KeyboardInterrupt:
        return
