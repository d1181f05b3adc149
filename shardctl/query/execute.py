"""One statement sent to each shard as it is: its rows, or how many it changed."""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import Dialect
from sqlglot.errors import SqlglotError

from shardctl.errors import ConfigError, ShardctlError, ShardError
from shardctl.fleet.fan_out import MAX_JOBS
from shardctl.query.engines.values import run_as_written
from shardctl.query.parameters import bound

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard, Outcome

_READ_ONLY = ("read-only", "read only", "readonly")
"""What the engines say when a statement would write where it must not."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One statement, and how it is run on each shard."""

    sql: str
    writes: bool = False
    """Whether it may change something; otherwise the database refuses to."""
    autocommit: bool = False
    """Whether it runs outside a transaction."""
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Executed:
    """What one shard answered."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    rows_affected: int | None
    """None if the statement returns rows, or the engine does not say."""


class NotStarted(ShardctlError):
    """A shard on which a statement was not run, because it failed on another one."""


def check_one_statement(sql: str, engines: Sequence[str]) -> None:
    """Refuse several statements where a driver would run them: the second would be outside what the first is in.

    Raises:
        ConfigError: There are several.
    """
    if "postgresql" not in engines:
        return  # the others' drivers take one
    try:
        kinds = [token.token_type.name for token in Dialect.get_or_raise("postgres").tokenize(sql)]
    except SqlglotError:
        return
    while kinds and kinds[-1] == "SEMICOLON":
        kinds.pop()
    if "SEMICOLON" in kinds:
        raise ConfigError("`exec` takes one statement", hint="run them one after another")


def execute(
    fleet: Fleet,
    execution: Execution,
    shards: Sequence[LiveShard],
    *,
    timeout_s: float | None = None,
    jobs: int = MAX_JOBS,
    stops: bool = False,
) -> Generator[Outcome[Executed], None, None]:
    """Run a statement on shards, and yield the outcomes as they come.

    Args:
        fleet: The fleet.
        execution: The statement.
        shards: Where it runs.
        timeout_s: Seconds for one shard; then its statement is cancelled. None: no limit.
        jobs: Shards at work at one time.
        stops: Whether no further shard is begun once one has failed.
    """
    failed = threading.Event()

    def run(shard: LiveShard) -> Executed:
        if stops and failed.is_set():
            raise NotStarted("not started: the statement failed on another shard")
        try:
            return _run(shard, execution)
        except BaseException:
            failed.set()
            raise

    with bound(execution.parameters or {}):
        yield from fleet.fan_out(run, shards, timeout_s=timeout_s, jobs=jobs)


def _run(shard: LiveShard, execution: Execution) -> Executed:
    try:
        with shard.connect(read_only=not execution.writes) as connection:
            if execution.writes and execution.autocommit:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            result = run_as_written(connection, execution.sql)
            if result.returns_rows:
                executed = Executed(tuple(result.keys()), [tuple(row) for row in result], None)
            else:
                affected = result.rowcount
                executed = Executed((), [], affected if affected >= 0 else None)
            if execution.writes:
                connection.commit()
            return executed
    except ShardError as error:
        if not execution.writes and any(words in error.message.lower() for words in _READ_ONLY):
            error.hint = "`--write` lets a statement change something"
        raise
