"""Which statements of ShardedSessions went to more than one shard, and which line of the application sent them.

What is watched is what SQLAlchemy does with the chooser's answer: each shard that a statement is invoked on.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path
from types import FrameType
from typing import Any

import sqlalchemy
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import ORMExecuteState, RelationshipProperty

import shardctl

MAX_TEXT = 100
"""Characters of a statement that are shown."""

_NOTE = "_shardctl_asked"
_LIST = re.compile(r"__\[POSTCOMPILE_(\w+)\]")
"""As SQLAlchemy writes a parameter for which several values are put in."""
_COLUMNS = re.compile(r"^(SELECT(?: DISTINCT)?) .*? (FROM .*)$")


@dataclass(slots=True)
class Scattered:
    """One statement of one line."""

    file: str
    line: int
    text: str
    count: int = 0
    shards: dict[str, None] = field(default_factory=dict)
    """Their names, as they were first asked."""
    tests: dict[str, int] = field(default_factory=dict)
    """How often in each test; outside of tests the name is empty."""


@dataclass(slots=True)
class _Asked:
    """The shards that one execution has been sent to."""

    owner: object
    """Something that no other execution has: what it loads further inherits its options, and this with them."""
    shards: list[str]
    found: Scattered | None = None


class Watch:
    """Counts the executions that scatter, from `start` to `stop`."""

    def __init__(self) -> None:
        self.test = ""
        """The test that runs."""
        self.found: dict[tuple[str, int, str], Scattered] = {}
        self._original: Any = None

    def start(self) -> None:
        """See every statement that SQLAlchemy sends to a shard from now on."""
        self._original = original = ORMExecuteState.invoke_statement

        @wraps(original)
        def invoke_statement(context: ORMExecuteState, *args: Any, **options: Any) -> Any:
            shard_id = (options.get("bind_arguments") or {}).get("shard_id")
            if shard_id is not None and isinstance(context.session, ShardedSession):
                self._note(context, str(shard_id))
            return original(context, *args, **options)

        ORMExecuteState.invoke_statement = invoke_statement  # type: ignore[method-assign, assignment]

    def stop(self) -> None:
        """See nothing any more."""
        if self._original is not None:
            ORMExecuteState.invoke_statement = self._original  # type: ignore[method-assign]
            self._original = None

    def seen_in(self, test: str) -> dict[tuple[str, int, str], int]:
        """Return how often each statement scattered in a test so far."""
        return {key: found.tests[test] for key, found in self.found.items() if test in found.tests}

    def _note(self, context: ORMExecuteState, shard_id: str) -> None:
        asked = context.local_execution_options.get(_NOTE)
        if not isinstance(asked, _Asked) or asked.owner is not context.bind_arguments:
            asked = _Asked(context.bind_arguments, [])
            context.update_execution_options(**{_NOTE: asked})
        if shard_id in asked.shards:
            return
        asked.shards.append(shard_id)
        if len(asked.shards) == 2:
            asked.found = self._count(context)
        if asked.found is not None:
            asked.found.shards.update(dict.fromkeys(asked.shards))

    def _count(self, context: ORMExecuteState) -> Scattered:
        file, line = _application_line()
        text = _text(context)
        found = self.found.setdefault((file, line, text), Scattered(file, line, text))
        found.count += 1
        found.tests[self.test] = found.tests.get(self.test, 0) + 1
        return found


def _text(context: ORMExecuteState) -> str:
    """Say what was executed: the relationship that was loaded, or the statement, shortened."""
    path = context.loader_strategy_path.path if context.is_relationship_load and context.loader_strategy_path else ()
    links = [part for part in path if isinstance(part, RelationshipProperty)]
    if links:
        return f"load of {links[-1].parent.class_.__name__}.{links[-1].key}"
    try:
        text = " ".join(str(context.statement).split())
    except Exception:  # a type or a function that only its own engine can write
        return type(context.statement).__name__
    text = _COLUMNS.sub(r"\1 … \2", _LIST.sub(r":\1", text))
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _application_line() -> tuple[str, int]:
    """Return the file and line of the innermost code that is the application's, or else that is not ours."""
    foreign: tuple[str, int] | None = None
    for frame in _frames():
        file = frame.f_code.co_filename
        kind = _kind(file)
        if kind == "application":
            return file, frame.f_lineno
        if kind == "library" and foreign is None:
            foreign = file, frame.f_lineno
    return foreign or ("?", 0)


def _frames() -> Iterator[FrameType]:
    """Yield what called us, the innermost first; behind a greenlet, what awaits it."""
    frame: FrameType | None = sys._getframe(1)
    greenlets = sys.modules.get("greenlet")
    greenlet: Any = greenlets.getcurrent() if greenlets is not None else None
    while frame is not None:
        yield frame
        frame = frame.f_back
        while frame is None and greenlet is not None and greenlet.parent is not None:
            greenlet = greenlet.parent
            frame = greenlet.gr_frame


def _folder(file: str | None) -> str:
    return f"{Path(file or '').parent}{os.sep}"


_OWN = (_folder(sqlalchemy.__file__), _folder(shardctl.__file__))
_PYTHON = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))


@cache
def _kind(file: str) -> str:
    """Say whose code a file has: SQLAlchemy's and ours, Python's, an installed library's, or the application's."""
    if file.startswith(("<", *_OWN)):
        return "own"
    if any(part in file for part in _INSTALLED):
        return "library"
    return "python" if file.startswith(_PYTHON) else "application"
