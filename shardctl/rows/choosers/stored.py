"""A sample of the rows that are stored, as objects."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import Mapper

from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.live_shard import driver_line


@dataclass(slots=True)
class Sample:
    """Objects of one shard; they belong to no session."""

    objects: list[Any] = field(default_factory=list)
    unread: list[tuple[str, str]] = field(default_factory=list)
    """Classes whose rows cannot be read, each with the reason."""


def read_samples(
    fleet: Fleet,
    mappers: Sequence[Mapper[Any]],
    shards: Sequence[LiveShard],
    *,
    limit: int,
    timeout_s: float | None = None,
) -> Generator[Outcome[Sample], None, None]:
    """Read rows of each class on each shard that has its table, and yield what shards have as it comes.

    Args:
        fleet: Whose sessions load the objects.
        mappers: The classes; subclasses come with their bases.
        shards: Those that may be asked.
        limit: Rows of one class on one shard at the most.
        timeout_s: Seconds for each shard.
    """
    factory = fleet.sessionmaker()
    wanted = set(mappers)
    roots = [mapper for mapper in mappers if mapper.inherits not in wanted or mapper.concrete]

    def read(shard: LiveShard) -> Sample:
        with shard.connect():  # which says it better if the shard does not answer
            pass
        here = [mapper for mapper in roots if shard.shard_id in fleet.shard_ids(mapper)]
        return _read(factory, here, shard.shard_id, limit)

    yield from fleet.fan_out(read, shards, timeout_s=timeout_s)


def _read(factory: Callable[[], ShardedSession], mappers: Sequence[Mapper[Any]], shard_id: str, limit: int) -> Sample:
    sample = Sample()
    for mapper in mappers:
        with factory() as session:  # and so a transaction for each class
            session.autoflush = False
            statement = select(mapper).limit(limit).options(set_shard_id(shard_id))
            try:
                sample.objects += session.scalars(statement).unique().all()
            except SQLAlchemyError as error:
                sample.unread.append((mapper.class_.__name__, driver_line(error)))
            session.expunge_all()
    return sample
