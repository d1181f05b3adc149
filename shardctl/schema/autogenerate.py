"""Alembic's comparison of a live shard with the models, through the project's own env.py.

The shard's connection is read-only, whatever connection env.py makes.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Collection, Sequence
from inspect import signature
from typing import Any

from alembic.autogenerate import produce_migrations
from alembic.operations.ops import MigrationScript
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import BLANK_SCHEMA

from shardctl.errors import ShardctlError, ShardError
from shardctl.fleet import LiveShard
from shardctl.fleet.live_shard import driver_line
from shardctl.schema.proxies import context_local_proxies, enter_env_py
from shardctl.schema.revisions import Scripts
from shardctl.schema.run_env import env_config

Options = dict[str, Any]
Adapt = Callable[[Options], Options]
"""The arguments that env.py gives to `context.configure` -> those that are used."""
Run = Callable[[tuple[str, ...], MigrationContext], None]
"""What is done with the shard's revisions, and Alembic's context, once env.py has configured it."""


def in_env_py(
    live: LiveShard, scripts: Scripts, connection: Connection, run: Run, adapt: Adapt, **context_options: Any
) -> None:
    """Run a project's env.py on one shard, to read.

    Args:
        live: The shard.
        scripts: The project's revisions.
        connection: The shard's own, read-only.
        run: What to do in place of migrations.
        adapt: Changes what env.py configures.
        context_options: Further ones of Alembic's EnvironmentContext.

    Raises:
        ShardError: env.py failed, or did not come to `context.run_migrations()`.
    """
    context_local_proxies()
    config = env_config(live, scripts, connection)
    has_asked = False

    def read(revisions: Any, context: MigrationContext) -> list[Any]:
        nonlocal has_asked
        has_asked = True
        run(tuple(revisions), context)
        return []

    def enter() -> None:
        enter_env_py()
        with _ReadingEnvironment(config, scripts, read, connection, adapt, context_options):
            scripts.directory.run_env()

    try:
        contextvars.copy_context().run(enter)
    except ShardctlError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SQLAlchemyError):
            raise ShardError(f"env.py failed: {driver_line(error)}") from error
        raise ShardError(f"env.py failed: {type(error).__name__}: {driver_line(error)}") from error
    if not has_asked:
        raise ShardError("env.py ended without `context.run_migrations()`")


def compare(context: MigrationContext, revisions: Sequence[str], metadata: Any) -> MigrationScript:
    """Return what would bring a live schema to the models, as `alembic check` sees it."""
    script = produce_migrations(context, metadata)
    hook = context.opts.get("process_revision_directives")
    if hook is not None:
        hook(context, tuple(revisions), [script])
    return script


def without_tables(options: Options, tables: Collection[str]) -> Options:
    """Return options of `context.configure` under which autogenerate does not see these tables."""
    own = options.get("include_name")

    def include_name(name: str | None, type_: Any, parent_names: Any) -> bool:
        if type_ == "table" and name in tables:
            return False
        return own is None or bool(own(name, type_, parent_names))

    return {**options, "include_name": include_name}


class _ReadingEnvironment(EnvironmentContext):
    """What `alembic.context` is to an env.py that only compares."""

    def __init__(
        self, config: Any, scripts: Scripts, fn: Any, connection: Connection, adapt: Adapt, options: Options
    ) -> None:
        super().__init__(config, scripts.directory, fn=fn, as_sql=False, dont_mutate=True, **options)
        self._connection = connection
        self._adapt = adapt

    def configure(self, *args: Any, **options: Any) -> None:
        options = signature(EnvironmentContext.configure).bind(self, *args, **options).arguments
        options |= options.pop("kw", {})
        options.pop("self")
        options |= {"connection": self._connection, "url": None, "dialect_name": None, "version_table_schema": None}
        super().configure(**self._adapt(options))


def metadata_without_schema(metadatas: Sequence[MetaData], schemas: Collection[str | None]) -> MetaData:
    """Return a copy of tables in which those of some schemas have none, as in the connection of a shard."""
    copy = MetaData()

    def own(table: Any, to_schema: Any, constraint: Any, referred_schema: str | None) -> Any:
        return BLANK_SCHEMA if referred_schema in schemas else referred_schema

    for metadata in metadatas:
        copy.naming_convention = metadata.naming_convention
        for table in metadata.tables.values():
            schema: Any = None if table.schema in schemas else table.schema
            table.to_metadata(copy, schema=schema, referred_schema_fn=own)
    return copy
