"""What a run is to bring shards to, and where that leaves a shard: pure, no database."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alembic.runtime.migration import HeadMaintainer, RevisionStep, StampStep

_COUNT = re.compile(r"[+-]\d+")
_RELATIVE = re.compile(r"(?:.*@)?[+-]\d+|.+[+-]\d+")


class Direction(StrEnum):
    """Which way the revisions run."""

    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    STAMP = "stamp"


@dataclass(frozen=True, slots=True)
class Goal:
    """A direction, and a target as Alembic writes it: `head`, `heads`, `base`, an id or its start, `+1`, `ae10-2`."""

    direction: Direction = Direction.UPGRADE
    target: str = "head"
    purges: bool = False
    """Whether a stamp takes the place of all that the version table says, be it of revisions that the project lost."""

    @property
    def is_relative(self) -> bool:
        """Whether the target depends on where a shard is."""
        return _RELATIVE.fullmatch(self.target) is not None

    @property
    def is_count(self) -> bool:
        """Whether the target is a number of revisions from where a shard is: asked for again, it leads further."""
        return _COUNT.fullmatch(self.target.rpartition("@")[2]) is not None

    @property
    def is_base(self) -> bool:
        """Whether the target is what is before the first revision, of all branches or of one."""
        return self.target.rpartition("@")[2] == "base"

    def __str__(self) -> str:
        return f"{self.direction.value} to {self.target}"


UPGRADE_TO_HEAD = Goal()
UPGRADE_TO_HEADS = Goal(target="heads")


def heads_after(steps: Iterable[RevisionStep | StampStep], revisions: Iterable[str]) -> tuple[str, ...]:
    """Return what a version table with these revisions says after the steps, by Alembic's own rules."""
    heads = _Heads(None, revisions)  # type: ignore[arg-type]  # it writes to no database
    for step in steps:
        heads.update_to_step(step)
    return tuple(sorted(heads.heads))


class _Heads(HeadMaintainer):
    """Alembic's bookkeeping without the version table."""

    def _insert_version(self, version: str) -> None:
        self.heads.add(version)

    def _delete_version(self, version: str) -> None:
        self.heads.discard(version)

    def _update_version(self, from_: str, to_: str) -> Any:
        self.heads.discard(from_)
        self.heads.add(to_)
