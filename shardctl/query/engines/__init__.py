"""What merging has to know about each engine, one file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from shardctl.query.engines.mysql import MYSQL
from shardctl.query.engines.postgresql import POSTGRESQL
from shardctl.query.engines.sqlite import SQLITE
from shardctl.query.engines.values import HasCursor, Relation, Row, ValueType
from shardctl.query.probes import Probe

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.fleet.live_shard import LiveShard


class Engine(Protocol):
    """The rules of one engine: its types, its collations, and a place to merge in."""

    @property
    def name(self) -> str: ...

    @property
    def nulls_low(self) -> bool:
        """Whether NULL sorts as if it were less than every value."""
        ...

    def types(self, result: HasCursor) -> tuple[ValueType, ...]:
        """Return the types of a result's columns."""
        ...

    def collation(self, expression: str, source: str) -> Probe:
        """Ask for the collation by which an expression over these tables compares; None if they have no rows."""
        ...

    def database_collation(self) -> Probe:
        """Ask for what a collation's name leaves open, so that shards can be compared."""
        ...

    def not_scalar(self, names: Sequence[str]) -> Probe:
        """Ask which of these functions look at more than one row, or may: a list of names."""
        ...

    def prepare_stream(self, connection: Connection) -> None:
        """Expect that rows are read slowly, and to the last."""
        ...

    def aggregate(self, kind: str, columns: Sequence[str], types: Sequence[ValueType]) -> str:
        """Return SQL that merges partial aggregates."""
        ...

    def plan(self, connection: Connection, sql: str) -> list[str]:
        """Return the lines of the engine's own plan for a statement, which is not run."""
        ...

    def expected_rows(self, connection: Connection, sql: str) -> tuple[int | None, int | None]:
        """Return how many rows the engine expects of a statement, and how many to read; None: it does not say."""
        ...

    def evaluate(self, shard: LiveShard, relation: Relation, sql: str) -> list[Row]:
        """Run a SELECT over a relation that it calls `__p`, writing nothing."""
        ...


ENGINES: Mapping[str, Engine] = {"sqlite": SQLITE, "postgresql": POSTGRESQL, "mysql": MYSQL}

__all__ = ["ENGINES", "Engine", "Relation", "Row", "ValueType"]
