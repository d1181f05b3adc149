"""Reading a table in pages on several shards at a time: each page is a short transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, Connection, Dialect, Enum, Table

from shardctl.fleet import LiveShard
from shardctl.rows.audit.finding import Scope, Trouble
from shardctl.rows.audit.keys import Value, plain_type
from shardctl.rows.audit.reading import on_each

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a table."""

    found: T
    rows: int
    """How many rows were looked at."""
    last: Value | None
    """The key after which the next page begins; None: there is none."""


Read = Callable[[Connection, LiveShard, Value | None], Page[T]]
"""Reads the page after a key, or the first one, in a transaction of its own."""


def rounds(
    scope: Scope, name: str, shards: Iterable[LiveShard], read: Read[T]
) -> Iterator[list[tuple[LiveShard, T] | Trouble]]:
    """Read a table on shards, and yield the pages of all that have a further one.

    A shard that fails is left out from then on.

    Args:
        scope: How fast, and for how long.
        name: What the table is called.
        shards: The shards.
        read: What reads one page.
    """
    places: dict[LiveShard, Value | None] = dict.fromkeys(shards)
    while places:

        def run(shard: LiveShard, places: dict[LiveShard, Value | None] = places) -> Page[T]:
            with shard.connect(keep=True) as connection:
                return read(connection, shard, places[shard])

        pages, troubles = on_each(scope, places, run, name=name)
        for shard_id, page in pages.items():
            scope.told(name, shard_id, page.rows)
        by_id = {shard.shard_id: shard for shard in places}
        yield [*troubles, *((by_id[shard_id], page.found) for shard_id, page in pages.items())]
        scope.pace.wait(sum(page.rows for page in pages.values()))
        places = {by_id[shard_id]: page.last for shard_id, page in pages.items() if page.last is not None}


def is_partial(scope: Scope, table: Table) -> bool:
    """Say whether only some of a table's rows are looked at."""
    return scope.sample is not None or table.key in scope.since


def typed(column: Column[Any], value: Any, dialect: Dialect) -> Any:
    """Return a value as the application reads it; as it is stored where its type refuses it."""
    try:
        if isinstance(value, bytes) and isinstance(plain_type(column), Enum):
            value = value.decode()  # as MySQL's are compared
        convert = column.type.dialect_impl(dialect).result_processor(dialect, None)
        return value if convert is None else convert(value)
    except Exception:  # the application's own code, or a value that its type does not know
        return value
