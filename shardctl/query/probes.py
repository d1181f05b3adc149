"""Questions that a shard is asked beside the statement itself: together, where its driver can send several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from shardctl.errors import ShardUnreachable
from shardctl.fleet.backends.postgresql import BEGIN_READ_ONLY, IS_KEPT, UNLOCK
from shardctl.fleet.live_shard import driver_line
from shardctl.query.engines.values import Row, run_as_written
from shardctl.query.parameters import for_driver

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Probe:
    """A question, and how its answer is read."""

    sql: str = ""
    read: Callable[[Any], Any] = list
    """Makes the answer of the rows."""
    values: Sequence[Any] | None = None
    """For the driver's placeholders; None: the text is as it is written, but for parameters that are bound."""
    run: Callable[[Connection], Any] | None = None
    """In place of all that: what asks several times, or not at all."""

    def then(self, check: Callable[[Any], None]) -> Probe:
        """Return the same question with its answer looked at, as soon as it is there."""
        ask = self.run

        def read(rows: Any) -> Any:
            answer = self.read(rows)
            check(answer)
            return answer

        def run(connection: Connection) -> Any:
            assert ask is not None
            answer = ask(connection)
            check(answer)
            return answer

        return replace(self, read=read, run=None if ask is None else run)

    def ask(self, connection: Connection) -> Any:
        """Ask on a shard's connection, and return the answer."""
        if self.run is not None:
            return self.run(connection)
        if self.values is None:
            return self.read(run_as_written(connection, self.sql).fetchall())
        return self.read(connection.exec_driver_sql(self.sql, tuple(self.values)).fetchall())


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of a statement that was sent together with others."""

    cursor: Any

    @property
    def returns_rows(self) -> bool:
        return self.cursor.description is not None

    def keys(self) -> tuple[str, ...]:
        return tuple(column[0] for column in self.cursor.description)

    def fetchall(self) -> Sequence[Row]:
        return self.cursor.fetchall()  # type: ignore[no-any-return]

    def fetchmany(self, size: int) -> Sequence[Row]:
        return self.cursor.fetchmany(size)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.cursor.close()


def ask(connection: Connection, *probes: Probe, ends: bool = False) -> list[Any]:
    """Ask on a shard's connection, in one round trip if its driver can, and return the answers.

    Args:
        connection: The connection.
        probes: What is asked.
        ends: Whether nothing else will be.
    """
    asked = [probe for probe in probes if probe.run is None]
    if not asked or not sends_together(connection):
        return [probe.ask(connection) for probe in probes]
    answers = iter(send_together(connection, asked, ends=ends)[0])
    return [next(answers) if probe.run is None else probe.run(connection) for probe in probes]


def sends_together(connection: Connection) -> bool:
    """Say whether `send_together` can be used: an application's own connections may have listeners."""
    return connection.dialect.driver == "psycopg" and bool(connection.get_execution_options().get(IS_KEPT))


@contextmanager
def streamed(connection: Connection, sql: str, size: int) -> Iterator[tuple[Sent, Iterator[list[Row]]]]:
    """Read a statement's rows as they arrive, on a connection for which `sends_together` says yes.

    No cursor of the server is needed, and so no round trip for each batch; the server waits while nobody reads.

    Yields:
        What tells the columns, and the rows in batches.
    """
    from psycopg import capabilities

    driver: Any = connection.connection.driver_connection
    text, values = for_driver(connection, sql)
    chunk = size if capabilities.has_stream_chunked() else 1
    with driver.cursor() as cursor, closing(cursor.stream(text, values, size=chunk)) as rows:
        first = list(islice(rows, size))
        described = cursor
        if not first:
            described = driver.execute(f"SELECT * FROM ({text}\n) AS __q LIMIT 0", values)
        yield Sent(described), chain([first] if first else [], iter(lambda: list(islice(rows, size)), []))


def send_together(
    connection: Connection, probes: Sequence[Probe], texts: Sequence[str] = (), *, ends: bool = False
) -> tuple[list[Any], list[Sent]]:
    """Send probes and statements in one round trip, each by itself: no text can be two statements then.

    Args:
        connection: One of psycopg that is kept. Where no transaction is begun on it, it is now.
        probes: What is asked first: what its answer shows is said, even if a statement fails.
        texts: Statements.
        ends: Whether the transaction is rolled back after them.

    Returns:
        The probes' answers, and the statements' results.

    Raises:
        ShardUnreachable: The connection is lost.
    """
    driver: Any = connection.connection.driver_connection
    begins = driver.info.transaction_status == driver.info.transaction_status.IDLE
    asked = [
        for_driver(connection, probe.sql) if probe.values is None else (probe.sql, probe.values) for probe in probes
    ]
    asked += [for_driver(connection, text) for text in texts]
    cursors = [driver.cursor() for _ in asked]
    try:
        with driver.pipeline():
            if begins:
                driver.execute(BEGIN_READ_ONLY)
            for cursor, (text, values) in zip(cursors, asked, strict=True):
                cursor.execute(text, values)
            if ends:
                driver.execute("ROLLBACK")
                driver.execute(UNLOCK)
    except connection.dialect.loaded_dbapi.Error as error:
        if driver.closed:
            raise ShardUnreachable(f"lost the connection: {driver_line(error)}") from error
        for probe, cursor in zip(probes, cursors, strict=False):
            if cursor.description is not None:
                probe.read(cursor.fetchall())
        raise
    answers = [probe.read(cursor.fetchall()) for probe, cursor in zip(probes, cursors, strict=False)]
    return answers, [Sent(cursor) for cursor in cursors[len(probes) :]]
