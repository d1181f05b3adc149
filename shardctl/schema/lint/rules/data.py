"""Lost data, and changes that break an application that still runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from shardctl.schema.lint.changes import Change, Kind, Revision
from shardctl.schema.lint.rule import Severity, rule
from shardctl.schema.lint.types import is_narrower

on_rows = partial(rule, spares_new_tables=True)


@on_rows(
    "DS01",
    Severity.ERROR,
    "column dropped",
    why="the values of `{table}.{column}` are lost, and code that still reads it fails on every shard done so far",
    safer="deploy code that no longer uses it first; then allow this line: # shardctl: allow DS01 unused since …",
)
def drop_column(revision: Revision) -> Iterator[Change]:
    """A dropped column is gone: a downgrade makes an empty one.

    While a fleet is migrated, some shards have the column and some do not. Code that names it, which an ORM does in
    every SELECT and INSERT, must have been replaced before.
    """
    yield from revision.of(Kind.DROP_COLUMN)


@on_rows(
    "DS02",
    Severity.ERROR,
    "table dropped",
    why="all rows of `{table}` are lost",
    safer='op.rename_table("{table}", "{table}_old") now, and drop it in a later release',
)
def drop_table(revision: Revision) -> Iterator[Change]:
    """A dropped table is gone: a downgrade makes an empty one.

    A rename can be taken back for as long as it takes to see that nothing misses the table.
    """
    yield from revision.of(Kind.DROP_TABLE)


@on_rows(
    "DS03",
    Severity.WARNING,
    "narrower type",
    why="from {old} to {type}: values of `{table}.{column}` may not fit; the statement fails, or cuts them",
    safer='look for such values first: shardctl query "SELECT count(*) FROM {table} WHERE length({column}) > …"',
)
def narrower_type(revision: Revision) -> Iterator[Change]:
    """PostgreSQL and a strict MySQL refuse values that do not fit, so the revision fails on the shards that have some.

    SQLite, and MySQL without strict mode, keep or cut them.
    """
    for change in revision.of(Kind.ALTER_TYPE):
        if is_narrower(change.old_type, change.new_type):
            yield change


@on_rows(
    "DS04",
    Severity.ERROR,
    "all rows deleted",
    why="all rows of `{table}` are deleted",
    safer="delete by a condition, in batches",
)
def delete_all(revision: Revision) -> Iterator[Change]:
    """TRUNCATE, and DELETE without a WHERE, leave an empty table, and no downgrade brings the rows back."""
    yield from revision.of(Kind.TRUNCATE)
    yield from (change for change in revision.of(Kind.DELETE) if not change.is_bounded)


@on_rows(
    "DM01",
    Severity.WARNING,
    "all rows updated in one statement",
    why="every row of `{table}` is written in one transaction: writers wait, and a failure rolls all of it back",
    safer="update in batches by key: WHERE id > … ORDER BY id LIMIT 1000, each in a transaction of its own",
)
def update_all(revision: Revision) -> Iterator[Change]:
    """An UPDATE without a WHERE writes the whole table in one transaction.

    Writers wait for it, replicas fall behind, and a failure at the end rolls all of it back.
    """
    yield from (change for change in revision.of(Kind.UPDATE) if not change.is_bounded)


@on_rows(
    "BC01",
    Severity.WARNING,
    "table renamed",
    why="code that still says `{table}` fails on every shard done so far",
    safer='after the rename, op.execute("CREATE VIEW {table} AS SELECT * FROM {new_name}") until the code is replaced',
)
def rename_table(revision: Revision) -> Iterator[Change]:
    """There is no moment at which old code and new code both work, and over a fleet that moment is long.

    A view with the old name serves both, on PostgreSQL and MySQL for writes too.
    """
    yield from revision.of(Kind.RENAME_TABLE)


@on_rows(
    "BC02",
    Severity.WARNING,
    "column renamed",
    why="code that still says `{table}.{column}` fails on every shard done so far",
    safer='op.add_column("{table}", sa.Column("{new_name}", …)), write both, copy, switch reads, then drop `{column}`',
)
def rename_column(revision: Revision) -> Iterator[Change]:
    """There is no moment at which old code and new code both work, and over a fleet that moment is long.

    Or rename it in the models only: `mapped_column("old_name")` under a new attribute.
    """
    yield from revision.of(Kind.RENAME_COLUMN)


@on_rows(
    "BC03",
    Severity.ERROR,
    "NOT NULL column without a default",
    why="`{column}` has no value for the rows that are there, nor for INSERTs of code that does not know it",
    safer='op.add_column("{table}", sa.Column("{column}", …, nullable=False, server_default=…))',
)
def not_null_without_default(revision: Revision) -> Iterator[Change]:
    """PostgreSQL and SQLite refuse it where there are rows; MySQL gives them '' or 0, which nobody chose."""
    for change in revision.of(Kind.ADD_COLUMN):
        if not change.is_nullable and not change.has_default and not change.generated:
            yield change
