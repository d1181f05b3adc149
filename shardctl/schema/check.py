"""What keeps a fleet from being at the head of its migrations: for gates before a deployment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shardctl.errors import ConfigError
from shardctl.fleet import Fleet, Outcome
from shardctl.schema.comparison import Drift, find_drift
from shardctl.schema.fingerprint import Fingerprint
from shardctl.schema.fitness import counted
from shardctl.schema.revisions import Scripts, ShardRevision, Standing


@dataclass(frozen=True, slots=True)
class GateFinding:
    """One thing that is not as it should be on one shard."""

    shard_id: str
    finding: str
    """`behind`, `empty`, `unversioned`, `unknown revision`, `drifted`, or `not in migrations`."""
    detail: str


def find_lagging(found: Iterable[Outcome[ShardRevision]], scripts: Scripts) -> list[GateFinding]:
    """Return the shards that are not at the head; those that could not be read are left out."""
    return [
        GateFinding(outcome.shard_id, outcome.value.standing.value, _detail(outcome.value, scripts))
        for outcome in found
        if outcome.value is not None and outcome.value.standing is not Standing.AT_HEAD and scripts.heads
    ]


def find_drifted(fleet: Fleet, fingerprints: Mapping[str, Fingerprint], scripts: Scripts) -> list[GateFinding]:
    """Return where shards at one revision differ from most of them.

    Raises:
        ConfigError: The models, which say what belongs on which shard, cannot be imported.
    """
    return _findings(find_drift(fleet, fingerprints, scripts, against="majority"), "drifted")


def find_uncarried(
    fleet: Fleet, shard_id: str, fingerprint: Fingerprint, scripts: Scripts
) -> tuple[list[GateFinding], list[Outcome[object]]]:
    """Return what the models have otherwise than one shard at the head, by Alembic's comparison in env.py.

    Args:
        fleet: The shard's fleet.
        shard_id: A shard that is at the head, and has not drifted.
        fingerprint: Its schema.
        scripts: The project's revisions.

    Returns:
        The findings, and the shard's outcome if it could not be compared.

    Raises:
        ConfigError: There are no models, or they cannot be imported.
    """
    found = find_drift(fleet, {shard_id: fingerprint}, scripts, against="models")
    if not found.compared and not found.failed:
        raise ConfigError(
            "neither env.py's `target_metadata` nor the shard map names models", hint="leave out `--models`"
        )
    return _findings(found, "not in migrations"), list(found.failed)


def _findings(found: Drift, kind: str) -> list[GateFinding]:
    return [
        GateFinding(shard_id, kind, f"{group.finding.object} {group.finding.text}")
        for group in found.groups
        for shard_id in group.shard_ids
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
