"""A statement and shards -> a result: parse, plan, scan, gather."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardctl.errors import ConfigError, QueryRefused, ShardError, nearest_name
from shardctl.query.colocation import DeclaredColocation
from shardctl.query.engines import Row
from shardctl.query.engines.values import run_as_written
from shardctl.query.gather import gather
from shardctl.query.names import class_tables, resolve_classes
from shardctl.query.parse import Statement, parse
from shardctl.query.plan import QueryPlan, columns_sql, plan_query
from shardctl.query.scan import run_on, scan

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard
    from shardctl.fleet.models import Models


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One answer, and where it came from."""

    columns: tuple[str, ...]
    rows: list[Row]
    shard_ids: tuple[str, ...]
    """The shards that were asked."""
    seconds: float
    plan: QueryPlan


def run_query(
    fleet: Fleet,
    sql: str,
    *,
    shards: Sequence[LiveShard],
    with_shard: bool = False,
    timeout_s: float | None = None,
    max_rows: int | None = None,
) -> QueryResult:
    """Run one read-only statement on shards, and return the answer that one database with all of their rows would give.

    Args:
        fleet: The fleet; its models and placement, if it has any, are what joins and class names are resolved with.
        sql: The statement.
        shards: The shards to ask, at least one.
        with_shard: Put a first column `shard` in front; what is grouped is then grouped by it too.
        timeout_s: Seconds for one shard; then its statement is cancelled and the query fails.
        max_rows: Rows at most that one shard may answer with.

    Raises:
        QueryRefused: The answer would be wrong, or could be, or the statement cannot be read.
        ShardError: A shard failed; every shard that did is named.
    """
    started = time.monotonic()
    plan = plan_for(fleet, sql, shards=shards, timeout_s=timeout_s)
    asked = [shard for shard in shards if shard.shard_id in plan.shard_ids]
    try:
        answers = scan(fleet, plan, asked, timeout_s=timeout_s, max_rows=max_rows)
    except ShardError as error:
        error.hint = error.hint or _nearest_table(models_of(fleet), parse(sql, plan.engine))
        raise
    columns, rows = gather(plan, answers, with_shard=with_shard)
    return QueryResult(columns, rows, plan.shard_ids, time.monotonic() - started, plan)


def plan_for(fleet: Fleet, sql: str, *, shards: Sequence[LiveShard], timeout_s: float | None = None) -> QueryPlan:
    """Plan a statement for shards; nothing runs but, where GROUP BY is ambiguous, a look at a table's columns.

    Raises:
        QueryRefused: As `run_query`.
    """
    if not shards:
        raise QueryRefused("no shards were chosen")
    models = models_of(fleet)
    engines = frozenset(shard.backend.name for shard in shards)
    statement = resolve_classes(parse(sql, shards[0].backend.name), class_tables(models), is_mixed=len(engines) > 1)
    for engine in engines - {statement.engine}:
        parse(statement.sql, engine)
    shards = _holders(fleet, models, statement, shards)
    probe = columns_sql(statement) if len(shards) > 1 else None
    found = _columns(fleet, shards[0], probe, timeout_s) if probe is not None else None
    return plan_query(
        statement,
        [shard.shard_id for shard in shards],
        colocation=None if models is None else DeclaredColocation(fleet.shard_map.tables, models),
        input_columns=found,
        engines=engines,
    )


def _nearest_table(models: Models | None, statement: Statement) -> str | None:
    """Return a hint for the first table of a statement that the models do not know."""
    known = [] if models is None else [*models.mappers, *models.tables]
    unknown = [table.name for table in statement.tables if table.name not in known]
    nearest = nearest_name(unknown[0], known) if unknown else None
    return None if nearest is None else f"did you mean `{nearest}`?"


def _holders(
    fleet: Fleet, models: Models | None, statement: Statement, shards: Sequence[LiveShard]
) -> Sequence[LiveShard]:
    """Leave out the shards on which a table of the statement does not belong; all of them, if none were left."""
    known = {} if models is None else models.tables
    tables = [known[table.name] for table in statement.tables if not table.db and table.name in known]
    limits = [fleet.shard_ids(models.mapper_of(table) or table) for table in tables] if models is not None else []
    return [shard for shard in shards if all(shard.shard_id in limit for limit in limits)] or shards


def models_of(fleet: Fleet) -> Models | None:
    """Return the fleet's models, or None if it has none: queries work without."""
    if not fleet.shard_map.models and fleet._models is None:  # to tell none from broken ones
        return None
    try:
        return fleet.models
    except ConfigError:
        return None


def _columns(fleet: Fleet, shard: LiveShard, sql: str, timeout_s: float | None) -> frozenset[str]:
    def read(shard: LiveShard) -> frozenset[str]:
        with shard.connect(read_only=True) as connection:
            names = run_as_written(connection, sql).keys()
            return frozenset(name.lower() for name in names)

    return run_on(fleet, [shard], read, timeout_s=timeout_s)[0]
