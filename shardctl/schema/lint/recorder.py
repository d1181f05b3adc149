"""A revision's `upgrade()` run with an `op` that keeps what it is asked to do, and executes nothing."""

from __future__ import annotations

import contextvars
import io
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from alembic import command
from alembic.operations import BatchOperations, Operations, ops
from alembic.operations.batch import BatchOperationsImpl
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from sqlalchemy import Column, Dialect, TableClause, column, table

from shardctl.schema.lint.live_data import NeedsLiveData, RecordingConnection
from shardctl.schema.proxies import context_local_proxies, enter_env_py
from shardctl.schema.revisions import Scripts


@dataclass(frozen=True, slots=True)
class Recorded:
    """One operation that a revision asked for."""

    operation: ops.MigrateOperation
    line: int | None
    """Of the revision's file; None if it was not called from there."""
    parameters: Any = None
    is_autocommit: bool = False
    """Whether it was inside an `autocommit_block`."""
    is_batch: bool = False
    rendered: str = ""
    """The statements that the dialect makes of a schema operation."""
    refusal: str = ""
    """Why the dialect, or Alembic for it, has no such statement."""


@dataclass(frozen=True, slots=True)
class Recreated:
    """A table that a batch copies into a new one."""

    table: str
    line: int | None


@dataclass(slots=True)
class Recording:
    """What came of one run of `upgrade()`."""

    recorded: list[Recorded] = field(default_factory=list)
    recreated: list[Recreated] = field(default_factory=list)
    reads: list[tuple[int | None, str]] = field(default_factory=list)
    """Where, and what, only a real database knows."""
    error: tuple[int | None, str] | None = None
    """Where, and why, it did not come to its end."""
    asks_shard: bool = False
    """Whether it asked on which shard it runs."""


def record(script: Script, scripts: Scripts, dialect: Dialect, shard_id: str, *, says_yes: bool = False) -> Recording:
    """Run a revision's `upgrade()`, and return what it asked for; no database is touched.

    Args:
        script: The revision.
        scripts: The project's revisions.
        dialect: The engine to record it for.
        shard_id: What `config.attributes["shard"]` and `-x shard=` say.
        says_yes: What is answered where it asks whether something is in the database.
    """
    context_local_proxies()
    recording = Recording()

    def run() -> None:
        enter_env_py()
        try:
            with (
                warnings.catch_warnings(),
                _environment(script, scripts, dialect, shard_id, recording, says_yes=says_yes),
            ):
                script.module.upgrade()
        except (Exception, SystemExit) as error:
            said = str(error).splitlines()[0] if str(error) else ""
            words = said if isinstance(error, NeedsLiveData) else f"{type(error).__name__}: {said}"
            recording.error = (_raised_at(error, script.path), words)

    contextvars.copy_context().run(run)
    return recording


class _Context(MigrationContext):
    """What `op.get_context()` returns."""

    is_autocommit = False

    @contextmanager
    def autocommit_block(self) -> Iterator[None]:
        self.is_autocommit = True
        try:
            yield
        finally:
            self.is_autocommit = False

    @contextmanager
    def begin_transaction(self, *_: Any) -> Iterator[None]:
        yield


