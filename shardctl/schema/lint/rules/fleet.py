"""What is fine on one database, and not on many shards."""

from __future__ import annotations

import re
from collections.abc import Iterator

from shardctl.schema.lint.changes import DATA, Change, Kind, Revision
from shardctl.schema.lint.rule import Severity, rule

_PLACE = re.compile(r"SET (?:SESSION |LOCAL )?SEARCH_PATH\b|USE \w|ATTACH\b|DETACH (?:DATABASE )?\w|SET SCHEMA\b", re.I)
_SERVER_WIDE = re.compile(
    r"(?:CREATE|ALTER|DROP) (?:ROLE|USER|GROUP|DATABASE|TABLESPACE|SERVER|PUBLICATION|SUBSCRIPTION|EVENT TRIGGER)\b"
    r"|ALTER SYSTEM|SET (?:GLOBAL|PERSIST)|SET @@GLOBAL",
    re.I,
)
_EXTENSION = re.compile(r"(?:CREATE|ALTER|DROP) EXTENSION\b", re.I)
_VARYING = re.compile(
    r"\b(?:random|rand|now|uuid|gen_random_uuid|uuid_generate_\w+|uuidv[47]|clock_timestamp|statement_timestamp"
    r"|transaction_timestamp|sysdate|curdate|curtime|unix_timestamp|randomblob|nextval|last_insert_id)\s*\("
    r"|\b(?:CURRENT_TIMESTAMP|CURRENT_DATE|CURRENT_TIME|LOCALTIMESTAMP)\b",
    re.I,
)


@rule(
    "SH01",
    Severity.WARNING,
    "schema named",
    on_schemas=Severity.ERROR,
    why="it names the schema {schemas}: on every shard it works on that one, and not on the shard's own",
    safer="leave the schema out: shardctl makes names without one mean the shard",
)
def schema_named(revision: Revision) -> Iterator[Change]:
    """`schema=` in an operation, and `schema.table` in SQL, mean the same place whichever shard is migrated.

    Where shards are schemas of one database, the first shard changes it and the next ones fail, or change it again.
    Each shard's own schema is the only one on its search path, so a plain name is right.
    """
    yield from (change for change in revision.changes if change.schemas and not _PLACE.match(change.sql))


@rule(
    "SH02",
    Severity.ERROR,
    "place changed",
    why="`{statement}` makes the names after it, and Alembic's version table, mean another place than the shard",
    safer="leave it out: shardctl makes names without a schema mean the shard",
)
def place_changed(revision: Revision) -> Iterator[Change]:
    """SET search_path, USE and ATTACH outlive the statement: the rest of the revision lands elsewhere."""
    yield from (change for change in revision.of(Kind.OTHER) if _PLACE.match(change.sql))


@rule(
    "SH03",
    Severity.WARNING,
    "object of the whole server",
    why="`{statement}` is for the whole server, and runs once for each shard: the second one fails",
    safer="do it once, outside the migrations, when a server is set up",
)
def server_wide(revision: Revision) -> Iterator[Change]:
    """Roles, databases, tablespaces and global settings belong to the server, which several shards may share."""
    yield from (change for change in revision.of(Kind.OTHER) if _SERVER_WIDE.match(change.sql))


@rule(
    "SH04",
    Severity.WARNING,
    "extension in a schema that is a shard",
    engine="postgresql",
    only_schemas=True,
    why="a database has an extension once: it lands in the first shard's schema, and the others do not see it",
    safer="create it once, in a schema such as `extensions`, when the database is set up",
)
def extension(revision: Revision) -> Iterator[Change]:
    """An extension belongs to a database and puts its functions into one schema, the first of the search path.

    `IF NOT EXISTS` keeps the later shards from failing, and leaves them without its functions and types.
    """
    yield from (change for change in revision.of(Kind.OTHER) if _EXTENSION.match(change.sql))


@rule(
    "SH05",
    Severity.WARNING,
    "data that differs from shard to shard",
    why="the values are made while it runs: each shard gets others, and MySQL cannot resume it after a failure",
    safer="write the values into the revision",
)
def varying_data(revision: Revision) -> Iterator[Change]:
    """Rows that every shard has should be the same everywhere, or a reference table has a version for each shard.

    Found by the functions in the SQL (`now()`, `random()`, `gen_random_uuid()`, `nextval()`), and by recording the
    revision twice: what `uuid4()` or `datetime.now()` gave is another value the second time. The journal from which
    shardctl resumes on MySQL knows statements by their text, and does not know these.
    """
    seen = set()
    for change in revision.changes:
        if change.kind in DATA and _VARYING.search(change.sql):
            seen.add(change.line)
            yield change
    yield from (change for change in revision.varying if change.line not in seen)
