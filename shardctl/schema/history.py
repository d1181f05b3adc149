"""The run history that each shard keeps of itself: what ran on it, when, by whom, and what came of it.

A row is written before its revision starts, and `done` is committed with the revision: a row that still says `running`
when nobody holds the shard's lock belongs to a run that was killed.
"""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects.mysql import DATETIME

RUNNING, DONE, FAILED, INTERRUPTED, KILLED = "running", "done", "failed", "interrupted", "killed"

metadata = MetaData()

_TIME = DateTime().with_variant(DATETIME(fsp=6), "mysql", "mariadb")

HISTORY = Table(
    "shardctl_history",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("run_id", String(32), nullable=False),
    Column("revision", String(255), nullable=False),
    Column("direction", String(16), nullable=False),  # upgrade, downgrade, stamp
    Column("started_at", _TIME, nullable=False),  # UTC, by the clock of the machine that shardctl ran on
    Column("finished_at", _TIME),
    Column("outcome", String(16), nullable=False),  # running, done, failed, interrupted, killed
    Column("who", String(255), nullable=False),  # user@host
    Column("pid", Integer(), nullable=False),
    Column("error", Text()),
    mysql_engine="InnoDB",  # others would not roll back with the revision
    mariadb_engine="InnoDB",
)

JOURNAL = Table(
    "shardctl_journal",
    metadata,
    Column("direction", String(16), primary_key=True),
    Column("revision", String(255), primary_key=True),
    Column("statement", Integer(), primary_key=True, autoincrement=False),  # from 1, in the order of the revision
    Column("digest", String(64), nullable=False),
    Column("state", String(8), nullable=False),  # started, done
    Column("row_count", BigInteger(), nullable=False),  # what the statement answered, for when it is skipped
    Column("last_id", BigInteger(), nullable=False),
    Column("statement_text", Text(), nullable=False),  # without its parameters, cut
    mysql_engine="InnoDB",  # others would not roll back with the revision
    mariadb_engine="InnoDB",
)


def _bound(prefix: str, *columns: str) -> dict[str, Any]:
    return {name: bindparam(f"{prefix}_{name}", type_=HISTORY.c[name].type) for name in columns}


# Made once, because each revision of each shard needs them.
_IS_OWN = (HISTORY.c.run_id == bindparam("own_run")) & (HISTORY.c.outcome == RUNNING)
_BEGIN = insert(HISTORY).values(_bound("new", "run_id", "revision", "direction", "started_at", "outcome", "who", "pid"))
_END = update(HISTORY).values(_bound("end", "outcome", "finished_at", "error")).where(_IS_OWN)
_END_AND_BEGIN = _BEGIN.add_cte(_END.returning(HISTORY.c.id).cte("done"))
_KILL = (
    update(HISTORY)
    .values(outcome=KILLED, finished_at=bindparam("finished_now", type_=HISTORY.c.finished_at.type), error=None)
    .where(HISTORY.c.outcome == RUNNING)
)
_WITHDRAW = delete(HISTORY).where(_IS_OWN)

OWN_TABLES = frozenset(metadata.tables)
"""Tables that are shardctl's own: no application's, no drift, and no sign that a shard is in use."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One revision in one run, as the shard remembers it."""

    run_id: str
    revision: str
    direction: str
    started_at: datetime
    """UTC, with its zone; so is `finished_at`."""
    finished_at: datetime | None
    outcome: str
    """`running`, `done`, `failed`, `interrupted`, `killed`."""
    who: str
    """user@host."""
    pid: int
    error: str | None

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs, and if it was killed."""
        if self.finished_at is None or self.outcome == KILLED:
            return None
        return (self.finished_at - self.started_at).total_seconds()


def read_running(connection: Connection) -> HistoryEntry | None:
    """Return what runs on a shard, by its history: true only while the shard's lock is held."""
    if not inspect(connection).has_table(HISTORY.name):
        return None
    columns = [column for column in HISTORY.columns if column.name != "id"]
    query = select(*columns).where(HISTORY.c.outcome == RUNNING).order_by(HISTORY.c.id.desc())
    row = connection.execute(query.limit(1)).mappings().first()
    return HistoryEntry(**{**row, "started_at": row["started_at"].replace(tzinfo=UTC)}) if row is not None else None


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes one run's part of one shard's history."""

    run_id: str
    direction: str

    def open(self, connection: Connection, tables: tuple[Table, ...], found: frozenset[str]) -> None:
        """Create shardctl's tables where they are missing, and close what a killed run left open.

        Args:
            connection: The shard's connection; the shard's lock is held.
            tables: The tables that are needed.
            found: The names of those that are there.
        """
        if connection.dialect.name == "sqlite":  # its driver would commit each CREATE for itself
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        for table in tables:
            if table.name not in found:
                table.create(connection, checkfirst=False)
        if HISTORY.name in found:
            connection.execute(_KILL, {"finished_now": _now()})

    def start(self, connection: Connection, revision: str) -> None:
        """Write that a revision runs."""
        connection.execute(_BEGIN, self._row(revision))

    def finish(self, connection: Connection, following: str | None) -> None:
        """Write, in the revision's own transaction, that it is done, and which one runs now.

        Args:
            connection: The connection that the revision ran on.
            following: The revision that comes next; None after the last one.
        """
        end = self._end(DONE, None)
        if following is None:
            connection.execute(_END, end)
        elif connection.dialect.name == "postgresql":  # in one round trip
            connection.execute(_END_AND_BEGIN, end | self._row(following))
        else:
            connection.execute(_END, end)
            self.start(connection, following)

    def close(self, connection: Connection, outcome: str, error: str | None) -> None:
        """Write what came of the revision that runs, and is not done."""
        connection.execute(_END, self._end(outcome, error))

    def withdraw(self, connection: Connection) -> None:
        """Take back that a revision runs: the run ended before it started."""
        connection.execute(_WITHDRAW, {"own_run": self.run_id})

    def _row(self, revision: str) -> dict[str, Any]:
        return {
            "new_run_id": self.run_id,
            "new_revision": revision,
            "new_direction": self.direction,
            "new_started_at": _now(),
            "new_outcome": RUNNING,
            "new_who": who(),
            "new_pid": os.getpid(),
        }

    def _end(self, outcome: str, error: str | None) -> dict[str, Any]:
        return {"own_run": self.run_id, "end_outcome": outcome, "end_finished_at": _now(), "end_error": error}


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


@cache
def who() -> str:
    """Return who runs shardctl, as user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:255]
