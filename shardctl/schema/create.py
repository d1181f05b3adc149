"""`init`: what a shard lacks is created: its database or file, its schema, and its tables.

The tables come from the migrations where there are any: one source of truth. `create_all` with a stamp behind it has
left whole fleets wrong while every signal was green.
"""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable

from shardctl.errors import ShardctlError, ShardError, ShardUnreachable
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.engines import unpooled
from shardctl.fleet.fan_out import MAX_JOBS
from shardctl.fleet.live_shard import driver_line
from shardctl.schema.apply import upgrade
from shardctl.schema.fitness import adopt_command, counted, refuse_unfit
from shardctl.schema.proxies import context_local_proxies
from shardctl.schema.revisions import Scripts, ShardRevision, Standing
from shardctl.schema.run_env import connections_of, shard_revision
from shardctl.schema.watch import OnWait, Watch

T = TypeVar("T")
TablesOn = Callable[[str], Sequence[Table]]


@dataclass(frozen=True, slots=True)
class InitResult:
    """What one shard lacked and now has."""

    created: tuple[str, ...]
    """In words: `file`, `database`, `schema`, `2 tables`."""
    revision: tuple[str, ...] = ()
    outcome: str = "unchanged"
    """`created`, `upgraded`, `unchanged`, or `unversioned`: tables that no migration made, left alone."""
    notes: tuple[str, ...] = ()
    """What the user should know, or do."""


@dataclass(frozen=True, slots=True)
class InitPlan:
    """How shards are initialised."""

    scripts: Scripts | None
    """None: the tables come from the models."""
    tables_on: TablesOn
    """A shard's name -> the tables of the models that belong on it."""
    directories_on: TablesOn
    """A shard's name -> the directories of sharding keys that it holds: shardctl's own tables, in no migration."""
    schemas_only: bool = False
    """Whether to stop before the tables."""
    is_app: bool = False
    """Whether the engines are an application's own: tables are then created through them."""
    timeout_s: float = 30.0
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Names the run in the shards' histories."""


def plan_init(
    fleet: Fleet, scripts: Scripts | None, *, tables_on: TablesOn | None = None, schemas_only: bool = False
) -> InitPlan:
    """InitPlan the initialisation of a fleet's shards.

    Args:
        fleet: The fleet.
        scripts: The project's revisions; None creates the tables from the models.
        tables_on: A shard's name -> the tables that belong on it; None: those that the shard map puts there.
        schemas_only: Stop before the tables.

    Raises:
        ConfigError: The project has several heads, or there are neither migrations nor models to make tables from.
    """
    if scripts is not None:
        scripts.resolve("head")
    elif not schemas_only and tables_on is None:
        fleet.tables_on(next(iter(fleet.shards)))  # what is wrong with the models is said once, not by every shard
    shard_map = fleet.shard_map
    return InitPlan(
        scripts,
        tables_on or fleet.tables_on,
        fleet.directories_on,
        schemas_only,
        shard_map.app is not None,
        shard_map.timeout_s,
    )


def init(
    fleet: Fleet,
    shards: Iterable[LiveShard],
    plan: InitPlan,
    *,
    jobs: int = MAX_JOBS,
    on_wait: OnWait | None = None,
) -> Generator[Outcome[InitResult], None, None]:
    """Create what shards lack, several at a time, and yield the outcomes as they come; closing is as for a `Rollout`.

    Args:
        fleet: The shards' fleet.
        shards: The shards.
        plan: Where the tables come from.
        jobs: Shards at work at one time.
        on_wait: As for a `Rollout`.
    """
    if plan.scripts is not None:
        context_local_proxies()
    watch = Watch(on_wait)

    def run(shard: LiveShard) -> InitResult:
        with watch.at_work(shard):
            return init_shard(shard, plan, stop=watch.stop)

    outcomes = fleet.fan_out(
        run, shards, jobs=jobs, connections=connections_of(plan.scripts), before_cancel=watch.stop.set
    )
    try:
        yield from outcomes
    finally:
        watch.stop.set()
        outcomes.close()
        watch.wait()


def init_shard(shard: LiveShard, plan: InitPlan, *, stop: threading.Event | None = None) -> InitResult:
    """Create what one shard lacks; no revision is started once `stop` is set.

    Raises:
        ShardError: The server does not answer, or refused.
        MigrationFailed: A revision failed.
        Refused: The shard's revision is unknown here.
    """
    created = [*_create_database(shard, plan), *_create_schema(shard)]
    if plan.schemas_only:
        made = InitResult(())
    elif plan.scripts is None:
        made = _create_tables(shard, plan)
    else:
        made = _with_directories(_run_migrations(shard, plan.scripts, plan.run_id, stop), shard, plan)
    outcome = "created" if created and made.outcome == "unchanged" else made.outcome
    return InitResult((*created, *made.created), made.revision, outcome, made.notes)


