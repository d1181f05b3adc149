"""The shard map's rules, bound to the models: where a row belongs, and where a table is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, Table, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper, RelationshipProperty, Session, object_session

from shardctl.errors import NoPlacement, Refused, ShardError
from shardctl.fleet.binding import bind_rules, rule_of
from shardctl.fleet.live_shard import LiveShard, driver_line
from shardctl.fleet.models import Models
from shardctl.fleet.rules import Follow, Reference, Rule, Sharded
from shardctl.topology.model import ShardMap, ShardState


class Placement:
    """Answers where rows belong, by the rules of a shard map.

    Args:
        shard_map: The rules.
        models: The classes and tables that they name.
        shards: The live shards, for directories, and for what their engines hold equal.

    Raises:
        ConfigError: A rule names a class, attribute or relationship that is not there, or rules follow in a circle.
    """

    def __init__(self, shard_map: ShardMap, models: Models, shards: Mapping[str, LiveShard]) -> None:
        self._map = shard_map
        self._models = models
        self._shards = shards
        bound = bind_rules(shard_map, models, shards)
        self._rules = bound.rules
        self.directories = bound.directories
        """The directory tables on each shard that the models do not contain."""

    # -- rules ---------------------------------------------------------------------------------------------------------

    def rule(self, target: Mapper[Any] | Table) -> Rule | None:
        """Return the rule of a class, which a subclass inherits, or of a table."""
        return rule_of(target, self._rules)

    def follows(self) -> list[Follow]:
        """Return the rules by which tables live where others do."""
        return [rule for rule in self._rules.values() if isinstance(rule, Follow)]

    def shard_ids(self, target: Mapper[Any] | Table) -> tuple[str, ...]:
        """Return the shards that have this table."""
        table = target if isinstance(target, Table) else target.local_table
        limited = table.info.get("shards") if isinstance(table, Table) else None
        if limited is not None:
            for shard_id in limited:
                self._map.shard(shard_id)
            return tuple(limited)
        match self.rule(target):
            case Sharded(strategy=strategy):
                return strategy.shard_ids
            case Follow() as follow:
                return self.shard_ids(follow.parent)
            case Reference(shard_ids=shard_ids):
                return shard_ids
        return tuple(self._map.shards)

    def tables_on(self, shard_id: str) -> list[Table]:
        """Return the tables that belong on a shard, in the order in which they can be created."""
        mapped = {
            table: mapper for mapper in self._models.mappers.values() for table in mapper.tables if _is_table(table)
        }
        tables = [
            table
            for metadata in self._models.metadatas
            for table in metadata.sorted_tables
            if shard_id in self.shard_ids(mapped.get(table, table) if "shards" not in table.info else table)
        ]
        return tables + self.directories.get(shard_id, [])

    def is_colocated(self, relationship: RelationshipProperty[Any]) -> bool:
        """Say whether the rows that a relationship leads to are on the shard of the row it starts from."""
        if isinstance(self.rule(relationship.mapper), Reference):
            return True
        child_rule = self.rule(relationship.parent)
        if isinstance(child_rule, Follow) and _same_link(relationship, child_rule.relationship):
            return True
        target_rule = self.rule(relationship.mapper)
        return isinstance(target_rule, Follow) and _same_link(relationship, target_rule.relationship)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def place(self, mapper: Mapper[Any], instance: Any) -> str:
        """Return the shard that an object belongs on.

        Raises:
            NoPlacement: Its class has no rule, or its key or parent is not set or has no shard.
        """
        rule = self.rule(mapper)
        match rule:
            case Sharded():
                return self.place_by_key(rule, instance)
            case Follow():
                return self._place_by_parent(rule, instance)
            case Reference():
                raise NoPlacement(
                    f"{rule.name} is a reference table: a row belongs on each of {', '.join(rule.shard_ids)}",
                    hint=f"`session.execute(insert({rule.name}).values(…))` writes every copy",
                )
        name = self._models.class_name(mapper)
        raise NoPlacement(
            f"{self._map.where} has no placement for {name}",
            hint=f"add `[tables.{name}]` with a `strategy`",
        )

    def home(self, target: Mapper[Any] | Table, instance: Any) -> str:
        """Return the shard that a stored row belongs on: by the keys of the parents beside it, wherever these belong.

        A parent that is not beside it is looked for on the other shards, and taken to belong where it is.

        Raises:
            NoPlacement: As `place`.
        """
        rule = self.rule(target)
        if isinstance(rule, Sharded):
            return self.place_by_key(rule, instance)
        if isinstance(target, Table):
            raise NoPlacement(f"{self._map.where} has no placement for {target.name}")
        parent = getattr(instance, rule.relationship.key) if isinstance(rule, Follow) else None
        return self.place(target, instance) if parent is None else self.home(inspect(parent).mapper, parent)

    def explain(self, target: Mapper[Any] | Table, instance: Any) -> str:
        """Say by which rule a row is placed, in a few words."""
        match self.rule(target):
            case Sharded(strategy=strategy) as rule:
                return f"{', '.join(rule.attributes)}: {strategy.explain(self.key_of(rule, instance))}"
            case Follow(relationship=relationship):
                return f"follows {relationship.key}"
            case Reference():
                return "reference table"
        return "no placement"

    def check_write(self, instance: Any, shard_id: str) -> None:
        """Refuse to flush an object to a shard that must not change, or to one of several copies.

        Raises:
            Refused: The shard is readonly or offline, or the object is a stored row of a reference table.
        """
        self.check_writable(shard_id)
        state = inspect(instance)
        rule = self.rule(state.mapper)
        if state.persistent and isinstance(rule, Reference) and len(rule.shard_ids) > 1:
            raise Refused(
                f"{rule.name} is a reference table: a change of this object would reach its copy on `{shard_id}` only",
                hint=f"`session.execute(update({rule.name}).…)` or `delete({rule.name})` changes every copy",
            )

    def check_writable(self, shard_id: str) -> str:
        """Return the shard's name.

        Raises:
            Refused: The shard is readonly or offline.
        """
        state = self._map.shard(shard_id).state
        if state in (ShardState.READONLY, ShardState.OFFLINE):
            raise Refused(f"shard `{shard_id}` is {state.value} in {self._map.where}: no row of it can be changed")
        return shard_id

    def place_by_key(self, rule: Sharded, instance: Any) -> str:
        """Return the shard that the sharding key of an object, or of anything with its attributes, belongs on.

        Raises:
            NoPlacement: The key is not set, or has no shard.
        """
        key = self.key_of(rule, instance)
        try:
            return rule.strategy.place(key)
        except NoPlacement as error:
            raise NoPlacement(f"{rule.name}.{', '.join(rule.attributes)}: {error.message}", hint=error.hint) from error

    def key_of(self, rule: Sharded, instance: Any) -> tuple[Any, ...]:
        """Return the sharding key of an object, as it is stored.

        Raises:
            NoPlacement: It is not set.
        """
        values = tuple(
            rule.stored(column, getattr(instance, attribute))
            for attribute, column in zip(rule.attributes, rule.columns, strict=True)
        )
        if None in values:
            missing = rule.attributes[values.index(None)]
            raise NoPlacement(
                f"{rule.name}.{missing} is not set, so that nothing says which shard the row belongs on",
                hint="set it before the session is flushed",
            )
        return values

    def _place_by_parent(self, rule: Follow, instance: Any) -> str:
        parent = getattr(instance, rule.relationship.key)
        if parent is None:
            return self._shard_of_stored_parent(rule, instance)
        state = inspect(parent)
        return str(state.identity_token) if state.identity_token else self.place(state.mapper, parent)

    def _shard_of_stored_parent(self, rule: Follow, instance: Any) -> str:
        """Find the parent that only a foreign key leads to, by asking each shard that may hold it."""
        pairs = [(local, remote) for local, remote in rule.relationship.local_remote_pairs or ()]
        child_mapper = inspect(instance).mapper
        values = [getattr(instance, child_mapper.get_property_by_column(local).key) for local, _ in pairs]
        if None in values:
            raise NoPlacement(f"{rule.name}.{rule.relationship.key} is not set, so that the row follows no parent")
        session = object_session(instance)
        if session is None:
            raise NoPlacement(f"{rule.name}.{rule.relationship.key} is not set, and the object is in no session")
        conditions = [remote == value for (_, remote), value in zip(pairs, values, strict=True)]
        statement = select(pairs[0][1]).where(*conditions).limit(1)
        found = [
            shard_id for shard_id in self.shard_ids(rule.parent) if self._has_row(session, shard_id, statement, rule)
        ]
        if len(found) == 1:
            return found[0]
        where = f"on {' and on '.join(found)}" if found else "on no shard"
        raise NoPlacement(
            f"the {rule.parent.class_.__name__} that {rule.name} follows ({', '.join(map(repr, values))}) is {where}",
            hint=f"set `{rule.relationship.key}` to the parent object itself",
        )

    def _has_row(self, session: Session, shard_id: str, statement: Select[Any], rule: Follow) -> bool:
        try:
            self._shards[shard_id].check_reachable()
            # The session's own transaction, in which the parent may have been written just now.
            connection = session.connection(bind_arguments={"shard_id": shard_id})
            return connection.execute(statement).first() is not None
        except (SQLAlchemyError, ShardError) as error:
            parent = rule.parent.class_.__name__
            raise ShardError(
                f"shard `{shard_id}` cannot be asked for the {parent} that {rule.name} follows: {driver_line(error)}"
            ) from error


def _same_link(one: RelationshipProperty[Any], other: RelationshipProperty[Any]) -> bool:
    """Say whether two relationships are one link, seen from the same side or from opposite ones."""
    pairs = set(one.local_remote_pairs or ())
    other_pairs = set(other.local_remote_pairs or ())
    return bool(pairs) and pairs in (other_pairs, {(remote, local) for local, remote in other_pairs})


def _is_table(table: Any) -> bool:
    return isinstance(table, Table)
