"""Alembic's operations as changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from alembic.operations import ops
from sqlalchemy import (
    Column,
    Computed,
    Dialect,
    ForeignKeyConstraint,
    Identity,
    Integer,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import to_instance

from shardctl.schema.lint.changes import Change, Kind
from shardctl.schema.lint.recorder import Recorded
from shardctl.schema.lint.sql import changes_of_sql

CONSTRAINTS = {
    ops.CreateForeignKeyOp: "foreign key",
    ops.CreateCheckConstraintOp: "check",
    ops.CreateUniqueConstraintOp: "unique",
    ops.CreatePrimaryKeyOp: "primary key",
}


def changes_of(recorded: Recorded, dialect: Dialect) -> list[Change]:
    """Return what an operation changes on an engine."""
    operation: Any = recorded.operation
    made = list(_made(operation, recorded, dialect))
    if recorded.refusal:
        made = [replace(change, refusal=recorded.refusal) for change in made[:1]] or [
            Change(Kind.OTHER, refusal=recorded.refusal)
        ]
    schema = getattr(operation, "schema", None) or getattr(operation, "kw", {}).get("source_schema")
    return [
        replace(
            change,
            line=recorded.line,
            is_autocommit=recorded.is_autocommit,
            is_batch=recorded.is_batch,
            rendered=recorded.rendered or change.rendered,
            schemas=tuple(dict.fromkeys((*((str(schema),) if schema else ()), *change.schemas))),
        )
        for change in made
    ]


def _made(operation: Any, recorded: Recorded, dialect: Dialect) -> Iterator[Change]:
    for cls, convert in _CONVERT.items():
        if isinstance(operation, cls):
            yield from convert(operation, dialect)
            return
    if isinstance(operation, ops.ExecuteSQLOp):
        yield from _executed(operation.sqltext, recorded.parameters, dialect)
    elif isinstance(operation, ops.AddConstraintOp):
        kind = CONSTRAINTS.get(type(operation), "exclude")
        yield _added_constraint(operation, kind, dialect)


def _create_table(operation: ops.CreateTableOp, dialect: Dialect) -> Iterator[Change]:
    items = list(operation.columns)
    keys = [key for item in items for key in _foreign_keys(item)]
    schemas = tuple(schema for key in keys if (schema := _referred(key)[0]))
    cascading = tuple(_referred(key)[1] for key in keys if _cascades(key))
    yield Change(Kind.CREATE_TABLE, table=operation.table_name, column=items, schemas=schemas, referred=cascading)


def _drop_table(operation: ops.DropTableOp, dialect: Dialect) -> Iterator[Change]:
    yield Change(Kind.DROP_TABLE, table=operation.table_name)


def _rename_table(operation: ops.RenameTableOp, dialect: Dialect) -> Iterator[Change]:
    yield Change(Kind.RENAME_TABLE, table=operation.table_name, new_name=operation.new_table_name)


def _add_column(operation: ops.AddColumnOp, dialect: Dialect) -> Iterator[Change]:
    column: Any = operation.column
    default = _rendered_default(column.server_default, dialect)
    generated = ""
    if isinstance(column.server_default, Computed):
        generated = "virtual" if column.server_default.persisted is False else "stored"
    elif isinstance(column.server_default, Identity) or (
        column.primary_key and column.autoincrement in {True, "auto"} and isinstance(column.type, Integer)
    ):
        generated = "identity"
    yield Change(
        Kind.ADD_COLUMN,
        table=operation.table_name,
        name=column.name,
        column=column,
        new_type=column.type,
        is_nullable=bool(column.nullable),
        has_default=column.server_default is not None and not generated,
        default=default,
        generated=generated,
        is_unique=bool(column.unique),
    )
    for key in _foreign_keys(column):
        schema, table = _referred(key)
        yield Change(
            Kind.ADD_CONSTRAINT,
            table=operation.table_name,
            name=str(key.name or ""),
            new_name=table,
            constraint="foreign key",
            is_validated=not _is_not_valid(key),
            columns=(column.name,),
            schemas=(schema,) if schema else (),
            referred=(table,) if _cascades(key) else (),
        )
    if column.unique:
        yield Change(Kind.ADD_CONSTRAINT, table=operation.table_name, constraint="unique", columns=(column.name,))
    if column.index:
        yield Change(Kind.CREATE_INDEX, table=operation.table_name, columns=(column.name,))


def _drop_column(operation: ops.DropColumnOp, dialect: Dialect) -> Iterator[Change]:
    yield Change(Kind.DROP_COLUMN, table=operation.table_name, name=operation.column_name)


def _alter_column(operation: ops.AlterColumnOp, dialect: Dialect) -> Iterator[Change]:
    where: dict[str, Any] = {"table": operation.table_name, "name": operation.column_name}
    if operation.modify_name is not None and operation.modify_name != operation.column_name:
        yield Change(Kind.RENAME_COLUMN, new_name=operation.modify_name, **where)
    if operation.modify_type is not None:
        old = operation.existing_type
        yield Change(
            Kind.ALTER_TYPE,
            old_type=to_instance(old) if old is not None else None,
            new_type=to_instance(operation.modify_type),
            **where,
        )
    if operation.modify_nullable is not None and operation.modify_nullable != operation.existing_nullable:
        kind = Kind.DROP_NOT_NULL if operation.modify_nullable else Kind.SET_NOT_NULL
        yield Change(kind, **where)
    if operation.modify_server_default is not False:
        yield Change(Kind.ALTER_DEFAULT, **where)


def _create_index(operation: ops.CreateIndexOp, dialect: Dialect) -> Iterator[Change]:
    options = operation.kw
    condition = options.get("postgresql_where", options.get("sqlite_where"))
    lengths = options.get("mysql_length") or options.get("mariadb_length")
    columns = tuple(item if isinstance(item, str) else "" for item in operation.columns)
    prefixed = tuple(lengths) if isinstance(lengths, dict) else columns if lengths else ()
    yield Change(
        Kind.CREATE_INDEX,
        table=operation.table_name,
        name=str(operation.index_name or ""),
        is_unique=bool(operation.unique),
        concurrently=bool(options.get("postgresql_concurrently")),
        where=str(condition) if condition is not None else "",
        columns=columns,
        prefixed=tuple(str(name) for name in prefixed),
    )


def _drop_index(operation: ops.DropIndexOp, dialect: Dialect) -> Iterator[Change]:
    concurrently = bool(operation.kw.get("postgresql_concurrently"))
    table = operation.table_name or ""
    yield Change(Kind.DROP_INDEX, table=table, name=str(operation.index_name), concurrently=concurrently)


def _drop_constraint(operation: ops.DropConstraintOp, dialect: Dialect) -> Iterator[Change]:
    kinds = {"foreignkey": "foreign key", "primary": "primary key"}
    kind = operation.constraint_type or ""
    name = str(operation.constraint_name or "")
    yield Change(Kind.DROP_CONSTRAINT, table=operation.table_name, name=name, constraint=kinds.get(kind, kind))


def _bulk_insert(operation: ops.BulkInsertOp, dialect: Dialect) -> Iterator[Change]:
    table: Any = operation.table
    schema = (str(table.schema),) if getattr(table, "schema", None) else ()
    yield Change(Kind.INSERT, table=str(table.name), schemas=schema, rendered=repr(operation.rows))


def _added_constraint(operation: Any, kind: str, dialect: Dialect) -> Change:
    options = getattr(operation, "kw", {})
    schemas = tuple(filter(None, (options.get("source_schema"), options.get("referent_schema"))))
    referred = getattr(operation, "referent_table", "")
    cascades = str(options.get("ondelete") or "").upper() in {"CASCADE", "SET NULL", "SET DEFAULT"}
    return Change(
        Kind.ADD_CONSTRAINT,
        table=getattr(operation, "source_table", "") or getattr(operation, "table_name", ""),
        name=str(operation.constraint_name or ""),
        new_name=referred,
        constraint=kind,
        is_validated=not options.get("postgresql_not_valid"),
        where=str(getattr(operation, "condition", "")),
        columns=tuple(map(str, getattr(operation, "columns", getattr(operation, "local_cols", ())))),
        schemas=schemas,
        referred=(referred,) if cascades else (),
    )


def _executed(statement: Any, parameters: Any, dialect: Dialect) -> Iterator[Change]:
    schemas = _schemas(statement)
    values = repr(parameters) if parameters else ""
    written = statement if isinstance(statement, str) else getattr(statement, "text", None)
    if written is None:
        written, values = _compiled(statement, dialect, values)
    for change in changes_of_sql(written, dialect.name):
        named = tuple(dict.fromkeys((*change.schemas, *schemas)))
        yield replace(change, schemas=named, rendered=f"{change.sql} {values}".rstrip())


def _compiled(statement: Any, dialect: Dialect, values: str) -> tuple[str, str]:
    try:
        compiled = statement.compile(dialect=dialect)
        return str(compiled), f"{values} {getattr(compiled, 'params', '')}"
    except (SQLAlchemyError, NotImplementedError):
        return "", values


def _schemas(statement: Any) -> tuple[str, ...]:
    """Return the schemas of the tables in an INSERT, UPDATE or DELETE that is not text."""
    table = getattr(statement, "table", None)
    schema = getattr(table, "schema", None)
    return (str(schema),) if schema else ()


def _foreign_keys(item: Any) -> Sequence[Any]:
    if isinstance(item, ForeignKeyConstraint):
        return [item]
    return list(item.foreign_keys) if isinstance(item, Column) else []


def _referred(key: Any) -> tuple[str, str]:
    """Return the schema, if one is named, and the table that a foreign key leads to."""
    if isinstance(key, ForeignKeyConstraint):
        key = key.elements[0]
    target = key._colspec
    if not isinstance(target, str):
        table = getattr(target, "table", None)
        return str(getattr(table, "schema", None) or ""), str(getattr(table, "name", ""))
    schema, _, table = target.rpartition(".")[0].rpartition(".")
    return schema, table


def _cascades(key: Any) -> bool:
    return str(key.ondelete or "").upper() in {"CASCADE", "SET NULL", "SET DEFAULT"}


def _is_not_valid(key: Any) -> bool:
    return bool(key.dialect_kwargs.get("postgresql_not_valid"))


def _rendered_default(default: Any, dialect: Dialect) -> str:
    argument = getattr(default, "arg", None)
    if argument is None or isinstance(argument, str):
        return ""
    try:
        return str(argument.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    except (SQLAlchemyError, NotImplementedError, AttributeError):
        return str(argument)


_CONVERT: dict[type[Any], Callable[[Any, Dialect], Iterator[Change]]] = {
    ops.CreateTableOp: _create_table,
    ops.DropTableOp: _drop_table,
    ops.RenameTableOp: _rename_table,
    ops.AddColumnOp: _add_column,
    ops.DropColumnOp: _drop_column,
    ops.AlterColumnOp: _alter_column,
    ops.CreateIndexOp: _create_index,
    ops.DropIndexOp: _drop_index,
    ops.DropConstraintOp: _drop_constraint,
    ops.BulkInsertOp: _bulk_insert,
}
