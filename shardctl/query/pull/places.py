"""Places where pulled rows meet: what pulling needs of one, and a database with temporary tables as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from shardctl.errors import QueryRefused
from shardctl.fleet.engines import parse_url, unpooled
from shardctl.fleet.live_shard import LiveShard
from shardctl.query.engines.values import Row, run_as_written
from shardctl.query.gatherers import GATHERERS, Gatherer, TableShape
from shardctl.query.refusals import REFUSALS
from shardctl.topology.model import Shard

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.fleet import Fleet
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


def gathering_place(fleet: Fleet, engine: str) -> LiveShard | None:
    """Return where rows of this engine's shards are gathered; None if the shard map names no such place."""
    url_text = GATHERERS[engine].own_place or fleet.shard_map.gather
    if url_text is None:
        return None
    url, backend = parse_url(url_text, where=f"{fleet.shard_map.where}: `gather`")
    if backend.name != engine:
        return None
    bind = unpooled(url, timeout_s=fleet.shard_map.timeout_s)
    return LiveShard(Shard("gather", url_text), bind, None, bind, backend, backend.server(url))


def refuse_without_place(
    fleet: Fleet, engine: str, refusal: QueryRefused, not_here: QueryRefused | None = None
) -> QueryRefused:
    """Return the refusal to merge, with the hint that leads to an answer.

    Args:
        fleet: The fleet.
        engine: Its engine.
        refusal: Why the shards' answers cannot be merged.
        not_here: Why DuckDB cannot gather either; None: it is not installed.
    """
    named = fleet.shard_map.gather
    hint = f"or {str(REFUSALS['place'].hint).format(engine)}"
    if named is not None:
        hint = f"`gather` in {fleet.shard_map.where} names no {engine} database"
    first = refusal.hint or "choose one shard with `--shard`"
    facts = list(refusal.facts)
    if not_here is None:
        hint += ", or install `shardctl[duckdb]`"
    else:
        facts.append(f"not gathered here: {not_here.message}")
    return QueryRefused(refusal.message, facts=facts, hint=f"{first}, {hint}")
