"""SQLite: what it has no statement for, and what batch mode does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from shardctl.schema.lint.changes import Change, Kind, Revision
from shardctl.schema.lint.rule import Hit, Severity, rule

_ALTERED = (Kind.ALTER_TYPE, Kind.SET_NOT_NULL, Kind.DROP_NOT_NULL, Kind.ALTER_DEFAULT)
sqlite = partial(rule, engine="sqlite")


@sqlite(
    "SQ01",
    Severity.ERROR,
    "ALTER that SQLite does not have",
    why="SQLite cannot {what} in place: this statement fails there",
    safer='with op.batch_alter_table("{table}") as batch: batch.{method}(…)',
)
def no_such_alter(revision: Revision) -> Iterator[Hit]:
    """SQLite's ALTER TABLE renames tables and columns, and adds and drops columns, and that is all.

    For the rest Alembic's batch mode copies the table into a new one; on other engines it makes plain ALTERs.
    """
    seen = set()
    methods = {Kind.ADD_CONSTRAINT: "create_{}_constraint", Kind.DROP_CONSTRAINT: "drop_constraint"}
    for change in revision.of(*_ALTERED, Kind.ADD_CONSTRAINT, Kind.DROP_CONSTRAINT, Kind.VALIDATE):
        if change.is_batch or change.line in seen:
            continue
        if change.kind is Kind.ADD_CONSTRAINT and change.line in _added_with_column(revision, change):
            continue
        method = methods.get(change.kind, "alter_column").format(change.constraint.replace(" ", "_"))
        method = method.replace("_key_constraint", "_key")
        seen.add(change.line)
        what = str(change.kind).replace("set not null", "make a column NOT NULL").replace("alter type", "change a type")
        yield Hit(change.line, change.table, {"what": what, "table": change.table, "method": method})


@sqlite(
    "SQ02",
    Severity.ERROR,
    "column that SQLite refuses to add",
    spares_new_tables=True,
    why="SQLite refuses to add `{column}`: {what}",
    safer='with op.batch_alter_table("{table}", recreate="always") as batch: batch.add_column(…)',
)
def column_refused(revision: Revision) -> Iterator[Hit]:
    """ADD COLUMN takes no UNIQUE or PRIMARY KEY, and, where there are rows, no value that is computed.

    In batch mode the table is copied into a new one, which takes all of them.
    """
    copied = {table for table, _ in revision.recreated}
    for change in revision.of(Kind.ADD_COLUMN):
        if change.is_batch and change.table in copied:
            continue
        what = _refused(change)
        if what:
            table = "" if "UNIQUE" in what else change.table  # that is refused without rows too: spare no new table
            yield Hit(change.line, table, {"column": change.name, "table": change.table, "what": what})


@sqlite(
    "SQ03",
    Severity.INFO,
    "table copied whose rows others are deleted with",
    why="copying `{table}` drops it: with foreign keys on, the rows of {children} would be deleted too",
    safer="shardctl turns foreign keys off for it; an env.py that opens its own connection has to, before it begins",
)
def batch_on_parent(revision: Revision) -> Iterator[Hit]:
    """Batch mode copies a table, drops the old one and renames the new one.

    With `PRAGMA foreign_keys = ON` dropping it deletes its rows, and ON DELETE CASCADE, SET NULL or SET DEFAULT does
    what it says to the rows that refer to them. The pragma does nothing inside a transaction: turn it off before.
    """
    for table, line in revision.recreated:
        children = sorted(child for child in revision.cascading.get(table, ()) if child != table)
        if children:
            yield Hit(line, table, {"table": table, "children": ", ".join(f"`{child}`" for child in children)})


def _refused(change: Change) -> str:
    if change.is_unique or getattr(change.column, "primary_key", False):
        return "it is UNIQUE or a primary key"
    if change.generated == "stored":
        return "it is a stored generated column"
    if re.search(r"\bCURRENT_(?:TIME|DATE)|\w\(", change.default, re.I):
        return f"its default is computed (`{change.default}`), which fails if there are rows"
    return ""


def _added_with_column(revision: Revision, change: Change) -> set[int | None]:
    """Return the lines of columns that carry this constraint: what is wrong there is said of the column."""
    return {c.line for c in revision.of(Kind.ADD_COLUMN) if c.table == change.table and c.is_unique}
