"""`shardctl stats --keys`: the sharding keys with the most rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shardctl.cli import diagnostics, output
from shardctl.cli.amounts import bar
from shardctl.cli.failures import raise_unread
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.values import to_json, to_text
from shardctl.errors import ConfigError

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard
    from shardctl.rows.largest_keys import KeyedTable, LargeKey

COLUMNS = ["table", "key", "value", "shard", "rows", "rows are", "share", ""]
OBJECT = ["table", "key", "value", "shard", "rows", "rows_are", "share"]

_BAR = 16


def show_largest_keys(
    fleet: Fleet,
    asked: list[LiveShard],
    names: Sequence[str],
    most: int,
    *,
    timeout_s: float | None,
    format_: Format,
) -> None:
    """Count rows by sharding key, and print the largest.

    Args:
        fleet: The shards' fleet.
        asked: The shards.
        names: Classes or tables; none: all that have a sharding key.
        most: Keys of each table.
        timeout_s: Seconds for each shard.
        format_: How to print.

    Raises:
        ConfigError: No table has a sharding key, or the shard map does not say.
        ShardctlError: Shards did not answer.
    """
    from shardctl.rows.largest_keys import largest_keys, read_largest_keys

    tables = _tables(fleet, names)
    with fleet:
        reading = read_largest_keys(fleet, asked, tables, most, timeout_s=timeout_s)
        found = collect(reading, asked, doing="counting")
    if any(outcome.is_ok for outcome in found):
        keys = largest_keys(tables, found, most)
        if format_ in (Format.TABLE, Format.MARKDOWN):
            output.emit(COLUMNS, [_row(key) for key in keys], format_, null="NULL")
        else:
            output.emit(OBJECT, [_object(key) for key in keys], format_)
    raise_unread(found)


def _tables(fleet: Fleet, names: Sequence[str]) -> list[KeyedTable]:
    from shardctl.rows.largest_keys import keyed_tables

    tables, unread = keyed_tables(fleet)
    if names:
        targets: list[Any] = [fleet.models.find(name) for name in names]
        wanted = [str(getattr(target, "local_table", target).name) for target in targets]
        tables = [table for table in tables if table.name in wanted]
        without = [name for name in wanted if name not in {table.name for table in tables}]
        if without:
            raise ConfigError(f"{diagnostics.listed(without)}: nothing says what its sharding key is")
    elif unread:
        diagnostics.say(f"note: without a sharding key, since they follow copies: {diagnostics.listed(unread)}")
    if not tables:
        raise ConfigError(f"{fleet.shard_map.where}: no table has a sharding key")
    return tables


def _row(key: LargeKey) -> list[Any]:
    drawn = bar(key.share, _BAR, is_plain=output.is_plain())
    values = ", ".join(to_text(value, null="NULL") for value in key.key)
    return [key.table, ", ".join(key.columns), values, key.shard_id, key.rows, "exact", f"{key.share:.1%}", drawn]


def _object(key: LargeKey) -> list[Any]:
    values = [to_json(value) for value in key.key]
    return [
        key.table,
        list(key.columns),
        values,
        key.shard_id,
        key.rows,
        "exact",
        round(key.share, 6),
    ]
