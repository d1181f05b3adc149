"""The drift of a fleet: fingerprints of all its shards, and Alembic's comparison once for each distinct one."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData

from shardctl.errors import ConfigError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.schema.autogenerate import Options, compare, in_env_py, metadata_without_schema, without_tables
from shardctl.schema.comparators import set_default_comparison, with_comparators
from shardctl.schema.drift import Finding, GroupedFinding, compare_with, compare_with_most, grouped, merged, settled
from shardctl.schema.fingerprint import Fingerprint, own_tables
from shardctl.schema.mend import mending_sql
from shardctl.schema.model_findings import findings_of
from shardctl.schema.revisions import Scripts
from shardctl.schema.run_env import connections_of


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """How one schema differs from the models."""

    findings: tuple[Finding, ...]
    sql: str
    """What would mend it."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What was found on a fleet."""

    groups: tuple[GroupedFinding, ...]
    sql: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """Shards that are alike -> what would mend them."""
    compared: frozenset[str] = frozenset()
    """Shards that were compared with something."""
    notes: tuple[str, ...] = ()
    """What was not compared, and why."""
    failed: tuple[Outcome[Any], ...] = ()
    """Shards that could not be compared with the models."""


class Meant:
    """Which tables of the models are meant to be on which shard."""

    def __init__(self, fleet: Fleet, shards: Iterable[LiveShard]) -> None:
        self._fleet = fleet
        self.metadatas = _metadatas(fleet)
        self._known = {table.name for metadata in self.metadatas for table in metadata.tables.values()}
        self._own = {
            live.shard_id: frozenset(table.name for table in fleet.tables_on(live.shard_id))
            for live in (shards if self.metadatas else ())
        }

    def has(self, shard_id: str, table: str) -> bool:
        """Say whether a table is meant to be on a shard; one that the models do not have may be anywhere."""
        return table not in self._known or table in self._own[shard_id]

    def hidden(self, shard_id: str) -> frozenset[str]:
        """Return the tables that are shardctl's own."""
        return own_tables(self._fleet, shard_id)

    def tables(self, shard_id: str) -> frozenset[str]:
        return self._own.get(shard_id, frozenset())


def _metadatas(fleet: Fleet) -> tuple[MetaData, ...]:
    if fleet.shard_map.app is None and not fleet.shard_map.models:
        return ()
    return fleet.models.metadatas


def find_drift(
    fleet: Fleet,
    fingerprints: Mapping[str, Fingerprint],
    scripts: Scripts | None,
    *,
    against: str | None = None,
    ignored: frozenset[str] = frozenset(),
) -> Drift:
    """Compare the schemas of shards with the models, and with one another.

    Args:
        fleet: The shards' fleet.
        fingerprints: The schemas, by shard.
        scripts: The project's revisions; None where there are no migrations.
        against: `models`, `majority`, or a shard; None: the models and the majority.
        ignored: Kinds of objects to leave out.

    Raises:
        ConfigError: The models cannot be imported.
        UnknownName: `against` is no shard.
    """
    fingerprints = {shard_id: fingerprints[shard_id] for shard_id in fleet.shards if shard_id in fingerprints}
    meant = Meant(fleet, [fleet.shard(shard_id) for shard_id in fingerprints])
    notes: list[str] = []
    models: dict[str, list[Finding]] = {}
    sql: dict[tuple[str, ...], str] = {}
    failed: list[Outcome[Any]] = []
    if against in (None, "models"):
        comparable = _comparable_with_models(fingerprints, scripts, notes)
        classes = _classes(comparable, meant)
        for outcome in _compare_classes(fleet, classes, fingerprints, scripts, meant):
            members = classes[outcome.shard_id]
            if outcome.error is not None:
                failed.append(outcome)
                continue
            if outcome.value is None:
                notes.append("no models: the shards are compared with one another only")
                break
            models |= {member: list(outcome.value.findings) for member in members}
            if outcome.value.sql:
                sql[tuple(members)] = outcome.value.sql
    others: dict[str, list[Finding]] = {}
    if against != "models":
        others = settled(_compare_shards(fingerprints, meant, against, notes), models)
    findings = {
        shard_id: [
            finding
            for finding in merged(models.get(shard_id, ()), others.get(shard_id, ()))
            if finding.object.kind not in ignored
        ]
        for shard_id in fingerprints
    }
    compared = frozenset(models) | frozenset(others)
    return Drift(tuple(grouped(findings)), sql, compared, tuple(dict.fromkeys(notes)), tuple(failed))


def _comparable_with_models(
    fingerprints: Mapping[str, Fingerprint], scripts: Scripts | None, notes: list[str]
) -> dict[str, Fingerprint]:
    """Return the shards that the models describe: those at the head, and those that no migration made."""
    if scripts is None:
        return dict(fingerprints)
    heads = scripts.heads
    left_out: dict[str, list[str]] = {}
    comparable = {}
    for shard_id, found in fingerprints.items():
        if found.revisions == heads or (not found.revisions and found.tables):
            comparable[shard_id] = found
        else:
            left_out.setdefault(", ".join(found.revisions) or "no revision", []).append(shard_id)
    for revision, shard_ids in left_out.items():
        notes.append(f"{', '.join(shard_ids)}: at {revision}, not at the head: not compared with the models")
    return comparable


