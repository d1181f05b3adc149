"""The shop, one class for each placement strategy, on three SQLite files; and applications."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.horizontal_shard import ShardedSession

from shardctl.fleet import Fleet
from tests.fixtures.apps import open_app
from tests.fixtures.shop import create_tables, open_shop

__all__ = ["fleet", "open_app", "session"]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with open_shop(tmp_path) as opened:
        create_tables(opened)
        yield opened


@pytest.fixture
def session(fleet: Fleet) -> Iterator[ShardedSession]:
    with fleet.sessionmaker()() as opened:
        yield opened
