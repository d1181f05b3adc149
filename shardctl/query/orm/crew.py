"""A session's connections at work at the same time: each is used by one thread, which is over when this returns."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, SingletonThreadPool, StaticPool

from shardctl.fleet.backends import BACKENDS
from shardctl.fleet.engines import unpooled
from shardctl.fleet.fan_out import MAX_JOBS

T = TypeVar("T")

CANCEL_S = 5.0
"""Seconds that cancelling a statement may take."""


def run_on_connections(connections: Sequence[Connection], run: Callable[[int], T]) -> list[T]:
    """Call a function with the number of each connection, at the same time; those that are one connection in turn.

    Args:
        connections: One for each call; several may be one connection to the database.
        run: What to do; it may use its own connection only.

    Raises:
        Exception: The first connection's that failed, once all of them are done.
    """
    teams: dict[int, list[int]] = {}
    for number, connection in enumerate(connections):
        teams.setdefault(id(connection.connection.dbapi_connection), []).append(number)
    is_bound = {numbers[0]: is_thread_bound(connections[numbers[0]].engine) for numbers in teams.values()}
    here = [numbers for numbers in teams.values() if is_bound[numbers[0]]]
    there = [numbers for numbers in teams.values() if not is_bound[numbers[0]]]
    if not here and there:
        here.append(there.pop(0))  # this thread works too
    return _run_teams(here, there, len(connections), run, cancel=lambda: _cancel(connections))


def connect_all(engines: Sequence[Engine]) -> list[Connection]:
    """Connect to several databases at the same time."""
    bound = [[number] for number, engine in enumerate(engines) if is_thread_bound(engine)]
    free = [[number] for number, engine in enumerate(engines) if not is_thread_bound(engine)]
    made: list[Connection] = []

    def connect(number: int) -> Connection:
        connection = engines[number].connect()
        made.append(connection)
        return connection

    try:
        return _run_teams(bound, free, len(engines), connect, cancel=lambda: None)
    except BaseException:
        for connection in made:
            connection.close()
        raise


def is_thread_bound(engine: Engine) -> bool:
    """Say whether another thread would get another database, or none: those in memory."""
    return isinstance(engine.pool, SingletonThreadPool | StaticPool)


def _run_teams(
    here: Sequence[list[int]],
    there: Sequence[list[int]],
    count: int,
    run: Callable[[int], T],
    *,
    cancel: Callable[[], None],
) -> list[T]:
    work = _Work(run, [None] * count)
    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(work.do_in_turn, numbers), daemon=True)
        for numbers in there
    ]
    try:
        for thread in threads:
            thread.start()
        for numbers in here:
            work.do(numbers)
        for thread in threads:
            thread.join()
    except BaseException:  # ^C
        cancel()
        for thread in threads:
            if thread.ident is not None:
                thread.join(CANCEL_S)
        raise
    if work.failures:
        raise work.failures[min(work.failures)]
    return work.results


@dataclass(slots=True)
class _Work:
    run: Callable[[int], Any]
    results: list[Any]
    failures: dict[int, Exception] = field(default_factory=dict)
    places: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(MAX_JOBS))

    def do(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            try:
                self.results[number] = self.run(number)
            except Exception as error:
                self.failures[number] = error
                return

    def do_in_turn(self, numbers: Iterable[int]) -> None:
        with self.places:
            self.do(numbers)


def _cancel(connections: Sequence[Connection]) -> None:
    for connection in connections:
        backend = BACKENDS.get(connection.dialect.name)
        if backend is not None and not connection.closed:
            # Through an engine of its own: the session's pool may have no connection left.
            engine = unpooled(connection.engine.url, timeout_s=CANCEL_S)
            backend.cancel(engine, connection.connection.driver_connection)
