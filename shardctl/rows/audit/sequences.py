"""Columns whose database will next give a value that is not above the highest one: the insert that gets it fails.

Rows that were moved, copied or inserted with their keys do not touch what counts the keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Table, func, select

from shardctl.fleet import LiveShard
from shardctl.rows.audit.commands import shard_command
from shardctl.rows.audit.counters import Columns, Counter, Counters
from shardctl.rows.audit.counters.mysql import MYSQL
from shardctl.rows.audit.counters.postgresql import POSTGRESQL
from shardctl.rows.audit.counters.sqlite import SQLITE
from shardctl.rows.audit.finding import SAMPLES, Finding, Scope, Skipped, Trouble
from shardctl.rows.audit.links import tables_of, target_of
from shardctl.rows.audit.reading import on_each
from shardctl.rows.audit.tally import known_as

CHECK = "sequences"

COUNTERS: Mapping[str, Counters] = {"sqlite": SQLITE, "postgresql": POSTGRESQL, "mysql": MYSQL}


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a counter stands, on one shard."""

    next_value: int
    furthest: int | None
    """The highest value of its column, or the lowest where it counts downwards; None: there are no rows."""
    in_the_way: int
    """Rows whose values are still to be given."""
    samples: tuple[tuple[Any, ...], ...]
    mend: str


def check(scope: Scope) -> Iterator[Finding | Trouble | Skipped]:
    """Yield the counters that are behind."""
    tables = dict.fromkeys(table for target in scope.targets for table in tables_of(target))
    counters, troubles = on_each(scope, scope.shards, lambda shard: _find(scope, shard, tables))
    yield from troubles
    for table in tables:
        for column in table.columns:
            of_column = {
                shard: [counter for counter in counters.get(shard.shard_id, ()) if counter.column is column]
                for shard in scope.shards
            }
            yield from _check_column(scope, column, {shard: found for shard, found in of_column.items() if found})


def _find(scope: Scope, shard: LiveShard, tables: Mapping[Table, None]) -> Sequence[Counter]:
    """Return the counters that a shard has for columns of some tables."""
    own = [table for table in tables if shard.shard_id in scope.fleet.shard_ids(target_of(scope.fleet, table))]
    columns: Columns = {(_key_on(shard, table), column.name): column for table in own for column in table.columns}
    if not columns:
        return ()
    with shard.connect() as connection:
        return COUNTERS[shard.backend.name].find(connection, columns)


def _key_on(shard: LiveShard, table: Table) -> str:
    """Return what a table is called on a shard; an application may translate the schema that its models name."""
    translated: Mapping[str | None, str | None] = shard.engine.get_execution_options().get("schema_translate_map") or {}
    schema = translated.get(table.schema, table.schema)
    return f"{schema}.{table.name}" if schema else table.name


def _check_column(
    scope: Scope, column: Column[Any], counters: Mapping[LiveShard, Sequence[Counter]]
) -> Iterator[Finding | Trouble | Skipped]:
    name = known_as(scope.fleet, target_of(scope.fleet, column.table))
    hidden = [(shard, counter) for shard, found in counters.items() for counter in found if not counter.is_readable]
    if hidden:
        where = ", ".join(dict.fromkeys(shard.shard_id for shard, _ in hidden))
        yield Skipped(CHECK, name, f"the login may not read the sequence {hidden[0][1].name} on {where}")
    readable = {shard: [counter for counter in found if counter.is_readable] for shard, found in counters.items()}
    asked = [shard for shard, found in readable.items() if found]
    standings, troubles = on_each(
        scope, asked, lambda shard: [_stand(shard, counter) for counter in readable[shard]], name=name
    )
    yield from troubles
    for shard in asked:
        for counter, standing in zip(readable[shard], standings.get(shard.shard_id, ()), strict=False):
            scope.told(name, shard.shard_id, 0)
            if standing.in_the_way:
                yield _finding(name, shard, counter, standing)


def _stand(shard: LiveShard, counter: Counter) -> _Standing:
    """Ask where a counter and its column stand; the column first, for the counter only goes on meanwhile."""
    engine = COUNTERS[shard.backend.name]
    column = counter.column
    with shard.connect() as connection:
        end = func.max(column) if counter.step > 0 else func.min(column)
        furthest = connection.execute(select(end)).scalar()
        next_value = engine.next_value(connection, counter)
        if furthest is None or (furthest - next_value) * counter.step < 0:
            return _Standing(next_value, furthest, 0, (), "")
        rows, samples = _in_the_way(connection, counter, next_value)
        return _Standing(next_value, furthest, rows, samples, engine.mend(connection, counter, int(furthest)))


def _in_the_way(connection: Connection, counter: Counter, next_value: int) -> tuple[int, tuple[tuple[Any, ...], ...]]:
    """Return how many rows have values that are still to be given, and the first of them."""
    column, table = counter.column, counter.table
    ahead = column >= next_value if counter.step > 0 else column <= next_value
    rows = connection.execute(select(func.count()).select_from(table).where(ahead)).scalar_one()
    key = list(table.primary_key) or [column]
    order = column if counter.step > 0 else column.desc()
    first = connection.execute(select(*key).where(ahead).order_by(order).limit(SAMPLES)).all()
    return rows, tuple(tuple(row) for row in first)


def _finding(name: str, shard: LiveShard, counter: Counter, standing: _Standing) -> Finding:
    end = "highest" if counter.step > 0 else "lowest"
    return Finding(
        CHECK,
        "behind",
        name,
        (shard.shard_id,),
        standing.in_the_way,
        standing.samples,
        f"{counter.column.name}: {counter.name} is not past the {end} value",
        shard_command([shard.shard_id], standing.mend, writes=True),
        measured=f"next {standing.next_value}, {end} {standing.furthest}",
    )
