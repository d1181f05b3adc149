"""What Alembic found, as SQL that would mend it: to be read and run by people, never by shardctl."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from alembic.operations import Operations
from alembic.operations.ops import (
    AddColumnOp,
    CreateIndexOp,
    DropColumnOp,
    DropIndexOp,
    DropTableOp,
    MigrateOperation,
    MigrationScript,
    ModifyTableOps,
)
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, Table

_IN_PLACE = (AddColumnOp, DropColumnOp, CreateIndexOp, DropIndexOp)
"""What SQLite can alter without making the table anew."""


def mending_sql(context: MigrationContext, script: MigrationScript) -> str:
    """Return the statements that would bring a shard to the models; those that lose data are commented out.

    Args:
        context: Of the comparison, connected.
        script: What Alembic would upgrade.
    """
    parts: list[str] = []
    for container in script.upgrade_ops_list:
        for operation in container.ops:
            if isinstance(operation, ModifyTableOps):
                parts += _alter_table(context, operation)
            else:
                parts.append(_render(context, operation))
    return "\n".join(part for part in parts if part)


def _alter_table(context: MigrationContext, alter: ModifyTableOps) -> Iterator[str]:
    operations = list(alter.ops)
    if context.dialect.name == "sqlite":
        anew = [operation for operation in operations if not isinstance(operation, _IN_PLACE)]
        if anew:
            yield _recreate(context, alter.table_name, anew)
        operations = [operation for operation in operations if operation not in anew]
    for operation in operations:
        yield _render(context, operation)


def _recreate(context: MigrationContext, table_name: str, operations: Iterable[MigrateOperation]) -> str:
    """Render what SQLite does by copying the table; the statements need no connection if the table is given."""
    assert context.connection is not None
    live = Table(table_name, MetaData(), autoload_with=context.connection)
    offline, buffer = _offline(context)
    with Operations(offline).batch_alter_table(table_name, copy_from=live, recreate="always") as batch:
        for operation in operations:
            batch.invoke(operation)
    head = "-- copies the table: its triggers, and its indexes on expressions, have to be created again"
    return f"{head}\nPRAGMA foreign_keys = OFF;\n{buffer.getvalue().strip()}\nPRAGMA foreign_keys = ON;"


def _render(context: MigrationContext, operation: MigrateOperation) -> str:
    offline, buffer = _offline(context)
    Operations(offline).invoke(operation)
    sql = "\n".join(line for line in buffer.getvalue().splitlines() if line.strip())
    if isinstance(operation, DropTableOp | DropColumnOp):
        return "\n".join(["-- loses data:", *(f"-- {line}" for line in sql.splitlines())])
    return sql


def _offline(context: MigrationContext) -> tuple[MigrationContext, io.StringIO]:
    buffer = io.StringIO()
    options: dict[str, Any] = {"as_sql": True, "output_buffer": buffer, "literal_binds": True}
    return MigrationContext.configure(dialect=context.dialect, opts=options), buffer
