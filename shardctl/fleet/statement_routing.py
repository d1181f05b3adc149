"""Where a statement is sent: to the shards that can have rows for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, CompoundSelect, Join, Sequence, Table, TextClause
from sqlalchemy.orm import FromStatement
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Insert, UpdateBase
from sqlalchemy.sql.selectable import AliasedReturnsRows, SelectStatementGrouping

from shardctl.errors import NoPlacement
from shardctl.fleet.placement import Placement
from shardctl.fleet.predicates import PredicateReader
from shardctl.fleet.rules import Follow, Reference, Rule, Sharded
from shardctl.fleet.statements import conditions, inserted_keys, inserts, sources_of, tables_of, where
from shardctl.topology.model import ShardMap, ShardState
from shardctl.topology.routing import And, Predicate, Route, route

MAX_SHAPES = 500
"""Statements remembered: as many as SQLAlchemy's own cache of compiled ones holds."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What all statements that differ only in their values have in common."""

    rules: list[Rule]
    keys: dict[Column[Any], tuple[Sharded, str]]
    everywhere: list[str]
    """The shards that have all of the tables."""
    has_subquery: bool
    """Whether it selects from a subquery, whose WHERE counts too."""
    reads_references_only: bool


class StatementRouter:
    """The shards that statements need, by the shard map's rules."""

    def __init__(self, shard_map: ShardMap, placement: Placement) -> None:
        self._map = shard_map
        self._placement = placement
        self._shapes: dict[Any, _Shape] = {}

    def route(self, statement: Any, parameters: Any = None) -> Route:
        """Return the shards that a statement needs, and why these.

        Raises:
            NoPlacement: An INSERT whose rows cannot be placed, or belong on several shards.
        """
        if isinstance(statement, FromStatement):
            statement = statement.element
        if isinstance(statement, Sequence):
            raise NoPlacement(
                f"each shard has a sequence `{statement.name}` of its own, and nothing says which is meant",
                hint='pass `bind_arguments={"shard_id": …}`',
            )
        if isinstance(statement, Insert):
            return self._route_insert(statement, parameters)
        shape = self._shape(statement)
        if shape.reads_references_only:
            return Route(self._any_one(shape.everywhere), "reference tables: one copy is enough")
        reader = PredicateReader(shape.keys, parameters)
        clauses = conditions(statement) if shape.has_subquery else where(statement)
        return self.answer(And(tuple(map(reader.read, clauses))), shape.rules, shape.everywhere)

    def _shape(self, statement: Any) -> _Shape:
        """Return what the values in a statement do not change; remembered, because finding the FROM list is slow."""
        cache_key = statement._generate_cache_key()
        shape = self._shapes.get(cache_key.key) if cache_key is not None else None
        if shape is not None:
            return shape
        if inserts(statement):
            raise NoPlacement(
                "this statement inserts rows, and nothing in it says on which shard",
                hint='use `insert(…)` by itself, or pass `bind_arguments={"shard_id": …}`',
            )
        sources = sources_of(statement)
        tables = tables_of(statement, sources)
        rules = [rule for table in tables if (rule := self._placement.rule(table)) is not None]
        shape = _Shape(
            rules=rules,
            keys=self._key_columns(rules),
            everywhere=self._everywhere(statement),
            has_subquery=any(isinstance(source, AliasedReturnsRows) for source in sources),
            reads_references_only=getattr(statement, "is_select", False) and self._reads_references_only(statement),
        )
        if cache_key is not None:
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes[cache_key.key] = shape
        return shape

    def answer(self, predicate: Predicate, rules: Iterable[Any], everywhere: list[str]) -> Route:
        """Return the shards that can hold rows which fulfil a predicate, one at least.

        Args:
            predicate: What is known of the rows.
            rules: Of the tables that it speaks of.
            everywhere: The shards that have these tables.
        """
        routing = {rule.name: rule.routing for rule in rules if isinstance(rule, Sharded)}
        found = route(predicate, routing, everywhere)
        # No shard can hold such a row; one has to be asked all the same, so that there is an (empty) result.
        return found if found.shard_ids else Route(self._any_one(everywhere), f"no row can match: {found.reason}")

    def _any_one(self, shard_ids: list[str]) -> frozenset[str]:
        """Return one shard, of several that would all give the same answer."""
        online = [name for name in shard_ids if self._map.shards[name].state is not ShardState.OFFLINE]
        return frozenset((online or shard_ids)[:1])

    def _reads_references_only(self, statement: Any) -> bool:
        """Say whether every table of a statement, subqueries included, is a full copy on each shard."""
        elements = list(visitors.iterate(statement))
        if any(isinstance(element, TextClause) for element in elements):
            return False  # it may name any table
        tables = [element for element in elements if isinstance(element, Table)]
        return bool(tables) and all(isinstance(self._placement.rule(table), Reference) for table in tables)

    def _everywhere(self, statement: Any) -> list[str]:
        """Return the shards that can have rows of a statement, for the tables that they have."""
        having = self._having(statement)
        return [shard_id for shard_id in self._map.shards if shard_id in having] or list(self._map.shards)

    def _having(self, source: Any) -> set[str]:
        """Return the shards that have the tables without which a FROM, or a statement, has no row.

        A shard that lacks another of its tables is asked all the same, and says so: to leave it out would hide rows.
        """
        match source:
            case Table():
                return set(self._placement.shard_ids(source) if self._has_limits(source) else self._map.shards)
            case AliasedReturnsRows(element=element) | SelectStatementGrouping(element=element):
                return self._having(element)
            case Join(full=True):
                return self._having(source.left) | self._having(source.right)
            case Join(isouter=True):
                return self._having(source.left)
            case Join():
                return self._having(source.left) & self._having(source.right)
            case CompoundSelect():
                return set().union(*map(self._having, source.selects))
        parts = [source.table] if isinstance(source, UpdateBase) else sources_of(source)
        return set(self._map.shards).intersection(*map(self._having, parts))

    def _has_limits(self, table: Table) -> bool:
        return self._placement.rule(table) is not None or "shards" in table.info

    def _key_columns(self, rules: Iterable[Any]) -> dict[Column[Any], tuple[Sharded, str]]:
        return {
            column: (rule, attribute)
            for rule in rules
            if isinstance(rule, Sharded)
            for column, attribute in zip(rule.columns, rule.attributes, strict=True)
        }

    def _route_insert(self, statement: Insert, parameters: Any) -> Route:
        """Send an INSERT to the shard of its rows, or to every copy of a reference table."""
        table = statement.table
        rule = self._placement.rule(table) if isinstance(table, Table) else None
        if isinstance(rule, Reference):
            return Route(frozenset(rule.shard_ids), "reference table: every copy")
        name = rule.name if rule is not None else str(table)
        if not isinstance(rule, Sharded):
            why = "follows its parent" if isinstance(rule, Follow) else "has no placement"
            raise NoPlacement(
                f"an INSERT into {name} {why}, so that its shard is not known",
                hint='add objects to the session, or pass `bind_arguments={"shard_id": …}`',
            )
        found = {
            self._placement.check_writable(rule.strategy.place(key))
            for key in inserted_keys(statement, rule, parameters)
        }
        if len(found) != 1:
            raise NoPlacement(
                f"an INSERT into {name} has rows for {' and '.join(sorted(found)) or 'no shard that it shows'}",
                hint="use `session.add_all(…)`, or one INSERT for each shard",
            )
        return Route(frozenset(found), f"the rows' {', '.join(rule.attributes)}")
