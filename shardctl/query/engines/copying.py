"""The rows of PostgreSQL's COPY, several at once."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

_ROWS_AT_ONCE = 64

Waiting = Generator[Any, Any, Any]
"""What psycopg resumes when the server has sent more."""


def copied(connection: Any) -> Iterator[list[memoryview]]:
    """Yield the rows of a COPY TO as the server writes them, some at once.

    psycopg's own iteration waits for each row by itself, which takes three times as long as reading it.

    Args:
        connection: The driver's connection, on which a COPY has begun; it ends with the last row.

    Raises:
        psycopg.Error: The server has failed.
    """
    is_ended = False
    while not is_ended:
        rows, is_ended = connection.wait(_some_rows(connection))
        if rows:
            yield rows


def _some_rows(connection: Any) -> Waiting:
    """Return rows that are here already, or else the next ones; and whether these are the last."""
    from psycopg.waiting import Wait

    rows: list[memoryview] = []
    while len(rows) < _ROWS_AT_ONCE:
        size, row = connection.pgconn.get_copy_data(1)
        if size > 0:
            rows.append(row)
        elif size < 0:
            yield from _end(connection)
            return rows, True
        elif rows:
            break
        else:
            yield Wait.R
            connection.pgconn.consume_input()
    return rows, False


def _end(connection: Any) -> Waiting:
    """Take what the server says of the whole COPY."""
    from psycopg.errors import error_from_result
    from psycopg.pq import ExecStatus
    from psycopg.waiting import Wait

    results: list[Any] = []
    while not results or results[-1] is not None:
        while connection.pgconn.is_busy():
            yield Wait.R
            connection.pgconn.consume_input()
        results.append(connection.pgconn.get_result())
    for result in results[:-1]:
        if result.status != ExecStatus.COMMAND_OK:
            raise error_from_result(result, encoding=connection.info.encoding)