def _classes(fingerprints: Mapping[str, Fingerprint], meant: Meant) -> dict[str, list[str]]:
    """Part shards into those that are alike, by the first of them."""
    classes: dict[object, list[str]] = {}
    for shard_id, found in fingerprints.items():
        classes.setdefault((found.digest, meant.tables(shard_id)), []).append(shard_id)
    return {members[0]: members for members in classes.values()}


def _compare_classes(
    fleet: Fleet,
    classes: Mapping[str, Sequence[str]],
    fingerprints: Mapping[str, Fingerprint],
    scripts: Scripts | None,
    meant: Meant,
) -> list[Outcome[ModelComparison | None]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what cannot be reflected or compared; not by thread, so around all of them
        outcomes = fleet.fan_out(
            lambda live: compare_with_models(live, fingerprints[live.shard_id], scripts, meant),
            [fleet.shard(shard_id) for shard_id in classes],
            connections=connections_of(scripts),
        )
        order = list(classes)
        return sorted(outcomes, key=lambda outcome: order.index(outcome.shard_id))


def compare_with_models(
    live: LiveShard, found: Fingerprint, scripts: Scripts | None, meant: Meant
) -> ModelComparison | None:
    """Compare one shard with the models; None if neither env.py nor the shard map names any.

    Raises:
        ShardError: It cannot be read, or env.py failed.
    """
    metadatas = _translated(live, meant.metadatas)
    compared: list[ModelComparison] = []

    def adapt(options: Options) -> Options:
        if options.get("target_metadata") is None:
            options = {**options, "target_metadata": list(metadatas)}
        return with_comparators(
            _with_meant_tables(without_tables(options, meant.hidden(live.shard_id)), live.shard_id, meant)
        )

    def run(revisions: tuple[str, ...], context: MigrationContext) -> None:
        target = context.opts["target_metadata"]
        targets = list(target) if isinstance(target, list | tuple) else [target]
        if targets:
            set_default_comparison(context)
            script = compare(context, revisions, targets)
            findings = findings_of(context, script, targets, found)
            compared.append(ModelComparison(tuple(findings), mending_sql(context, script)))

    with live.connect() as connection:
        if scripts is not None:
            in_env_py(live, scripts, connection, run, adapt)
        else:
            run((), MigrationContext.configure(connection, opts=adapt({})))
    return compared[0] if compared else None


def _with_meant_tables(options: Options, shard_id: str, meant: Meant) -> Options:
    """Return options under which a table that is not meant to be on a shard is not missed there."""
    own = options.get("include_object")
    has_schemas = options.get("include_schemas", False)

    def include_object(*asked: Any) -> bool:
        object_, name, type_, reflected, compare_to = asked
        is_missing = type_ == "table" and not reflected and compare_to is None
        is_elsewhere = is_missing and object_.schema is not None and not has_schemas
        if is_missing and (is_elsewhere or not meant.has(shard_id, str(name))):
            return False
        return own is None or bool(own(*asked))

    return {**options, "include_object": include_object}


def _translated(live: LiveShard, metadatas: Sequence[MetaData]) -> Sequence[MetaData]:
    """Return the models as a connection of the shard sees them: tables of its schema without a schema."""
    translated = live.bind.get_execution_options().get("schema_translate_map") or {}
    own = {token for token, schema in translated.items() if token is not None and schema == live.shard.schema}
    return [metadata_without_schema(metadatas, own)] if own else metadatas


def _compare_shards(
    fingerprints: Mapping[str, Fingerprint], meant: Meant, against: str | None, notes: list[str]
) -> dict[str, list[Finding]]:
    rounds: dict[tuple[str, tuple[str, ...]], dict[str, Fingerprint]] = {}
    for shard_id, found in fingerprints.items():
        rounds.setdefault((found.engine, found.revisions), {})[shard_id] = found
    if against not in (None, "majority"):
        return _compare_with_one(fingerprints, meant, against, notes)
    findings: dict[str, list[Finding]] = {}
    for members in rounds.values():
        if len(members) > 1:
            findings |= compare_with_most(members, meant.has)
    alone = [next(iter(members)) for members in rounds.values() if len(members) == 1]
    if alone and len(fingerprints) > 1:
        notes.append(f"{', '.join(alone)}: no other shard has that engine and revision: not compared with others")
    return findings


def _compare_with_one(
    fingerprints: Mapping[str, Fingerprint], meant: Meant, reference_id: str, notes: list[str]
) -> dict[str, list[Finding]]:
    reference = fingerprints.get(reference_id)
    if reference is None:
        raise ConfigError(f"`{reference_id}` could not be read: there is nothing to compare with")
    findings: dict[str, list[Finding]] = {}
    for shard_id, found in fingerprints.items():
        if shard_id == reference_id:
            continue
        if (found.engine, found.revisions) != (reference.engine, reference.revisions):
            notes.append(f"{shard_id}: not of the engine and at the revision of {reference_id}: not compared with it")
            continue
        differences = compare_with(
            found,
            reference,
            lambda table, shard_id=shard_id: meant.has(shard_id, table) and meant.has(reference_id, table),  # type: ignore[misc]
        )
        findings[shard_id] = [entry.finding(reference_id) for entry in differences]
    return findings
