"""Where shards stand among the project's revisions, and how the last run on each of them ended."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, String, column, literal, select, table, union_all
from sqlalchemy.exc import SQLAlchemyError

from shardctl.errors import ShardctlError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.live_shard import driver_line
from shardctl.schema.history import HistoryEntry
from shardctl.schema.inventory import Inventory, read_inventories
from shardctl.schema.revisions import Scripts, ShardRevision, Standing, standing_of
from shardctl.schema.run_env import version_table_of
from shardctl.schema.runs import as_text, denies, read_last_entries, with_history
from shardctl.schema.survey import Place, survey


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """One shard: where it stands, and what ran on it last."""

    revision: ShardRevision
    last: HistoryEntry | None = None
    """None: nothing that its history tells of."""
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

    def read(connection: Connection, places: Sequence[Place]) -> Mapping[str, ShardStatus | ShardctlError]:
        inventories, revisions = _read_revisions(connection, places, scripts)
        present = with_history(places, inventories)
        if len(places) == 1:
            return {shard_id: _alone(connection, present, found) for shard_id, found in revisions.items()}
        last = read_last_entries(connection, [place for place in present if not denies(inventories[_name(place)])])
        return {
            shard_id: found if isinstance(found, ShardctlError) else ShardStatus(found, last.get(shard_id))
            for shard_id, found in revisions.items()
            if not denies(inventories[shard_id])
        }

    return survey(fleet, shards, read, timeout_s=timeout_s)


def _alone(
    connection: Connection, present: Sequence[Place], found: ShardRevision | ShardctlError
) -> ShardStatus | ShardctlError:
    if isinstance(found, ShardctlError) or not present:
        return found if isinstance(found, ShardctlError) else ShardStatus(found)
    try:
        return ShardStatus(found, next(iter(read_last_entries(connection, present).values()), None))
    except SQLAlchemyError as error:
        return ShardStatus(found, problem=f"its history cannot be read: {driver_line(error)}")


def _name(place: Place) -> str:
    return place.shard.shard_id


def _read_revisions(
    connection: Connection, places: Sequence[Place], scripts: Scripts
) -> tuple[Mapping[str, Inventory | ShardctlError], dict[str, ShardRevision | ShardctlError]]:
    inventories = read_inventories(connection, places)
    version_tables = {place.shard.shard_id: version_table_of(place.shard, scripts) for place in places}
    is_alone = len(places) == 1
    found: dict[str, ShardRevision | ShardctlError] = {}
    versioned: list[Place] = []
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
                versioned.append(place)
    for shard_id, revisions in _read_versions(connection, versioned, version_tables).items():
        inventory = inventories[shard_id]
        assert isinstance(inventory, Inventory)
        found[shard_id] = standing_of(scripts, revisions, inventory.tables, version_tables[shard_id])
    return inventories, found


def _read_versions(
    connection: Connection, places: Sequence[Place], version_tables: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return what version tables say: of all places in one statement."""
    if not places:
        return {}
    statements = []
    for index, place in enumerate(places):
        versions = table(version_tables[place.shard.shard_id], column("version_num", String), schema=place.schema)
        statements.append(
            select(
                literal(index, literal_execute=True).label("shard"),
                as_text(versions.c.version_num, connection).label("version_num"),
            )
        )
    query = statements[0] if len(statements) == 1 else union_all(*statements)
    found: dict[str, list[str]] = {place.shard.shard_id: [] for place in places}
    for index, revision in connection.execute(query):
        found[places[index].shard.shard_id].append(revision)
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
