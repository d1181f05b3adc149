"""What MySQL's and MariaDB's information_schema says of databases, in a few statements for all of a server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, text

from shardctl.schema.catalogue import Objects, SchemaObject

_SCHEMATA = "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN :schemas"
_TABLES = """
SELECT table_schema, table_name, engine, table_collation, create_options, table_comment
FROM information_schema.tables WHERE table_schema IN :schemas AND table_type = 'BASE TABLE'
"""
_COLUMNS = """
SELECT c.table_schema, c.table_name, c.column_name, c.column_type, c.character_set_name,
    CASE WHEN c.collation_name <> t.table_collation THEN c.collation_name END, c.is_nullable, c.column_default,
    c.extra, c.generation_expression, c.column_comment
FROM information_schema.columns c
JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema IN :schemas AND t.table_type = 'BASE TABLE'
"""
_INDEXES = """
SELECT table_schema, table_name, index_name, non_unique, index_type, column_name, sub_part, collation{expression}
FROM information_schema.statistics WHERE table_schema IN :schemas
ORDER BY table_schema, table_name, index_name, seq_in_index
"""
_FOREIGN_KEYS = """
SELECT r.constraint_schema, r.table_name, r.constraint_name, r.unique_constraint_schema, r.referenced_table_name,
    r.update_rule, r.delete_rule, k.column_name, k.referenced_column_name
FROM information_schema.referential_constraints r
JOIN information_schema.key_column_usage k
    ON k.constraint_schema = r.constraint_schema AND k.table_name = r.table_name
    AND k.constraint_name = r.constraint_name AND k.table_schema = r.constraint_schema
WHERE r.constraint_schema IN :schemas AND k.table_schema IN :schemas
ORDER BY r.constraint_schema, r.table_name, r.constraint_name, k.ordinal_position
"""
_CHECKS_MARIADB = """
SELECT constraint_schema, table_name, constraint_name, check_clause
FROM information_schema.check_constraints WHERE constraint_schema IN :schemas
"""
_CHECKS_MYSQL = """
SELECT t.constraint_schema, t.table_name, t.constraint_name,
    concat(c.check_clause, CASE WHEN t.enforced = 'NO' THEN ' not enforced' ELSE '' END)
FROM information_schema.table_constraints t JOIN information_schema.check_constraints c
    USING (constraint_schema, constraint_name)
WHERE t.constraint_type = 'CHECK' AND t.constraint_schema IN :schemas
"""
_TEXTS = """
SELECT table_schema, 'view', '', table_name, view_definition
FROM information_schema.views WHERE table_schema IN :schemas
UNION ALL
SELECT trigger_schema, 'trigger', event_object_table, trigger_name,
    concat_ws(' ', action_timing, event_manipulation, action_statement)
FROM information_schema.triggers WHERE trigger_schema IN :schemas
UNION ALL
SELECT routine_schema, 'function', '', routine_name,
    concat_ws(' ', routine_type, nullif(dtd_identifier, ''), routine_definition)
