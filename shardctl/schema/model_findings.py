"""What Alembic's comparison of a shard with the models found, as findings; and what it does not look for.

Alembic compares neither the values of PostgreSQL's enums, nor checks (before 1.20, and then by name only), nor indexes
on expressions in SQLite. The fingerprint has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Enum, Index, MetaData, Table
from sqlalchemy.schema import AddConstraint, CreateIndex

from shardctl.schema.catalogue import SchemaObject
from shardctl.schema.catalogue.sqlite import index_definition
from shardctl.schema.drift import MODELS, Finding, Status
from shardctl.schema.fingerprint import Fingerprint

_MODIFIED = {
    "modify_type": "column",
    "modify_nullable": "column",
    "modify_default": "column",
    "modify_comment": "comment",
}


def findings_of(
    context: MigrationContext, script: MigrationScript, metadatas: Sequence[MetaData], found: Fingerprint
) -> list[Finding]:
    """Return what a shard has otherwise than the models.

    Args:
        context: Of the comparison.
        script: What Alembic would upgrade.
        metadatas: The models.
        found: The shard's schema.
    """
    findings: dict[SchemaObject, Finding] = {}
    for container in script.upgrade_ops_list:
        for diff in container.as_diffs():
            for entry in diff if isinstance(diff, list) else [diff]:
                finding = _of_diff(entry, found, context)
                before = findings.get(finding.object)
                # What is dropped and created again is another one of the same name; a column may differ twice.
                findings[finding.object] = _joined(before, finding) if before else finding
    tables = [table for metadata in metadatas for table in metadata.tables.values() if _is_own(table, found)]
    for finding in [*_checks(tables, found, context), *_enums(tables, found), *_sqlite_indexes(tables, found, context)]:
        findings[finding.object] = finding
    return sorted(findings.values(), key=lambda finding: finding.object)


def _is_own(table: Table, found: Fingerprint) -> bool:
    return table.schema is None and table.name in found.tables


def _joined(before: Finding, finding: Finding) -> Finding:
    if before.status is finding.status is Status.DIFFERENT:
        return Finding(
            finding.object,
            Status.DIFFERENT,
            (MODELS,),
            f"{before.found}, {finding.found}",
            f"{before.expected}, {finding.expected}",
        )
    return Finding(
        finding.object,
        Status.DIFFERENT,
        (MODELS,),
        before.found or finding.found,
        finding.expected or before.expected,
    )


def _of_diff(diff: Any, found: Fingerprint, context: MigrationContext) -> Finding:
    kind = diff[0]
    if kind in _MODIFIED:
        _, _, table, column, _, old, new = diff
        object_ = SchemaObject(_MODIFIED[kind], table, column)
        if kind == "modify_comment" and not (old and new):
            return Finding(object_, Status.MISSING if new else Status.UNEXPECTED, (MODELS,), old or "", new or "")
        words = [_words(kind, value, context) for value in (old, new)]
        return Finding(object_, Status.DIFFERENT, (MODELS,), *words)
    object_ = _object(kind, diff, found)
    if kind.startswith("add_"):
        expected = str(diff[1].comment) if kind == "add_table_comment" else _definition(kind, diff, context)
        if kind == "add_table_comment" and diff[2]:
            return Finding(object_, Status.DIFFERENT, (MODELS,), diff[2], expected)
        return Finding(object_, Status.MISSING, (MODELS,), "", expected)
    return Finding(object_, Status.UNEXPECTED, (MODELS,), found.objects.get(object_, ""))


def _object(kind: str, diff: Any, found: Fingerprint) -> SchemaObject:
    """Return the object that a diff adds or removes, under the name that the catalogue has for it."""
    match kind.partition("_")[2]:
        case "table":
            return SchemaObject("table", diff[1].name, "")
        case "table_comment":
            return SchemaObject("comment", diff[1].name, "")
        case "column":
            return SchemaObject("column", diff[2], diff[3].name)
    item = diff[1]
    table = item.table.name
    kind = "foreign key" if kind.endswith("fk") else "index" if isinstance(item, Index) else "unique"
    object_ = SchemaObject(kind, table, str(item.name) if item.name else _automatic_name(kind, item, found.engine))
    # MySQL calls an index and a unique constraint by one name.
    other = SchemaObject("index" if kind == "unique" else "unique", table, object_.name)
    return other if object_ not in found.objects and other in found.objects else object_


def _automatic_name(kind: str, item: Any, engine: str) -> str:
    """Return what a constraint without a name is called, as far as it can be known."""
    columns = [str(getattr(column, "name", column)) for column in item.columns]
    if engine == "postgresql":
        return "_".join([item.table.name, *columns, "fkey" if kind == "foreign key" else "key"])
    return f"({', '.join(columns)})"


def _definition(kind: str, diff: Any, context: MigrationContext) -> str:
    """Return what a model says of an index or a constraint, as SQL."""
    if kind == "add_index":
        text = str(CreateIndex(diff[1]).compile(dialect=context.dialect))
        return ("unique " if diff[1].unique else "") + text.partition(" ON ")[2]
    if kind in ("add_fk", "add_constraint"):
        return str(AddConstraint(diff[1]).compile(dialect=context.dialect)).partition(" ADD ")[2]
    return ""


def _words(kind: str, value: Any, context: MigrationContext) -> str:
    match kind:
        case "modify_nullable":
            return "null" if value else "not null"
        case "modify_type":
            return str(value.compile(dialect=context.dialect)).lower()
        case "modify_default":
            if not value:
                return "no default"
            argument = getattr(value, "arg", None)
            if argument is None:
                return type(value).__name__.lower()  # an identity, a computed column
            return f"default {argument}" if not isinstance(argument, str) else f"default '{argument}'"
    return str(value or "")


# -- what Alembic does not look for ------------------------------------------------------------------------------------


def _checks(tables: Iterable[Table], found: Fingerprint, context: MigrationContext) -> Iterator[Finding]:
    """Compare checks by name; those without one only by their number, because engines rewrite conditions."""
    for table in tables:
        live = {object_.name: text for object_, text in found.objects.items() if _is_check(object_, text, table)}
        named, unnamed = _expected_checks(table, context)
        for name in sorted(named - live.keys()):
            yield Finding(SchemaObject("check", table.name, name), Status.MISSING, (MODELS,))
        others = sorted(live.keys() - named)
        automatic = [name for name in others if _is_automatic(name, table)]
        for name in [*(name for name in others if name not in automatic), *automatic[unnamed:]]:
            object_ = SchemaObject("check", table.name, name)
            yield Finding(object_, Status.UNEXPECTED, (MODELS,), live[name])
        if len(automatic) < unnamed:
            lacking = unnamed - len(automatic)
            object_ = SchemaObject("check", table.name, "(without a name)")
            yield Finding(object_, Status.MISSING, (MODELS,), "", f"{lacking} more")


def _is_automatic(name: str, table: Table) -> bool:
    """Say whether an engine gives this name to a check that has none."""
    own = rf"\(.*|{re.escape(table.name)}_(?:.*_)?check\d*|{re.escape(table.name)}_chk_\d+|CONSTRAINT_\d+"
    return re.fullmatch(own, name, re.DOTALL) is not None or name in table.columns


def _is_check(object_: SchemaObject, definition: str, table: Table) -> bool:
    is_json = definition == f"(json_valid(`{object_.name}`))"  # how MariaDB stores the type JSON
    return object_.kind == "check" and object_.table == table.name and not is_json


def _expected_checks(table: Table, context: MigrationContext) -> tuple[set[str], int]:
    """Return the names of a table's checks, and how many have none."""
    preparer = context.dialect.identifier_preparer
    named, unnamed = set(), 0
    for constraint in table.constraints:
        if not isinstance(constraint, CheckConstraint) or not _is_created(constraint, context):
            continue
        name = preparer.format_constraint(constraint) if constraint.name is not None else None
        if name:
            named.add(name.strip('"`'))
        else:
            unnamed += 1
    return named, unnamed


