"""The session that an application uses: SQLAlchemy's ShardedSession, with choosers that the shard map answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Mapper, ORMExecuteState, RelationshipProperty, sessionmaker

from shardctl.errors import NoPlacement, Refused
from shardctl.fleet.one_connection import OneConnectionSession
from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import Sharded, fits
from shardctl.fleet.statement_routing import StatementRouter
from shardctl.topology.model import ShardMap, ShardState
from shardctl.topology.routing import And, Compare

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


class Choosers:
    """The three answers that a ShardedSession asks for."""

    def __init__(self, shard_map: ShardMap, placement: Placement) -> None:
        self._map = shard_map
        self._placement = placement
        self._router = StatementRouter(shard_map, placement)

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
        return self._checked(self._router.route(context.statement, context.parameters).shard_ids)

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
        found = self._router.answer(And(tuple(known)), [rule], everywhere)
        return [shard_id for shard_id in everywhere if shard_id in found.shard_ids]
