"""Administer the shards of a SQLAlchemy application: `fleet = shardctl.open("shardctl.toml")`.

PYTEST_DONT_REWRITE: pytest warns of a package with a plugin whose assertions it comes too late to rewrite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from shardctl.fleet import Fleet
    from shardctl.fleet.one_connection import OneConnectionSession

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(path: Path | str | None = None, *, app: str | None = None, pooled: bool = True) -> Fleet:
    """Open a fleet; nothing is connected to until it is used.

    Args:
        path: A `shardctl.toml`, or a `pyproject.toml` with `[tool.shardctl]`; None looks for one in the working
            directory and above.
        app: `module:attribute` of an application's own factory of ShardedSession, in place of the shards of a file.
        pooled: Whether sessions and queries keep connections open for the next one, as an application wants it.

    Raises:
        ConfigError: The file, the models or the application cannot be used; the message says where.
    """
    from shardctl.topology.load import load
    from shardctl.topology.model import ShardMap

    shard_map = ShardMap(shards={}, app=app) if app is not None and path is None else load(path, app=app)
    # After the file is read, so that what is wrong with it is said before SQLAlchemy is imported.
    from shardctl.fleet import connect

    return connect(shard_map, pooled=pooled, session_class=_merging_session)


def _merging_session() -> type[OneConnectionSession]:
    """Return the class of the sessions: here, because the fleet lies below the queries."""
    from shardctl.query.orm import MergingSession

    return MergingSession
