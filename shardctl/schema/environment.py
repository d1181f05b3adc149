"""What a project's env.py calls: migrations on one shard, whether shardctl runs them or Alembic itself does.

`alembic -x shard=asia upgrade head` then needs no URL of its own: it takes the shard from the shard map.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData

from shardctl.errors import ShardctlError
from shardctl.fleet import Fleet, LiveShard, connect
from shardctl.schema.autogenerate import without_tables
from shardctl.schema.history import OWN_TABLES
from shardctl.schema.offline import offline_options, opening_statement
from shardctl.schema.run_env import check_place
from shardctl.schema.transactions import whole_revision_options, whole_revisions
from shardctl.topology.load import find_file, load
from shardctl.topology.model import ShardedTable
from shardctl.topology.strategies import Directory


def run_migrations(target_metadata: MetaData | Sequence[MetaData] | None = None, **options: Any) -> None:
    """Run what Alembic was asked for on one shard; to be called by env.py.

    Args:
        target_metadata: The models' metadata, for `--autogenerate`.
        options: Further arguments of `context.configure`.

    Raises:
        CommandError: No shard is named, there is no such shard, or it cannot be connected to.
    """
    if context.is_offline_mode():
        _render(target_metadata, options)
        return
    connection = context.config.attributes.get("connection")
    if isinstance(connection, Connection):
        _run(connection, target_metadata, options)
        return
    try:
        fleet = _fleet()
        shard = _shard_of_command_line(fleet)
        with shard.connect(read_only=False) as connection:
            check_place(shard, connection)
            with whole_revisions(connection):
                _run(connection, target_metadata, options, _directories(fleet, shard))
    except ShardctlError as error:
        _fail(error)


def _render(target_metadata: Any, options: dict[str, Any]) -> None:
    """Write the SQL of a shard to where Alembic writes it."""
    statement = None
    if "shard" not in context.config.attributes:  # shardctl itself says what it renders for
        try:
            shard = _shard_of_command_line(_fleet())
        except ShardctlError as error:
            _fail(error)
        options = {"render_as_batch": shard.backend.name == "sqlite", **options, **offline_options(shard)}
        statement = opening_statement(shard)
    context.configure(target_metadata=target_metadata, **options)
    if statement is not None:
        context.get_context().impl.static_output(f"{statement};")
    with context.begin_transaction():
        context.run_migrations()


def _run(
    connection: Connection, target_metadata: Any, options: dict[str, Any], directories: Collection[str] = ()
) -> None:
    options = without_tables(options, {*OWN_TABLES, *directories})
    context.configure(
        connection=connection,
        target_metadata=target_metadata,
        **{"render_as_batch": connection.dialect.name == "sqlite", **options, **whole_revision_options(connection)},
    )
    with context.begin_transaction():
        context.run_migrations()


def _fleet() -> Fleet:
    file = os.environ.get("SHARDCTL_CONFIG") or find_file(Path.cwd()) or find_file(Path(context.script.dir).absolute())
    return connect(load(file))


def _directories(fleet: Fleet, shard: LiveShard) -> set[str]:
    """Return the directories of sharding keys on a shard, which are in no migration; by the shard map alone."""
    strategies = [rule.strategy for rule in fleet.shard_map.tables.values() if isinstance(rule, ShardedTable)]
    return {
        strategy.table for strategy in strategies if isinstance(strategy, Directory) and strategy.on == shard.shard_id
    }


def _shard_of_command_line(fleet: Fleet) -> LiveShard:
    # A dictionary would keep only the last of two `-x shard=`.
    named = [value.removeprefix("shard=") for value in context.get_x_argument() if value.startswith("shard=")]
    if len(named) != 1:
        known = ", ".join(f"`{shard_id}`" for shard_id in fleet.shards)
        raise CommandError(
            f"name one shard of {known}: `alembic -x shard=NAME …`; `shardctl migrate --all-shards` migrates them all"
        )
    return fleet.shard(named[0])


def _fail(error: ShardctlError) -> NoReturn:
    lines = [error.message, *error.facts, *([f"hint: {error.hint}"] if error.hint else [])]
    raise CommandError("\n".join(lines)) from error
