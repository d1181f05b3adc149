"""One shard's way through the project's env.py.

Whatever an env.py takes its URL from (`sqlalchemy.url`, `-x`, `config.attributes`) leads to the shard; and whatever
connection it hands to `context.configure`, the migrations run on the shard's own, where unqualified names are its own.
"""

from __future__ import annotations

import contextvars
import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep, StampStep
from sqlalchemy import URL, Connection

from shardctl.errors import ShardctlError, ShardError
from shardctl.fleet import LiveShard
from shardctl.schema.confinement import check_confined, confined
from shardctl.schema.proxies import context_local_proxies, enter_env_py
from shardctl.schema.revisions import DEFAULT_VERSION_TABLE, Scripts, ShardRevision, read_standing, revision_of
from shardctl.schema.transactions import whole_revision_options, whole_revisions

Steps = Callable[[tuple[str, ...]], Iterable[RevisionStep | StampStep]]

_NAMES_VERSION_TABLE = re.compile(r"\bversion_table\b|\*\*")


@dataclass(slots=True)
class Progress:
    """How far a run has come: what is still known after it failed."""

    revision: str | None = None
    """The revision that runs, or that failed."""
    applied: list[str] = field(default_factory=list)
    has_asked: bool = False
    """Whether env.py came to `context.run_migrations()`."""
    left_transaction: bool = False
    """Whether the revision used an `autocommit_block`, which commits what was before it."""
    error: BaseException | None = None
    """What a revision raised, even if env.py swallowed it."""


def run_env(shard: LiveShard, scripts: Scripts, connection: Connection, steps: Steps) -> Progress:
    """Run the project's env.py on one shard.

    Args:
        shard: The shard.
        scripts: The project's revisions.
        connection: The shard's own connection, not in a transaction.
        steps: The shard's revisions -> what to run.

    Returns:
        The progress; its `error` is what the run raised.
    """
    context_local_proxies()
    progress = Progress()
    own_place = place(connection)
    config = env_config(shard, scripts, connection)

    def run() -> None:
        enter_env_py()
        with ExitStack() as stack:

            def target() -> Connection:
                """Return a connection that an env.py cannot have spoilt."""
                is_fit = not connection.closed and not connection.in_transaction() and place(connection) == own_place
                is_fit = is_fit and not _is_translated(connection)
                fit = connection if is_fit else stack.enter_context(shard.connect(read_only=False))
                stack.enter_context(whole_revisions(fit))
                stack.enter_context(confined(shard, fit))
                return fit

            environment = _ShardEnvironment(config, scripts, shard, target, progress, steps)
            with environment:
                scripts.directory.run_env()

    try:
        contextvars.copy_context().run(run)
    except (Exception, SystemExit) as error:
        progress.error = error if progress.error is None or isinstance(error, ShardctlError) else progress.error
    return progress


def version_table_of(shard: LiveShard, scripts: Scripts) -> str:
    """Return the name that the project's env.py gives to a shard's version table."""
    if shard.shard_id not in scripts.version_tables:
        text = (scripts.folder / "env.py").read_text(encoding="utf-8", errors="replace")
        if not _NAMES_VERSION_TABLE.search(text):
            return DEFAULT_VERSION_TABLE
        _learn_version_table(shard, scripts)
    return scripts.version_tables.get(shard.shard_id, DEFAULT_VERSION_TABLE)


def shard_revision(shard: LiveShard, scripts: Scripts) -> ShardRevision:
    """Return where a shard stands among the project's revisions.

    Raises:
        ShardError: It cannot be read.
    """
    version_table = version_table_of(shard, scripts)
    with shard.connect() as connection:
        return read_standing(connection, scripts, version_table)


def place(connection: Connection) -> str:
    """Return what unqualified names on a connection belong to; the connection is not in a transaction afterwards."""
    query = {
        "postgresql": "SELECT current_database() || '.' || array_to_string(current_schemas(false), ',')",
        "sqlite": "SELECT file FROM pragma_database_list WHERE name = 'main'",
    }.get(connection.dialect.name, "SELECT database()")
    found = connection.exec_driver_sql(query).scalar()
    connection.rollback()
    return str(found)


def check_place(shard: LiveShard, connection: Connection) -> None:
    """Refuse a connection that is not on the shard's own schema.

    Raises:
        ShardError: The schema is missing, or the connection is on another one.
    """
    schema = shard.shard.schema
    found = place(connection)
    if schema is None or connection.dialect.name == "sqlite":
        return
    if connection.dialect.name == "postgresql":
        _, _, found = found.partition(f"{shard.engine.url.database}.")
    if not found:
        raise ShardError(f"there is no schema `{schema}`", hint="`shardctl init` creates it")
    if found.casefold() != schema.casefold():
        raise ShardError(f"the connection is on schema `{found}`, not on `{schema}`")


