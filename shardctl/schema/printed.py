"""What env.py and revisions print, told line by line: several of them run at a time, and beside a live display."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_STREAMS = ("stdout", "stderr")
_installing = threading.Lock()
_users = 0


class _Lines:
    """Takes text, and tells its lines."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._rest = ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._tell(line)

    def end(self) -> None:
        if self._rest:
            self._tell(self._rest)


_lines: ContextVar[_Lines | None] = ContextVar("shardctl_printed_lines", default=None)


class _Stream:
    """Stands where Python keeps the process's stream, and takes what this context prints."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        lines = _lines.get()
        if lines is None:
            self.stream.write(text)
        else:
            lines.write(text)
        return len(text)

    def writelines(self, texts: Any) -> None:
        for text in texts:
            self.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def printed_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Have the lines told that this context prints, to standard output or standard error.

    A thread of its own that a revision starts is another context; and what a program writes that it starts is not seen.
    """
    lines = _Lines(tell)
    with _installed():
        token = _lines.set(lines)
        try:
            yield
        finally:
            lines.end()
            _lines.reset(token)


def apart(tell: Callable[..., None]) -> Callable[..., None]:
    """Return a function that may itself print, told by whatever context."""

    def told(*args: Any) -> None:
        token = _lines.set(None)
        try:
            tell(*args)
        finally:
            _lines.reset(token)

    return told


@contextmanager
def _installed() -> Iterator[None]:
    global _users
    with _installing:
        _users += 1
        for name in _STREAMS:
            if not isinstance(getattr(sys, name), _Stream):
                setattr(sys, name, _Stream(getattr(sys, name)))
    try:
        yield
    finally:
        with _installing:
            _users -= 1
            for name in _STREAMS:
                stream = getattr(sys, name)
                if not _users and isinstance(stream, _Stream):  # others may have put theirs in its place
                    setattr(sys, name, stream.stream)