FROM information_schema.routines WHERE routine_schema IN :schemas
"""


class MySQL:
    """The catalogue of MySQL and MariaDB."""

    def own_schema(self, connection: Connection) -> str:
        return str(connection.exec_driver_sql("SELECT database()").scalar())

    def read(self, connection: Connection, schemas: Sequence[str]) -> Mapping[str, Objects]:
        is_mariadb = bool(getattr(connection.dialect, "is_mariadb", False))

        def rows(statement: str) -> Iterable[Any]:
            bound = text(statement).bindparams(bindparam("schemas", expanding=True))
            return connection.execute(bound, {"schemas": list(schemas)})

        # A server may write names in lower case.
        by_name = {schema.casefold(): schema for schema in schemas}
        read: dict[str, Objects] = {by_name[str(name).casefold()]: {} for (name,) in rows(_SCHEMATA)}
        found = _Found({name.casefold(): objects for name, objects in read.items()})
        for schema, table, engine, collation, options, comment in rows(_TABLES):
            found.add(schema, "table", table, "", _words(engine, collation, options))
            found.comment(schema, table, "", comment)
        for row in rows(_COLUMNS):
            _add_column(found, *row)
        _add_indexes(found, rows(_INDEXES.format(expression=", NULL" if is_mariadb else ", expression")))
        _add_foreign_keys(found, rows(_FOREIGN_KEYS))
        for schema, table, name, clause in rows(_CHECKS_MARIADB if is_mariadb else _CHECKS_MYSQL):
            found.add(schema, "check", table, name, f"({clause})")
        for schema, kind, table, name, definition in rows(_TEXTS):
            found.add(schema, kind, table, name, definition or "")
        return read


class _Found:
    """The objects of each schema, by its name in lower case."""

    def __init__(self, objects: dict[str, Objects]) -> None:
        self._objects = objects

    def add(self, schema: str, kind: str, table: str, name: str, definition: str) -> None:
        without_schema = definition.replace(f"`{schema}`.", "")
        self._objects[schema.casefold()][SchemaObject(kind, table, name)] = without_schema

    def comment(self, schema: str, table: str, column: str, comment: str) -> None:
        if comment:
            self.add(schema, "comment", table, column, comment)


def _add_column(
    found: _Found,
    schema: str,
    table: str,
    column: str,
    type_: str,
    charset: str | None,
    collation: str | None,
    is_nullable: str,
    default: str | None,
    extra: str,
    generated: str | None,
    comment: str,
) -> None:
    definition = _words(
        type_,
        f"character set {charset} collate {collation}" if collation else None,
        "not null" if is_nullable == "NO" else None,
        f"default {default}" if default is not None and default != "NULL" else None,
        extra,
        f"as ({generated})" if generated else None,
    )
    found.add(schema, "column", table, column, definition)
    found.comment(schema, table, column, comment)


def _add_indexes(found: _Found, rows: Iterable[Any]) -> None:
    parts: dict[tuple[str, str, str, int, str], list[str]] = {}
    for schema, table, name, non_unique, type_, column, length, collation, expression in rows:
        part = f"{column}({length})" if length else f"({expression})" if column is None else str(column)
        descending = " desc" if collation == "D" else ""
        parts.setdefault((schema, table, name, int(non_unique), type_), []).append(part + descending)
    for (schema, table, name, non_unique, type_), columns in parts.items():
        method = "" if type_ == "BTREE" else f" using {type_.lower()}"
        listed = f"({', '.join(columns)}){method}"
        if name == "PRIMARY":
            found.add(schema, "primary key", table, "", f"PRIMARY KEY {listed}")
        elif non_unique:
            found.add(schema, "index", table, name, f"{table} {listed}")
        else:
            found.add(schema, "unique", table, name, f"UNIQUE {listed}")


def _add_foreign_keys(found: _Found, rows: Iterable[Any]) -> None:
    columns: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for schema, table, name, far_schema, far_table, on_update, on_delete, near, far in rows:
        target = far_table if far_schema == schema else f"{far_schema}.{far_table}"
        columns.setdefault((schema, table, name, target, on_update, on_delete), []).append((near, far))
    for (schema, table, name, target, on_update, on_delete), pairs in columns.items():
        near, far = (", ".join(names) for names in zip(*pairs, strict=True))
        rules = _words(
            None if on_update in ("NO ACTION", "RESTRICT") else f"ON UPDATE {on_update}",
            None if on_delete in ("NO ACTION", "RESTRICT") else f"ON DELETE {on_delete}",
        )
        found.add(schema, "foreign key", table, name, _words(f"FOREIGN KEY ({near}) REFERENCES {target}({far})", rules))


def _words(*words: str | None) -> str:
    return " ".join(word for word in words if word)


MYSQL = MySQL()
