"""Reading COPY past psycopg's own iteration: every row, the server's error, and a connection that can be used again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import create_engine

from shardctl.query.engines.copying import copied
from tests.fixtures.engines import Databases


@pytest.fixture
def connection(postgresql: Databases) -> Iterator[Any]:
    """A connection of the driver, to a database of its own."""
    engine = create_engine(postgresql.create("copied"))
    with closing(engine.raw_connection()) as pooled:
        yield pooled.driver_connection
    engine.dispose()


def copy_of(connection: Any, sql: str) -> list[bytes]:
    with connection.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT"):
        return [bytes(row) for rows in copied(connection) for row in rows]


def can_be_used(connection: Any) -> bool:
    connection.rollback()
    return bool(connection.execute("SELECT 1").fetchone() == (1,))


@pytest.mark.parametrize("count", [0, 1, 64, 65, 100_000])
def test_every_row_is_read_once(connection: Any, count: int) -> None:
    assert copy_of(connection, f"SELECT generate_series(1, {count})") == [b"%d\n" % i for i in range(1, count + 1)]
    assert can_be_used(connection)


def test_a_failure_between_rows_is_the_servers(connection: Any) -> None:
    from psycopg.errors import DivisionByZero

    with pytest.raises(DivisionByZero, match="division by zero"):
        copy_of(connection, "SELECT 1 / (50000 - i) FROM generate_series(1, 100000) AS i")
    assert can_be_used(connection)


class Stopped(Exception): ...


def read_one_and_stop(connection: Any) -> None:
    with connection.cursor() as cursor, cursor.copy("COPY (SELECT generate_series(1, 10000000)) TO STDOUT"):
        assert bytes(next(copied(connection))[0]) == b"1\n"
        raise Stopped


def test_rows_that_are_not_read_leave_the_connection_usable(connection: Any) -> None:
    with pytest.raises(Stopped):
        read_one_and_stop(connection)
    assert can_be_used(connection)
