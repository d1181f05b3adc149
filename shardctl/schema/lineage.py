"""The project's revisions as a history: what follows what, where it branches and merges, which shards are where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shardctl.schema.revisions import Scripts


@dataclass(frozen=True, slots=True)
class Link:
    """One revision of the history."""

    revision: str
    message: str
    """The first line of its docstring."""
    after: tuple[str, ...]
    """The revisions that it follows; several where it merges branches, none at the beginning."""
    depends_on: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """The names of the branch that it begins."""
    is_head: bool = False
    is_branch_point: bool = False
    file: str = ""

    @property
    def is_merge(self) -> bool:
        return len(self.after) > 1

    @property
    def marks(self) -> tuple[str, ...]:
        """What is special about it, in words."""
        words = [("head", self.is_head), ("merge", self.is_merge), ("branch point", self.is_branch_point)]
        return (
            *(word for word, holds in words if holds),
            *(f"branch `{label}`" for label in self.labels),
            *(f"depends on {revision}" for revision in self.depends_on),
        )


def read_lineage(scripts: Scripts) -> list[Link]:
    """Return the revisions, the newest first."""
    return [_link(script) for script in scripts.directory.walk_revisions()]


def standing_at(shards: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Return the shards at each revision; those at none are at `base`.

    Args:
        shards: Their revisions.
    """
    found: dict[str, list[str]] = {}
    for shard_id, revisions in shards.items():
        for revision in revisions or ("base",):
            found.setdefault(revision, []).append(shard_id)
    return found


def _link(script: Any) -> Link:
    text = script.doc.strip()
    return Link(
        revision=script.revision,
        message=text.splitlines()[0] if text else "",
        after=_several(script.down_revision),
        depends_on=_several(script.dependencies),
        labels=tuple(sorted(_several(getattr(script, "_orig_branch_labels", None)))),
        is_head=script.is_head,
        is_branch_point=script.is_branch_point,
        file=script.path,
    )


def _several(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
