"""The shard map: which shards there are, and by which rule each class is placed on them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from shardctl.errors import UnknownName
from shardctl.topology.strategies import Strategy

DEFAULT_CONNECTIONS_PER_SERVER = 8
DEFAULT_TIMEOUT_S = 30.0

_USER_PASSWORD = re.compile(r"(://[^:@]*:).*@")
_QUERY_PASSWORD = re.compile(r"([?&](?:password|passwd|sslpassword)=)[^&]*")
_ENGINES = {"postgres": "postgresql", "mariadb": "mysql"}
_PORTS = {"postgresql": "5432", "mysql": "3306"}


class ShardState(StrEnum):
    """What an administrator allows on a shard."""

    ACTIVE = "active"
    READONLY = "readonly"
    DRAINING = "draining"
    OFFLINE = "offline"


class IdentityScope(StrEnum):
    """Within what a primary key names one row."""

    SHARD = "per-shard"
    FLEET = "fleet-wide"


@dataclass(frozen=True, slots=True)
class Shard:
    """One database or schema that holds a subset of the rows."""

    shard_id: str
    url: str = field(repr=False)
    """The SQLAlchemy URL, password included: never print it, use `safe_url`."""
    schema: str | None = None
    attach: Path | None = None
    """The SQLite file that is attached under the name `schema`."""
    labels: Mapping[str, str] = field(default_factory=dict)
    state: ShardState = ShardState.ACTIVE

    @property
    def safe_url(self) -> str:
        """The URL with its password hidden."""
        return hide_passwords(self.url)


def hide_passwords(text: str) -> str:
    """Return a URL, or a message with one in it, without its password."""
    return _QUERY_PASSWORD.sub(r"\1***", _USER_PASSWORD.sub(r"\1***@", text))


def place_of(shard: Shard) -> tuple[str | None, ...]:
    """Return what two shards must not share: one database or schema, however their URLs spell it."""
    driver, _, rest = shard.url.partition(":")
    engine = _ENGINES.get(driver.partition("+")[0], driver.partition("+")[0])
    if engine == "sqlite":
        file = shard.attach or rest.removeprefix("///").partition("?")[0].removeprefix("file:")
        return (engine, os.path.normpath(file))
    server, _, database = rest.rpartition("@")[2].removeprefix("//").partition("/")
    port = _PORTS.get(engine, "")
    server = server if re.search(r":\d+$", server) or not port else f"{server}:{port}"
    if engine == "mysql":
        return (engine, server, shard.schema or database)
    return (engine, server, database, shard.schema)


@dataclass(frozen=True, slots=True)
class ShardedTable:
    """A mapped class (or table) whose rows are spread over the shards by a sharding key."""

    name: str
    strategy: Strategy
    key: tuple[str, ...]
    """The mapped attributes of the sharding key, in the order in which a composite key is hashed."""
    identity: IdentityScope | None = None

    @property
    def shard_ids(self) -> tuple[str, ...]:
        return self.strategy.shard_ids


@dataclass(frozen=True, slots=True)
class FollowingTable:
    """A mapped class whose rows live where their parent lives."""

    name: str
    parent: str
    """The relationship of this class that leads to the parent."""
    identity: IdentityScope | None = None


@dataclass(frozen=True, slots=True)
class ReferenceTable:
    """A table of which each of its shards holds a full copy."""

    name: str
    shard_ids: tuple[str, ...]


TableRule = ShardedTable | FollowingTable | ReferenceTable


@dataclass(frozen=True, slots=True)
class ShardMap:
    """The declared truth, as one file gives it.

    Names of classes and attributes are not checked here: that needs the models, which the fleet loads.
    """

    shards: Mapping[str, Shard]
    tables: Mapping[str, TableRule] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    """Each as `module:attribute`."""
    app: str | None = None
    """`module:attribute` of an application's own session factory."""
    migrations: Path | None = None
    gather: str | None = field(default=None, repr=False)
    """The URL of a database in whose temporary tables rows of several shards may meet."""
    connections_per_server: int = DEFAULT_CONNECTIONS_PER_SERVER
    timeout_s: float = DEFAULT_TIMEOUT_S
    queries: Mapping[str, str] = field(default_factory=dict)
    """Statements by name, for `shardctl query @name`."""
    source: Path | None = None
    """The file this was read from."""

    @property
    def where(self) -> str:
        """The file's name as messages show it."""
        return self.source.name if self.source else "the shard map"

    def shard(self, shard_id: str) -> Shard:
        """Return one shard.

        Raises:
            UnknownName: No shard has this name.
        """
        try:
            return self.shards[shard_id]
        except KeyError:
            raise unknown_shard(shard_id, self.shards, self.where) from None


def unknown_shard(shard_id: str, known: Mapping[str, object], where: str) -> UnknownName:
    """Return the error for a shard that is not there."""
    return UnknownName(
        f"no shard named `{shard_id}` in {where}",
        name=shard_id,
        known=known,
        hint=f"`shardctl shards` lists all {len(known)}",
    )
