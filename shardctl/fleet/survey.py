"""Facts of many shards, read on as few connections as possible.

Shards that are schemas of one database, or databases of one MySQL server, are read together by one login. What cannot
be read together is read again from each shard alone, so that one shard's trouble is its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from shardctl.errors import ShardctlError, ShardUnreachable
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.engines import unpooled

T = TypeVar("T")

AT_ONCE = 200
"""Shards in one statement: a server locks each table that it names."""

_LOCK_WAIT = {"postgresql": "SET lock_timeout = '2s'", "mysql": "SET SESSION lock_wait_timeout = 2"}
"""Who locks one shard's table must not hold up the reading of the others for long."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a statement finds a shard's tables."""

    shard: LiveShard
    schema: str | None
    """None: the connection is the shard's own, and so are unqualified names."""


Read = Callable[[Connection, Sequence[Place]], Mapping[str, T | ShardctlError]]
"""Reads some places; what it leaves out is read again, from the shard alone."""


@dataclass(frozen=True, slots=True)
class _Group:
    via: LiveShard
    """What connects to all of them."""
    places: Sequence[Place]


def survey(
    fleet: Fleet, shards: Iterable[LiveShard], read: Read[T], *, timeout_s: float | None = None
) -> Generator[Outcome[T], None, None]:
    """Read facts of shards, several connections at a time, and yield the outcomes as they come.

    Args:
        fleet: The shards' fleet.
        shards: The shards.
        read: What reads them.
        timeout_s: Seconds for one connection; None: those of the shard map.
    """
    again: list[LiveShard] = []
    timeout_s = timeout_s or fleet.shard_map.timeout_s
    groups = {group.via: group for group in _groups(fleet, shards)}
    with closing(fleet.fan_out(lambda via: _read(groups[via], read), groups, timeout_s=timeout_s)) as outcomes:
        for outcome in outcomes:
            places = groups[outcome.shard].places
            found = outcome.value if outcome.value is not None else _of_all(places, outcome, timeout_s)
            again += [place.shard for place in places if place.shard.shard_id not in found]
            yield from _parted(places, outcome, found)
    alone = {shard: _Group(shard, [_own_place(shard)]) for shard in again}
    with closing(fleet.fan_out(lambda shard: _read(alone[shard], read), alone, timeout_s=timeout_s)) as outcomes:
        for outcome in outcomes:
            found = {outcome.shard_id: outcome.error} if outcome.error is not None else outcome.result
            yield from _parted(alone[outcome.shard].places, outcome, found)


def _read(group: _Group, read: Read[T]) -> Mapping[str, T | ShardctlError]:
    found: dict[str, T | ShardctlError] = {}
    with group.via.connect() as connection:
        if len(group.places) > 1:
            connection.exec_driver_sql(_LOCK_WAIT[group.via.backend.name])
            connection.commit()
        for start in range(0, len(group.places), AT_ONCE):
            found |= read(connection, group.places[start : start + AT_ONCE])
            connection.rollback()
    return found


def _of_all(places: Sequence[Place], outcome: Outcome[Any], timeout_s: float) -> Mapping[str, ShardctlError]:
    """Return the error of a connection where it is that of each shard; otherwise nothing."""
    error = outcome.error
    assert error is not None
    if len(places) == 1 or outcome.seconds >= timeout_s:
        return {place.shard.shard_id: error for place in places}
    if isinstance(error, ShardUnreachable):
        return {place.shard.shard_id: _renamed(error, outcome.shard, place.shard) for place in places}
    return {}


def _renamed(error: ShardUnreachable, via: LiveShard, shard: LiveShard) -> ShardUnreachable:
    message = error.message.replace(via.shard.safe_url, shard.shard.safe_url)
    return ShardUnreachable(message, facts=error.facts, hint=error.hint)


def _parted(
    places: Sequence[Place], outcome: Outcome[Any], found: Mapping[str, T | ShardctlError]
) -> Iterator[Outcome[T]]:
    for place in places:
        value = found.get(place.shard.shard_id)
        if isinstance(value, ShardctlError):
            yield Outcome(place.shard, outcome.seconds, error=value)
        elif value is not None:
            yield Outcome(place.shard, outcome.seconds, value)


def _groups(fleet: Fleet, shards: Iterable[LiveShard]) -> Iterator[_Group]:
    by_login: dict[Hashable, list[LiveShard]] = defaultdict(list)
    for shard in shards:
        by_login[_login(fleet, shard)].append(shard)
    for members in by_login.values():
        if len(members) == 1:
            yield _Group(members[0], [_own_place(members[0])])
        else:
            via = replace(members[0], engine=_engine(fleet, members[0]), prepare=None, _open=set())
            yield _Group(via, [Place(shard, _schema(shard)) for shard in members])


def _login(fleet: Fleet, shard: LiveShard) -> Hashable:
    """Return what shards have in common that one connection can read."""
    if _schema(shard) is None or shard.is_thread_bound:
        return shard
    if fleet.shard_map.app is not None:
        return id(shard.bind.pool) if shard.engine is not shard.bind else shard
    url = shard.engine.url
    return url.set(database="") if shard.backend.name == "mysql" else url


def _schema(shard: LiveShard) -> str | None:
    """Return the schema that can be named in a statement on another shard's connection."""
    if shard.backend.name == "sqlite":
        return None
    if shard.backend.name == "mysql":
        return shard.shard.schema or shard.engine.url.database
    return shard.shard.schema


def _own_place(shard: LiveShard) -> Place:
    return Place(shard, _schema(shard) if shard.backend.name == "postgresql" else None)


def _engine(fleet: Fleet, shard: LiveShard) -> Engine:
    """Return an engine that connects whichever of the schemas exist."""
    timeout_s = fleet.shard_map.timeout_s
    if shard.backend.name == "postgresql":
        return shard.engine
    if fleet.shard_map.app is None:
        return unpooled(shard.engine.url.set(database=""), timeout_s=timeout_s)
    return unpooled(shard.bind.url, timeout_s=timeout_s, creator=lambda: _detached(shard.bind))


def _detached(bind: Engine) -> Any:
    """Connect as an application does; what is set on the connection must not reach its pool."""
    pooled = bind.raw_connection()
    connection = pooled.dbapi_connection
    pooled.detach()
    return connection
