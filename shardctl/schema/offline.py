"""`--sql`: what a shard would run, as a script, by the project's env.py; nothing is executed.

A revision that reads from the database has no script; it is refused, and nothing of the shard's script is returned.
"""

from __future__ import annotations

import contextvars
import functools
import io
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.schema import CreateTable

from shardctl.errors import ShardctlError, ShardError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.live_shard import driver_line
from shardctl.fleet.quoting import quoted_name
from shardctl.schema.goals import Goal
from shardctl.schema.plan import MigrationPlan, names_of
from shardctl.schema.proxies import context_local_proxies, enter_env_py
from shardctl.schema.revisions import Scripts
from shardctl.schema.run_env import env_config, env_url
from shardctl.schema.steps import Step, revision_of

# Others go on behind an error: with the next revision on PostgreSQL, in the midst of one on SQLite.
_CAREFUL_CLIENTS = {"postgresql": "psql -v ON_ERROR_STOP=1", "sqlite": "sqlite3 -bail"}


@dataclass(frozen=True, slots=True)
class Script:
    """One text, and the shards that it is for."""

    shard_ids: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        """The text under a comment that says what it is for."""
        head = f"-- {', '.join(self.shard_ids)}: {names_of(self.before)} -> {names_of(self.after)}\n"
        return f"{head}\n{self.text}"


def render_scripts(fleet: Fleet, plan: MigrationPlan, scripts: Scripts) -> Generator[Outcome[str], None, None]:
    """Render what each shard of a plan would run, several at a time; nothing is written to a shard.

    Args:
        fleet: The shards' fleet.
        plan: What would run.
        scripts: The project's revisions.
    """
    context_local_proxies()
    shards = [fleet.shards[shard.shard_id] for shard in plan.to_run]

    def run(shard: LiveShard) -> str:
        with shard.connect() as connection:  # for an env.py that insists on one
            return render(shard, scripts, plan.goal, plan.shards[shard.shard_id].before, connection)

    return fleet.fan_out(run, shards, timeout_s=fleet.shard_map.timeout_s)


def grouped(texts: Mapping[str, str], plan: MigrationPlan) -> list[Script]:
    """Join the shards that have the same text.

    Args:
        texts: By shard.
        plan: Where they come from and go to.
    """
    shard_ids: dict[tuple[Any, ...], list[str]] = {}
    for shard_id, text in texts.items():
        shard = plan.shards[shard_id]
        shard_ids.setdefault((shard.before, shard.after, text), []).append(shard_id)
    return [Script(tuple(names), before, after, text) for (before, after, text), names in shard_ids.items()]


def render(
    shard: LiveShard, scripts: Scripts, goal: Goal, revisions: tuple[str, ...], connection: Connection | None = None
) -> str:
    """Return the script that brings one shard from its revisions to a goal.

    Args:
        shard: The shard.
        scripts: The project's revisions.
        goal: What to bring it to.
        revisions: Those that it is at.
        connection: The shard's, for an env.py that takes it from `config.attributes`.

    Raises:
        ShardError: A revision cannot be rendered, or env.py failed; the message names the revision and its file.
    """
    context_local_proxies()
    buffer = io.StringIO()
    environment = _OfflineEnvironment(_config(shard, scripts, connection), scripts, shard, goal, revisions, buffer)

    def run() -> None:
        enter_env_py()
        with environment:
            scripts.directory.run_env()

    try:
        contextvars.copy_context().run(run)
    except ShardctlError:
        raise
    except (Exception, SystemExit) as error:
        raise environment.failure(error) from error
    if environment.error is not None or not environment.is_over:
        raise environment.failure(environment.error)
    client, opening = _CAREFUL_CLIENTS.get(shard.backend.name), opening_statement(shard)
    lead = [f"-- an error has to end it: {client}"] if client else []
    lead += [f"{opening};"] if opening else []
    return "\n\n".join([*lead, buffer.getvalue().strip()]) + "\n"


