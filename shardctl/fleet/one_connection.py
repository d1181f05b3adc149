"""A ShardedSession in which shards that are schemas of one database share one connection.

SQLAlchemy's session opens a connection for each engine that it meets, and each schema has an engine of its own (an
`execution_options` of the database's engine): one SELECT over 200 schemas would hold 200 connections to one server.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Mapper

if TYPE_CHECKING:
    from shardctl.fleet.placement import Placement


class OneConnectionSession(ShardedSession):
    """A ShardedSession with one connection, and so one transaction, for each database.

    Args:
        databases: The engine of the database, for the engine of each shard that is a schema of one.
        placement: Where rows belong, and what a flush must not write; None: not known.
    """

    def __init__(
        self,
        *args: Any,
        databases: Mapping[Engine, Engine] | None = None,
        placement: Placement | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._databases = databases or {}
        self.placement = placement
        self._on_schema: dict[Connection, dict[Engine, Connection]] = {}

    def _connection_for_bind(self, engine: Any, execution_options: Any = None, **options: Any) -> Connection:
        """Return the database's connection, made to translate to the shard's schema.

        Every way of Session to a connection leads through here, but for a flush, which asks `connection_callable`.
        """
        database = self._databases.get(engine)
        if database is None:
            return super()._connection_for_bind(engine, execution_options, **options)
        shared = super()._connection_for_bind(database, execution_options, **options)
        if shared not in self._on_schema:
            self._on_schema = {known: own for known, own in self._on_schema.items() if not known.closed} | {shared: {}}
        schemas = self._on_schema[shared]
        if engine not in schemas:
            # One object for each schema, on one DBAPI connection and in one transaction: a flush collects the
            # connections of all its rows before it uses the first.
            schemas[engine] = copy.copy(shared).execution_options(**engine.get_execution_options())
        own = schemas[engine]
        # A savepoint may have begun or ended since.
        own._transaction, own._nested_transaction = shared._transaction, shared._nested_transaction
        return own

    def connection_callable(
        self,
        mapper: Mapper[Any] | None = None,
        instance: Any = None,
        shard_id: str | None = None,
        **options: Any,
    ) -> Connection:
        """Return the connection that a flush uses for an object."""
        if shard_id is None:
            shard_id = self._choose_shard_and_assign(mapper, instance)
        if instance is not None and self.placement is not None:
            self.placement.check_write(instance, str(shard_id))
        return self._connection_for_bind(self.get_bind(mapper, shard_id=shard_id, instance=instance))
