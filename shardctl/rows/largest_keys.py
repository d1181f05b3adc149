"""The sharding keys with the most rows: what makes one shard larger than the others, and cannot be split."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select
from sqlalchemy.orm import Mapper

from shardctl.errors import ConfigError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import Follow, Rule, Sharded
from shardctl.rows.identities import Target


@dataclass(frozen=True, slots=True)
class KeyedTable:
    """A table whose rows have a sharding key: their own, or that of the row that they follow."""

    name: str
    columns: tuple[str, ...]
    """The key, as `WeatherLocation.continent`."""
    groups: Select[Any]
    """Its keys with their rows, and all rows of the shard, the largest first."""
    shard_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LargeKey:
    """One sharding key on one shard."""

    table: str
    columns: tuple[str, ...]
    key: tuple[Any, ...]
    shard_id: str
    rows: int
    share: float
    """Of the table's rows on all shards that answered."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The largest keys of a table on one shard."""

    rows: list[tuple[tuple[Any, ...], int]]
    """Each with its rows."""
    all_rows: int
    """Of all keys."""


def keyed_tables(fleet: Fleet) -> tuple[list[KeyedTable], list[str]]:
    """Return the tables with a sharding key, and the names of those that follow copies.

    Raises:
        ConfigError: An application decides by itself where rows belong, so that nothing says what its keys are.
    """
    placement = fleet.placement
    if placement is None:
        raise ConfigError(
            "an application's own `shard_chooser` does not say what its sharding keys are",
            hint='`shardctl query "SELECT column, count(*) FROM table GROUP BY column"` counts by any column',
        )
    found: list[KeyedTable] = []
    unread: list[str] = []
    for target in _targets(fleet):
        rule = placement.rule(target)
        if isinstance(rule, Sharded):
            found.append(_of_columns(target, rule, target, placement))
        elif isinstance(rule, Follow) and isinstance(target, Mapper):
            joined = _of_parents(target, rule, placement)
            if joined is None:
                unread.append(_name(target))
            else:
                found.append(joined)
    return found, unread


def read_largest_keys(
    fleet: Fleet, shards: Sequence[LiveShard], tables: Sequence[KeyedTable], most: int, *, timeout_s: float | None
) -> Generator[Outcome[dict[str, Groups]], None, None]:
    """Count rows by sharding key on each shard, and yield the outcomes as they come.

    Args:
        fleet: The shards' fleet.
        shards: The shards.
        tables: What to count.
        most: Keys of each table and shard.
        timeout_s: Seconds for each shard; None: those of the shard map.
    """

    def read(live: LiveShard) -> dict[str, Groups]:
        with live.connect() as connection:
            return {table.name: _read(connection, table, most) for table in tables if live.shard_id in table.shard_ids}

    return fleet.fan_out(read, shards, timeout_s=timeout_s or fleet.shard_map.timeout_s)


def largest_keys(
    tables: Sequence[KeyedTable], found: Sequence[Outcome[dict[str, Groups]]], most: int
) -> list[LargeKey]:
    """Return the largest keys of each table on all shards; one that two shards hold is there twice."""
    largest = []
    for table in tables:
        of_shards = {
            outcome.shard_id: outcome.value[table.name]
            for outcome in found
            if outcome.value is not None and table.name in outcome.value
        }
        total = sum(groups.all_rows for groups in of_shards.values())
        keys = [
            LargeKey(table.name, table.columns, key, shard_id, rows, rows / total)
            for shard_id, groups in of_shards.items()
            for key, rows in groups.rows
        ]
        largest += sorted(keys, key=lambda key: -key.rows)[:most]
    return largest


def _read(connection: Connection, table: KeyedTable, most: int) -> Groups:
    rows = connection.execute(table.groups.limit(most)).all()
    connection.rollback()
    return Groups([(tuple(row[:-2]), int(row[-2])) for row in rows], int(rows[0][-1]) if rows else 0)


def _targets(fleet: Fleet) -> list[Target]:
    """Return what is mapped, or else the table, once for each table."""
    models = fleet.models
    tables = [table for metadata in models.metadatas for table in metadata.sorted_tables]
    mapped = {mapper.local_table for mapper in models.mappers.values()}
    return [models.mapper_of(table) or table if table in mapped else table for table in tables]


def _of_columns(target: Target, rule: Sharded, start: Target, placement: Placement, *joins: Any) -> KeyedTable:
    """Count the rows of `start`, joined to the class with the key."""
    selected: list[Any] = [
        target.columns[column.key] if isinstance(target, Table) else getattr(target.class_, attribute)
        for attribute, column in zip(rule.attributes, rule.columns, strict=True)
    ]
    number = func.count()
    groups: Select[Any] = select(*selected, number, func.sum(number).over()).select_from(start)
    for join in joins:
        groups = groups.join(join)
    groups = groups.group_by(*selected).order_by(number.desc(), *selected)
    columns = tuple(f"{rule.name}.{attribute}" for attribute in rule.attributes)
    return KeyedTable(_name(start), columns, groups, placement.shard_ids(start))


def _of_parents(target: Mapper[Any], rule: Follow, placement: Placement) -> KeyedTable | None:
    """Follow the parents up to the sharding key; None where they are copies, which have none."""
    joins: list[Any] = []
    mapper: Mapper[Any] = target
    link: Rule | None = rule
    while isinstance(link, Follow):
        joins.append(getattr(mapper.class_, link.relationship.key))
        mapper = link.parent
        link = placement.rule(mapper)
    return _of_columns(mapper, link, target, placement, *joins) if isinstance(link, Sharded) else None


def _name(target: Target) -> str:
    table: Any = getattr(target, "local_table", target)
    return str(table.name)
