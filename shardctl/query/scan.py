"""Each shard's part of a query: run concurrently, read-only, and described as far as merging needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet import grouped_problems
from shardctl.fleet.fan_out import run_one
from shardctl.fleet.quoting import quoted_name
from shardctl.query.asked import counting, note, note_rows, reading
from shardctl.query.engines import ENGINES, Engine, Row, ValueType
from shardctl.query.engines.values import run_as_written
from shardctl.query.gatherers import GATHERERS, TableShape
from shardctl.query.merge import EngineMerge, RowMerge
from shardctl.query.plan import QueryPlan, Route
from shardctl.query.probes import Probe, ask, send_together, sends_together, streamed
from shardctl.query.refusals import REFUSALS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.fleet import Fleet, LiveShard, Outcome

T = TypeVar("T")


class TooManyRows(QueryRefused):
    """A shard has more rows than are allowed."""


class Stopped(ShardError):
    """Another shard failed, so that this one's rows are of no use."""


class ShardsFailed(ShardError):
    """Shards that failed, so that the query did."""

    shard_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardRows:
    """What one shard answered."""

    shard: LiveShard
    names: tuple[str, ...]
    types: tuple[ValueType, ...]
    rows: list[Row]
    collations: tuple[str | None, ...] = ()
    """By partial column of an EngineMerge, or by sort key of a RowMerge; None where there is none to know."""
    database_collation: str | None = None
    output_names: tuple[str, ...] = ()


def scan(
    fleet: Fleet, plan: QueryPlan, shards: Sequence[LiveShard], *, timeout_s: float | None, max_rows: int | None
) -> list[ShardRows]:
    """Run a plan's statement on its shards, and return their answers in the shards' order.

    Raises:
        ShardError: A shard failed; every shard that did is named.
        QueryRefused: A shard showed that the answer could be wrong, or has more rows than are allowed.
    """
    first = shards[0]
    return run_on(
        fleet,
        shards,
        lambda shard: _scan_shard(shard, plan, max_rows, is_first=shard is first),
        timeout_s=timeout_s,
    )


def run_on(
    fleet: Fleet, shards: Sequence[LiveShard], run: Callable[[LiveShard], T], *, timeout_s: float | None
) -> list[T]:
    """Run a function on shards and return the values in their order; a shard that fails, fails all.

    Raises:
        ShardError: The facts name every shard that failed.
        QueryRefused: As the function raised it.
    """
    if len(shards) == 1 and timeout_s is None and shards[0].backend.is_interruptible:
        found: Iterable[Outcome[T]] = [run_one(shards[0], run)]  # no thread is needed to give it up
    else:
        found = fleet.fan_out(run, shards, timeout_s=timeout_s)
    outcomes = {outcome.shard_id: outcome for outcome in found}
    note(outcomes.values())
    failures = [outcomes[shard.shard_id] for shard in shards if not outcomes[shard.shard_id].is_ok]
    failures = [failed for failed in failures if not isinstance(failed.error, Stopped)] or failures
    for failed in failures:
        if isinstance(failed.error, QueryRefused):
            raise failed.error
    if failures:
        raise all_failed(failures, len(shards)) from failures[0].error
    return [outcomes[shard.shard_id].result for shard in shards]


def all_failed(failures: Sequence[Outcome[Any]], asked: int) -> ShardsFailed:
    """Return one error for the shards that failed, of those that were asked."""
    hint = next((failure.error.hint for failure in failures if failure.error and failure.error.hint), None)
    where = f"{len(failures)} of {asked} shards" if len(failures) > 1 else f"`{failures[0].shard_id}`"
    error = ShardsFailed(f"the query failed on {where}", facts=grouped_problems(failures), hint=hint)
    error.shard_ids = tuple(failure.shard_id for failure in failures)
    return error


@contextmanager
def open_scan(
    shard: LiveShard, plan: QueryPlan, *, is_first: bool, batch_size: int
) -> Iterator[tuple[ShardRows, Iterator[list[Row]]]]:
    """Run a plan's statement on a shard: give what its rows are like, without any, and then the rows in batches.

    Collations are known on SQLite only: other engines answer nothing else while rows are read.
    """
    plan = plan.for_engine(shard.backend.name)
    engine = ENGINES[shard.backend.name]
    with reading(shard) as connection:
        ask(connection, *_probes(shard, plan, is_first=is_first))
        if sends_together(connection):
            with streamed(connection, plan.shard_sql, batch_size) as (sent, arriving):
                yield ShardRows(shard, sent.keys(), engine.types(sent), []), arriving
            return
        engine.prepare_stream(connection)
        result = run_as_written(connection, plan.shard_sql, stream_results=True, max_row_buffer=batch_size)
        names, types = tuple(result.keys()), engine.types(result)
        collations = _collations(engine, connection, plan, names, types)[0] if engine.name == "sqlite" else ()
        batches = ([tuple(row) for row in batch] for batch in result.partitions(batch_size))
        try:
            yield ShardRows(shard, names, types, [], collations), batches
        finally:
            if result.cursor is not None:
                with suppress(connection.dialect.loaded_dbapi.Error):  # that the statement was cancelled
                    result.cursor.close()