def _create_database(shard: LiveShard, plan: InitPlan) -> list[str]:
    if shard.backend.name == "sqlite":
        return _create_files(shard, plan)
    try:
        with shard.connect():
            return []
    except ShardctlError as error:
        unreachable = error
    url = shard.engine.url
    if url.database is None:  # an application's own way to connect
        raise unreachable
    with _one_at_a_time(f"{shard.server} {url.database}"):
        try:
            made = _attempt_twice(lambda: shard.backend.create_database(url, lambda url: _engine(url, plan)))
        except ShardUnreachable:
            # Not even the server's own database can be reached: the first error is the one to show.
            raise unreachable from None
        except SQLAlchemyError as error:
            raise ShardError(f"cannot create database `{url.database}`: {driver_line(error)}") from error
    if made is None and not _can_connect(shard):
        raise unreachable
    return [made] if made else []


def _create_files(shard: LiveShard, plan: InitPlan) -> list[str]:
    """Create a SQLite shard's file, and the file that it is attached to."""
    if shard.shard.attach is not None:
        shard.backend.create_database(make_url(shard.shard.url), lambda url: _engine(url, plan))
    made = shard.backend.create_database(shard.engine.url, lambda url: _engine(url, plan))
    return [made] if made else []


def _create_schema(shard: LiveShard) -> list[str]:
    schema = shard.shard.schema
    if schema is None:
        return []

    def create() -> bool:
        with shard.connect(read_only=False) as connection:
            made = shard.backend.create_schema(connection, schema)
            connection.commit()
            return made

    return ["schema"] if _attempt_twice(create) else []


def _run_migrations(shard: LiveShard, scripts: Scripts, run_id: str, stop: threading.Event | None) -> InitResult:
    before = shard_revision(shard, scripts)
    if before.standing is Standing.UNVERSIONED:
        return InitResult((), outcome="unversioned", notes=(_adoption(shard, before),))
    refuse_unfit(shard, scripts, before)
    if not before.pending:
        return InitResult((), before.revisions)
    upgrade(shard, scripts, stop=stop, run_id=run_id)
    after = shard_revision(shard, scripts)
    new = set(after.tables) - set(before.tables)
    created = (counted(len(new), "table"),) if new else ()
    return InitResult(created, after.revisions, "created" if before.standing is Standing.EMPTY else "upgraded")


def _with_directories(made: InitResult, shard: LiveShard, plan: InitPlan) -> InitResult:
    """Create the directories that migrations know nothing of."""
    directories = plan.directories_on(shard.shard_id)
    if not directories or made.outcome == "unversioned":
        return made
    with shard.connect(read_only=False) as connection:
        created = _create_all(connection, directories)
    return replace(made, created=(*made.created, counted(created, "directory"))) if created else made


def _adoption(shard: LiveShard, found: ShardRevision) -> str:
    tables = counted(len(found.tables), "table")
    return f"{tables} and no revision: if they are those of the head, adopt it by `{adopt_command(shard)}`"


def _create_tables(shard: LiveShard, plan: InitPlan) -> InitResult:
    tables = plan.tables_on(shard.shard_id)
    # A table that names its schema is not the shard's own: every shard of the database would share it.
    foreign = [] if plan.is_app else [table for table in tables if table.schema is not None]
    notes = tuple(f"`{table.fullname}` names a schema of its own and is left out" for table in foreign)
    own = [table for table in tables if table not in foreign]
    if plan.is_app:
        try:
            with shard.bind.connect() as connection:
                created = _create_all(connection, own)
        except SQLAlchemyError as error:
            raise ShardError(driver_line(error)) from error
    else:
        with shard.connect(read_only=False) as connection:
            created = _create_all(connection, own)
    if not created:
        return InitResult((), notes=notes)
    return InitResult((counted(created, "table"),), outcome="created", notes=notes)


def _create_all(connection: Connection, tables: Iterable[Table]) -> int:
    """Create the tables that are missing, and return how many were."""
    created = 0

    def count(connection: Connection, clause: object, *rest: Any) -> None:
        nonlocal created
        created += isinstance(clause, CreateTable)

    event.listen(connection, "before_execute", count)
    by_metadata = defaultdict(list)
    for table in tables:
        by_metadata[table.metadata].append(table)
    for metadata, members in by_metadata.items():
        metadata.create_all(connection, tables=members)
    connection.commit()
    return created


def _engine(url: Any, plan: InitPlan) -> Engine:
    return unpooled(url, timeout_s=plan.timeout_s)


def _can_connect(shard: LiveShard) -> bool:
    try:
        with shard.connect():
            return True
    except ShardctlError:
        return False


def _attempt_twice(create: Callable[[], T]) -> T:
    """Try again once: another run may have created it between the look and the leap."""
    try:
        return create()
    except ShardUnreachable:
        raise
    except (SQLAlchemyError, ShardError):
        return create()


_locks: dict[str, threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def _one_at_a_time(name: str) -> Iterator[None]:
    """Let the shards of one database wait for the first of them to create it."""
    with _locks[name]:
        yield
