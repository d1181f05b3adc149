"""What `status` shows of the shards: read on one connection to each database, in a few statements together."""

from __future__ import annotations

import datetime
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from shardctl.errors import ConfigError, ShardctlError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.live_shard import driver_line
from shardctl.fleet.pulse import Pulse, take_pulse
from shardctl.fleet.records import Records
from shardctl.fleet.survey import Place, survey
from shardctl.rows.sizes import Known, ShardSize, read_sizes
from shardctl.rows.stats import Kind, meant_tables
from shardctl.schema.history import OWN_TABLES
from shardctl.schema.revisions import DEFAULT_VERSION_TABLE, Scripts
from shardctl.schema.status import ShardStatus, status_reader
from shardctl.topology.model import ReferenceTable

CHECKS = ("audit", "drift")
"""Commands whose last findings are shown."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One shard that has answered."""

    pulse: Pulse
    status: ShardStatus | None
    """None: the project has no migrations."""
    size: ShardSize | None
    problem: str = ""
    """Why its size cannot be read."""


@dataclass(frozen=True, slots=True)
class LastCheck:
    """What a check found when it was last run over all shards."""

    when: datetime.datetime
    findings: Mapping[str, int]

    @property
    def count(self) -> int:
        return sum(self.findings.values())


def read_seen(
    fleet: Fleet, shards: Iterable[LiveShard], scripts: Scripts | None, *, timeout_s: float | None = None
) -> Generator[Outcome[Seen], None, None]:
    """Ask shards for all that is shown, and yield the outcomes as they come."""
    read_status = status_reader(scripts) if scripts is not None else None

    def read(connection: Connection, places: Sequence[Place]) -> Mapping[str, Seen | ShardctlError]:
        found = read_status(connection, places) if read_status is not None else {}
        there = [
            place for place in places if read_status is None or isinstance(found.get(place.shard.shard_id), ShardStatus)
        ]
        if len(places) == 1:
            connection.rollback()  # of a history that could not be read, which a transaction would not survive
        sizes, problem = _sizes(connection, there)
        pulse = take_pulse(connection, places[0].shard)
        seen: dict[str, Seen | ShardctlError] = {
            shard_id: error for shard_id, error in found.items() if isinstance(error, ShardctlError)
        }
        for place in there:
            shard_id = place.shard.shard_id
            size, status = sizes.get(shard_id), found.get(shard_id)
            if isinstance(size, ShardctlError) and status is None:
                seen[shard_id] = size  # there is no such schema: migrations would have said so
            elif size is not None or problem:
                is_read = isinstance(size, ShardSize)
                seen[shard_id] = Seen(
                    pulse,
                    status if isinstance(status, ShardStatus) else None,
                    size if isinstance(size, ShardSize) else None,
                    "" if is_read else problem or str(size),
                )
        return seen

    return survey(fleet, shards, read, timeout_s=timeout_s)


def _sizes(connection: Connection, places: Sequence[Place]) -> tuple[Mapping[str, ShardSize | ShardctlError], str]:
    """Return sizes, or why they cannot be read: the rest is worth showing without them."""
    if not places:
        return {}, ""
    try:
        return read_sizes(connection, places), ""
    except SQLAlchemyError as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        connection.rollback()
        return {}, f"its size cannot be read: {driver_line(error)}"


def not_counted(fleet: Fleet) -> frozenset[str]:
    """Return the tables whose rows say nothing of how much a shard holds: copies, and those of shardctl and Alembic."""
    own = frozenset({*OWN_TABLES, DEFAULT_VERSION_TABLE})
    if not any(isinstance(rule, ReferenceTable) for rule in fleet.shard_map.tables.values()):
        return own  # models take their time to import
    try:
        return own | {name for name, meant in meant_tables(fleet).items() if meant.kind is Kind.COPY}
    except ConfigError:
        return own


def rows_of(seen: Seen, without: Iterable[str]) -> tuple[int | None, Known]:
    """Return how many rows a shard holds, and how that is known."""
    return seen.size.rows(without=without) if seen.size else (None, Known.ESTIMATE)


def last_checks(fleet: Fleet) -> dict[str, LastCheck | None]:
    """Return what each check found last; None where it was never run over all shards."""
    records = Records(fleet.shard_map)
    found: dict[str, LastCheck | None] = {}
    for check in CHECKS:
        record = records.last(check)
        counts = record.data.get("findings") if record else None
        is_readable = isinstance(counts, Mapping) and all(isinstance(count, int) for count in counts.values())
        found[check] = LastCheck(record.when, dict(counts)) if record and counts is not None and is_readable else None
    return found
