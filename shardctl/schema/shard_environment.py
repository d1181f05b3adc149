"""What `alembic.context` is to an env.py that runs on a shard, and what is known of how far it came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Protocol

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.util import to_tuple
from sqlalchemy import Connection

from shardctl.errors import ShardError
from shardctl.fleet import LiveShard
from shardctl.schema.confinement import check_confined
from shardctl.schema.goals import Goal
from shardctl.schema.revisions import DEFAULT_VERSION_TABLE, Scripts
from shardctl.schema.steps import Step, revision_of
from shardctl.schema.transactions import whole_revision_options

_CONFIGURE = signature(EnvironmentContext.configure)

SEVERAL_DATABASES = "it migrates several databases in one run (`upgrade_token`)"
ONE_DATABASE = "write an env.py for one database: shardctl runs it on each shard"


class Course(Protocol):
    """What a run does on a shard, and what it does around each revision."""

    goal: Goal

    def steps(self, revisions: tuple[str, ...]) -> Iterable[Step]:
        """Return what to run on a shard at these revisions."""
        ...

    def on_connection(self, connection: Connection) -> AbstractContextManager[None]:
        """Make the connection ready that the revisions will run on."""
        ...

    def around(self, step: Step, connection: Connection) -> AbstractContextManager[None]:
        """Surround the statements of a revision."""
        ...

    def applied(self, step: Step, connection: Connection) -> None:
        """Take note of a revision, in its own transaction and with the version table written."""
        ...

    def committed(self, step: Step) -> None:
        """Take note that a revision is there to stay."""
        ...


@dataclass(slots=True)
class Progress:
    """How far a run has come: what is still known after it failed."""

    revision: str | None = None
    """The revision that runs, or that failed."""
    applied: list[str] = field(default_factory=list)
    is_making_version_table: bool = False
    has_asked: bool = False
    """Whether env.py came to `context.run_migrations()`."""
    left_transaction: bool = False
    """Whether the revision used an `autocommit_block`, which commits what was before it."""
    error: BaseException | None = None
    """What a revision raised, even if env.py swallowed it."""


class Learnt(BaseException):
    """Ends an env.py that was only run to see what it configures."""


class ShardEnvironment(EnvironmentContext):
    """What `alembic.context` is to env.py."""

    def __init__(
        self,
        config: Config,
        scripts: Scripts,
        shard: LiveShard,
        target: Callable[[], Connection] | None,
        progress: Progress,
        course: Course | None,
    ) -> None:
        destination = course.goal.target if course is not None else "head"
        super().__init__(
            config, scripts.directory, fn=self._run, as_sql=False, starting_rev=None, destination_rev=destination
        )
        self._scripts = scripts
        self._shard = shard
        self._target = target
        self._progress = progress
        self._course = course
        self._step: Step | None = None

    def configure(self, *args: Any, **options: Any) -> None:
        options = _CONFIGURE.bind(self, *args, **options).arguments
        options |= options.pop("kw", {})
        options.pop("self")
        if options.get("upgrade_token", "upgrades") != "upgrades":
            raise ShardError(SEVERAL_DATABASES, hint=ONE_DATABASE)
        self._scripts.version_tables[self._shard.shard_id] = options.get("version_table", DEFAULT_VERSION_TABLE)
        if self._target is None:
            raise Learnt
        connection = self._target()
        self._check_version_schema(options.get("version_table_schema"), connection)
        options |= {"connection": connection, "url": None, "dialect_name": None, "version_table_schema": None}
        # Ours last, so that it is undone with whatever the project's own do.
        options["on_version_apply"] = (*to_tuple(options.get("on_version_apply"), default=()), self._applied)
        super().configure(**options | whole_revision_options(connection))
        self._watch_autocommit(self.get_context())
        self._watch_version_table(self.get_context())

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

    def _watch_version_table(self, context: MigrationContext) -> None:
        ensure = context._ensure_version_table

        def watched(*args: Any, **options: Any) -> None:
            self._progress.is_making_version_table = True
            ensure(*args, **options)
            self._progress.is_making_version_table = False

        context._ensure_version_table = watched  # type: ignore[method-assign]

    def _run(self, revisions: Any, context: MigrationContext) -> Iterator[Step]:
        progress, course = self._progress, self._course
        assert course is not None
        assert context.connection is not None
        progress.has_asked = True
        for step in course.steps(tuple(revisions)):
            self._step = step
            progress.revision, progress.left_transaction = revision_of(step), False
            step.migration_fn = self._recording(step.migration_fn, course.around(step, context.connection))
            yield step
            course.committed(step)
            progress.applied.append(progress.revision)
            progress.revision, progress.error = None, None

    def _recording(self, migrate: Callable[..., Any], around: AbstractContextManager[None]) -> Callable[..., Any]:
        def recorded(*args: Any, **options: Any) -> Any:
            with self._recorded(), around:
                migrate(*args, **options)
                connection = self.get_context().connection
                assert connection is not None
                check_confined(self._shard, connection)

        return recorded

    def _applied(self, *, ctx: MigrationContext, **told: Any) -> None:
        assert self._course is not None
        assert self._step is not None
        assert ctx.connection is not None
        with self._recorded():
            self._course.applied(self._step, ctx.connection)

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._progress.error = error
            raise
