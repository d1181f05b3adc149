"""The overview: how many rows of each table each shard has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import inspect

from shardctl.query.engines.values import run_as_written
from shardctl.query.names import quoted
from shardctl.query.scan import run_on

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard


def count_rows(
    fleet: Fleet, shards: Sequence[LiveShard], tables: Sequence[str], *, timeout_s: float | None = None
) -> dict[str, dict[str, int | None]]:
    """Count the rows of tables on shards, with one connection for each shard.

    Returns:
        Table -> shard -> rows; None where the shard has no such table.

    Raises:
        ShardError: A shard failed; every shard that did is named.
    """

    def count(shard: LiveShard) -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        with shard.connect(keep=True) as connection:
            inspector = inspect(connection)
            present = {*inspector.get_table_names(), *inspector.get_view_names()}
            for table in tables:
                schema, _, name = table.rpartition(".")
                # An application that rewrites table names in what is executed has it under another name.
                is_there = (name in present and not schema) or inspector.has_table(name, schema=schema or None)
                sql = f"SELECT count(*) FROM {quoted(table, shard.backend.name)}"
                found[table] = int(run_as_written(connection, sql).scalar_one()) if is_there else None
        return found

    with fleet.one_query():
        counts = run_on(fleet, shards, count, timeout_s=timeout_s)
    return {table: {shard.shard_id: own[table] for shard, own in zip(shards, counts, strict=True)} for table in tables}
