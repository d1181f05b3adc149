"""The run history that each shard keeps of itself: what ran on it, when, by whom, and what came of it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, Text

metadata = MetaData()

HISTORY = Table(
    "shardctl_history",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("run_id", String(32), nullable=False),
    Column("revision", String(255), nullable=False),
    Column("direction", String(16), nullable=False),  # upgrade, downgrade, stamp
    Column("started_at", DateTime(), nullable=False),  # UTC, by the clock of the machine that shardctl ran on
    Column("finished_at", DateTime()),
    Column("outcome", String(16), nullable=False),  # running, done, failed, interrupted, killed
    Column("who", String(255), nullable=False),  # user@host
    Column("pid", Integer(), nullable=False),
    Column("error", Text()),
)

JOURNAL = Table(
    "shardctl_journal",
    metadata,
    Column("revision", String(255), primary_key=True),
    Column("statement", Integer(), primary_key=True, autoincrement=False),  # from 1, in the order of the revision
    Column("digest", String(64), nullable=False),
    Column("state", String(8), nullable=False),  # started, done
)

OWN_TABLES = frozenset(metadata.tables)
"""Tables that are shardctl's own: no application's, no drift, and no sign that a shard is in use."""
