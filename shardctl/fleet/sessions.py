"""The session that an application uses: SQLAlchemy's ShardedSession, with choosers that the shard map answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, CompoundSelect, Join, Sequence, Table, TextClause
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import FromStatement, Mapper, ORMExecuteState, RelationshipProperty, sessionmaker
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Insert, UpdateBase
from sqlalchemy.sql.selectable import AliasedReturnsRows, SelectStatementGrouping

from shardctl.errors import NoPlacement, Refused
from shardctl.fleet.one_connection import OneConnectionSession
from shardctl.fleet.placement import Placement
from shardctl.fleet.predicates import PredicateReader
from shardctl.fleet.rules import Follow, Reference, Rule, Sharded, fits
from shardctl.fleet.statements import conditions, inserted_keys, inserts, sources_of, tables_of, where
from shardctl.topology.model import ShardMap, ShardState
from shardctl.topology.routing import And, Compare, Predicate, Route, route

if TYPE_CHECKING:
    from sqlalchemy.orm.state import InstanceState

    from shardctl.fleet.live_shard import LiveShard


def make_sessionmaker(
    shard_map: ShardMap,
    shards: Mapping[str, LiveShard],
    placement: Placement,
    session_class: type[OneConnectionSession] = OneConnectionSession,
    **options: Any,
) -> sessionmaker[ShardedSession]:
    """Return a factory of sessions over the shards.

    Args:
        shard_map: The rules that the choosers answer by.
        shards: The shards.
        placement: The rules, bound to the models.
        session_class: What the sessions are.
        options: Those of `sqlalchemy.orm.sessionmaker`; a `class_` of the application's becomes a second base.
    """
    choosers = Choosers(shard_map, placement)
    own_class = options.pop("class_", ShardedSession)
    if issubclass(session_class, own_class):
        own_class = session_class
    elif not issubclass(own_class, session_class):
        own_class = type(own_class.__name__, (session_class, own_class), {})
    return sessionmaker(
        class_=own_class,
        databases={shard.bind: shard.database for shard in shards.values() if shard.database is not None},
        shards={shard_id: shard.bind for shard_id, shard in shards.items()},
        placement=placement,
        shard_chooser=choosers.shard_chooser,
        identity_chooser=choosers.identity_chooser,
        execute_chooser=choosers.execute_chooser,
        **options,
    )


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


class Choosers:
    """The three answers that a ShardedSession asks for."""

    def __init__(self, shard_map: ShardMap, placement: Placement) -> None:
        self._map = shard_map
        self._placement = placement
        self._shapes: dict[Any, _Shape] = {}

    def shard_chooser(self, mapper: Mapper[Any] | None, instance: Any, clause: Any = None) -> str:
        """Return the shard that a new object is written to."""
        if mapper is None or instance is None:
            raise NoPlacement(
                "this needs a connection, and nothing says to which shard",
                hint='pass `bind_arguments={"shard_id": …}`',
            )
        return self._placement.check_writable(self._placement.place(mapper, instance))

    def identity_chooser(
        self,
        mapper: Mapper[Any],
        primary_key: Any,
        *,
        lazy_loaded_from: InstanceState[Any] | None = None,
        execution_options: Mapping[str, Any] | None = None,
        bind_arguments: Mapping[str, Any] | None = None,
        **kw: Any,
    ) -> Iterable[str]:
        """Return the shards whose loaded objects may have this primary key."""
        named = (bind_arguments or {}).get("shard_id") or (execution_options or {}).get("_sa_shard_id")
        if named is not None:
            return [str(named)]
        if lazy_loaded_from is not None:
            links = [
                self._placement.is_colocated(relationship)
                for relationship in lazy_loaded_from.mapper.relationships
                if mapper.isa(relationship.mapper)
            ]
            if links and all(links):
                return [str(lazy_loaded_from.identity_token)]
            if any(links):  # which link is meant is only known when the statement is executed
                return []
        values = primary_key if isinstance(primary_key, tuple | list) else (primary_key,)
        return self._route_identity(mapper, dict(zip(mapper.primary_key, values, strict=True)))

    def execute_chooser(self, context: ORMExecuteState) -> Iterable[str]:
        """Return the shards that a statement is sent to."""
        if context.is_insert and context.is_orm_statement and isinstance(context.parameters, list):
            raise NoPlacement(
                "SQLAlchemy's bulk INSERT of a mapped class does not work with shards",
                hint="use `session.add_all(…)`, or `insert(Class.__table__)` for one shard's rows",
            )
        if context.is_relationship_load and self._is_colocated_load(context):
            token = self._parents_shard(context)
            if token is not None:
                return [token]
        return self._checked(self.route(context.statement, context.parameters).shard_ids)

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
        return self._answer(And(tuple(map(reader.read, clauses))), shape.rules, shape.everywhere)

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

    def _answer(self, predicate: Predicate, rules: Iterable[Any], everywhere: list[str]) -> Route:
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

    def _checked(self, shard_ids: Iterable[str]) -> list[str]:
        """Put shards into the order of the shard map; a shard that is offline makes the answer incomplete."""
        wanted = [shard_id for shard_id in self._map.shards if shard_id in set(shard_ids)]
        for shard_id in wanted:
            if self._map.shards[shard_id].state is ShardState.OFFLINE:
                raise Refused(
                    f"shard `{shard_id}` is offline in {self._map.where}, so that the answer would be incomplete",
                    hint='name a shard: `bind_arguments={"shard_id": …}` or `set_shard_id(…)`',
                )
        return wanted

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

    def _is_colocated_load(self, context: ORMExecuteState) -> bool:
        path = context.loader_strategy_path
        link = path.path[-1] if path is not None and len(path.path) else None
        return isinstance(link, RelationshipProperty) and self._placement.is_colocated(link)

    def _parents_shard(self, context: ORMExecuteState) -> str | None:
        """Return the shard of the objects that a relationship is loaded for; None if nothing says."""
        parent = context.lazy_loaded_from
        if parent is not None:
            return str(parent.identity_token)
        top = context.execution_options.get("sa_top_level_orm_context")
        token = getattr(getattr(top, "load_options", None), "_identity_token", None)
        links = [
            part for part in getattr(context.loader_strategy_path, "path", ()) if isinstance(part, RelationshipProperty)
        ]
        if token is not None and not all(map(self._placement.is_colocated, links)):
            names = " -> ".join(f"{link.parent.class_.__name__}.{link.key}" for link in links)
            raise Refused(
                f"the objects whose `{links[-1].key}` is to be loaded at once may be of several shards",
                facts=[f"in: {names}"],
                hint=f"leave `{links[-1].key}` to be loaded when it is used: `lazyload(…)`",
            )
        return None if token is None else str(token)

    def _route_identity(self, mapper: Mapper[Any], key: Mapping[Any, Any]) -> list[str]:
        rule = self._placement.rule(mapper)
        everywhere = [shard_id for shard_id in self._map.shards if shard_id in self._placement.shard_ids(mapper)]
        if not isinstance(rule, Sharded):
            return everywhere
        try:
            known = [
                Compare(rule.name, attribute, "=", (rule.stored(column, key[column]),))
                for attribute, column in zip(rule.attributes, rule.columns, strict=True)
                if column in key and fits(key[column], column)
            ]
        except NoPlacement:
            return everywhere
        found = self._answer(And(tuple(known)), [rule], everywhere)
        return [shard_id for shard_id in everywhere if shard_id in found.shard_ids]

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
