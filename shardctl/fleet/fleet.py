"""The fleet: a shard map, or an application's own session factory, with its shards live."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from shardctl.errors import ConfigError
from shardctl.fleet.engines import open_shards
from shardctl.fleet.fan_out import MAX_JOBS, Outcome, fan_out
from shardctl.fleet.live_shard import LiveShard
from shardctl.topology.model import ShardedTable, ShardMap, unknown_shard
from shardctl.topology.strategies import Directory

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.ext.horizontal_shard import ShardedSession
    from sqlalchemy.orm import Mapper

    from shardctl.fleet.models import Models
    from shardctl.fleet.one_connection import OneConnectionSession
    from shardctl.fleet.placement import Placement

T = TypeVar("T")


class Fleet:
    """Live shards, the models stored on them, and where their rows belong."""

    def __init__(
        self,
        shard_map: ShardMap,
        shards: Mapping[str, LiveShard],
        models: Models | None = None,
        factory: Callable[[], ShardedSession] | None = None,
        session_class: Callable[[], type[OneConnectionSession]] | None = None,
        *,
        pooled: bool = True,
    ) -> None:
        self.shard_map = shard_map
        self.shards = dict(shards)
        self._models = models
        self._factory = factory
        self._session_class = session_class
        self._pooled = pooled
        self._placement: Placement | None = None

    @property
    def models(self) -> Models:
        """The application's models, imported when they are first needed.

        Raises:
            ConfigError: The shard map names none, or they cannot be imported.
        """
        if self._models is None:
            where = self.shard_map.where
            if not self.shard_map.models and self.shard_map.app is not None:
                raise ConfigError(
                    f"app: no mapped classes where `{self.shard_map.app}` is defined, nor beside its choosers",
                    hint='name them in a shardctl.toml: `app = "…"` and `models = "weather.models:Base"`',
                )
            if not self.shard_map.models:
                raise ConfigError(f"{where}: no `models`", hint='name them: `models = "weather.models:Base"`')
            from shardctl.fleet.models import load_models

            folder = self.shard_map.source.parent if self.shard_map.source else None
            self._models = load_models(self.shard_map.models, folder=folder, where=where)
        return self._models

    def shard(self, shard_id: str) -> LiveShard:
        """Return one shard.

        Raises:
            UnknownName: No shard has this name.
        """
        try:
            return self.shards[shard_id]
        except KeyError:
            raise unknown_shard(shard_id, self.shards, self.shard_map.where) from None

    def fan_out(
        self,
        run: Callable[[LiveShard], T],
        shards: Iterable[LiveShard] | None = None,
        *,
        timeout_s: float | None = None,
        jobs: int = MAX_JOBS,
        connections: int = 1,
        may_start: Callable[[], bool] | None = None,
        before_cancel: Callable[[], None] | None = None,
    ) -> Generator[Outcome[T], None, None]:
        """Run a function on shards (None: on all), and yield the outcomes as they come; see `fan_out`.

        Each shard has that many `connections` at one time; all of a server's are within its budget.
        """
        return fan_out(
            self.shards.values() if shards is None else shards,
            run,
            per_server=max(1, self.shard_map.connections_per_server // connections),
            timeout_s=timeout_s,
            jobs=jobs,
            may_start=may_start,
            before_cancel=before_cancel,
        )

    @property
    def placement(self) -> Placement | None:
        """Where rows belong by the shard map; None for an application, whose own `shard_chooser` decides.

        Raises:
            ConfigError: The shard map does not fit the models.
        """
        if self._factory is None and self._placement is None:
            from shardctl.fleet.placement import Placement

            self._placement = Placement(self.shard_map, self.models, self.shards)
        return self._placement

    def sessionmaker(self, **options: Any) -> Callable[[], ShardedSession]:
        """Return a factory of sessions over the shards, with choosers that the shard map answers.

        An application's own factory is returned as it is, and takes no options.

        Args:
            options: Those of `sqlalchemy.orm.sessionmaker`, such as `expire_on_commit`.

        Raises:
            ConfigError: The shard map does not fit the models.
        """
        if self._factory is not None:
            if options:
                raise ConfigError("an application's own session factory takes no options")
            return self._factory
        from shardctl.fleet.sessions import make_sessionmaker

        assert self.placement is not None
        if self._session_class is not None:
            options["session_class"] = self._session_class()
        return make_sessionmaker(self.shard_map, self.shards, self.placement, **options)

    def session(self, **options: Any) -> ShardedSession:
        """Return one session of `sessionmaker`."""
        return self.sessionmaker(**options)()

    def tables_on(self, shard_id: str) -> Sequence[Table]:
        """Return the tables that belong on a shard, in the order in which they can be created."""
        if self.placement is not None:
            return self.placement.tables_on(shard_id)
        return [
            table
            for metadata in self.models.metadatas
            for table in metadata.sorted_tables
            if shard_id in self.shard_ids(table)
        ]

    def shard_ids(self, target: Mapper[Any] | Table) -> Sequence[str]:
        """Return the shards that have the table of a class.

        Raises:
            UnknownName: `Table.info["shards"]` names one that is not there.
        """
        if self.placement is not None:
            return self.placement.shard_ids(target)
        table: Any = getattr(target, "local_table", target)
        limited = table.info.get("shards", self.shards)
        return [self.shard(shard_id).shard_id for shard_id in limited]

    def directories_on(self, shard_id: str) -> Sequence[Table]:
        """Return the directories of sharding keys that a shard holds and the models do not contain."""
        rules = self.shard_map.tables.values()
        if not any(isinstance(rule, ShardedTable) and isinstance(rule.strategy, Directory) for rule in rules):
            return ()
        return self.placement.directories.get(shard_id, []) if self.placement is not None else ()

    @contextmanager
    def one_query(self) -> Iterator[None]:
        """Keep connections for what is asked meanwhile, and for the next query if the fleet is pooled."""
        try:
            yield
        finally:
            self.query_ended()

    def query_ended(self) -> None:
        """Close the connections that were kept for one query."""
        if not self._pooled:
            self._close_kept()

    def _close_kept(self) -> None:
        for shard in self.shards.values():
            if shard.kept is not None:
                shard.kept.close()

    def close(self) -> None:
        """Close the connections that the pools hold; an application's own pools are left to it."""
        for shard in self.shards.values():
            if self._factory is None:
                shard.bind.dispose()
            if shard.engine.pool is not shard.bind.pool:
                shard.engine.dispose()
        self._close_kept()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def connect(
    shard_map: ShardMap, *, pooled: bool = True, session_class: Callable[[], type[OneConnectionSession]] | None = None
) -> Fleet:
    """Make the fleet of a shard map, or of the application that it names; no shard is connected to yet.

    Args:
        shard_map: What is where.
        pooled: Whether sessions and queries keep connections open; an application's engines stay as they are.
        session_class: Called for the class of the sessions when one is first needed; an application's stay as they are.

    Raises:
        ConfigError: An engine cannot be made, or the application cannot be used.
    """
    if shard_map.app is None:
        return Fleet(shard_map, open_shards(shard_map, pooled=pooled), session_class=session_class, pooled=pooled)
    from shardctl.fleet.app import load_app

    shards, models, factory = load_app(shard_map)
    own = replace(shard_map, shards={shard_id: live.shard for shard_id, live in shards.items()})
    return Fleet(own, shards, models, factory)
