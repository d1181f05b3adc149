"""Looking for rows on other shards by some of their columns, in batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Dialect, Select, and_, or_, select

from shardctl.fleet import LiveShard
from shardctl.rows.audit.finding import Scope, Trouble
from shardctl.rows.audit.keys import Value, raw
from shardctl.rows.audit.links import Link, target_of
from shardctl.rows.audit.paging import typed
from shardctl.rows.audit.reading import on_each
from shardctl.rows.audit.tally import known_as

BATCH = 500
"""Values of one statement: SQLite once took 999, and keys have several columns."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Parents that children name."""

    link: Link
    values: frozenset[Value]
    """As the driver of the children's shard gives them."""
    dialect: Dialect
    """That shard's."""

    def as_given_to(self, dialect: Dialect) -> dict[Value, list[Value]]:
        """Return the values as another shard takes them, each with what it was here.

        Engines store one value in several ways: on another one, it is what the application makes of it.
        """
        if dialect.name == self.dialect.name:
            return {value: [value] for value in self.values}
        given: dict[Value, list[Value]] = defaultdict(list)
        for value in self.values:
            pairs = zip(self.link.pairs, value, strict=True)
            given[tuple(typed(column, part, self.dialect) for (column, _), part in pairs)].append(value)
        return given


def look_up(
    scope: Scope, wanted: Wanted, shards: Iterable[LiveShard]
) -> tuple[Mapping[Value, Sequence[str]], list[Trouble]]:
    """Return which shards hold which parents, and which could not be asked.

    Args:
        scope: For how long.
        wanted: The parents.
        shards: Where to look.
    """

    def run(shard: LiveShard) -> set[Value]:
        with shard.connect(keep=True) as connection:
            return _held(connection, wanted)

    name = known_as(scope.fleet, target_of(scope.fleet, wanted.link.parent))
    found, troubles = on_each(scope, shards, run, name=name)
    holders: dict[Value, list[str]] = defaultdict(list)
    for shard_id, values in found.items():
        for value in values:
            holders[value].append(shard_id)
    return holders, troubles


def _held(connection: Connection, wanted: Wanted) -> set[Value]:
    """Return the parents that a shard has."""
    given = wanted.as_given_to(connection.dialect)
    is_same = connection.dialect.name == wanted.dialect.name
    columns = [raw(parent) if is_same else parent for _, parent in wanted.link.pairs]
    left = iter(given)
    held: set[Value] = set()
    while batch := list(islice(left, BATCH)):
        held.update(_held_of(connection, columns, batch))
    return {value for key in held for value in given[key]}


def _held_of(connection: Connection, columns: Sequence[Any], batch: Sequence[Value]) -> set[Value]:
    """Return those of some values that a table has, by the database's own equality."""
    found = {tuple(row) for row in connection.execute(_statement(columns, batch).distinct())}
    held = found.intersection(batch)
    if len(held) < len(found):  # the database holds other values equal to some of these
        left = (value for value in batch if value not in held)
        held.update(value for value in left if connection.execute(_statement(columns, [value]).limit(1)).first())
    return held


def _statement(columns: Sequence[Any], values: Sequence[Value]) -> Select[Any]:
    if len(columns) == 1:
        return select(*columns).where(columns[0].in_([value[0] for value in values]))
    alternatives = (and_(*map(lambda column, part: column == part, columns, value)) for value in values)
    return select(*columns).where(or_(*alternatives))
