"""stderr: notes, progress, questions and errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from shardctl.errors import Refused, ShardctlError

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Return a console on stderr that prints text as it is."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def is_terminal() -> bool:
    """Say whether a person watches stderr and can answer."""
    return sys.stderr.isatty() and sys.stdin is not None and sys.stdin.isatty()


def is_watched() -> bool:
    """Say whether a person watches stderr."""
    return sys.stderr.isatty()


def can_redraw() -> bool:
    """Say whether a person watches stderr on a terminal where lines that were printed can change."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def say(text: str) -> None:
    """Print one line."""
    sys.stderr.write(f"{text}\n")  # not print(), whose separate line end comes behind another thread's line
    sys.stderr.flush()


def error(failure: ShardctlError, *, label: str = "error") -> None:
    """Print an error: what failed, the facts, and what to do next."""
    if sys.stderr.isatty():
        from rich.text import Text

        console().print(Text(f"{label}: ", style="bold red") + Text(failure.message))
    else:
        say(f"{label}: {failure.message}")
    for fact in failure.facts:
        say(f"  {fact}")
    if failure.hint:
        say(f"\nhint: {failure.hint}")


@contextmanager
def working(text: str) -> Iterator[None]:
    """Show on a terminal that something is being done."""
    if can_redraw() and "rich.console" not in sys.modules:  # whose import takes longer than a person is patient
        print(f"{text} …", end="\r", file=sys.stderr, flush=True)
    with console().status(text) if can_redraw() else nullcontext():
        yield


@contextmanager
def counting(doing: str, total: int) -> Iterator[Callable[[str | None], None]]:
    """Count what is done: on a terminal in one live line, elsewhere by a line for each that is described."""
    if not can_redraw():
        yield lambda line: say(line) if line else None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True) as progress:
        task = progress.add_task(doing, total=total)
        yield lambda line: progress.advance(task)


def confirm(question: str, *, yes: bool, flag: str = "--yes") -> None:
    """Ask before something is changed.

    Raises:
        Refused: Declined, or there is no terminal to ask on.
    """
    if yes:
        return
    _check_terminal(flag)
    if not ask(question):
        raise Refused("declined: nothing was changed")


def confirm_typed(question: str, expected: str, *, flag: str = "--yes") -> None:
    """Ask for a word before something is destroyed.

    Raises:
        Refused: Another one was typed, or there is no terminal to ask on.
    """
    _check_terminal(flag)
    if _answer(question) != expected:
        raise Refused("declined: nothing was changed")


def ask(question: str) -> bool:
    """Ask a question, and say whether the answer is yes."""
    return _answer(f"{question} [y/N]").lower() in ("y", "yes")


def _answer(question: str) -> str:
    print(f"{question} ", end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:  # ^D leaves the cursor behind the question
        say("")
    return line.strip()


def _check_terminal(flag: str) -> None:
    if not is_terminal():
        raise Refused(
            "not asked: this is no terminal, and nothing was changed",
            hint=f"review it with `--dry-run`, then pass `{flag}`",
        )


def listed(names: Sequence[str], *, most: int = 8) -> str:
    """Join names for a message, shortened where they are many."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
