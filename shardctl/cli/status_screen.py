"""The one screen of `status`: who it is of, a line for each shard, and what the last checks found."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from shardctl.cli import standing
from shardctl.cli.amounts import age_text, ago, latency_text, size_text
from shardctl.cli.diagnostics import listed
from shardctl.cli.history import is_running
from shardctl.cli.tables import right_aligned, table

if TYPE_CHECKING:
    from shardctl.cli.status_reading import LastCheck, Seen
    from shardctl.fleet import LiveShard, Outcome
    from shardctl.rows.sizes import ShardSize
    from shardctl.schema.status import ShardStatus

COLUMNS = ["shard", "state", "engine", "reach", "revision", "rows", "size", "skew", "last run", "note"]
_NUMBERS = ("age", "reach", "rows", "size", "skew")
_LEAST = ("engine", "last run", "size", "skew", "reach", "rows")
"""Columns in the order in which a narrow terminal goes without them."""
_NOTE = 20
"""What is left for notes, which are cut, before a column goes."""
_GAP = 3
_MOST_ERRORS = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """When a watched shard's state was asked for."""

    age: str
    note: str
    """What its line does not say of that."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What is shown."""

    name: str
    """Of the cluster."""
    heads: Sequence[str] | None
    """None: the project has no migrations."""
    shards: Sequence[LiveShard]
    found: Mapping[str, Outcome[Seen]]
    """By shard; one that was not asked is not in it."""
    rows: Mapping[str, tuple[int | None, str]]
    """By shard, and how they are known: `exact` or `estimate`."""
    checks: Mapping[str, LastCheck | None]

    @property
    def troubled(self) -> dict[str, str]:
        """Return the shards with something wrong, each with what that is, in a word or two."""
        return {shard_id: what for shard_id, outcome in self.found.items() if (what := _problem(outcome))}

    @property
    def problems(self) -> list[str]:
        """Return what somebody should look at."""
        found = [f"{shard_id} {what}" for shard_id, what in self.troubled.items()]
        return found + [f"{check} found {last.count}" for check, last in self.checks.items() if last and last.count]

    def skew(self, shard_id: str) -> float | None:
        """Return a shard's rows by the mean of those that answered."""
        known = [number for number, _ in self.rows.values() if number is not None]
        rows, _ = self.rows.get(shard_id, (None, ""))
        return rows * len(known) / sum(known) if rows is not None and any(known) else None


def head_line(screen: Screen, *, is_plain: bool) -> str:
    """Return the first line: which cluster, how many shards, which head, and what is wrong."""
    parts = [screen.name, f"{len(screen.shards)} shard{'' if len(screen.shards) == 1 else 's'}"]
    if screen.heads is not None:
        parts.append(f"head {', '.join(screen.heads)}" if screen.heads else "no revisions")
    parts.append(_summed_up(screen))
    return (" - " if is_plain else " · ").join(parts) + "\n"


def _summed_up(screen: Screen) -> str:
    """Return how many problems there are, with the shards that have one in common."""
    together: dict[str, list[str]] = {}
    for shard_id, what in screen.troubled.items():
        together.setdefault(what, []).append(shard_id)
    words = [f"{listed(shard_ids, most=3)} {what}" for what, shard_ids in together.items()]
    words += [f"{check} found {last.count}" for check, last in screen.checks.items() if last and last.count]
    count = len(screen.problems)
    return f"{count} problem{'' if count == 1 else 's'}: {'; '.join(words)}" if count else "no problems"


def check_lines(screen: Screen) -> str:
    """Return a line for each check: what it found, and how long ago."""
    lines = []
    for check, last in screen.checks.items():
        if last is None:
            lines.append(f"{check}: no run is recorded")
            continue
        kinds = ", ".join(f"{kind} {count}" for kind, count in last.findings.items() if count)
        number = f"{last.count} finding{'' if last.count == 1 else 's'} ({kinds})" if last.count else "nothing found"
        lines.append(f"{check}: {number}, {ago(last.when)}")
    return "".join(f"{line}\n" for line in lines)


def draw(screen: Screen, stream: TextIO, *, is_plain: bool, asked: Mapping[str, Asked] | None = None) -> str:
    """Draw the screen.

    Args:
        screen: What is shown.
        stream: What it is drawn for: on a terminal, columns that do not fit are left out.
        is_plain: Whether only ASCII can be written there.
        asked: By shard, when its state was asked for; None: all of it is of now.
    """
    rows = [_line(screen, live) for live in screen.shards]
    columns = list(COLUMNS)
    if asked is not None:
        columns.insert(1, "age")
        for live, row in zip(screen.shards, rows, strict=True):
            of_shard = asked.get(live.shard_id)
            if of_shard is not None:
                row[-1] = "; ".join(filter(None, [of_shard.note, row[-1] if live.shard_id in screen.found else ""]))
            row.insert(1, of_shard.age if of_shard is not None else "")
    columns, rows = _used(columns, rows)
    if stream.isatty():
        columns, rows = _fitting(columns, rows, stream)
    right_aligned(columns, rows, _NUMBERS)
    drawn = table(columns, rows, "", stream, is_plain=is_plain)
    below = check_lines(screen) + ("" if asked is None else _errors(screen))
    return head_line(screen, is_plain=is_plain) + "\n" + drawn + "\n" + below


