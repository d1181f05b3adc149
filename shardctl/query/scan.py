"""Each shard's part of a query: run concurrently, read-only, and described as far as merging needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet import grouped_problems
from shardctl.fleet.quoting import quoted_name
from shardctl.query.asked import note, note_rows, reading
from shardctl.query.engines import ENGINES, Engine, Row, ValueType
from shardctl.query.engines.values import run_as_written
from shardctl.query.gatherers import GATHERERS
from shardctl.query.merge import EngineMerge, RowMerge
from shardctl.query.plan import QueryPlan, Route
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
    outcomes = {outcome.shard_id: outcome for outcome in fleet.fan_out(run, shards, timeout_s=timeout_s)}
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
    engine = ENGINES[shard.backend.name]
    with reading(shard) as connection:
        _check(shard, connection, plan, is_first=is_first)
        engine.prepare_stream(connection)
        result = run_as_written(connection, plan.shard_sql, stream_results=True, max_row_buffer=batch_size)
        names, types = tuple(result.keys()), engine.types(result)
        collations = _collations(engine, connection, plan, names, types) if engine.name == "sqlite" else ()
        batches = ([tuple(row) for row in batch] for batch in result.partitions(batch_size))
        try:
            yield ShardRows(shard, names, types, [], collations), batches
        finally:
            if result.cursor is not None:
                with suppress(connection.dialect.loaded_dbapi.Error):  # that the statement was cancelled
                    result.cursor.close()


def _scan_shard(shard: LiveShard, plan: QueryPlan, max_rows: int | None, *, is_first: bool) -> ShardRows:
    engine = ENGINES[shard.backend.name]
    with reading(shard) as connection:
        _check(shard, connection, plan, is_first=is_first)
        output_names: tuple[str, ...] = ()
        if isinstance(plan.merge, EngineMerge) and is_first:
            output_names = tuple(run_as_written(connection, plan.merge.names_sql).keys())
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
        collations = _collations(engine, connection, plan, names, types)
        needs_database = any(collations)
        database = engine.database_collation(connection) if needs_database else None
    return ShardRows(shard, names, types, rows, collations, database, output_names)


def _check(shard: LiveShard, connection: Connection, plan: QueryPlan, *, is_first: bool) -> None:
    if plan.route is Route.SCATTER:
        _check_functions(ENGINES[shard.backend.name], connection, plan.functions)
    elif plan.functions:
        _check_answers_for_all(shard, connection, plan)
    if plan.tables and is_first:
        _check_tables(shard, connection, plan)
    _check_assumed(shard, connection, plan)


def _check_functions(engine: Engine, connection: Connection, functions: Sequence[str]) -> None:
    wrong = engine.not_scalar(connection, functions) if functions else []
    if wrong:
        raise QueryRefused(
            f"`{wrong[0]}` looks at more than one row, and each shard has only its own",
            hint="choose one shard with `--shard`; `count`, `sum`, `min`, `max` and `avg` can be merged",
        )


def _check_tables(shard: LiveShard, connection: Connection, plan: QueryPlan) -> None:
    """Refuse views: each shard would run one over its own rows."""
    for name, kind in GATHERERS[shard.backend.name].views(connection, plan.tables):
        REFUSALS["view"].refuse(None, name, kind)


def _check_assumed(shard: LiveShard, connection: Connection, plan: QueryPlan) -> None:
    """Refuse a shard whose tables have other columns than the models where a name's meaning depends on them."""
    for name in dict.fromkeys(table for table, _, _ in plan.assumed):
        shape = GATHERERS[shard.backend.name].shape(connection, name)
        for table, column, is_there in plan.assumed:
            if table == name and (shape is not None and shape.column(column) is not None) is not is_there:
                raise QueryRefused(f"`{name}` has other columns on `{shard.shard_id}` than the models say: `{column}`")


def _check_answers_for_all(shard: LiveShard, connection: Connection, plan: QueryPlan) -> None:
    foreign = GATHERERS[shard.backend.name].foreign(connection, plan.functions, is_own=True)
    if foreign:
        REFUSALS["function"].refuse(None, foreign[0])


def _collations(
    engine: Engine, connection: Connection, plan: QueryPlan, names: Sequence[str], types: Sequence[ValueType]
) -> tuple[str | None, ...]:
    wanted: list[tuple[int, str | None]] = []
    if isinstance(plan.merge, EngineMerge):
        wanted = [(i, column.probe) for i, column in enumerate(plan.merge.columns)]
    elif isinstance(plan.merge, RowMerge):
        # Of a column of `*` only the name is known.
        for key in plan.merge.keys:
            name = names[key.column] if key.column < len(names) else ""
            wanted.append((key.column, key.probe or quoted_name(name, engine.name)))
    return tuple(
        engine.collation(connection, probe, plan.source)
        if probe is not None and index < len(types) and types[index].is_text
        else None
        for index, probe in wanted
    )
