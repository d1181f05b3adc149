"""A session's statement -> what it would execute, and back: so that other threads can execute it meanwhile.

The session makes of a statement what it does (events, loader criteria, options) and asks for a connection. First it is
given one that notes what it is told to execute; later, one that has the result already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy


@dataclass(frozen=True, slots=True)
class Execution:
    """What a connection is to execute."""

    bind: Any
    statement: Any
    parameters: Any
    options: Mapping[str, Any]

    def on(self, connection: Connection) -> CursorResult[Any]:
        """Execute it, and have its rows here, unless they are to be streamed."""
        result = connection.execute(self.statement, self.parameters, execution_options=dict(self.options))
        if result.returns_rows and not self.options.get("stream_results") and result.cursor is not None:
            rows = result.cursor.fetchall()
            result.cursor_strategy = FullyBufferedCursorFetchStrategy(result.cursor, initial_buffer=rows)
        return result


class Noted(Exception):
    """Carries an execution out of the session, which is not to go on."""

    def __init__(self, execution: Execution) -> None:
        super().__init__()
        self.execution = execution


@dataclass(frozen=True, slots=True)
class Noting:
    """In the place of a connection: notes what it is told to execute."""

    bind: Any

    def execute(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> Any:
        raise Noted(Execution(self.bind, statement, parameters, execution_options or {}))


@dataclass(frozen=True, slots=True)
class Having:
    """In the place of a connection: has executed it."""

    result: CursorResult[Any]

    def execute(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> CursorResult[Any]:
        return self.result


@dataclass(frozen=True, slots=True)
class Connected:
    """In the place of an engine: its connection is made already."""

    connection: Connection

    def connect(self) -> Connection:
        return self.connection
