"""The shard map's rules, bound to the models: each name in them is looked up, and each error says where it stands."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from sqlalchemy import Column, MetaData, String, Table, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.interfaces import MANYTOONE

from shardctl.errors import ConfigError, ShardError, UnknownName
from shardctl.fleet.live_shard import LiveShard, driver_line
from shardctl.fleet.models import Models
from shardctl.fleet.rules import (
    Follow,
    Reference,
    Rule,
    Sharded,
    columns_of,
    is_compared_exactly,
    is_ordered_exactly,
    python_type,
)
from shardctl.topology.model import FollowingTable, ReferenceTable, ShardedTable, ShardMap, TableRule
from shardctl.topology.routing import RoutingKey
from shardctl.topology.strategies import Directory, Range


@dataclass(frozen=True, slots=True)
class BoundRules:
    """What the shard map says, in terms of the models."""

    rules: Mapping[Table, Rule]
    directories: Mapping[str, list[Table]]
    """The directory tables on each shard that the models do not contain."""


def bind_rules(shard_map: ShardMap, models: Models, shards: Mapping[str, LiveShard]) -> BoundRules:
    """Look up what the rules of a shard map name.

    Args:
        shard_map: The rules.
        models: The classes and tables that they name.
        shards: The live shards, for directories, and for what their engines hold equal.

    Raises:
        ConfigError: A rule names a class, attribute or relationship that is not there, or rules follow in a circle.
    """
    binder = _Binder(shard_map.where, models, shards)
    for name, rule in shard_map.tables.items():
        binder.bind(name, rule)
    for bound in binder.rules.values():
        if isinstance(bound, Follow):
            binder.check_chain(bound)
    return BoundRules(binder.rules, binder.directories)


def rule_of(target: Mapper[Any] | Table, rules: Mapping[Table, Rule]) -> Rule | None:
    """Return the rule of a class, which a subclass inherits, or of a table."""
    if isinstance(target, Table):
        return rules.get(target)
    for mapper in target.iterate_to_root():
        if isinstance(mapper.local_table, Table) and mapper.local_table in rules:
            return rules[mapper.local_table]
    return None


@dataclass(frozen=True, slots=True)
class _Binder:
    where: str
    models: Models
    shards: Mapping[str, LiveShard]
    rules: dict[Table, Rule] = field(default_factory=dict)
    directories: dict[str, list[Table]] = field(default_factory=dict)

    def _fail(self, message: str, *, hint: str | None = None) -> NoReturn:
        raise ConfigError(f"{self.where}: {message}", hint=hint)

    def bind(self, name: str, rule: TableRule) -> None:
        try:
            target = self.models.find(name)
        except UnknownName as error:
            raise UnknownName(
                f"{self.where}: `tables.{name}`: {error.message}",
                name=name,
                known=[*self.models.mappers, *self.models.tables],
            ) from None
        table = target if isinstance(target, Table) else target.local_table
        if not isinstance(table, Table):
            self._fail(f"`tables.{name}` is not mapped to a table")
        if table in self.rules:
            self._fail(f"`tables.{name}` and `tables.{self.rules[table].name}` are the same table")
        match rule:
            case ShardedTable():
                self.rules[table] = self._bind_sharded(rule, target)
            case FollowingTable():
                self.rules[table] = self._bind_follow(rule, target)
            case ReferenceTable(shard_ids=shard_ids):
                self.rules[table] = Reference(name, shard_ids)

    def _bind_sharded(self, rule: ShardedTable, target: Mapper[Any] | Table) -> Sharded:
        known = columns_of(target)
        columns = []
        for attribute in rule.key:
            if attribute not in known:
                raise UnknownName(
                    f"{self.where}: `tables.{rule.name}.key`: {rule.name} has no column attribute `{attribute}`",
                    name=attribute,
                    known=known,
                )
            columns.append(known[attribute])
        strategy = self._with_reader(rule.strategy) if isinstance(rule.strategy, Directory) else rule.strategy
        if isinstance(strategy, Range):
            self._check_bounds(rule, strategy, columns[0])
        dialects = [shard.bind.dialect for shard in self.shards.values()]
        routing = RoutingKey(
            strategy,
            rule.key,
            is_exact=all(is_compared_exactly(column, dialects) for column in columns),
            is_ordered=all(is_ordered_exactly(column, dialects) for column in columns),
        )
        return Sharded(rule.name, strategy, rule.key, tuple(columns), routing, dialects[0])

    def _check_bounds(self, rule: ShardedTable, strategy: Range, column: Column[Any]) -> None:
        expected = python_type(column)
        if expected is None or expected in (float, decimal.Decimal):
            return
        for bound in strategy.bounds:
            if not isinstance(bound, datetime.date if expected is datetime.datetime else expected):
                self._fail(
                    f"`tables.{rule.name}.ranges`: `{bound}` is not comparable with "
                    f"{rule.name}.{rule.key[0]}, which is {column.type}"
                )

    def _bind_follow(self, rule: FollowingTable, target: Mapper[Any] | Table) -> Follow:
        if isinstance(target, Table):
            self._fail(f"`tables.{rule.name}`: only a mapped class can follow a relationship")
        relationships = dict(target.relationships.items())
        if rule.parent not in relationships:
            raise UnknownName(
                f"{self.where}: `tables.{rule.name}.parent`: {rule.name} has no relationship `{rule.parent}`",
                name=rule.parent,
                known=relationships,
            )
        relationship = relationships[rule.parent]
        if relationship.direction is not MANYTOONE:
            self._fail(
                f"`tables.{rule.name}.parent`: `{rule.parent}` leads to many {relationship.mapper.class_.__name__}",
                hint="name the relationship that leads to the one parent",
            )
        return Follow(rule.name, relationship)

    def check_chain(self, rule: Follow) -> None:
        seen = [rule.name]
        current: Rule | None = rule
        while isinstance(current, Follow):
            parent_name = current.parent.class_.__name__
            following = rule_of(current.parent, self.rules)
            if following is None:
                self._fail(
                    f"`tables.{current.name}` follows {parent_name}, which has no placement",
                    hint=f"add `[tables.{parent_name}]`",
                )
            if following.name in seen:
                self._fail(f"`tables.{rule.name}` follows itself: {' -> '.join([*seen, following.name])}")
            seen.append(following.name)
            current = following

    def _with_reader(self, directory: Directory) -> Directory:
        table = next((known for name, known in self.models.tables.items() if name == directory.table), None)
        if table is None:
            table = directory_table(directory)
            self.directories.setdefault(directory.on, []).append(table)
        missing = [name for name in (directory.key_column, directory.shard_column) if name not in table.columns]
        if missing:
            self._fail(f"the directory table `{table.name}` has no column `{missing[0]}`")
        shard = self.shards[directory.on]

        def read(key: str) -> str | None:
            statement = select(table.c[directory.shard_column]).where(table.c[directory.key_column] == key)
            try:
                shard.check_reachable()
                with shard.bind.connect() as connection:
                    value = connection.execute(statement).scalar()
            except (SQLAlchemyError, ShardError) as error:
                where = f"the directory `{directory.table}` on shard `{directory.on}`"
                raise ShardError(f"{where} cannot be read: {driver_line(error)}") from error
            return None if value is None else str(value)

        return replace(directory, read=read)


def directory_table(directory: Directory) -> Table:
    """Return the table that records the shard of each key."""
    return Table(
        directory.table,
        MetaData(),
        Column(directory.key_column, String(191), primary_key=True),  # the longest that every MySQL can index
        Column(directory.shard_column, String(64), nullable=False),
    )
