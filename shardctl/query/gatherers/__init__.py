"""The places where pulled rows become one database again, one file for each engine.

A place holds temporary tables only. What it computes is right because it is the fleet's own engine, with the shards'
own types, collations and settings; where these differ, the statement is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from shardctl.query.gatherers.mysql import MYSQL
from shardctl.query.gatherers.postgresql import POSTGRESQL
from shardctl.query.gatherers.shapes import ColumnShape, TableShape
from shardctl.query.gatherers.sqlite import SQLITE
from shardctl.query.probes import Probe

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Gatherer(Protocol):
    """What gathering needs of an engine: on a shard, and in the place where the rows meet."""

    @property
    def own_place(self) -> str | None:
        """The URL of a database in memory that every fleet of this engine has; None: the shard map names a place."""
        ...

    def begin(self, connection: Connection) -> None:
        """Make all that is read on a shard's connection from now on one snapshot."""
        ...

    def shapes(self, names: Sequence[str]) -> Probe:
        """Ask for tables' shapes: for each a TableShape, or None if there is none of this name.

        Reading the answer raises QueryRefused if one is a view or the like.
        """
        ...

    def views(self, names: Sequence[str]) -> Probe:
        """Ask which of these are no tables of their own, and what they are: a list of pairs."""
        ...

    def settings(self) -> Probe:
        """Ask for what decides how SQL is understood, as a mapping: versions, collations, modes."""
        ...

    def foreign(self, names: Sequence[str], *, is_own: bool) -> Probe:
        """Ask which of these functions not every database of this engine has, or answers alike: a list of names.

        Args:
            names: The functions, in lower case; operators that are words among them.
            is_own: Whether the connection is made by shardctl, and not by an application that may add functions.
        """
        ...

    def estimate(self, sql: str) -> Probe:
        """Ask about how many rows a SELECT has, without reading them if the engine can tell."""
        ...

    def batches(self, connection: Connection, sql: str) -> AbstractContextManager[Iterator[tuple[int, Any]]]:
        """Read a SELECT's rows in batches: how many, and the rows in the form that `load` takes."""
        ...

    def adopt(self, connection: Connection, settings: Mapping[str, str], words: frozenset[str]) -> None:
        """Give a place the shards' settings, as far as a session can.

        Raises:
            QueryRefused: The place has tables of its own that these words could mean.
        """
        ...

    def create(self, connection: Connection, table: TableShape) -> None:
        """Create a temporary table."""
        ...

    def load(self, connection: Connection, table: TableShape, batch: Any) -> None:
        """Add a batch of rows."""
        ...

    def finish(self, connection: Connection, table: TableShape, indexed: Sequence[str]) -> None:
        """Index columns and gather statistics once a table is full: this changes the speed only."""
        ...

    def check(self, connection: Connection, sql: str) -> None:
        """Have the engine read the statement while its tables are still empty."""
        ...

    def seal(self, connection: Connection) -> None:
        """Have the place refuse writes from now on."""
        ...


GATHERERS: Mapping[str, Gatherer] = {"sqlite": SQLITE, "postgresql": POSTGRESQL, "mysql": MYSQL}

__all__ = ["GATHERERS", "ColumnShape", "Gatherer", "TableShape"]
