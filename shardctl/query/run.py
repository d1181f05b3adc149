"""A statement and shards -> a result: parse, plan, scan, and merge or gather."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shardctl.errors import QueryRefused, ShardError
from shardctl.query.here.place import MEMORY_LIMIT
from shardctl.query.plan import QueryPlan
from shardctl.query.question import Question
from shardctl.query.results import QueryResult, QueryRows
from shardctl.query.stream import NotStreamed

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard

MAX_ROWS_PULLED = 1_000_000


def run_query(
    fleet: Fleet,
    sql: str,
    *,
    shards: Sequence[LiveShard],
    with_shard: bool = False,
    timeout_s: float | None = None,
    max_rows: int | None = None,
    max_rows_pulled: int = MAX_ROWS_PULLED,
    everywhere: bool = False,
    dialect: str | None = None,
    memory_limit: str = MEMORY_LIMIT,
) -> QueryResult:
    """Run one read-only statement on shards, and return the answer that one database with all of their rows would give.

    Args:
        fleet: The fleet; its models and placement, if it has any, are what joins and class names are resolved with.
        sql: The statement.
        shards: The shards to ask, at least one; of these, those are left out that can hold no row of the answer by
            the statement's conditions on sharding keys.
        with_shard: Put a first column `shard` in front; what is grouped is then grouped by it too.
        timeout_s: Seconds for one shard; then its statement is cancelled and the query fails.
        max_rows: Rows at most that one shard may answer with.
        max_rows_pulled: Rows at most that are brought to one place, where the shards' answers cannot be merged.
        everywhere: Ask all of them, so that rows on another shard than they belong on are seen too.
        dialect: The statement's, if it is not the shards': an engine's, or any that sqlglot reads.
        memory_limit: What DuckDB may use where it is that place, such as `2GB`; the rest goes to temporary files.

    Raises:
        QueryRefused: The answer would be wrong, or could be, or the statement cannot be read.
        Refused: A shard that has to be asked is declared offline.
        ShardError: A shard failed; every shard that did is named.
    """
    question = Question(
        fleet, sql, shards, timeout_s, everywhere=everywhere, memory_limit=memory_limit, dialect=dialect
    )
    with _naming_tables(question), fleet.one_query():
        return question.answer(with_shard=with_shard, max_rows=max_rows, max_rows_pulled=max_rows_pulled)


def stream_query(
    fleet: Fleet,
    sql: str,
    *,
    shards: Sequence[LiveShard],
    with_shard: bool = False,
    timeout_s: float | None = None,
    max_rows_pulled: int = MAX_ROWS_PULLED,
    everywhere: bool = False,
    dialect: str | None = None,
    memory_limit: str = MEMORY_LIMIT,
) -> QueryRows:
    """Run one read-only statement on shards as `run_query` does, and give the rows as they come where that is possible.

    Memory stays the same however many rows there are, if the statement's rows are appended, or merged by sort keys
    that are not text (on SQLite also text in binary order). Otherwise all rows are there before the first is given.

    Args:
        fleet: As for `run_query`, and so are the others, but for one:
        sql: The statement.
        shards: The shards to ask.
        with_shard: Put a first column `shard` in front.
        timeout_s: Seconds that a shard may take for its next rows.
        max_rows_pulled: Rows at most that are brought to one place.
        everywhere: Ask all of them, whatever the statement says of sharding keys.
        dialect: The statement's, if it is not the shards': an engine's, or any that sqlglot reads.
        memory_limit: What DuckDB may use where rows are brought to it.

    Raises:
        QueryRefused: As by `run_query`.
        ShardError: As by `run_query`; also by the rows.
    """
    question = Question(
        fleet, sql, shards, timeout_s, everywhere=everywhere, memory_limit=memory_limit, dialect=dialect
    )
    with _naming_tables(question):
        try:
            return question.streamed(with_shard=with_shard)
        except (NotStreamed, QueryRefused):  # all rows are needed at once, or only the shards could show what is wrong
            with fleet.one_query():
                result = question.answer(with_shard=with_shard, max_rows=None, max_rows_pulled=max_rows_pulled)
    return QueryRows(result.columns, (row for row in result.rows), result.shard_ids, result.plan)


def plan_for(
    fleet: Fleet,
    sql: str,
    *,
    shards: Sequence[LiveShard],
    timeout_s: float | None = None,
    everywhere: bool = False,
    dialect: str | None = None,
) -> QueryPlan:
    """Plan a statement for shards; nothing runs but, where it must be known, a look at the tables' columns.

    Raises:
        QueryRefused: As `run_query`.
    """
    with fleet.one_query():
        return Question(fleet, sql, shards, timeout_s, everywhere=everywhere, dialect=dialect).plan


@contextmanager
def _naming_tables(question: Question) -> Iterator[None]:
    """Give a shard's error the hint which table may have been meant."""
    try:
        yield
    except ShardError as error:
        error.hint = error.hint or question.nearest_table()
        raise
