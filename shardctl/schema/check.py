"""What keeps a fleet from being at the head of its migrations: for gates before a deployment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shardctl.fleet import Outcome
from shardctl.schema.apply import counted
from shardctl.schema.revisions import Scripts, ShardRevision, Standing


@dataclass(frozen=True, slots=True)
class GateFinding:
    """One thing that is not as it should be on one shard."""

    shard_id: str
    finding: str
    """`behind`, `empty`, `unversioned`, `unknown revision`, `drifted` or `models`."""
    detail: str


def find_lagging(found: Iterable[Outcome[ShardRevision]], scripts: Scripts) -> list[GateFinding]:
    """Return the shards that are not at the head; those that could not be read are left out."""
    return [
        GateFinding(outcome.shard_id, outcome.value.standing.value, _detail(outcome.value, scripts))
        for outcome in found
        if outcome.value is not None and outcome.value.standing is not Standing.AT_HEAD and scripts.heads
    ]


def _detail(revision: ShardRevision, scripts: Scripts) -> str:
    if revision.standing is Standing.UNKNOWN:
        strange = ", ".join(f"`{name}`" for name in revision.revisions if name not in scripts.known)
        return f"{strange} is not in `{scripts.folder.name}`"
    if revision.standing is Standing.UNVERSIONED:
        return f"{counted(len(revision.tables), 'table')} and no revision"
    return f"{counted(len(revision.pending), 'revision')} pending: {_shortened(revision.pending)}"


def _shortened(names: tuple[str, ...], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
