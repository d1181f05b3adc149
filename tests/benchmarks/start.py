"""How soon the command line answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Row, command, ratio


def start(folder: Path) -> Iterator[Row]:
    """What needs no database, against the same of Alembic."""
    for option in ("--help", "--version"):
        found = ratio(command("alembic", "--help"), command("shardctl", option), rounds=9)
        yield Row(f"shardctl {option}", "alembic --help", found)
