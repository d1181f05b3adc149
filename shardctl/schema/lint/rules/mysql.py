"""MySQL and MariaDB: what copies tables, and what they refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from sqlalchemy import Column, Index, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.types import JSON, LargeBinary, String

from shardctl.schema.lint.changes import DATA, Change, Kind, Revision
from shardctl.schema.lint.rule import Hit, Severity, rule
from shardctl.schema.lint.types import copies_on_mysql

lock = partial(rule, engine="mysql", spares_new_tables=True)
mysql = partial(rule, engine="mysql")


@lock(
    "MY01",
    Severity.WARNING,
    "change of type that copies the table",
    why="from {old} to {type}: `{table}` is copied, and writes to it wait until that is done",
    safer="add a column, write both, fill it in batches and switch; or have gh-ost or pt-online-schema-change do it",
)
def type_copies(revision: Revision) -> Iterator[Change]:
    """MODIFY and CHANGE with another type are done with ALGORITHM=COPY, which lets reads through and no writes.

    A VARCHAR may grow in place within 255 bytes, or beyond them, and an ENUM by values at its end. MariaDB 11.2 and
    later copy without blocking. Give `existing_type=`, without which nobody can tell.
    """
    for change in revision.of(Kind.ALTER_TYPE):
        if change.sql or copies_on_mysql(change.old_type, change.new_type):
            yield change
    yield from revision.of(Kind.REWRITE)


@lock(
    "MY02",
    Severity.WARNING,
    "key that is changed by copying the table",
    why="`{table}` is copied for the {constraint}, and writes to it wait until that is done",
    safer="do it in a quiet hour, or with gh-ost or pt-online-schema-change",
)
def key_copies(revision: Revision) -> Iterator[Change]:
    """A foreign key is added in place only while `foreign_key_checks` is off, and then no old row is checked.

    Dropping a primary key copies the table as well, unless the same statement adds another one.
    """
    yield from (change for change in revision.of(Kind.ADD_CONSTRAINT) if change.constraint == "foreign key")
    yield from (change for change in revision.of(Kind.DROP_CONSTRAINT) if change.constraint == "primary key")


@lock(
    "MY03",
    Severity.WARNING,
    "new column that copies the table",
    why="a {generated} column is added by copying `{table}`, and writes to it wait until that is done",
    safer="add a plain column and fill it in batches; a virtual generated column is added at once",
)
def column_copies(revision: Revision) -> Iterator[Hit]:
    """An AUTO_INCREMENT or a STORED generated column cannot be added in place."""
    names = {"identity": "AUTO_INCREMENT", "stored": "stored generated"}
    for change in revision.of(Kind.ADD_COLUMN):
        if change.generated in names:
            words = {"generated": names[change.generated], "table": change.table}
            yield Hit(change.line, change.table, words)


@mysql(
    "MY04",
    Severity.ERROR,
    "index on TEXT, BLOB or JSON without a length",
    why="MySQL refuses an index on `{column}`, which is {type}, without the length of its beginning (error 1170)",
    safer='op.create_index(…, mysql_length={{"{column}": 255}}), or make the column a VARCHAR',
)
def index_without_length(revision: Revision) -> Iterator[Hit]:
    """An index holds 3072 bytes at most, so a type without a limit can be indexed by its beginning only.

    MariaDB cuts by itself, and hashes what is UNIQUE; it refuses a primary key all the same.
    """
    types = _types(revision)
    for change in revision.changes:
        for line, table, column in _indexed(change, primary_only=revision.is_mariadb):
            type_ = types.get((table, column))
            if type_ is not None and _has_no_limit(type_) and column not in change.prefixed:
                yield Hit(line, table, {"column": column, "type": type_.__class__.__name__})


@mysql(
    "MY05",
    Severity.WARNING,
    "partial index: the condition is lost",
    why="MySQL has no partial indexes: `{name}` is built over all rows, without `{where}`",
    safer="make it on the engines that have it; for uniqueness, a generated column that is NULL elsewhere",
)
def partial_index(revision: Revision) -> Iterator[Hit]:
    """`postgresql_where` and `sqlite_where` say nothing to MySQL: a unique partial index is unique over all rows."""
    for change in revision.of(Kind.CREATE_INDEX):
        if change.where and not change.sql:
            yield Hit(change.line, change.table, {"name": change.name, "where": change.where})


@mysql(
    "MY06",
    Severity.ERROR,
    "default that MySQL refuses",
    why="MySQL takes no literal default for `{column}`, which is {type} (error 1101); MariaDB does",
    safer='server_default=sa.text("(…)"): an expression in parentheses, since MySQL 8.0.13',
)
def default_on_text(revision: Revision) -> Iterator[Hit]:
    """BLOB, TEXT and JSON take a default only as an expression in parentheses."""
    for change in [] if revision.is_mariadb else revision.of(Kind.CREATE_TABLE, Kind.ADD_COLUMN):
        items = change.column if change.kind is Kind.CREATE_TABLE else [change.column]
        for item in items or ():
            if isinstance(item, Column) and _has_no_limit(item.type) and _is_literal(item.server_default):
                yield Hit(change.line, change.table, {"column": item.name, "type": item.type.__class__.__name__})


@mysql(
    "MY07",
    Severity.INFO,
    "several statements, none of which can be rolled back",
    why="{count} schema statements, each committed by itself: a failure leaves those before it applied",
    safer="write one statement in each revision; shardctl resumes after the last one done, Alembic by itself does not",
)
def many_statements(revision: Revision) -> Iterator[Hit]:
    """MySQL and MariaDB commit before and after every CREATE, ALTER and DROP: a revision of several is not one step."""
    found = [change for change in revision.changes if change.kind not in DATA and _is_schema(change)]
    if len(found) > 1:
        yield Hit(found[1].line, "", {"count": len(found)})


def _types(revision: Revision) -> dict[tuple[str, str], Any]:
    """Return the types of the columns that are known by now, by table and name."""
    types = dict(revision.types)
    for change in revision.changes:
        if change.kind is Kind.CREATE_TABLE:
            types |= {(change.table, item.name): item.type for item in change.column or () if isinstance(item, Column)}
        elif change.kind in {Kind.ADD_COLUMN, Kind.ALTER_TYPE} and change.new_type is not None:
            types[change.table, change.name] = change.new_type
    return types


def _indexed(change: Change, *, primary_only: bool) -> Iterator[tuple[int | None, str, str]]:
    """Return where columns are indexed: the line, the table, the column."""
    kinds = {"primary key"} if primary_only else {"primary key", "unique", "index"}
    of_change = "index" if change.kind is Kind.CREATE_INDEX else change.constraint
    if change.kind in {Kind.CREATE_INDEX, Kind.ADD_CONSTRAINT} and of_change in kinds:
        yield from ((change.line, change.table, column) for column in change.columns)
    for item in (change.column or ()) if change.kind is Kind.CREATE_TABLE else ():
        yield from ((change.line, change.table, column) for column in _indexed_by(item, kinds))


def _indexed_by(item: Any, kinds: set[str]) -> Iterator[str]:
    """Return the columns that a part of a new table indexes."""
    if isinstance(item, Column):
        said = {"primary key": item.primary_key, "unique": item.unique, "index": item.index}
        if any(said[kind] for kind in kinds):
            yield item.name
    classes = {UniqueConstraint: "unique", PrimaryKeyConstraint: "primary key", Index: "index"}
    if classes.get(type(item)) in kinds:
        yield from (name for name in item._pending_colargs if isinstance(name, str))


def _has_no_limit(type_: Any) -> bool:
    if isinstance(type_, JSON):
        return True
    return isinstance(type_, String | LargeBinary) and not type_.length and not hasattr(type_, "enums")


def _is_literal(default: Any) -> bool:
    argument = getattr(default, "arg", None)
    text = argument if isinstance(argument, str) else getattr(argument, "text", "")
    return argument is not None and (isinstance(argument, str) or re.match(r"\s*(?:'|\d)", text) is not None)


def _is_schema(change: Change) -> bool:
    return not change.sql or re.match(r"(?:CREATE|ALTER|DROP|RENAME)\b", change.sql, re.I) is not None
