"""DuckDB in this process: a database in memory that reads no file, no network and no setting, and leaves nothing."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.threads import start_thread
from shardctl.query.engines.values import Row
from shardctl.query.here.kinds import INT8, Kind, NotListed
from shardctl.query.here.quotients import finished
from shardctl.query.here.reading import arrow_batches, load_sql
from shardctl.query.here.translate import Here, quoted

if TYPE_CHECKING:
    import duckdb
    from sqlalchemy import Connection

    from shardctl.query.gatherers import TableShape
    from shardctl.query.pull.plan import TableScan

T = TypeVar("T")

MEMORY_LIMIT = "2GB"
_MOST_THREADS = 4
_PATIENCE_S = 0.2


def is_installed() -> bool:
    """Say whether DuckDB is there, and Arrow, by which rows get into it."""
    return find_spec("duckdb") is not None and find_spec("pyarrow") is not None


class DuckDBInterrupted(ShardError):
    """DuckDB was interrupted."""


class DuckPlace:
    """The place where one statement's rows meet.

    It opens while the shards are asked; what is wrong with it is raised by whatever needs it first.

    Args:
        here: What will run.
        scans: What will be brought.
        engine: The fleet's engine.
        settings: The shards' settings.
        memory_limit: Such as `2GB`; what is more goes to files in a directory of its own, which is removed.
    """

    quotes = "postgresql"

    def __init__(
        self, here: Here, scans: Sequence[TableScan], engine: str, settings: Mapping[str, str], memory_limit: str
    ) -> None:
        self._here = here
        self._engine = engine
        self.settings = settings
        self._kinds = dict(here.column_kinds)
        self._spill = tempfile.TemporaryDirectory(prefix="shardctl-", ignore_cleanup_errors=True)
        self._opened: Future[duckdb.DuckDBPyConnection] = Future()

        def open_() -> None:
            try:
                self._opened.set_result(self._open(scans, memory_limit))
            except BaseException as error:
                self._opened.set_exception(error)

        start_thread(open_, "duckdb")

    @property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return self._opened.result()

    def _open(self, scans: Sequence[TableScan], memory_limit: str) -> duckdb.DuckDBPyConnection:
        """Create a table for what each scan brings, and have DuckDB read the statement while they are still empty."""
        connection = self._connect(memory_limit)
        try:
            for scan in scans:
                listed = ", ".join(f"{quoted(name)} {kind.sql}" for name, kind in self._columns(scan))
                text = f"CREATE TABLE {quoted(scan.table.name)} ({listed})"
                _run(partial(connection.execute, text))
            _run(lambda: connection.execute(f"EXPLAIN {self._here.sql}").fetchall())
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self, memory_limit: str) -> duckdb.DuckDBPyConnection:
        import duckdb

        config: dict[str, Any] = {
            "enable_external_access": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
            "memory_limit": memory_limit,
            "temp_directory": self._spill.name,
            "threads": max(1, min(_MOST_THREADS, os.cpu_count() or 1)),
        }
        try:
            connection = duckdb.connect(":memory:", config=config)
        except duckdb.Error as error:
            raise QueryRefused(f"DuckDB does not start: {_line(error)}") from error
        connection.execute("SET lock_configuration = true")
        return connection

    def close(self) -> None:
        """Forget all rows."""
        if self._opened.exception() is None:
            self._connection.close()
        self._spill.cleanup()

    def batches(
        self, connection: Connection, scan: TableScan, sql: str
    ) -> AbstractContextManager[Iterator[tuple[int, Any]]]:
        """Read a scan's rows on a shard."""
        return arrow_batches(connection, sql, self._columns(scan) + [("__n", INT8)] * scan.is_counted)

    def load(self, scan: TableScan, batch: Any) -> None:
        """Add a batch of rows."""
        columns = self._columns(scan)
        times = f", unnest(range(b{len(columns)}))" if scan.is_counted else ""
        text = f"INSERT INTO {quoted(scan.table.name)} SELECT {load_sql(columns)} FROM __batch{times}"

        def run() -> None:
            self._connection.register("__batch", batch)
            self._connection.execute(text)
            self._connection.unregister("__batch")

        _run(run)

    def finish(self, table: TableShape, indexed: Sequence[str]) -> None:
        """Look at text whose bytes are to say what its collation would."""
        for origin in self._here.compared:
            if origin[0] == table.name:
                self._check_text(*origin)

    def _check_text(self, table: str, column: str) -> None:
        name = quoted(column)
        allowed = "[ -~]*" if self._kinds[table, column].folds else "[^\\x00-\\x1f]*"
        wrong = f"NOT regexp_full_match({name}, '{allowed}') OR {name} LIKE '% '"
        found = self.rows(f"SELECT {name} FROM {quoted(table)} WHERE {wrong} LIMIT 1")
        if found:
            raise NotListed(
                f"`{table}.{column}` has text that is not known to compare in DuckDB as in its collation",
                facts=[f"for example: {found[0][0]!r}"],
            )

    def _check_groups(self) -> None:
        parts = [
            f"SELECT DISTINCT {quoted(column)} AS v FROM {quoted(table)}"
            for table, column in self._here.grouped
            if self._kinds[table, column].folds
        ]
        if parts:
            sql = f"SELECT min(v) FROM ({' UNION '.join(parts)}) GROUP BY upper(v) HAVING count(*) > 1 LIMIT 1"
            found = self.rows(sql)
            if found:
                raise NotListed(
                    "texts that are equal but for their case cannot be grouped here", facts=[str(found[0][0])]
                )

    def rows(self, sql: str) -> list[Row]:
        """Run a small SELECT of our own."""
        return _run(lambda: self._connection.execute(sql).fetchall())

    def answer(self, timeout_s: float | None) -> tuple[tuple[str, ...], list[Row]]:
        """Run the statement.

        Returns:
            The columns' names, and the rows.

        Raises:
            ShardError: It takes longer.
            QueryRefused: DuckDB cannot calculate it.
        """

        def run() -> list[Row]:
            self._check_groups()
            return self.rows(self._here.sql)

        rows = _within(run, timeout_s, self._connection.interrupt)
        convert = [_converter(kind, self._engine, self.settings) for kind in self._here.kinds]
        if any(convert):
            rows = [
                tuple(
                    value if to is None or value is None else to(value) for to, value in zip(convert, row, strict=True)
                )
                for row in rows
            ]
        return self._here.names, rows

    def _columns(self, scan: TableScan) -> list[tuple[str, Kind]]:
        return [
            (column.name, self._kinds[scan.table.name, column.name]) for column in (*scan.table.columns, *scan.marks)
        ]