class _Learnt(BaseException):
    """Ends an env.py that was only run to see what it configures."""


class _ShardEnvironment(EnvironmentContext):
    """What `alembic.context` is to env.py."""

    def __init__(
        self,
        config: Config,
        scripts: Scripts,
        shard: LiveShard,
        target: Callable[[], Connection] | None,
        progress: Progress,
        steps: Steps,
    ) -> None:
        super().__init__(config, scripts.directory, fn=self._run, as_sql=False)
        self._scripts = scripts
        self._shard = shard
        self._target = target
        self._progress = progress
        self._steps = steps

    def configure(self, *args: Any, **options: Any) -> None:
        options = signature(EnvironmentContext.configure).bind(self, *args, **options).arguments
        options |= options.pop("kw", {})
        options.pop("self")
        if options.get("upgrade_token", "upgrades") != "upgrades":
            raise ShardError(
                "env.py migrates several databases in one run (`upgrade_token`)",
                hint="write an env.py for one database: shardctl runs it on each shard",
            )
        self._scripts.version_tables[self._shard.shard_id] = options.get("version_table", DEFAULT_VERSION_TABLE)
        if self._target is None:
            raise _Learnt
        connection = self._target()
        self._check_version_schema(options.get("version_table_schema"), connection)
        options |= {"connection": connection, "url": None, "dialect_name": None, "version_table_schema": None}
        super().configure(**options | whole_revision_options(connection))
        self._watch_autocommit(self.get_context())

    def _check_version_schema(self, schema: str | None, connection: Connection) -> None:
        if schema not in (None, self._shard.shard.schema, connection.dialect.default_schema_name):
            raise ShardError(
                f"the version table is not to be in the schema `{schema}`, which is not the shard's",
                hint="leave out `version_table_schema`: each shard has its own version table",
            )

    def _watch_autocommit(self, context: MigrationContext) -> None:
        autocommit_block = context.autocommit_block

        def watched() -> Any:
            self._progress.left_transaction = True
            return autocommit_block()

        context.autocommit_block = watched  # type: ignore[method-assign]

    def _run(self, revisions: Any, context: MigrationContext) -> Iterator[RevisionStep | StampStep]:
        progress = self._progress
        progress.has_asked = True
        for step in self._steps(tuple(revisions)):
            progress.revision, progress.left_transaction = revision_of(step), False
            step.migration_fn = self._recording(step.migration_fn)
            yield step
            progress.applied.append(progress.revision)
            progress.revision, progress.error = None, None

    def _recording(self, migrate: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **options: Any) -> Any:
            try:
                migrate(*args, **options)
                connection = self.get_context().connection
                assert connection is not None
                check_confined(self._shard, connection)
            except BaseException as error:
                self._progress.error = error
                raise

        return recorded


def _is_translated(connection: Connection) -> bool:
    """Say whether an env.py had names without a schema translated: they would leave the shard's own."""
    return None in (connection.get_execution_options().get("schema_translate_map") or {})


def _learn_version_table(shard: LiveShard, scripts: Scripts) -> None:
    context_local_proxies()
    config = env_config(shard, scripts, None)

    def run() -> None:
        enter_env_py()
        with _ShardEnvironment(config, scripts, shard, None, Progress(), lambda revisions: ()):
            scripts.directory.run_env()

    # An env.py that fails says so when it is run for its own sake; until then its version table has the usual name.
    try:
        contextvars.copy_context().run(run)
    except (_Learnt, Exception, SystemExit):
        return


def env_config(shard: LiveShard, scripts: Scripts, connection: Connection | None) -> Config:
    """Return Alembic's settings for a run of env.py on one shard: whatever env.py takes its URL from leads there."""
    config = scripts.settings.new_config()
    url = env_url(shard).render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    config.cmd_opts = Namespace(
        x=[f"shard={shard.shard_id}"],
        cmd=(command.upgrade, ["revision"], ["sql", "tag"]),
        revision="head",
        sql=False,
        tag=None,
        name=scripts.settings.section,
        config=config.config_file_name,
    )
    config.attributes["shard"] = shard.shard_id
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def env_url(shard: LiveShard) -> URL:
    """Return the URL at which unqualified names are the shard's own, for an env.py that makes its own engine."""
    url, schema = shard.engine.url, shard.shard.schema
    if schema is None or url.get_backend_name() != "postgresql":
        return url
    quoted = '"' + schema.replace('"', '""') + '"'
    escaped = re.sub(r"([\\\s])", r"\\\1", quoted)
    before = url.query.get("options", "")
    before = before if isinstance(before, str) else " ".join(before)
    return url.update_query_dict({"options": f"{before} -csearch_path={escaped}".strip()})