def opening_statement(shard: LiveShard) -> str | None:
    """Return the statement that makes unqualified names the shard's own in a session of another tool."""
    schema = shard.shard.schema
    if shard.backend.name == "postgresql" and schema is not None:
        return f"SET search_path TO {quoted_name(schema, 'postgresql')}"
    if shard.backend.name == "mysql":
        return f"USE {quoted_name(schema or str(shard.engine.url.database), 'mysql')}"
    return None


def offline_options(shard: LiveShard) -> dict[str, Any]:
    """Return what `context.configure` has to be told to render a script for a shard."""
    options: dict[str, Any] = {
        "url": env_url(shard),
        "literal_binds": True,
        "dialect_opts": {"paramstyle": "named"},
        "transaction_per_migration": True,
    }
    return options | ({"transactional_ddl": True} if shard.backend.name == "sqlite" else {})


class _OfflineEnvironment(EnvironmentContext):
    """What `alembic.context` is to env.py when nothing is to be executed."""

    def __init__(
        self,
        config: Config,
        scripts: Scripts,
        shard: LiveShard,
        goal: Goal,
        revisions: tuple[str, ...],
        buffer: io.StringIO,
    ) -> None:
        super().__init__(config, scripts.directory, fn=self._run, as_sql=True, starting_rev=list(revisions) or None)
        self.error: BaseException | None = None
        self.is_over = False
        self._scripts = scripts
        self._shard = shard
        self._goal = goal
        self._revisions = revisions
        self._buffer = buffer
        self._step: Step | None = None

    def configure(self, *args: Any, **options: Any) -> None:
        options = signature(EnvironmentContext.configure).bind(self, *args, **options).arguments
        options |= options.pop("kw", {})
        options.pop("self")
        options |= {"connection": None, "dialect_name": None, "version_table_schema": None}
        options |= {"as_sql": True, "starting_rev": None, "output_buffer": self._buffer}
        super().configure(**options | offline_options(self._shard))
        table = self.get_context()._version

        def create(bind: Any, **options: Any) -> None:
            bind.execute(CreateTable(table, if_not_exists=True))

        # Alembic takes a shard without a revision for one without the table: after a downgrade to base it is there.
        table.create = create  # type: ignore[assignment,method-assign]

    def failure(self, error: BaseException | None) -> ShardctlError:
        """Return the error for a script that could not be rendered."""
        if self.error is not None:
            error = self.error
        reason = f"{type(error).__name__}: {driver_line(error)}" if error is not None else ""
        if self._step is None:
            what = f"env.py failed: {reason}" if error else "env.py ended without `context.run_migrations()`"
            return ShardError(f"no SQL: {what}")
        revision = revision_of(self._step)
        script = self._scripts.directory.get_revision(revision)
        file = Path(script.path).name if script is not None else ""
        asks = isinstance(error, AttributeError) and "NoneType" in str(error)
        return ShardError(
            f"no SQL for revision `{revision}` (`{file}`)",
            facts=["it reads from the database: " + reason if asks else reason],
            hint="a revision that reads from the database runs without `--sql` only",
        )

    def _run(self, revisions: Any, context: MigrationContext) -> Iterator[Step]:
        for step in self._scripts.steps(self._goal, self._revisions):
            self._step = step
            step.migration_fn = self._recording(step.migration_fn)
            yield step
        self._step, self.is_over = None, True

    def _recording(self, migrate: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(migrate)  # a script's comments have the function's name
        def recorded(*args: Any, **options: Any) -> Any:
            try:
                return migrate(*args, **options)
            except BaseException as error:
                self.error = error
                raise

        return recorded


def _config(shard: LiveShard, scripts: Scripts, connection: Connection | None) -> Config:
    config = env_config(shard, scripts, connection)
    vars(config.cmd_opts)["sql"] = True
    return config
