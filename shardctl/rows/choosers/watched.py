"""A session whose choosers are watched: how long they take, what they send to databases, and what they change."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event, inspect
from sqlalchemy.ext.horizontal_shard import ShardedSession

CHOOSERS = ("shard_chooser", "identity_chooser", "execute_chooser")

_READS = re.compile(r"(select|with|values|table|show|explain|describe|desc)\b|pragma\s+[\w.]+\s*(\(|$)", re.IGNORECASE)
_CHANGES = re.compile(r"\b(insert|update|delete|into|nextval|setval)\b", re.IGNORECASE)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", re.DOTALL)


class WriteRefused(Exception):
    """Raised within a chooser in place of a statement that would write."""


@dataclass(slots=True)
class Call:
    """One time that a chooser was asked."""

    chooser: str
    seconds: float = 0.0
    raised: bool = False
    reads: int = 0
    writes: list[str] = field(default_factory=list)
    """Statements that were refused."""
    changed: list[str] = field(default_factory=list)
    """What was otherwise afterwards: `session.new`, or an attribute."""


class Watched:
    """Makes sessions whose choosers note each call, and cannot write by SQLAlchemy while they are asked.

    Args:
        factory: Makes the sessions.
    """

    def __init__(self, factory: Callable[[], ShardedSession]) -> None:
        self._factory = factory
        self._calls: list[Call] = []
        self._current: Call | None = None
        self._thread = threading.get_ident()
        self._seen: Any = None

    def session(self) -> ShardedSession:
        """Make a session that flushes nothing."""
        session = self._factory()
        session.autoflush = False
        for name in CHOOSERS:
            setattr(session, name, self._watching(session, name, getattr(session, name)))
        return session

    def take_calls(self) -> list[Call]:
        """Return the calls since the last time."""
        calls, self._calls = self._calls, []
        return calls

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See what all engines of the process are sent while a chooser is asked."""
        event.listen(Engine, "before_cursor_execute", self._note_statement)
        try:
            yield
        finally:
            event.remove(Engine, "before_cursor_execute", self._note_statement)

    def _note_statement(
        self, connection: object, cursor: object, statement: str, parameters: object, context: object, many: object
    ) -> None:
        call = self._current
        if call is None or threading.get_ident() != self._thread or (context is not None and context is self._seen):
            return
        self._seen = context
        if writes(statement):
            call.writes.append(" ".join(statement.split()))
            raise WriteRefused("a chooser must not write")
        call.reads += 1

    def _watching(self, session: ShardedSession, name: str, chooser: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            if self._current is not None:  # a chooser that asks another one, by a statement of its own
                return chooser(*args, **options)
            instance = args[1] if name == "shard_chooser" and len(args) > 1 else None
            before = _state(session, instance)
            call = self._current = Call(name, raised=True)
            started = time.perf_counter()
            try:
                said = chooser(*args, **options)
                said = list(said) if isinstance(said, Iterator) else said
                call.raised = False
            finally:
                call.seconds = time.perf_counter() - started
                self._current = self._seen = None
                call.changed = _changed(before, _state(session, instance))
                self._calls.append(call)
            return said

        return watched


def writes(statement: str) -> bool:
    """Say whether a statement may change something, or lock rows: what is not known to read is taken to write."""
    plain = _QUOTED.sub(" ", statement).strip()
    return _READS.match(plain) is None or _CHANGES.search(plain) is not None


def _state(session: ShardedSession, instance: Any) -> dict[str, Any]:
    """Return what a chooser has to leave as it is."""
    found: dict[str, Any] = {
        f"session.{name}": {id(entry) for entry in getattr(session, name)} for name in ("new", "dirty", "deleted")
    }
    if instance is not None:
        state = inspect(instance)
        set_ = set(state.committed_state)
        for key in state.mapper.column_attrs.keys():  # noqa: SIM118  # not a mapping
            if key in state.dict or key in set_:
                found[key] = (key in set_, state.dict.get(key))
        found |= {key: True for key in set_ if key not in found}
    return found


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the names of what differs; an attribute that was only loaded does not."""
    names = []
    for name, now in after.items():
        was = before.get(name, (False, now[1]) if isinstance(now, tuple) else None)
        if was is not now and was != now:
            names.append(name)
    return names
