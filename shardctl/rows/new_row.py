"""Where a row that does not exist yet would go, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Table, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.interfaces import MANYTOONE

from shardctl.errors import ConfigError, NoPlacement, ShardctlError, ShardError, UnknownName, nearest_name
from shardctl.fleet import Fleet, LiveShard
from shardctl.fleet.choosers import ask_shard_chooser
from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import Follow, Reference, Sharded, columns_of
from shardctl.rows.homes import Home, attribute_of, local_of, remote_of
from shardctl.rows.identities import Identity, Target, key_columns, name_of, read_identity, read_value
from shardctl.rows.offline import possible_home
from shardctl.rows.reading import Reader
from shardctl.rows.source import Question, source_of
from shardctl.topology.strategies import Lookup, key_text


@dataclass(frozen=True, slots=True)
class NewRow:
    """What is known of a row."""

    values: Mapping[str, Any]
    """Attribute name -> value."""
    parents: Mapping[str, Identity]
    """Relationship name -> primary key of what it leads to."""


def read_new_row(target: Target, words: Sequence[str]) -> NewRow:
    """Read `column=value` and `relationship=key` words; a key of several columns is separated by commas.

    Raises:
        ConfigError: A word has no `=`, or its value is not of the column's type.
        UnknownName: There is no such column or relationship.
    """
    columns = columns_of(target)
    related = {} if isinstance(target, Table) else dict(target.relationships.items())
    parents = {name: found.mapper for name, found in related.items() if found.direction is MANYTOONE}
    values: dict[str, Any] = {}
    keys: dict[str, Identity] = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator:
            raise ConfigError(f"`--new {word}` is not `column=value`")
        if name in columns:
            values[name] = read_value(columns[name], text)
        elif name in parents:
            keys[name] = _read_key(parents[name], name, text)
        else:
            raise UnknownName(
                f"{name_of(target)} has no column `{name}`, nor a relationship to a parent",
                name=name,
                known=[*columns, *parents],
            )
    return NewRow(values, keys)


def _read_key(parent: Mapper[Any], name: str, text: str) -> Identity:
    width = len(key_columns(parent))
    words = [text] if width == 1 else text.split(",")
    if len(words) != width:
        raise ConfigError(f"`--new {name}={text}`: the key of {name_of(parent)} has {width} columns")
    return read_identity(parent, words)


def new_home(
    fleet: Fleet,
    target: Target,
    new: NewRow,
    shards: Sequence[LiveShard],
    *,
    timeout_s: float | None = None,
    offline: bool = False,
) -> Home:
    """Return the shard that a new row would go to, or for a reference table all of its shards.

    Args:
        fleet: The fleet.
        target: The class, or the table.
        new: What is known of the row.
        shards: Where its parent is looked for.
        timeout_s: Seconds for each shard.
        offline: Whether no connection may be opened.

    Raises:
        NoPlacement: Nothing says where.
        ShardError: A shard cannot be asked for the parent.
    """
    placement = fleet.placement
    if placement is not None:
        return _ByRules(fleet, placement, shards, timeout_s, offline).home(target, new)
    if isinstance(target, Table):
        raise NoPlacement("an application places mapped classes only")
    if offline and new.parents:
        raise ConfigError("`--offline` cannot load a parent for the application's shard_chooser")
    return _by_chooser(fleet, target, new, [] if offline else shards)


@dataclass(frozen=True, slots=True)
class _ByRules:
    """By the rules of a shard map."""

    fleet: Fleet
    placement: Placement
    shards: Sequence[LiveShard]
    timeout_s: float | None
    offline: bool

    def home(self, target: Target, new: NewRow) -> Home:
        match self.placement.rule(target):
            case Reference(shard_ids=shard_ids):
                return Home(shard_ids, "reference table: every copy")
            case Sharded() as rule:
                return self._by_key(target, rule, new)
            case Follow() as rule:
                return self._by_parent(target, rule, new)
        self.placement.home(target, SimpleNamespace())
        raise AssertionError(target)

    def _by_key(self, target: Target, rule: Sharded, new: NewRow) -> Home:
        named = zip(rule.attributes, rule.columns, strict=True)
        values = {name: new.values.get(attribute_of(target, column), _default(column)) for name, column in named}
        if self.offline:
            return self._decided(possible_home(self.fleet, target, {**new.values, **values}))
        key = SimpleNamespace(**values)
        try:
            shard_id = self.placement.place_by_key(rule, key)
            stored = self.placement.key_of(rule, key)
        except NoPlacement as error:
            raise NoPlacement(error.message, hint=_hint(rule, values) or error.hint) from error
        return Home((shard_id,), f"{', '.join(rule.attributes)}: {rule.strategy.explain(stored)}")

    def _decided(self, home: Home) -> Home:
        if len(home.shard_ids) != 1:
            raise NoPlacement(home.reason)
        return home

    def _by_parent(self, target: Target, rule: Follow, new: NewRow) -> Home:
        """Return the shard that the parent is on."""
        relationship, parent = rule.relationship, name_of(rule.parent)
        columns, key = self._parent_key(target, rule, new)
        if self.offline:
            known = {attribute_of(rule.parent, column): value for column, value in zip(columns, key, strict=True)}
            home = self._decided(possible_home(self.fleet, rule.parent, known))
            return Home(home.shard_ids, f"follows {relationship.key}: {home.reason}")
        holders = self._holders(rule, columns, key)
        said = f"{parent} {', '.join(map(str, key))}"
        if len(holders) == 1:
            return Home((holders[0],), f"follows {relationship.key}: {said} is there")
        if holders:
            raise NoPlacement(
                f"{said}, which {rule.name} follows, is on {', '.join(holders)}",
                hint="`--shard NAME` says which of them is meant",
            )
        raise NoPlacement(f"{said}, which {rule.name} follows, is on none of the shards asked")

    def _parent_key(self, target: Target, rule: Follow, new: NewRow) -> tuple[tuple[Any, ...], Identity]:
        """Return columns of the parent, and their values: its primary key, or what the foreign key refers to."""
        relationship = rule.relationship
        if relationship.key in new.parents:
            return tuple(key_columns(rule.parent)), new.parents[relationship.key]
        names = [attribute_of(target, column) for column in local_of(relationship)]
        if any(new.values.get(name) is None for name in names):
            columns = ", ".join(f"`--new {name}=…`" for name in names)
            raise NoPlacement(
                f"{rule.name}.{relationship.key} is not set, so that the row follows no parent",
                hint=f"give its parent: `--new {relationship.key}=KEY`, or {columns}",
            )
        return remote_of(relationship), tuple(new.values[name] for name in names)

    def _holders(self, rule: Follow, columns: tuple[Any, ...], key: Identity) -> list[str]:
        source = source_of(rule.parent)
        if source is None:
            raise ConfigError(f"{name_of(rule.parent)} is not mapped to plain tables, and cannot be looked for")
        having = self.placement.shard_ids(rule.parent)
        shards = [shard for shard in self.shards if shard.shard_id in having]
        keys = {shard.shard_id: [key] for shard in shards}
        outcomes = Reader(self.fleet, self.timeout_s).by_keys(Question(source, columns), shards, keys)
        for outcome in outcomes:
            if outcome.error is not None:
                raise ShardError(
                    f"shard `{outcome.shard_id}` cannot be asked for the {name_of(rule.parent)} that {rule.name}"
                    f" follows: {outcome.error.message}",
                    facts=outcome.error.facts,
                    hint=outcome.error.hint,
                )
        found = {outcome.shard_id for outcome in outcomes if outcome.result}
        return [shard_id for shard_id in self.fleet.shards if shard_id in found]


def _default(column: Any) -> Any:
    """Return the value that a column has if it is not set, as far as the model says."""
    return column.default.arg if column.default is not None and column.default.is_scalar else None


def _hint(rule: Sharded, values: Mapping[str, Any]) -> str | None:
    """Say what to type in place of a key that has no shard."""
    unset = [name for name, value in values.items() if value is None]
    if unset:
        return " and ".join(f"`--new {name}=…`" for name in unset) + " says it"
    if isinstance(rule.strategy, Lookup):
        try:
            nearest = nearest_name(key_text(next(iter(values.values()))), rule.strategy.shards)
        except NoPlacement:
            return None
        return f"did you mean `{nearest}`?" if nearest is not None else None
    return None


# -- by an application's own chooser -----------------------------------------------------------------------------------


def _by_chooser(fleet: Fleet, mapper: Mapper[Any], new: NewRow, shards: Sequence[LiveShard]) -> Home:
    with fleet.session() as session:
        session.autoflush = False
        instance = _instance(session, mapper, new, shards)
        answer = ask_shard_chooser(session, mapper, instance, fleet.shards)
    if answer.problem or not answer.shard_ids:
        raise NoPlacement(f"shard_chooser {answer.problem or 'names no shard'}", hint="`--new column=value` says more")
    return Home(answer.shard_ids, "shard_chooser")


def _instance(session: ShardedSession, mapper: Mapper[Any], new: NewRow, shards: Sequence[LiveShard]) -> Any:
    """Return an object that is in no session, made without the class's own `__init__`, which may want more."""
    instance = mapper.class_manager.new_instance()
    for name, value in new.values.items():
        setattr(instance, name, value)
    for name, relationship in mapper.relationships.items():
        columns: Sequence[Any]
        if name in new.parents:
            columns, key = key_columns(relationship.mapper), new.parents[name]
        elif relationship.direction is MANYTOONE and relationship.secondary is None:
            columns = remote_of(relationship)
            key = tuple(new.values.get(attribute_of(mapper, column)) for column in local_of(relationship))
        else:
            continue
        if None not in key and shards:
            where = [column == value for column, value in zip(columns, key, strict=True)]
            found = _load(session, relationship.mapper, where, shards)
            _check_one(found, relationship.mapper, key, must_be_there=name in new.parents)
            if found:
                set_committed_value(instance, name, found[0])
    return instance


def _load(session: ShardedSession, mapper: Mapper[Any], where: list[Any], shards: Sequence[LiveShard]) -> list[Any]:
    found: list[Any] = []
    for shard in shards:
        try:
            shard.check_reachable()
            found += session.scalars(select(mapper).where(*where).options(set_shard_id(shard.shard_id))).unique()
        except (SQLAlchemyError, ShardctlError) as error:
            problem = shard.failure(error) if isinstance(error, SQLAlchemyError) else error
            raise ShardError(f"shard `{shard.shard_id}` cannot be asked for a parent: {problem.message}") from error
    return found


def _check_one(found: Sequence[Any], mapper: Mapper[Any], key: Identity, *, must_be_there: bool) -> None:
    said = f"{name_of(mapper)} {', '.join(map(str, key))}"
    if len(found) > 1:
        tokens = ", ".join(str(inspect(parent).identity_token) for parent in found)
        raise NoPlacement(f"{said} is on {tokens}", hint="`--shard NAME` says which of them is meant")
    if must_be_there and not found:
        raise NoPlacement(f"{said} is on none of the shards asked")