def _is_created(constraint: CheckConstraint, context: MigrationContext) -> bool:
    rule = getattr(constraint, "_create_rule", None)  # of Boolean and Enum: not where the engine has the type
    compiler: Any = context.dialect.ddl_compiler(context.dialect, None)  # type: ignore[arg-type]
    return rule is None or bool(rule(compiler))


def _enums(tables: Iterable[Table], found: Fingerprint) -> Iterator[Finding]:
    if found.engine != "postgresql":
        return
    types = {column.type for table in tables for column in table.columns if isinstance(column.type, Enum)}
    for type_ in sorted(types, key=lambda type_: type_.name or ""):
        if not type_.native_enum or not type_.name or type_.schema:
            continue
        object_ = SchemaObject("type", "", type_.name)
        expected = f"enum ({', '.join(_literal(value) for value in type_.enums)})"
        live = found.objects.get(object_)
        if live is not None and live != expected:
            yield Finding(object_, Status.DIFFERENT, (MODELS,), live, expected)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _sqlite_indexes(tables: Iterable[Table], found: Fingerprint, context: MigrationContext) -> Iterator[Finding]:
    """Compare indexes by their definition: SQLite keeps it as it was written."""
    if found.engine != "sqlite":
        return
    for table in tables:
        for index in table.indexes:
            expected = index_definition(str(CreateIndex(index).compile(dialect=context.dialect)))
            object_ = SchemaObject("index", table.name, str(index.name))
            live = found.objects.get(object_)
            if live is None:
                yield Finding(object_, Status.MISSING, (MODELS,), "", expected)
            elif live != expected:
                yield Finding(object_, Status.DIFFERENT, (MODELS,), live, expected)