def _errors(screen: Screen) -> str:
    """Return a line for each shard that does not answer: notes are cut."""
    problems = [outcome.problem for outcome in screen.found.values() if not outcome.is_ok]
    more = f"and {len(problems) - _MOST_ERRORS} more\n" if len(problems) > _MOST_ERRORS else ""
    return "".join(f"{problem}\n" for problem in problems[:_MOST_ERRORS]) + more


def _line(screen: Screen, live: LiveShard) -> list[str]:
    outcome = screen.found.get(live.shard_id)
    if outcome is None or outcome.value is None:
        state = standing.trouble(outcome) if outcome else f"{live.shard.state.value}"
        note = outcome.problem.partition(": ")[2] if outcome else "not asked"
        return [live.shard_id, state, live.backend.name, *[""] * 6, note]
    seen = outcome.value
    rows, known = screen.rows[live.shard_id]
    skew = screen.skew(live.shard_id)
    return [
        live.shard_id,
        live.shard.state.value,
        seen.pulse.engine,
        latency_text(seen.pulse.latency_ms),
        _revision(seen.status) if seen.status else "",
        "" if rows is None else _tilde(known) + f"{rows:,}",
        _size(seen.size) if seen.size else "",
        "" if skew is None else f"{skew:.2f}",
        _last_run(seen.status) if seen.status else "",
        "; ".join(filter(None, [standing.note(seen.status) if seen.status else None, seen.problem])),
    ]


def _size(size: ShardSize) -> str:
    return "" if size.bytes is None else _tilde(size.bytes_are) + size_text(size.bytes)


def _tilde(known: str) -> str:
    return "~" if known == "estimate" else ""


def _revision(status: ShardStatus) -> str:
    from shardctl.schema.revisions import Standing
    from shardctl.schema.status import behind_of

    revision = status.revision
    if status.left is not None:
        return f"{revision} half-applied".strip()
    if revision.standing is Standing.AT_HEAD:
        return str(revision)
    place = f"{behind_of(revision)} behind" if revision.standing is Standing.BEHIND else revision.standing.value
    return f"{revision} {place}".strip()


def _last_run(status: ShardStatus) -> str:
    last = status.last
    if last is None:
        return ""
    seconds = (datetime.datetime.now(datetime.UTC) - (last.finished_at or last.started_at)).total_seconds()
    when = f"for {age_text(seconds)}" if is_running(last) else f"{age_text(seconds)} ago"
    revision = "" if last.outcome == "done" else f" {last.revision}"
    return f"{last.direction}{revision} {last.outcome} {when}"


def _problem(outcome: Outcome[Seen]) -> str:
    """Return what is wrong with a shard, in a word or two; nothing if all is well."""
    if outcome.value is None:
        return standing.trouble(outcome)
    status = outcome.value.status
    if status is None:
        return ""
    if status.left is not None:
        return "half-applied"
    from shardctl.schema.revisions import Standing

    if status.revision.standing is not Standing.AT_HEAD:
        return status.revision.standing.value
    last = status.last
    return f"{last.direction} {last.outcome}" if last and last.outcome not in ("done", "running") else ""


def _used(columns: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Leave out columns that say nothing."""
    kept = [index for index, _ in enumerate(columns) if index == 0 or any(row[index] for row in rows)]
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _fitting(columns: list[str], rows: list[list[str]], stream: TextIO) -> tuple[list[str], list[list[str]]]:
    """Leave out columns until what is left is as wide as the terminal, which would otherwise cut those that matter."""
    from rich.cells import cell_len
    from rich.console import Console

    room = Console(file=stream).width
    widths: dict[str, int] = {
        column: max([cell_len(column), *(cell_len(row[index]) for row in rows)]) for index, column in enumerate(columns)
    }
    if "note" in widths:
        widths["note"] = min(widths["note"], _NOTE)
    for column in _LEAST:
        if sum(widths.values()) + _GAP * (len(widths) - 1) <= room:
            break
        widths.pop(column, None)
    kept = [index for index, column in enumerate(columns) if column in widths]
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]
