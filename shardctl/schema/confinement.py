"""What keeps a migration inside the shard's own schema, where names without a schema are already its own.

A statement that names another schema as what it changes is refused before it runs; one that leads later names
elsewhere (`SET search_path`, `USE`), right after it. What no text shows, such as a function that writes elsewhere,
PostgreSQL tells before the revision is committed: by the locks that its transaction holds. Reading other schemas, and
referring to their tables and types, is left to the migration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Connection, event, text

from shardctl.errors import ShardError
from shardctl.fleet import LiveShard

_NAME = r'(?:"(?:[^"]|"")+"|`[^`]+`|[\w$]+)'
_QUALIFIED = rf"(?P<schema>{_NAME})\s*\.\s*{_NAME}"
_OBJECT = (
    r"(?:or\s+replace\s+|unique\s+|temp(?:orary)?\s+|unlogged\s+|materialized\s+|recursive\s+|foreign\s+)*"
    r"(?:table|view|sequence|type|domain|function|procedure|index)\s+"
)
_ANYWAY = r"(?:(?:if\s+(?:not\s+)?exists|only|concurrently)\s+)*"
_CHANGES = (
    rf"(?:create|alter|drop|rename|comment\s+on)\s+{_OBJECT}",
    rf"create\s+(?:unique\s+)?index\s+(?:{_ANYWAY}{_NAME}\s+)?on\s+",
    r"(?:insert|replace|merge)\s+(?:ignore\s+)?into\s+",
    r"update\s+",
    r"delete\s+from\s+",
    r"truncate\s+(?:table\s+)?",
    r"copy\s+",
)
# Text in quotes, and the bodies of functions, which do not run now.
_QUOTED = re.compile(r"'(?:[^'\\]|''|\\.)*'|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/", re.DOTALL)
_LEADS_ELSEWHERE = {
    "postgresql": re.compile(r"\bsearch_path\b|\bset\s+(?:session\s+|local\s+)?schema\b", re.IGNORECASE),
    "mysql": re.compile(r"(?:^|;)\s*use\s", re.IGNORECASE),
}
_LEADS_ELSEWHERE["mariadb"] = _LEADS_ELSEWHERE["mysql"]
_CURRENT = {"postgresql": "SELECT current_schema()", "mysql": "SELECT database()", "mariadb": "SELECT database()"}
# Not a sequence, whose numbers shards may share, nor the lock that a foreign key takes on the table it refers to.
_WRITTEN = text(
    """
    SELECT current_schema(), ARRAY(
        SELECT DISTINCT n.nspname || '.' || c.relname
        FROM pg_catalog.pg_locks l
        JOIN pg_catalog.pg_class c ON c.oid = l.relation
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = current_database()
        WHERE l.locktype = 'relation' AND l.pid = pg_backend_pid() AND c.relkind <> 'S'
            AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareRowExclusiveLock')
            AND n.nspname <> :schema AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
        ORDER BY 1
    )
    """
)
_HINT = "leave the schema out of names: each shard's own is the default one"


@contextmanager
def confined(shard: LiveShard, connection: Connection) -> Iterator[None]:
    """Have a connection refuse statements that change another schema than the shard's; do nothing for SQLite.

    An attached file is opened by itself: no other schema is within reach.

    Raises:
        ShardError: From within the statement, and so from within the migration.
    """
    leads_elsewhere = _LEADS_ELSEWHERE.get(connection.dialect.name)
    if leads_elsewhere is None or (shard.shard.schema is None and connection.dialect.name == "postgresql"):
        yield
        return
    own = _schema_of(shard)

    def before(conn: Connection, cursor: Any, statement: str, *rest: Any) -> None:
        named = shard.shard.schema and changed_schema(statement, own)
        if named:
            raise ShardError(f"it names the schema `{named}`: {_short(statement)}", hint=_HINT)

    def after(conn: Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if leads_elsewhere.search(_QUOTED.sub(_kept, statement)):
            with closing(conn.connection.cursor()) as own_cursor:  # the statement's own may have rows
                own_cursor.execute(_CURRENT[conn.dialect.name])
                now = own_cursor.fetchall()[0][0]
            if str(now).casefold() != own.casefold():
                raise ShardError(f"it left the schema `{own}` for `{now}`: {_short(statement)}", hint=_HINT)

    event.listen(connection, "before_cursor_execute", before)
    event.listen(connection, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", before)
        event.remove(connection, "after_cursor_execute", after)


def check_confined(shard: LiveShard, connection: Connection) -> None:
    """Refuse what a revision wrote to other schemas, before it is committed; a schema of PostgreSQL only.

    Raises:
        ShardError: It did, or names without a schema are no longer the shard's own.
    """
    schema = shard.shard.schema
    if schema is None or connection.dialect.name != "postgresql":
        return
    current, written = connection.execute(_WRITTEN, {"schema": schema}).one()
    if current != schema:
        raise ShardError(f"it left the schema `{schema}` for `{current}`", hint=_HINT)
    if written:
        raise ShardError(f"it changed {', '.join(f'`{name}`' for name in written)}, outside of `{schema}`", hint=_HINT)


def changed_schema(statement: str, own: str) -> str | None:
    """Return the other schema that a statement names as what it changes, if any."""
    plain = _QUOTED.sub(_emptied, statement).strip()
    for pattern in _changed():
        for found in pattern.finditer(plain):
            quoted = found["schema"]
            name = quoted.strip('"`')
            is_own = name == own if quoted != name else name.casefold() == own.casefold()
            if not is_own and not name.lower().startswith("pg_"):
                return name
    return None


@cache
def _changed() -> list[re.Pattern[str]]:
    return [re.compile(rf"(?:^|;)\s*{start}{_ANYWAY}{_QUALIFIED}", re.IGNORECASE) for start in _CHANGES]


def _schema_of(shard: LiveShard) -> str:
    return shard.shard.schema or str(shard.engine.url.database)


def _kept(quoted: re.Match[str]) -> str:
    """Keep text in quotes, which may be an argument of `set_config`, and drop comments."""
    return " " if quoted[0].startswith(("--", "/*")) else quoted[0]


def _emptied(quoted: re.Match[str]) -> str:
    return " " if quoted[0].startswith(("--", "/*")) else "''"


def _short(statement: str) -> str:
    line = " ".join(statement.split())
    return f"`{line if len(line) <= 80 else line[:77] + '...'}`"
