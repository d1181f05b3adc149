"""What shards lack that `init` would create, read without changing anything."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Table, inspect

from shardctl.errors import ShardctlError, ShardUnreachable
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.engines import unpooled
from shardctl.schema.create import InitPlan
from shardctl.schema.fitness import counted
from shardctl.schema.goals import UPGRADE_TO_HEAD
from shardctl.schema.revisions import ShardRevision, Standing
from shardctl.schema.run_env import shard_revision


@dataclass(frozen=True, slots=True)
class ShardNeeds:
    """What one shard lacks."""

    missing: tuple[str, ...] = ()
    """In words: `file`, `database`, `schema`, `2 tables`, `3 revisions`."""
    revision: ShardRevision | None = None
    """Where it stands; None where there are no migrations, or nothing to read them from yet."""

    @property
    def is_unversioned(self) -> bool:
        return self.revision is not None and self.revision.standing is Standing.UNVERSIONED


def survey_needs(
    fleet: Fleet, shards: Iterable[LiveShard], plan: InitPlan
) -> Generator[Outcome[ShardNeeds], None, None]:
    """Read what shards lack, several at a time."""
    return fleet.fan_out(lambda shard: needs_of(shard, plan), shards, timeout_s=plan.timeout_s)


def needs_of(shard: LiveShard, plan: InitPlan) -> ShardNeeds:
    """Return what one shard lacks.

    Raises:
        ShardUnreachable: Its server does not answer, or refuses the login.
    """
    try:
        with shard.connect() as connection:
            schema = shard.shard.schema
            has_schema = schema is None or connection.dialect.name != "postgresql"
            if not has_schema and not inspect(connection).has_schema(str(schema)):
                return ShardNeeds(("schema", *_all_tables(shard, plan)))
    except ShardUnreachable as unreachable:
        return ShardNeeds((_missing_database(shard, plan, unreachable), *_all_tables(shard, plan)))
    if plan.schemas_only:
        return ShardNeeds()
    if plan.scripts is None:
        return ShardNeeds(_missing(shard, plan.tables_on(shard.shard_id), "table"))
    revision = shard_revision(shard, plan.scripts)
    if revision.standing is Standing.UNVERSIONED:
        return ShardNeeds((), revision)
    pending = (counted(len(revision.pending), "revision"),) if revision.pending else ()
    return ShardNeeds((*pending, *_missing(shard, plan.directories_on(shard.shard_id), "directory")), revision)


def _missing_database(shard: LiveShard, plan: InitPlan, unreachable: ShardUnreachable) -> str:
    """Return what is missing, or raise the error if it is the server that does not answer."""
    if shard.engine.url.database is None:  # an application's own way to connect
        raise unreachable
    try:
        missing = shard.backend.lacks_database(shard.engine.url, lambda url: unpooled(url, timeout_s=plan.timeout_s))
    except ShardctlError:
        raise unreachable from None
    if missing is None:
        raise unreachable
    words = [missing]
    if shard.shard.schema is not None and shard.backend.name == "postgresql":
        words.append("schema")
    return ", ".join(words)


def _all_tables(shard: LiveShard, plan: InitPlan) -> tuple[str, ...]:
    if plan.schemas_only:
        return ()
    if plan.scripts is not None:
        directories = plan.directories_on(shard.shard_id)
        pending = counted(len(plan.scripts.pending(UPGRADE_TO_HEAD, ())), "revision")
        return (pending, counted(len(directories), "directory")) if directories else (pending,)
    return (counted(len(plan.tables_on(shard.shard_id)), "table"),)


def _missing(shard: LiveShard, tables: Sequence[Table], noun: str) -> tuple[str, ...]:
    if not tables:
        return ()
    with shard.bind.connect() as connection:
        translated = connection.get_execution_options().get("schema_translate_map") or {}
        inspector = inspect(connection)
        # Each by its name, not by a list of them: the application may rewrite names in what is executed.
        missing = [
            table
            for table in tables
            if not inspector.has_table(table.name, schema=translated.get(table.schema, table.schema))
        ]
    return (counted(len(missing), noun),) if missing else ()
