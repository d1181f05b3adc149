"""PostgreSQL: what blocks the application while it runs, and what cannot run in a transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from shardctl.schema.lint.changes import DATA, Change, Kind, Revision
from shardctl.schema.lint.rule import Severity, rule
from shardctl.schema.lint.types import rewrites_on_postgresql

VOLATILE = re.compile(
    r"\b(?:random|gen_random_uuid|uuid_generate_\w+|uuidv[47]|clock_timestamp|timeofday|nextval|txid_current)\s*\(",
    re.I,
)
_NO_TRANSACTION = re.compile(
    r"(?:CREATE (?:UNIQUE )?INDEX|DROP INDEX) CONCURRENTLY|REINDEX .*CONCURRENTLY|VACUUM\b|ALTER SYSTEM|"
    r"(?:CREATE|DROP) (?:DATABASE|TABLESPACE)|DETACH PARTITION .*CONCURRENTLY|(?:CREATE|DROP) SUBSCRIPTION",
    re.I,
)
_REWRITES = re.compile(
    r"VACUUM \(?FULL|CLUSTER\b|REINDEX (?!.*CONCURRENTLY)|LOCK TABLE|REFRESH MATERIALIZED VIEW (?!C)", re.I
)
lock = partial(rule, engine="postgresql", spares_new_tables=True)


@lock(
    "PG01",
    Severity.WARNING,
    "index built without CONCURRENTLY",
    why="building the index blocks every write to `{table}` until it is done",
    safer='with op.get_context().autocommit_block(): op.create_index("{name}", "{table}", [{columns}], '
    "postgresql_concurrently=True)",
)
def index_blocks_writes(revision: Revision) -> Iterator[Change]:
    """CREATE INDEX holds a SHARE lock on the table from its first row to its last: reads go on, writes wait.

    CONCURRENTLY builds it without that lock, in two passes. It cannot run inside a transaction, hence the
    `autocommit_block`, and it should be the only statement of its revision: if it fails it leaves an INVALID index,
    which has to be dropped before the next try (`if_not_exists=True` would take it for done).
    """
    yield from (change for change in revision.of(Kind.CREATE_INDEX) if not change.concurrently)


@rule(
    "PG02",
    Severity.ERROR,
    "statement that cannot run inside a transaction",
    engine="postgresql",
    why="PostgreSQL refuses this inside a transaction, and every revision runs in one",
    safer="put it into `with op.get_context().autocommit_block():`, in a revision of its own",
)
def outside_autocommit_block(revision: Revision) -> Iterator[Change]:
    """CREATE INDEX CONCURRENTLY, VACUUM and CREATE DATABASE end with "cannot run inside a transaction block".

    Alembic's `autocommit_block` commits what the revision has done so far, runs the block without a transaction, and
    begins a new one.
    """
    for change in revision.changes:
        if not change.is_autocommit and (change.concurrently or _NO_TRANSACTION.match(change.sql)):
            yield change


@lock(
    "PG03",
    Severity.INFO,
    "index dropped without CONCURRENTLY",
    why="DROP INDEX waits for every running query on the table, and meanwhile all others wait behind it",
    safer='with op.get_context().autocommit_block(): op.drop_index("{name}", postgresql_concurrently=True)',
)
def drop_index_waits(revision: Revision) -> Iterator[Change]:
    """DROP INDEX takes an ACCESS EXCLUSIVE lock on the index's table.

    It holds it for a moment only, but a single long query keeps it waiting, and all that come later wait behind it. A
    `lock_timeout` with tries again, which shardctl sets, bounds that; CONCURRENTLY avoids it.
    """
    yield from (change for change in revision.of(Kind.DROP_INDEX) if not change.concurrently)


@lock(
    "PG04",
    Severity.WARNING,
    "SET NOT NULL reads the whole table under a lock",
    why="SET NOT NULL reads all of `{table}` while neither reads nor writes can go on",
    safer='op.create_check_constraint("{column}_set", "{table}", "{column} IS NOT NULL", postgresql_not_valid=True); '
    "VALIDATE it in the next revision, and SET NOT NULL in the one after",
)
def set_not_null_scans(revision: Revision) -> Iterator[Change]:
    """ALTER COLUMN … SET NOT NULL holds an ACCESS EXCLUSIVE lock while it looks for NULLs.

    PostgreSQL 12 and later skip the search where a validated CHECK constraint says `column IS NOT NULL`: add it NOT
    VALID (no search), validate it in the next revision (a search that blocks nobody), then SET NOT NULL, and drop it.
    """
    for change in revision.of(Kind.SET_NOT_NULL):
        if not any(_says_not_null(check, change) for check in revision.proven):
            yield change


@lock(
    "PG05",
    Severity.WARNING,
    "change of type that writes the table anew",
    why="from {old} to {type}: `{table}` is written anew while neither reads nor writes can go on",
    safer='op.add_column("{table}", sa.Column("{column}_new", …)), write both, fill in batches, switch, drop the old',
)
def type_rewrites(revision: Revision) -> Iterator[Change]:
    """ALTER COLUMN … TYPE holds an ACCESS EXCLUSIVE lock while it writes the table and its indexes anew.

    It is done at once, without that, for a longer VARCHAR, from VARCHAR to TEXT, and for a NUMERIC with more digits
    before the point. Give `existing_type=`, without which nobody can tell.
    """
    for change in revision.of(Kind.ALTER_TYPE):
        if not change.sql and not rewrites_on_postgresql(change.old_type, change.new_type):
            continue
        yield change


@lock(
    "PG06",
    Severity.WARNING,
    "foreign key checked under a lock",
    why="all rows of `{table}` are checked while writes to it and to `{new_name}` wait",
    safer="op.create_foreign_key(…, postgresql_not_valid=True); in the next revision "
    'op.execute("ALTER TABLE {table} VALIDATE CONSTRAINT …")',
)
def foreign_key_validates(revision: Revision) -> Iterator[Change]:
    """ADD FOREIGN KEY holds a SHARE ROW EXCLUSIVE lock on both tables while it checks the rows that are there.

    NOT VALID takes the lock for a moment, and new rows are checked from then on. VALIDATE CONSTRAINT, in a later
    transaction, checks the old ones with a lock that lets writes through.
    """
    yield from _validated(revision, "foreign key")


@lock(
    "PG07",
    Severity.WARNING,
    "CHECK constraint checked under a lock",
    why="all rows of `{table}` are checked while neither reads nor writes can go on",
    safer="op.create_check_constraint(…, postgresql_not_valid=True); in the next revision "
    'op.execute("ALTER TABLE {table} VALIDATE CONSTRAINT …")',
)
def check_validates(revision: Revision) -> Iterator[Change]:
    """ADD CHECK holds an ACCESS EXCLUSIVE lock while it checks the rows that are there.

    NOT VALID takes the lock for a moment; VALIDATE CONSTRAINT, in a later transaction, lets reads and writes through.
    """
    yield from _validated(revision, "check")


@lock(
    "PG08",
    Severity.WARNING,
    "unique constraint or primary key built under a lock",
    why="its index is built while neither reads nor writes of `{table}` can go on",
    safer="op.create_index(…, unique=True, postgresql_concurrently=True); then "
    'op.execute("ALTER TABLE {table} ADD CONSTRAINT … UNIQUE USING INDEX …")',
)
def unique_builds_index(revision: Revision) -> Iterator[Change]:
    """ADD UNIQUE, ADD PRIMARY KEY and EXCLUDE build an index under an ACCESS EXCLUSIVE lock.

    Build the unique index CONCURRENTLY first, in a revision of its own; USING INDEX then makes the constraint of it in
    a moment. EXCLUDE has no such way.
    """
    yield from _validated(revision, "unique", "primary key", "exclude")


@lock(
    "PG09",
    Severity.WARNING,
    "new column with a value of its own for each row",
    why="each row gets a value of its own, so `{table}` is written anew while neither reads nor writes can go on",
    safer='op.add_column("{table}", sa.Column("{column}", …)) without it, then set the default, then fill in batches',
)
def volatile_default(revision: Revision) -> Iterator[Change]:
    """ADD COLUMN with a constant default, or with `now()`, is done at once since PostgreSQL 11.

    With `random()`, `gen_random_uuid()`, `nextval()`, IDENTITY, SERIAL or a stored generated column every row is
    written, under an ACCESS EXCLUSIVE lock.
    """
    for change in revision.of(Kind.ADD_COLUMN):
        if change.generated in {"identity", "stored"} or VOLATILE.search(change.default):
            yield change


@lock(
    "PG10",
    Severity.WARNING,
    "constraint added and validated in one transaction",
    why="the lock that adding it takes on `{table}` is held until the validation is done",
    safer="move the VALIDATE CONSTRAINT into the next revision: each revision is a transaction",
)
def validated_at_once(revision: Revision) -> Iterator[Change]:
    """NOT VALID is of use only if the transaction that adds the constraint ends before the validation begins."""
    added = {change.table for change in revision.of(Kind.ADD_CONSTRAINT) if not change.is_autocommit}
    yield from (c for c in revision.of(Kind.VALIDATE) if c.table in added and not c.is_autocommit)


@lock(
    "PG11",
    Severity.WARNING,
    "statement that locks a whole table",
    why="`{statement}` shuts the table to reads and writes until it is done",
    safer="REINDEX and REFRESH MATERIALIZED VIEW can do it CONCURRENTLY; for the others use a quiet hour, or pg_repack",
)
def whole_table_lock(revision: Revision) -> Iterator[Change]:
    """VACUUM FULL, CLUSTER, REINDEX, LOCK TABLE and SET TABLESPACE hold an ACCESS EXCLUSIVE lock throughout."""
    yield from revision.of(Kind.REWRITE)
    yield from (change for change in revision.of(Kind.OTHER) if _REWRITES.match(change.sql))


@lock(
    "PG12",
    Severity.WARNING,
    "rows changed in the transaction that altered their table",
    why="the lock of the ALTER is held while the rows of `{table}` are changed: nobody can read them",
    safer="change the rows in a revision of their own, after this one",
)
def filled_in_one_transaction(revision: Revision) -> Iterator[Change]:
    """An ALTER TABLE takes an ACCESS EXCLUSIVE lock, which is held until the revision's transaction ends."""
    altering = {Kind.ADD_COLUMN, Kind.ALTER_TYPE, Kind.SET_NOT_NULL, Kind.ADD_CONSTRAINT, Kind.DROP_COLUMN}
    altered: set[str] = set()
    for change in revision.changes:
        if change.is_autocommit:
            altered.clear()
        elif change.kind in altering:
            altered.add(change.table)
        elif change.kind in DATA - {Kind.INSERT} and change.table in altered:
            yield change


def _validated(revision: Revision, *kinds: str) -> Iterator[Change]:
    for change in revision.of(Kind.ADD_CONSTRAINT):
        if change.constraint in kinds and change.is_validated:
            yield change


def _says_not_null(check: Change, change: Change) -> bool:
    said = re.sub(r'[\s"()]+', " ", check.where).strip().lower()
    return check.table == change.table and said == f"{change.name} is not null".lower()
