"""A project's shard map -> the same fleet on empty SQLite files, for one test."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Table, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import CompileError, SQLAlchemyError

from shardctl.errors import ConfigError
from shardctl.fleet import Fleet, LiveShard, connect
from shardctl.fleet.live_shard import driver_line
from shardctl.topology.buckets import spread_buckets
from shardctl.topology.load import FILE_NAME, find_file, load
from shardctl.topology.model import ReferenceTable, Shard, ShardedTable, ShardMap, TableRule
from shardctl.topology.strategies import Directory, Hash, Lookup, Range, Strategy


def find_shard_map(named: str, ini_file: Path | None, root: Path) -> Path:
    """Return the file of the project's shard map.

    Args:
        named: What the project's pytest settings say, relative to their file; empty if nothing.
        ini_file: The file of these settings, if there is one.
        root: Pytest's root folder, where the nearest one is looked for, and above it.

    Raises:
        ConfigError: There is none.
    """
    if named:
        return (ini_file.parent if ini_file else root) / named
    if "SHARDCTL_CONFIG" in os.environ:
        return Path(os.environ["SHARDCTL_CONFIG"])
    found = find_file(root)
    if found is None:
        hint = "name it in pytest's settings: `shardctl_config = path/to/shardctl.toml`"
        raise ConfigError(f"no `{FILE_NAME}` in `{root}` or in a folder above", hint=hint)
    return found


def copy_fleet(file: Path, folder: Path, *, shards: int | None = None) -> Fleet:
    """Open a fleet with a shard map's rules, whose shards are new SQLite files with the tables of the models.

    Labels, states and rules are the shard map's; whatever leads to its databases is not used.

    Args:
        file: The shard map.
        folder: Where the files are made.
        shards: How many; None: as many as the shard map has.

    Raises:
        ConfigError: The shard map cannot be used, has no rules by which so many shards could be used, or has tables
            that SQLite cannot create.
    """
    shard_map = load(file, environ=_AnyVariable(os.environ))
    if shard_map.app is not None:
        raise ConfigError(
            f"{shard_map.where}: `app` makes its own engines, so that its shards cannot be replaced",
            hint="have the application's tests make its sessionmaker with engines of their own; "
            "`--shardctl-scatter` watches it too",
        )
    if shards is not None and shards != len(shard_map.shards):
        shard_map = resized(shard_map, shards)
    local = {
        shard_id: replace(shard, url=f"sqlite:///{folder / f'shard-{number}.db'}", schema=None, attach=None)
        for number, (shard_id, shard) in enumerate(shard_map.shards.items(), 1)
    }
    fleet = connect(replace(shard_map, shards=local, gather=None), session_class=_merging_session)
    try:
        for live in fleet.shards.values():
            event.listen(live.bind, "connect", _be_quick)
            _create_tables(live, fleet.tables_on(live.shard_id), shard_map.where)
    except BaseException:
        fleet.close()
        raise
    return fleet


def resized(shard_map: ShardMap, count: int) -> ShardMap:
    """Return a shard map with another number of shards.

    With fewer, the first ones stay, and what belongs on another is given to them in turn. With more, which are named
    `extra_1` and so on, classes that are placed by hash use them too.

    Raises:
        ConfigError: There would be none, or nothing would be on the further ones.
    """
    names = list(shard_map.shards)
    if count < 1:
        raise ConfigError(f"a fleet of {count} shards holds nothing", hint="ask for one at least")
    extra = [f"extra_{number}" for number in range(1, count - len(names) + 1)]
    strategies = [rule.strategy for rule in shard_map.tables.values() if isinstance(rule, ShardedTable)]
    if extra and not any(isinstance(strategy, Hash) for strategy in strategies):
        raise ConfigError(
            f"{shard_map.where} has {len(names)} shards, and no rule by `hash`: nothing would be on {len(extra)} more",
            hint=f"ask for {len(names)} at most",
        )
    home = {name: names[position % count] for position, name in enumerate(names)}
    shards = {name: shard for name, shard in shard_map.shards.items() if home[name] == name}
    shards |= {name: Shard(name, "") for name in extra}
    tables = {name: _moved(rule, home, extra) for name, rule in shard_map.tables.items()}
    return replace(shard_map, shards=shards, tables=tables)


def _moved(rule: TableRule, home: Mapping[str, str], extra: Sequence[str]) -> TableRule:
    match rule:
        case ShardedTable():
            return replace(rule, strategy=_moved_strategy(rule.strategy, home, extra))
        case ReferenceTable(shard_ids=shard_ids):
            is_everywhere = set(shard_ids) == set(home)
            return replace(rule, shard_ids=(*_homes(shard_ids, home), *(extra if is_everywhere else ())))
    return rule


def _moved_strategy(strategy: Strategy, home: Mapping[str, str], extra: Sequence[str]) -> Strategy:
    match strategy:
        case Hash() if extra:
            return Hash(spread_buckets([*dict.fromkeys(strategy.buckets), *extra]))
        case Hash():
            return Hash(tuple(home[name] for name in strategy.buckets))
        case Lookup():
            return Lookup({value: home[name] for value, name in strategy.shards.items()})
        case Range():
            return replace(strategy, shards=tuple(home[name] for name in strategy.shards))
        case Directory():
            default = strategy.default and home[strategy.default]
            shards = (*_homes(strategy.shards, home), *extra)
            return replace(strategy, shards=shards, on=home[strategy.on], default=default)
    return strategy


def _homes(names: Sequence[str], home: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(home[name] for name in names))


def _merging_session() -> Any:
    from shardctl.query.orm import MergingSession

    return MergingSession


def _be_quick(dbapi_connection: Any, record: object) -> None:
    """Have SQLite not wait for the disk: nobody reads the file after the test."""
    dbapi_connection.execute("PRAGMA synchronous = OFF")
    dbapi_connection.execute("PRAGMA journal_mode = MEMORY")


def _create_tables(live: LiveShard, tables: Sequence[Table], where: str) -> None:
    with live.bind.begin() as connection:
        for table in tables:
            try:
                table.create(connection)
            except SQLAlchemyError as error:
                raise _refusal(table, error, where) from error


def _refusal(table: Table, error: SQLAlchemyError, where: str) -> ConfigError:
    """Return the error for a table that SQLite cannot create, with the column that is to blame."""
    facts = [driver_line(error)]
    place = f"table `{table.key}`"
    for column in table.columns:
        try:
            column.type.compile(dialect=sqlite.dialect())
        except CompileError:
            place += f", column `{column.name}`"
            facts = [f"its type is {_type_name(column.type)}"]
            break
    return ConfigError(
        f"{where}: SQLite cannot create {place}",
        facts=facts,
        hint='give it a type that SQLite has, beside its own: `JSON().with_variant(ARRAY(Text), "postgresql")`',
    )


def _type_name(type_: Any) -> str:
    with suppress(Exception):  # which need not have a text either
        return repr(type_)
    return type(type_).__name__


class _AnyVariable(dict[str, str]):
    """The environment, with a value for each variable that is not set: no URL of the shard map is used."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, f"postgresql://unset/{name}")
