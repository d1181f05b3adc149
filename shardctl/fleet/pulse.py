"""A sign of life: which engine answers on a connection, and how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection

from shardctl.fleet.live_shard import LiveShard


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a server that answers says of itself."""

    engine: str
    """With its version."""
    latency_ms: float
    """Of one statement, on a connection that is open."""


def take_pulse(connection: Connection, shard: LiveShard) -> Pulse:
    """Ask for a sign of life."""
    started = time.perf_counter()
    connection.exec_driver_sql("SELECT 1").scalar()
    latency_ms = (time.perf_counter() - started) * 1000
    numbers = connection.dialect.server_version_info or ()
    engine = "mariadb" if getattr(connection.dialect, "is_mariadb", False) else shard.backend.name
    version = ".".join(str(number) for number in numbers[:3] if isinstance(number, int))
    return Pulse(f"{engine} {version}".strip(), round(latency_ms, 1))
