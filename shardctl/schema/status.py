"""Where shards stand among the project's revisions, and how the last run on each of them ended."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, String, column, literal, select, table, union_all
from sqlalchemy.exc import SQLAlchemyError

from shardctl.errors import ShardctlError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.live_shard import driver_line
from shardctl.fleet.survey import Place, Read, survey
from shardctl.schema.half_applied import LeftRevision, read_left, still_left
from shardctl.schema.history import JOURNAL, HistoryEntry
from shardctl.schema.inventory import Inventory, read_inventories
from shardctl.schema.revisions import Scripts, ShardRevision, Standing, standing_of
from shardctl.schema.run_env import version_table_of
from shardctl.schema.runs import as_text, denies, read_last_entries, with_table


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard: where it stands, and what ran on it last."""

    revision: ShardRevision
    last: HistoryEntry | None = None
    """None: nothing that its history tells of."""
    left: LeftRevision | None = None
    """The revision that an earlier run left in the middle."""
    problem: str = ""
    """Why its history cannot be read."""


def read_all_revisions(
    fleet: Fleet, shards: Iterable[LiveShard], scripts: Scripts
) -> Generator[Outcome[ShardRevision], None, None]:
    """Read where shards stand, schemas of one database in one statement, and yield the outcomes as they come."""
    return survey(fleet, shards, lambda connection, places: _read_revisions(connection, places, scripts)[1])


def read_status(
    fleet: Fleet, shards: Iterable[LiveShard], scripts: Scripts, *, timeout_s: float | None = None
) -> Generator[Outcome[ShardStatus], None, None]:
    """Read where shards stand and what ran on them last, as `read_all_revisions` does."""
    return survey(fleet, shards, status_reader(scripts), timeout_s=timeout_s)


def status_reader(scripts: Scripts) -> Read[ShardStatus]:
    """Return what reads where shards stand, and what ran on them last, on one connection."""

    def read(connection: Connection, places: Sequence[Place]) -> Mapping[str, ShardStatus | ShardctlError]:
        inventories, revisions = _read_revisions(connection, places, scripts)
        is_alone = len(places) == 1
        readable = [
            place
            for place in places
            if (inventory := inventories.get(place.shard.shard_id)) is not None and (is_alone or not denies(inventory))
        ]
        left: dict[str, list[LeftRevision]] = {}
        last: dict[str, HistoryEntry] = {}
        problem = ""
        try:
            left = read_left(connection, with_table(readable, inventories, JOURNAL.name))
            last = read_last_entries(connection, with_table(readable, inventories))
        except SQLAlchemyError as error:
            if not is_alone:
                raise
            problem = f"its history cannot be read: {driver_line(error)}"

        def status_of(shard_id: str, found: ShardRevision | ShardctlError) -> ShardStatus | ShardctlError:
            if isinstance(found, ShardctlError):
                return found
            entry = last.get(shard_id)
            return ShardStatus(
                found, entry, still_left(left.get(shard_id, ()), found.revisions, entry, scripts), problem
            )

        names = {place.shard.shard_id for place in readable}
        return {shard_id: status_of(shard_id, found) for shard_id, found in revisions.items() if shard_id in names}

    return read


def _read_revisions(
    connection: Connection, places: Sequence[Place], scripts: Scripts
) -> tuple[Mapping[str, Inventory | ShardctlError], dict[str, ShardRevision | ShardctlError]]:
    inventories = read_inventories(connection, places)
    version_tables = {place.shard.shard_id: version_table_of(place.shard, scripts) for place in places}
    is_alone = len(places) == 1
    found: dict[str, ShardRevision | ShardctlError] = {}
    versioned: dict[str, tuple[str | None, str]] = {}
    for place in places:
        shard_id = place.shard.shard_id
        inventory = inventories.get(shard_id)
        if isinstance(inventory, ShardctlError):
            found[shard_id] = inventory
        elif inventory is not None:
            version_table = version_tables[shard_id]
            if not inventory.has(version_table):
                found[shard_id] = standing_of(scripts, (), inventory.tables, version_table)
            elif is_alone or version_table not in inventory.denied:
                versioned[shard_id] = (place.schema, version_table)
    for shard_id, revisions in read_versions(connection, versioned).items():
        inventory = inventories[shard_id]
        assert isinstance(inventory, Inventory)
        found[shard_id] = standing_of(scripts, revisions, inventory.tables, version_tables[shard_id])
    return inventories, found


def read_versions(
    connection: Connection, version_tables: Mapping[str, tuple[str | None, str]]
) -> dict[str, tuple[str, ...]]:
    """Return what version tables say, by the shards' names: of all in one statement.

    Args:
        connection: A connection that has all of them within reach.
        version_tables: By shard, the schema (None: that of unqualified names) and the table's name.
    """
    if not version_tables:
        return {}
    names = list(version_tables)
    statements = []
    for index, (schema, name) in enumerate(version_tables.values()):
        versions = table(name, column("version_num", String), schema=schema)
        statements.append(
            select(
                literal(index, literal_execute=True).label("shard"),
                as_text(versions.c.version_num, connection).label("version_num"),
            )
        )
    query = statements[0] if len(statements) == 1 else union_all(*statements)
    found: dict[str, list[str]] = {name: [] for name in names}
    for index, revision in connection.execute(query):
        found[names[index]].append(revision)
    return {shard_id: tuple(sorted(revisions)) for shard_id, revisions in found.items()}


@dataclass(frozen=True, slots=True)
class Level:
    """Shards that stand at one place."""

    revisions: tuple[str, ...]
    standing: Standing
    behind: int | None
    """Revisions between there and the head; None where that cannot be known."""
    shard_ids: tuple[str, ...]


def levels(found: Iterable[Outcome[ShardStatus]]) -> list[Level]:
    """Return where shards stand, with the shards that stand there: those nearest to the head first."""
    members: dict[ShardRevision, list[str]] = {}
    for outcome in found:
        if outcome.value is not None:
            members.setdefault(replace(outcome.value.revision, tables=()), []).append(outcome.shard_id)
    made = [Level(r.revisions, r.standing, behind_of(r), tuple(shard_ids)) for r, shard_ids in members.items()]
    return sorted(made, key=lambda level: (level.behind is None, level.behind or 0))


def behind_of(revision: ShardRevision) -> int | None:
    """Return how many revisions a shard has before it; None if that cannot be known."""
    return None if revision.standing in (Standing.UNKNOWN, Standing.UNVERSIONED) else len(revision.pending)


def pending_on(found: Iterable[Outcome[ShardStatus]]) -> dict[str, list[str]]:
    """Return each pending revision with its shards, in the order in which the longest way runs them."""
    values = [
        (outcome.shard_id, outcome.value.revision.pending)
        for outcome in found
        if outcome.value is not None and behind_of(outcome.value.revision)
    ]
    shard_ids: dict[str, list[str]] = {}
    for _, pending in sorted(values, key=lambda value: -len(value[1])):
        for revision in pending:
            shard_ids.setdefault(revision, [])
    for shard_id, pending in values:
        for revision in pending:
            shard_ids[revision].append(shard_id)
    return shard_ids
