"""Fingerprints: what the schema of a shard is, by its engine's catalogue, so that equal ones are known at a glance.

Schemas of one PostgreSQL database, and databases of one MySQL server, are read together: 200 equal shards cost a few
statements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any

from sqlalchemy import Connection, column, literal, select, table, union_all

from shardctl.errors import ShardctlError, ShardError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.schema.catalogue import Objects, SchemaObject, catalogue_of
from shardctl.schema.history import OWN_TABLES
from shardctl.schema.revisions import DEFAULT_VERSION_TABLE, Scripts
from shardctl.schema.run_env import version_table_of

MOST_TABLES = 200
"""Version tables read in one statement."""


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


def read_fingerprints(
    fleet: Fleet, shards: Iterable[LiveShard], scripts: Scripts | None
) -> Generator[Outcome[Fingerprint], None, None]:
    """Read the schemas of shards, several at a time, and yield the outcomes as they come.

    Args:
        fleet: The shards' fleet.
        shards: The shards.
        scripts: The project's revisions, for the name of its version table; None where there are no migrations.
    """
    groups = {members[0]: members for members in _together(fleet, list(shards))}
    alone: list[LiveShard] = []
    timeout_s = fleet.shard_map.timeout_s
    for outcome in fleet.fan_out(lambda live: _read(fleet, groups[live], scripts), groups, timeout_s=timeout_s):
        members = groups[outcome.shard]
        if outcome.error is not None and len(members) > 1:
            alone += members  # one that is not there must not hide the others
            continue
        for member in members:
            read = outcome.value[member.shard_id] if outcome.value else None
            if isinstance(read, ShardctlError):
                yield replace(_failed(outcome, member), error=read)
            else:
                yield Outcome(member, outcome.seconds, read, outcome.error)
    for outcome in fleet.fan_out(lambda live: _read(fleet, [live], scripts), alone, timeout_s=timeout_s):
        read = outcome.value[outcome.shard_id] if outcome.value else outcome.error
        if isinstance(read, Fingerprint):
            yield Outcome(outcome.shard, outcome.seconds, read)
        else:
            yield replace(_failed(outcome, outcome.shard), error=read)


def _failed(outcome: Outcome[dict[str, Fingerprint | ShardctlError]], member: LiveShard) -> Outcome[Fingerprint]:
    return Outcome(member, outcome.seconds)


def _together(fleet: Fleet, shards: Sequence[LiveShard]) -> Iterator[list[LiveShard]]:
    """Part shards into those that one connection can read."""
    groups: dict[object, list[LiveShard]] = {}
    for live in shards:
        key: object = live
        if live.backend.name == "mysql" and fleet.shard_map.app is None:
            key = live.engine.url.set(database=None)
        elif live.backend.name == "postgresql" and live.shard.schema is not None:
            key = live.bind.pool
        groups.setdefault(key, []).append(live)
    # One database without schemas may hold the tables of several shards under names that only the application knows.
    yield from groups.values()


def _read(fleet: Fleet, shards: Sequence[LiveShard], scripts: Scripts | None) -> dict[str, Fingerprint | ShardctlError]:
    """Read shards over the connection of the first of them."""
    first = shards[0]
    version_tables = {
        live.shard_id: DEFAULT_VERSION_TABLE if scripts is None else version_table_of(live, scripts) for live in shards
    }
    with first.connect() as connection:
        catalogue = catalogue_of(connection.dialect.name)
        schemas = {live.shard_id: _schema(live) or catalogue.own_schema(connection) for live in shards}
        found = catalogue.read(connection, list(dict.fromkeys(schemas.values())))
        versioned = {
            live.shard_id: (schemas[live.shard_id], version_tables[live.shard_id])
            for live in shards
            if SchemaObject("table", version_tables[live.shard_id], "") in found.get(schemas[live.shard_id], {})
        }
        revisions = _read_revisions(connection, versioned)
        engine = "mariadb" if getattr(connection.dialect, "is_mariadb", False) else first.backend.name
    read: dict[str, Fingerprint | ShardctlError] = {}
    for live in shards:
        objects = found.get(schemas[live.shard_id])
        if objects is None:
            read[live.shard_id] = ShardError(
                f"there is no schema `{schemas[live.shard_id]}`", hint="`shardctl init` creates it"
            )
            continue
        own = {version_tables[live.shard_id], *(entry.name for entry in fleet.directories_on(live.shard_id))}
        read[live.shard_id] = Fingerprint(
            engine, _without(objects, OWN_TABLES | own), tuple(sorted(revisions.get(live.shard_id, ())))
        )
    return read


def _schema(live: LiveShard) -> str | None:
    """Return the schema's name, where it is known before a connection is made."""
    if live.backend.name == "mysql":
        return live.engine.url.database
    return live.shard.schema if live.backend.name == "postgresql" else None


def _without(objects: Objects, tables: frozenset[str]) -> Objects:
    return {object_: definition for object_, definition in objects.items() if object_.table not in tables}


def _read_revisions(connection: Connection, version_tables: Mapping[str, tuple[str, str]]) -> dict[str, list[str]]:
    """Return what version tables say, given their schemas and names; as few statements as can be."""
    is_schema = connection.dialect.name != "sqlite"
    entries = iter(version_tables.items())
    revisions: dict[str, list[str]] = {}
    while part := list(islice(entries, MOST_TABLES)):
        selects: list[Any] = [
            select(literal(shard_id), column("version_num")).select_from(
                table(name, schema=schema if is_schema else None)
            )
            for shard_id, (schema, name) in part
        ]
        for shard_id, revision in connection.execute(union_all(*selects)):
            revisions.setdefault(shard_id, []).append(revision)
    return revisions
