"""Places where pulled rows meet: what pulling needs of one, and a database with temporary tables as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from shardctl.query.engines.values import Row, run_as_written
from shardctl.query.gatherers import Gatherer, TableShape

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.query.pull.plan import TableScan


class Place(Protocol):
    """Where rows of several shards meet."""

    quotes: str
    """The engine whose quotes are put around names."""
    settings: Mapping[str, str]
    """What must be the same on every shard."""

    def batches(
        self, connection: Connection, scan: TableScan, sql: str
    ) -> AbstractContextManager[Iterator[tuple[int, Any]]]:
        """Read a scan's rows on a shard in batches: how many, and the rows in the form that `load` takes."""
        ...

    def load(self, scan: TableScan, batch: Any) -> None:
        """Add a batch of rows."""
        ...

    def finish(self, table: TableShape, indexed: Sequence[str]) -> None:
        """Make a table ready to be read, once it is full."""
        ...

    def rows(self, sql: str) -> list[Row]:
        """Run a small SELECT of shardctl's own."""
        ...


class DatabasePlace:
    """Temporary tables of a database of the fleet's own engine."""

    def __init__(self, gatherer: Gatherer, connection: Connection, engine: str) -> None:
        self._gatherer = gatherer
        self._connection = connection
        self.quotes = engine
        self.settings = gatherer.settings().ask(connection)

    def batches(
        self, connection: Connection, scan: TableScan, sql: str
    ) -> AbstractContextManager[Iterator[tuple[int, Any]]]:
        return self._gatherer.batches(connection, sql)

    def load(self, scan: TableScan, batch: Any) -> None:
        self._gatherer.load(self._connection, scan.table, batch)

    def finish(self, table: TableShape, indexed: Sequence[str]) -> None:
        self._gatherer.finish(self._connection, table, indexed)

    def rows(self, sql: str) -> list[Row]:
        return [tuple(row) for row in run_as_written(self._connection, sql)]
