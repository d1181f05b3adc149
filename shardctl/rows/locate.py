"""Which shards hold a row, and which one should.

Every shard is asked, one by one: choosers say where a row ought to be looked for, not where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Table, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import Mapper

from shardctl.errors import NoPlacement, ShardError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.choosers import (
    Answer,
    ask_execute_chooser,
    ask_identity_chooser,
    ask_shard_chooser,
)
from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import Reference, columns_of
from shardctl.rows.identities import Identity, Target, key_columns, name_of


@dataclass(frozen=True, slots=True)
class FoundRow:
    """One row on one shard."""

    class_name: str
    primary_key: Identity
    shard_id: str
    values: Mapping[str, Any]
    expected: tuple[str, ...]
    """The shards it belongs on: one, or for a reference table all; empty if nothing says."""
    reason: str
    """Why these, or why nothing says."""
    shard_chooser: Answer | None = None
    asked: Identity | None = None
    """The primary key that was asked for: a database may hold another spelling equal to it."""

    @property
    def verdict(self) -> str:
        """Return `ok`, `misplaced`, or `unknown` where nothing says where the row belongs."""
        if not self.expected:
            return "unknown"
        return "ok" if self.shard_id in self.expected else "misplaced"


@dataclass(frozen=True, slots=True)
class Routing:
    """Where the session would look for a primary key."""

    primary_key: Identity
    identity_chooser: Answer
    execute_chooser: Answer


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, and what could not be asked."""

    found: list[FoundRow]
    missing: list[Identity]
    """Primary keys that no shard which answered holds."""
    failed: list[Outcome[list[FoundRow]]]
    routing: list[Routing] = field(default_factory=list)
    is_cut: bool = False
    """Whether a shard has more rows than were asked for."""


def locate(
    fleet: Fleet,
    target: Target,
    shards: Sequence[LiveShard],
    *,
    identities: Sequence[Identity] = (),
    conditions: Mapping[str, Any] | None = None,
    limit: int = 100,
    timeout_s: float | None = None,
    with_routing: bool = False,
) -> Search:
    """Ask every shard for rows by primary key, or by other columns.

    Args:
        fleet: The fleet.
        target: What the rows are: `fleet.models.find(name)`.
        shards: The shards to ask.
        identities: Primary keys.
        conditions: Attribute name -> value, in place of primary keys.
        limit: Rows of one shard at the most, where conditions are given.
        timeout_s: Seconds for each shard.
        with_routing: Also ask the session's choosers.
    """
    prober = _Prober(
        fleet, fleet.sessionmaker(), target, identities, conditions or {}, limit, with_routing=with_routing
    )
    outcomes = list(fleet.fan_out(prober.probe, shards, timeout_s=timeout_s))
    order = {shard_id: index for index, shard_id in enumerate(fleet.shards)}
    outcomes.sort(key=lambda outcome: order[outcome.shard_id])
    found = [row for outcome in outcomes if outcome.is_ok for row in outcome.result]
    if identities:
        position = {key: index for index, key in reversed(list(enumerate(identities)))}
        found.sort(key=lambda row: (position[row.asked or row.primary_key], order[row.shard_id]))
    held = {row.asked for row in found}
    return Search(
        found=found,
        missing=[identity for identity in dict.fromkeys(identities) if identity not in held],
        failed=[outcome for outcome in outcomes if not outcome.is_ok],
        routing=prober.routing() if with_routing else [],
        is_cut=not identities and any(outcome.is_ok and len(outcome.result) >= limit for outcome in outcomes),
    )