@contextmanager
def opened(
    here: Here, scans: Sequence[TableScan], engine: str, settings: Mapping[str, str], memory_limit: str
) -> Iterator[DuckPlace]:
    """Open a place for one statement."""
    place = DuckPlace(here, scans, engine, settings, memory_limit)
    try:
        yield place
    finally:
        place.close()


def _run(work: Callable[[], T]) -> T:
    import duckdb

    try:
        return work()
    except duckdb.InterruptException as error:
        raise DuckDBInterrupted("interrupted") from error
    except duckdb.Error as error:
        raise NotListed(f"DuckDB cannot answer this: {_line(error)}") from error


def _within(run: Callable[[], T], timeout_s: float | None, interrupt: Callable[[], None]) -> T:
    """Run a function in a thread, so that time or ^C can end it."""
    found: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(run())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="duckdb", daemon=True)
    thread.start()
    try:
        thread.join(timeout_s)
        if thread.is_alive():
            raise ShardError(
                "the query failed here", facts=[f"no answer within {timeout_s:g} s; DuckDB was interrupted"]
            )
    finally:
        while thread.is_alive():  # its connection must not be closed meanwhile
            interrupt()
            thread.join(_PATIENCE_S)
    if failed:
        raise failed[0]
    return found[0]


def _converter(kind: Kind, engine: str, settings: Mapping[str, str]) -> Callable[[Any], Any] | None:
    """Return what makes of DuckDB's value the one that the engine's driver gives."""
    if kind.name == "quotient":
        return lambda value: finished(value, kind, engine)
    if kind.name == "bool" and engine == "mysql":
        return int
    if kind.name == "timestamptz":
        zone = ZoneInfo(settings["TimeZone"])
        return lambda value: value.replace(tzinfo=UTC).astimezone(zone)
    return None


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0].strip()
