"""Fingerprints: what the schema of a shard is, by its engine's catalogue, so that equal ones are known at a glance.

Schemas of one PostgreSQL database, and databases of one MySQL server, are read together: 200 equal shards cost a few
statements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from sqlalchemy import Connection

from shardctl.errors import ShardctlError, ShardError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.survey import Place, survey
from shardctl.schema.catalogue import Objects, SchemaObject, catalogue_of
from shardctl.schema.history import OWN_TABLES
from shardctl.schema.revisions import DEFAULT_VERSION_TABLE, Scripts
from shardctl.schema.run_env import version_table_of
from shardctl.schema.status import read_versions


@dataclass(frozen=True)
class Fingerprint:
    """One shard's schema, without the tables that are shardctl's or Alembic's own."""

    engine: str
    """`sqlite`, `postgresql`, `mysql` or `mariadb`: the definitions are in its words."""
    objects: Mapping[SchemaObject, str] = field(repr=False)
    revisions: tuple[str, ...] = ()
    """What the version table says; not part of the digest."""

    @cached_property
    def digest(self) -> str:
        """Equal exactly for equal schemas of one kind of engine."""
        lines = (f"{object_!r} {definition!r}" for object_, definition in sorted(self.objects.items()))
        return hashlib.sha256("\n".join([self.engine, *lines]).encode()).hexdigest()

    @cached_property
    def tables(self) -> frozenset[str]:
        return frozenset(object_.table for object_ in self.objects if object_.kind == "table")


def own_tables(fleet: Fleet, shard_id: str) -> frozenset[str]:
    """Return the tables on a shard that are shardctl's own, in no migration and no model."""
    return OWN_TABLES | {table.name for table in fleet.directories_on(shard_id)}


def read_fingerprints(
    fleet: Fleet, shards: Iterable[LiveShard], scripts: Scripts | None
) -> Generator[Outcome[Fingerprint], None, None]:
    """Read the schemas of shards, several at a time, and yield the outcomes as they come.

    Args:
        fleet: The shards' fleet.
        shards: The shards.
        scripts: The project's revisions, for the name of its version table; None where there are no migrations.
    """
    shards = list(shards)
    shared = _shared(fleet)
    for live in shards:
        if live.shard_id in shared:
            yield Outcome(live, 0.0, error=_no_place_of_its_own(shared[live.shard_id]))
    own = [live for live in shards if live.shard_id not in shared]
    yield from survey(fleet, own, lambda connection, places: _read(fleet, connection, places, scripts))


def _shared(fleet: Fleet) -> dict[str, list[str]]:
    """Return the shards of an application that share one schema: only it knows which table is whose."""
    places: dict[object, list[str]] = {}
    for live in fleet.shards.values():
        places.setdefault((live.bind.pool, live.shard.schema), []).append(live.shard_id)
    return {shard_id: members for members in places.values() if len(members) > 1 for shard_id in members}


def _no_place_of_its_own(shard_ids: Sequence[str]) -> ShardError:
    return ShardError(
        f"{', '.join(f'`{shard_id}`' for shard_id in shard_ids)} are one database without schemas of their own:"
        " which table belongs to which cannot be told"
    )


def _read(
    fleet: Fleet, connection: Connection, places: Sequence[Place], scripts: Scripts | None
) -> dict[str, Fingerprint | ShardctlError]:
    catalogue = catalogue_of(connection.dialect.name)
    schemas = {place.shard.shard_id: place.schema or catalogue.own_schema(connection) for place in places}
    version_tables = {
        place.shard.shard_id: DEFAULT_VERSION_TABLE if scripts is None else version_table_of(place.shard, scripts)
        for place in places
    }
    found = catalogue.read(connection, list(dict.fromkeys(schemas.values())))
    is_schema = connection.dialect.name != "sqlite"
    versioned = {
        shard_id: (schemas[shard_id] if is_schema else None, version_table)
        for shard_id, version_table in version_tables.items()
        if SchemaObject("table", version_table, "") in found.get(schemas[shard_id], {})
    }
    revisions = read_versions(connection, versioned)
    engine = "mariadb" if getattr(connection.dialect, "is_mariadb", False) else places[0].shard.backend.name
    read: dict[str, Fingerprint | ShardctlError] = {}
    for shard_id, schema in schemas.items():
        if schema not in found:
            read[shard_id] = ShardError(f"there is no schema `{schema}`", hint="`shardctl init` creates it")
            continue
        hidden = own_tables(fleet, shard_id) | {version_tables[shard_id]}
        read[shard_id] = Fingerprint(engine, _without(found[schema], hidden), revisions.get(shard_id, ()))
    return read


def _without(objects: Objects, tables: frozenset[str]) -> Objects:
    return {object_: definition for object_, definition in objects.items() if object_.table not in tables}