class _Operations(Operations):
    """What `alembic.op` is to a revision."""

    def __init__(self, context: _Context, recording: Recording, paper: Operations, path: str) -> None:
        super().__init__(context)
        self.recording = recording
        self.paper = paper
        self.path = path

    def invoke(self, operation: ops.MigrateOperation) -> Any:
        if isinstance(operation, ops.BulkInsertOp | ops.ExecuteSQLOp):
            return self.keep(operation)
        if not type(operation).__module__.startswith("alembic."):  # a plugin's: it is made of others
            return super().invoke(operation)
        try:
            made, refusal = self.paper.invoke(operation), ""
        except Exception as error:
            made, refusal = _stand_in(operation), f"{type(error).__name__}: {str(error).splitlines()[0]}"
        self.keep(operation, rendered=self._take_rendered(), refusal=refusal)
        return made

    def keep(self, operation: ops.MigrateOperation, parameters: Any = None, **more: Any) -> None:
        context: Any = self.migration_context
        kept = Recorded(operation, line_of(self.path), parameters, is_autocommit=context.is_autocommit, **more)
        self.recording.recorded.append(kept)

    def run_async(self, *args: Any, **options: Any) -> Any:
        self.recording.reads.append((line_of(self.path), "`op.run_async()`"))
        raise NeedsLiveData("`op.run_async()`")

    @contextmanager
    def batch_alter_table(  # type: ignore[override]
        self, table_name: str, schema: str | None = None, recreate: Any = "auto", **options: Any
    ) -> Iterator[BatchOperations]:
        settings: dict[str, Any] = dict.fromkeys(("copy_from", "naming_convention", "partial_reordering"))
        settings |= {"table_args": (), "table_kwargs": {}, "reflect_args": (), "reflect_kwargs": {}}
        impl = _new_batch(self, table_name, schema, recreate, **settings | options)
        batch = _Batch(self, impl)
        line = line_of(self.path)
        yield batch
        if impl._should_recreate() and (impl.batch or recreate == "always"):
            self.recording.recreated.append(Recreated(table_name, line))
            return
        for operation, where in batch.collected:
            try:
                self.paper.invoke(operation)
                refusal = ""
            except Exception as error:
                refusal = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            if refusal:
                self.recording.recorded.append(Recorded(operation, where, is_batch=True, refusal=refusal))
            self._take_rendered()

    def _take_rendered(self) -> str:
        buffer: Any = self.paper.migration_context.output_buffer
        text = str(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()
        return text


class _Batch(BatchOperations):
    """What `op.batch_alter_table()` gives."""

    def __init__(self, outer: _Operations, impl: BatchOperationsImpl) -> None:
        super().__init__(outer.migration_context, impl=impl)
        self._outer = outer
        self.collected: list[tuple[ops.MigrateOperation, int | None]] = []

    def invoke(self, operation: ops.MigrateOperation) -> Any:
        self._outer.keep(operation, is_batch=True)
        if not isinstance(operation, ops.ExecuteSQLOp):
            super().invoke(operation)  # into the list of what the batch does
            self.collected.append((operation, line_of(self._outer.path)))


class _Attributes(dict[str, Any]):
    """What `config.attributes` is."""

    def __init__(self, recording: Recording, **values: Any) -> None:
        super().__init__(values)
        self._recording = recording

    def __getitem__(self, key: str) -> Any:
        self._recording.asks_shard |= key == "shard"
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._recording.asks_shard |= key == "shard"
        return super().get(key, default)


class _Options(Namespace):
    """What `config.cmd_opts` is, where `context.get_x_argument()` looks."""

    def __init__(self, recording: Recording, **values: Any) -> None:
        super().__init__(**values)
        self._recording = recording

    @property
    def x(self) -> list[str]:
        self._recording.asks_shard = True
        return list(self._x)


@contextmanager
def _environment(
    script: Script, scripts: Scripts, dialect: Dialect, shard_id: str, recording: Recording, *, says_yes: bool
) -> Iterator[None]:
    config = scripts.settings.new_config()
    config.attributes = _Attributes(recording, shard=shard_id)
    config.cmd_opts = _Options(
        recording,
        _x=[f"shard={shard_id}"],
        cmd=(command.upgrade, ["revision"], ["sql", "tag"]),
        revision="head",
        sql=False,
        tag=None,
        name=scripts.settings.section,
        config=config.config_file_name,
    )
    path = script.path
    paper = MigrationContext(dialect, None, {"as_sql": True, "output_buffer": io.StringIO()})
    with EnvironmentContext(config, scripts.directory) as environment:

        def note(what: str) -> None:
            recording.reads.append((line_of(path), what))

        connection = RecordingConnection(dialect, record=lambda *statement: keep(*statement), note=note)
        connection.says_yes = says_yes
        context = _Context(dialect, connection, {"output_buffer": io.StringIO()}, environment)  # type: ignore[arg-type]
        environment._migration_context = context
        operations = _Operations(context, recording, Operations(paper), path)

        def keep(statement: Any, parameters: Any) -> None:
            operations.keep(ops.ExecuteSQLOp(statement), parameters)

        operations._install_proxy()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            operations._remove_proxy()


def line_of(path: str) -> int | None:
    """Return the line of a file that is being run, the innermost one."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == path:
            return int(frame.f_lineno)
        frame = frame.f_back
    return None


def _raised_at(error: BaseException, path: str) -> int | None:
    traceback, line = error.__traceback__, None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _stand_in(operation: ops.MigrateOperation) -> TableClause | None:
    """Return what a revision may go on with after a table that the dialect cannot make."""
    if not isinstance(operation, ops.CreateTableOp):
        return None
    columns = (item for item in operation.columns if isinstance(item, Column))
    return table(operation.table_name, *(column(item.name) for item in columns))


_new_batch: Any = BatchOperationsImpl
