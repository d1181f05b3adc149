"""Rows as objects that a session loads: for an application, whose own chooser decides, and wherever choosers are asked.

Sessions are never flushed or committed, and objects are given up as soon as they have been described.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.interfaces import MANYTOONE

from shardctl.errors import NoPlacement, ShardError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.choosers import Answer, ask_execute_chooser, ask_identity_chooser, ask_shard_chooser
from shardctl.fleet.rules import Reference, columns_of
from shardctl.rows.homes import Home, StoredRow
from shardctl.rows.identities import Identity, key_columns
from shardctl.rows.spellings import Resolver, in_list

KEYS_AT_ONCE = 500
PARENTS_DEEP = 3
"""Parents of parents that are loaded beforehand."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Where the session would look for a primary key."""

    primary_key: Identity
    identity_chooser: Answer
    execute_chooser: Answer


@dataclass(frozen=True, slots=True)
class Loader:
    """Loads objects of one class from shards.

    Args:
        fleet: The fleet.
        make_session: One factory for all shards, so that its choosers remember what they have seen.
        mapper: The class.
        timeout_s: Seconds for each shard.
    """

    fleet: Fleet
    make_session: Callable[[], ShardedSession]
    mapper: Mapper[Any]
    timeout_s: float | None = None

    def by_keys(self, shards: Sequence[LiveShard], keys: Sequence[Identity]) -> list[Outcome[list[StoredRow]]]:
        """Ask each shard for objects by primary key."""

        def load(shard: LiveShard, session: ShardedSession) -> list[StoredRow]:
            parts = [keys[start : start + KEYS_AT_ONCE] for start in range(0, len(keys), KEYS_AT_ONCE)]
            return [described for part in parts for described in self._of_keys(shard, session, part)]

        return self._fan_out(load, shards)

    def where(
        self, shards: Sequence[LiveShard], conditions: Mapping[str, Any], limit: int
    ) -> list[Outcome[list[StoredRow]]]:
        """Ask each shard for objects whose attributes have these values, `limit` of each shard at the most."""
        where = [getattr(self.mapper.class_, name) == value for name, value in conditions.items()]

        def load(shard: LiveShard, session: ShardedSession) -> list[StoredRow]:
            statement = select(self.mapper).where(*where).limit(limit).options(set_shard_id(shard.shard_id))
            found = list(session.scalars(statement).unique())
            self._load_parents(shard, session, found)
            return [self._described(session, instance) for instance in found]

        return self._fan_out(load, shards)

    def _fan_out(
        self, load: Callable[[LiveShard, ShardedSession], list[StoredRow]], shards: Sequence[LiveShard]
    ) -> list[Outcome[list[StoredRow]]]:
        def run(shard: LiveShard) -> list[StoredRow]:
            shard.check_reachable()
            try:
                with self.make_session() as session:
                    session.autoflush = False
                    return load(shard, session)
            except SQLAlchemyError:
                if self._may_lack_table(shard):
                    return []
                raise

        return list(self.fleet.fan_out(run, shards, timeout_s=self.timeout_s))

    def _may_lack_table(self, shard: LiveShard) -> bool:
        """Say whether the table neither belongs on a shard nor is there; a shard that does not answer raises."""
        if shard.shard_id in self.fleet.shard_ids(self.mapper):
            return False
        with shard.connect() as connection:
            found = inspect(connection)
            return not all(found.has_table(table.name) for table in self.mapper.tables if isinstance(table, Table))

    def _of_keys(self, shard: LiveShard, session: ShardedSession, keys: Sequence[Identity]) -> Iterator[StoredRow]:
        columns = key_columns(self.mapper)
        attributes = _key_attributes(self.mapper)
        option = set_shard_id(shard.shard_id)

        def load(where: ColumnElement[bool]) -> list[tuple[Any, ...]]:
            found = session.scalars(select(self.mapper).where(where).options(option)).unique()
            return [(instance, *self.mapper.primary_key_from_instance(instance)) for instance in found]

        def tell(doubtful: Sequence[Identity]) -> Iterator[tuple[Identity, tuple[Any, ...]]]:
            for key in doubtful:
                for row in load(in_list(attributes, [key])):
                    yield key, row

        resolver = Resolver(keys, columns, shard.bind.dialect, tell)
        answers = resolver.resolve(load(in_list(attributes, keys)))
        self._load_parents(shard, session, [answer.values[0] for answer in answers])
        for answer in answers:
            yield self._described(session, answer.values[0], answer.asked)

    def _load_parents(self, shard: LiveShard, session: ShardedSession, instances: Sequence[Any]) -> None:
        """Load what many objects refer to, all at once: choosers follow references, one object after the other."""
        held: dict[int, Any] = {}
        level = list(instances) if len(instances) > 1 else []
        for _ in range(PARENTS_DEEP):
            level = [parent for parent in self._parents(shard, session, level) if id(parent) not in held]
            held |= {id(parent): parent for parent in level}
        session.info["shardctl_parents"] = held  # the session itself only remembers what somebody holds

    def _parents(self, shard: LiveShard, session: ShardedSession, instances: Sequence[Any]) -> list[Any]:
        wanted: dict[Mapper[Any], dict[Identity, None]] = {}
        for instance in instances:
            mapper = inspect(instance).mapper
            for relationship in mapper.relationships:
                key = _key_of_parent(mapper, relationship, instance)
                if key is not None:
                    wanted.setdefault(relationship.mapper, {})[key] = None
        found: list[Any] = []
        option = set_shard_id(shard.shard_id)
        for parent, keys in wanted.items():
            attributes, listed = _key_attributes(parent), list(keys)
            for start in range(0, len(listed), KEYS_AT_ONCE):
                where = in_list(attributes, listed[start : start + KEYS_AT_ONCE])
                try:
                    found += session.scalars(select(parent).where(where).options(option)).unique()
                except SQLAlchemyError:  # the chooser may not need it, and says so itself if it does
                    session.rollback()
                    return []
        return found

    def _described(self, session: ShardedSession, instance: Any, asked: Identity | None = None) -> StoredRow:
        answer = ask_shard_chooser(session, self.mapper, instance, self.fleet.shards)
        return StoredRow(
            primary_key=tuple(self.mapper.primary_key_from_instance(instance)),
            values={name: getattr(instance, name, None) for name in columns_of(self.mapper)},  # one may be in SQL only
            home=self._home(instance, answer),
            asked=asked,
            shard_chooser=answer,
        )

    def _home(self, instance: Any, answer: Answer) -> Home:
        placement = self.fleet.placement
        if placement is None:
            if answer.problem:
                return Home((), f"shard_chooser {answer.problem}")
            return Home(answer.shard_ids, "shard_chooser")
        rule = placement.rule(self.mapper)
        if isinstance(rule, Reference):
            return Home(rule.shard_ids, "reference table: every copy")
        try:
            return Home((placement.home(self.mapper, instance),), placement.explain(self.mapper, instance))
        except (NoPlacement, ShardError) as error:  # of another shard, whose name it has
            return Home((), error.message)

    def routing(self, keys: Sequence[Identity]) -> list[Routing]:
        """Return what the session's choosers say of each primary key."""
        known, columns = self.fleet.shards, key_columns(self.mapper)
        with self.make_session() as session:
            return [
                Routing(
                    key,
                    ask_identity_chooser(session, self.mapper, key, known),
                    ask_execute_chooser(session, select(self.mapper).where(*_equal(columns, key)), known),
                )
                for key in keys
            ]


def _equal(columns: Sequence[ColumnElement[Any]], key: Identity) -> list[ColumnElement[bool]]:
    return [column == value for column, value in zip(columns, key, strict=True)]


def _key_of_parent(mapper: Mapper[Any], relationship: Any, instance: Any) -> Identity | None:
    """Return the primary key of the one parent that a relationship leads to; None if it is reached in another way."""
    if relationship.direction is not MANYTOONE or relationship.secondary is not None:
        return None
    locals_ = {remote: local for local, remote in relationship.local_remote_pairs}
    if set(locals_) != set(relationship.mapper.primary_key) or relationship.key in inspect(instance).dict:
        return None
    key = tuple(
        getattr(instance, mapper.get_property_by_column(locals_[column]).key)
        for column in relationship.mapper.primary_key
    )
    return None if None in key else key


def _key_attributes(mapper: Mapper[Any]) -> list[Any]:
    """Return the attributes of the primary key: columns of the table are not those of a union of classes' tables."""
    columns = key_columns(mapper)
    return [getattr(mapper.class_, mapper.get_property_by_column(column).key) for column in columns]