def _scan_shard(shard: LiveShard, plan: QueryPlan, max_rows: int | None, *, is_first: bool) -> ShardRows:
    def read(connection: Connection) -> ShardRows:
        with counting(shard, connection):
            return _read(shard, connection, plan.for_engine(shard.backend.name), max_rows, is_first=is_first)

    return shard.read(read)


def _read(
    shard: LiveShard, connection: Connection, plan: QueryPlan, max_rows: int | None, *, is_first: bool
) -> ShardRows:
    engine = ENGINES[shard.backend.name]
    probes = _probes(shard, plan, is_first=is_first)
    names_sql = plan.merge.names_sql if isinstance(plan.merge, EngineMerge) and is_first else None
    output_names: tuple[str, ...] = ()
    if sends_together(connection):
        if plan.functions:  # before a statement runs that may have been in vain
            ask(connection, *probes)
            probes = []
        texts = [plan.shard_sql, names_sql] if names_sql is not None else [plan.shard_sql]
        result: Any
        result, *others = send_together(connection, probes, texts, ends=True)[1]
        output_names = others[0].keys() if others else ()
    else:
        ask(connection, *probes)
        if names_sql is not None:
            output_names = tuple(run_as_written(connection, names_sql).keys())
        result = run_as_written(connection, plan.shard_sql)
    if not result.returns_rows:
        return ShardRows(shard, (), (), [])
    names, types = tuple(result.keys()), engine.types(result)
    fetched = result.fetchall() if max_rows is None else result.fetchmany(max_rows + 1)
    result.close()
    rows = [tuple(row) for row in fetched]
    note_rows(shard.shard_id, len(rows))
    if max_rows is not None and len(rows) > max_rows:
        raise TooManyRows(
            f"shard `{shard.shard_id}` has more than {max_rows} rows for this query",
            hint="narrow it with WHERE or LIMIT",
        )
    collations, database = _collations(engine, connection, plan, names, types)
    return ShardRows(shard, names, types, rows, collations, database, output_names)


def _probes(shard: LiveShard, plan: QueryPlan, *, is_first: bool) -> list[Probe]:
    """Return what must be known of a shard before its rows can be trusted."""
    gatherer = GATHERERS[shard.backend.name]
    probes = []
    if plan.functions and plan.route is Route.SCATTER:
        probes.append(ENGINES[shard.backend.name].not_scalar(plan.functions).then(_check_functions))
    elif plan.functions:
        probes.append(gatherer.foreign(plan.functions, is_own=True).then(_check_answers_for_all))
    if plan.tables and is_first:
        probes.append(gatherer.views(plan.tables).then(_check_tables))
    names = list(dict.fromkeys(table for table, _, _ in plan.assumed))
    if names:
        probes.append(gatherer.shapes(names).then(partial(_check_assumed, shard, plan, names)))
    return probes


def _check_functions(wrong: Sequence[str]) -> None:
    if wrong:
        raise QueryRefused(
            f"`{wrong[0]}` looks at more than one row, and each shard has only its own",
            hint="choose one shard with `--shard`; `count`, `sum`, `min`, `max` and `avg` can be merged",
        )


def _check_tables(views: Sequence[tuple[str, str]]) -> None:
    """Refuse views: each shard would run one over its own rows."""
    for name, kind in views:
        REFUSALS["view"].refuse(None, name, kind)


def _check_assumed(
    shard: LiveShard, plan: QueryPlan, names: Sequence[str], shapes: Sequence[TableShape | None]
) -> None:
    """Refuse a shard whose tables have other columns than the models where a name's meaning depends on them."""
    found = dict(zip(names, shapes, strict=True))
    for table, column, is_there in plan.assumed:
        shape = found[table]
        if (shape is not None and shape.column(column) is not None) is not is_there:
            raise QueryRefused(f"`{table}` has other columns on `{shard.shard_id}` than the models say: `{column}`")


def _check_answers_for_all(foreign: Sequence[str]) -> None:
    if foreign:
        REFUSALS["function"].refuse(None, foreign[0])


def _collations(
    engine: Engine, connection: Connection, plan: QueryPlan, names: Sequence[str], types: Sequence[ValueType]
) -> tuple[tuple[str | None, ...], str | None]:
    """Return the collations that merging depends on, and, if it does, what their names leave open."""
    wanted: list[tuple[int, str | None]] = []
    if isinstance(plan.merge, EngineMerge):
        wanted = [(i, column.probe) for i, column in enumerate(plan.merge.columns)]
    elif isinstance(plan.merge, RowMerge):
        # Of a column of `*` only the name is known.
        for key in plan.merge.keys:
            name = names[key.column] if key.column < len(names) else ""
            wanted.append((key.column, key.probe or quoted_name(name, engine.name)))
    probes = [
        engine.collation(expression, plan.source)
        if expression is not None and index < len(types) and types[index].is_text
        else None
        for index, expression in wanted
    ]
    asked = [probe for probe in probes if probe is not None]
    if not asked:
        return tuple(None for _ in probes), None
    *found, database = ask(connection, *asked, engine.database_collation(), ends=True)
    answers = iter(found)
    collations = tuple(None if probe is None else next(answers) for probe in probes)
    return collations, database if any(collations) else None
