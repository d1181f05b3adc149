"""What a project's env.py calls: migrations on one shard, whether shardctl runs them or Alembic itself does.

`alembic -x shard=asia upgrade head` then needs no URL of its own: it takes the shard from the shard map.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData

from shardctl.errors import ShardctlError
from shardctl.fleet import LiveShard, connect
from shardctl.schema.run_env import check_place
from shardctl.schema.transactions import whole_revision_options, whole_revisions
from shardctl.topology.load import find_file, load


def run_migrations(target_metadata: MetaData | Sequence[MetaData] | None = None, **options: Any) -> None:
    """Run what Alembic was asked for on one shard; to be called by env.py.

    Args:
        target_metadata: The models' metadata, for `--autogenerate`.
        options: Further arguments of `context.configure`.

    Raises:
        CommandError: No shard is named, there is no such shard, or it cannot be connected to.
    """
    connection = context.config.attributes.get("connection")
    if isinstance(connection, Connection):
        _run(connection, target_metadata, options)
        return
    try:
        shard = _shard_of_command_line()
        with shard.connect(read_only=False) as connection:
            check_place(shard, connection)
            with whole_revisions(connection):
                _run(connection, target_metadata, options)
    except ShardctlError as error:
        _fail(error)


def _run(connection: Connection, target_metadata: Any, options: dict[str, Any]) -> None:
    context.configure(
        connection=connection,
        target_metadata=target_metadata,
        **{"render_as_batch": connection.dialect.name == "sqlite", **options, **whole_revision_options(connection)},
    )
    with context.begin_transaction():
        context.run_migrations()


def _shard_of_command_line() -> LiveShard:
    if context.is_offline_mode():
        raise CommandError("these migrations are not offered as SQL (`--sql`): they run on a shard")
    file = os.environ.get("SHARDCTL_CONFIG") or find_file(Path.cwd()) or find_file(Path(context.script.dir).absolute())
    fleet = connect(load(file))
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