@dataclass(slots=True)
class _Prober:
    fleet: Fleet
    make_session: Callable[[], ShardedSession]
    """One factory for all shards, so that its choosers remember what they have seen."""
    target: Target
    identities: Sequence[Identity]
    conditions: Mapping[str, Any]
    limit: int
    with_routing: bool

    @property
    def placement(self) -> Placement | None:
        return self.fleet.placement

    def probe(self, shard: LiveShard) -> list[FoundRow]:
        """Return the rows that one shard holds."""
        shard.check_reachable()
        try:
            if isinstance(self.target, Table):
                return self._probe_table(shard, self.target)
            with self.make_session() as session:
                session.autoflush = False
                return [
                    self._found(shard, session, self.target, instance, asked)
                    for asked, instance in self._load(session, self.target, shard.shard_id)
                ]
        except SQLAlchemyError:
            if self._may_lack_table(shard):
                return []
            raise

    def _may_lack_table(self, shard: LiveShard) -> bool:
        """Say whether the table neither belongs on a shard nor is there; a shard that does not answer raises."""
        if shard.shard_id in self.fleet.shard_ids(self.target):
            return False
        tables = [self.target] if isinstance(self.target, Table) else self.target.tables
        with shard.connect() as connection:
            found = inspect(connection)
            return not all(found.has_table(table.name) for table in tables if isinstance(table, Table))

    def _load(
        self, session: ShardedSession, mapper: Mapper[Any], shard_id: str
    ) -> Iterable[tuple[Identity | None, Any]]:
        if self.identities:
            loaded = (
                (key, session.get(mapper, key, identity_token=shard_id)) for key in dict.fromkeys(self.identities)
            )
            return [(key, instance) for key, instance in loaded if instance is not None]
        where = [getattr(mapper.class_, name) == value for name, value in self.conditions.items()]
        statement = select(mapper).where(*where).limit(self.limit).options(set_shard_id(shard_id))
        return [(None, instance) for instance in session.scalars(statement).unique()]

    def _found(
        self, shard: LiveShard, session: ShardedSession, mapper: Mapper[Any], instance: Any, asked: Identity | None
    ) -> FoundRow:
        expected, reason = self._expected(session, mapper, instance)
        known = self.fleet.shards
        return FoundRow(
            class_name=mapper.class_.__name__,
            primary_key=tuple(mapper.primary_key_from_instance(instance)),
            shard_id=shard.shard_id,
            values={name: getattr(instance, name) for name in columns_of(mapper)},
            expected=expected,
            reason=reason,
            shard_chooser=ask_shard_chooser(session, mapper, instance, known) if self.with_routing else None,
            asked=asked,
        )

    def _expected(self, session: ShardedSession, mapper: Mapper[Any], instance: Any) -> tuple[tuple[str, ...], str]:
        """Return where an object belongs, and why."""
        if self.placement is None:
            answer = ask_shard_chooser(session, mapper, instance, self.fleet.shards)
            if answer.problem:
                return (), f"shard_chooser {answer.problem}"
            return answer.shard_ids, "shard_chooser"
        return _placed(self.placement, mapper, instance)

    def _probe_table(self, shard: LiveShard, table: Table) -> list[FoundRow]:
        keys = tuple(table.primary_key)
        wheres: list[tuple[Identity | None, list[Any]]] = [
            (identity, [column == value for column, value in zip(keys, identity, strict=True)])
            for identity in dict.fromkeys(self.identities)
        ] or [(None, [table.c[name] == value for name, value in self.conditions.items()])]
        with shard.bind.connect() as connection:
            rows = [
                (asked, dict(row._mapping))
                for asked, where in wheres
                for row in connection.execute(table.select().where(*where).limit(self.limit))
            ]
        return [self._found_in_table(shard, table, values, asked) for asked, values in rows]

    def _found_in_table(
        self, shard: LiveShard, table: Table, values: dict[str, Any], asked: Identity | None
    ) -> FoundRow:
        expected: tuple[str, ...] = ()
        reason = "an application places mapped classes only"
        if self.placement is not None:
            expected, reason = _placed(self.placement, table, SimpleNamespace(**values))
        key = tuple(values[column.key] for column in table.primary_key)
        return FoundRow(table.name, key, shard.shard_id, values, expected, reason, asked=asked)

    def routing(self) -> list[Routing]:
        """Return what the choosers say of each primary key."""
        if isinstance(self.target, Table):
            return []
        mapper, known = self.target, self.fleet.shards
        answers = []
        with self.make_session() as session:
            for identity in self.identities:
                where = [column == value for column, value in zip(key_columns(mapper), identity, strict=True)]
                answers.append(
                    Routing(
                        identity,
                        ask_identity_chooser(session, mapper, identity, known),
                        ask_execute_chooser(session, select(mapper).where(*where), known),
                    )
                )
        return answers


def _placed(placement: Placement, target: Target, instance: Any) -> tuple[tuple[str, ...], str]:
    rule = placement.rule(target)
    if isinstance(rule, Reference):
        return rule.shard_ids, "reference table: every copy"
    try:
        return (placement.home(target, instance),), placement.explain(target, instance)
    except (NoPlacement, ShardError) as error:  # of another shard, whose name it has
        return (), error.message


__all__ = ["FoundRow", "Routing", "Search", "locate", "name_of"]
