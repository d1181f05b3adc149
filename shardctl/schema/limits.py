"""How long a migration may wait on a shard, and when it is worth trying again.

An ALTER that queues behind a long read blocks everything that comes after it: it has to give up soon, let the others
through, and try again.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0

_POSTGRESQL_LOCKED = {"55P03", "40P01", "40001"}  # lock_not_available, deadlock_detected, serialization_failure
_MYSQL_LOCKED = {1205, 1213}  # ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK
_SQLITE_LOCKED = {5, 6}  # SQLITE_BUSY, SQLITE_LOCKED

# One round trip, and no setting that the server does not have. Checking the connection while a statement runs frees
# what a killed client held; PostgreSQL can do it on Linux and a few others, and refuses elsewhere.
_POSTGRESQL_SETTINGS = text("""
SELECT set_config(name, value, false)
FROM unnest(CAST(:names AS text[]), CAST(:values AS text[])) AS wanted (name, value)
JOIN pg_catalog.pg_settings USING (name)
WHERE name <> 'client_connection_check_interval' OR (setting = '0' AND version() LIKE '%linux%')
""")


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms migrations run on a shard."""

    lock_wait_s: float = 0.0
    """Seconds to wait for another run that is at work on the shard; 0 fails at once."""
    lock_timeout_s: float = 5.0
    """Seconds that a statement may wait for the application's locks; 0: for ever."""
    statement_timeout_s: float | None = None
    """Seconds that a statement may take; None: what the server is set to. SQLite has no such limit, and MySQL has it
    for SELECT only; MariaDB has it for every statement."""
    retries: int = 5
    """How often a revision that had to give up waiting for a lock is tried again."""


def set_limits(connection: Connection, terms: Terms, application: str) -> None:
    """Set the limits of a migration's session.

    Args:
        connection: The shard's connection.
        terms: The limits.
        application: What the server shows as the client's name.
    """
    {"postgresql": _limit_postgresql, "sqlite": _limit_sqlite}.get(connection.dialect.name, _limit_mysql)(
        connection, terms, application
    )


def _limit_postgresql(connection: Connection, terms: Terms, application: str) -> None:
    settings = {
        "application_name": application.encode()[:63].decode(errors="ignore"),
        "client_connection_check_interval": "1000",
        "lock_timeout": str(_milliseconds(terms.lock_timeout_s)),
    }
    if terms.statement_timeout_s is not None:
        settings["statement_timeout"] = str(_milliseconds(terms.statement_timeout_s))
    connection.execute(_POSTGRESQL_SETTINGS, {"names": list(settings), "values": list(settings.values())})


def _limit_mysql(connection: Connection, terms: Terms, application: str) -> None:
    # Whole seconds, and for ever is a year.
    seconds = math.ceil(terms.lock_timeout_s) or 31536000
    settings = [f"lock_wait_timeout = {seconds}", f"innodb_lock_wait_timeout = {seconds}"]
    if terms.statement_timeout_s is not None:
        is_mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
        limit = f"max_statement_time = {terms.statement_timeout_s:f}"
        settings.append(limit if is_mariadb else f"max_execution_time = {_milliseconds(terms.statement_timeout_s)}")
    connection.exec_driver_sql("SET SESSION " + ", ".join(settings))


def _limit_sqlite(connection: Connection, terms: Terms, application: str) -> None:
    forever = 2**31 - 1
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {_milliseconds(terms.lock_timeout_s) or forever}")


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def is_lock_timeout(error: BaseException | None) -> bool:
    """Whether a statement failed because of other people's locks, and may succeed when they are gone."""
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return False
    original: Any = error.orig
    if hasattr(original, "sqlite_errorcode"):
        return original.sqlite_errorcode & 0xFF in _SQLITE_LOCKED
    number = next(iter(getattr(original, "args", ())), None)
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return number in _MYSQL_LOCKED or state in _POSTGRESQL_LOCKED


def pause_s(attempt: int) -> float:
    """Return the seconds to let others through before an attempt; the first one again is 1.

    Exponential with full jitter: shards that gave up together must not come back together.
    """
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)  # no secret hangs on it
