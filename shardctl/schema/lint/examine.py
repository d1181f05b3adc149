"""`migrate lint`: the revisions that shards have before them, examined for the engines that they are on.

Nothing is executed: each revision's `upgrade()` is run with an `op` that records.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alembic.script import Script
from sqlalchemy import Dialect, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from shardctl.errors import UnknownName
from shardctl.fleet import LiveShard
from shardctl.fleet.backends import BACKENDS
from shardctl.schema.lint.changes import Change, Revision
from shardctl.schema.lint.history import History
from shardctl.schema.lint.operations import changes_of
from shardctl.schema.lint.recorder import Recording, record
from shardctl.schema.lint.rules import RULES, Hit, Rule, Severity
from shardctl.schema.lint.source import Source, read_source
from shardctl.schema.revisions import Scripts

_WORST_FIRST = list(Severity)


@dataclass(frozen=True, slots=True)
class Target:
    """A shard, or an engine without one, and the revisions to examine for it."""

    shard_id: str | None
    dialect: Dialect
    revisions: frozenset[str]
    is_schema: bool = False
    is_at_once: bool = True
    """Whether the revisions run one after the other, on tables that earlier ones make; else each is judged alone."""

    @property
    def engine(self) -> str:
        return BACKENDS[self.dialect.name].name


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found, where, and for which shards."""

    code: str
    severity: Severity
    path: str
    line: int | None
    revision: str
    engines: tuple[str, ...]
    shards: tuple[str, ...]
    why: str
    safer: str


@dataclass(slots=True)
class Report:
    """What was examined, and found."""

    findings: list[Finding] = field(default_factory=list)
    allowed: list[Finding] = field(default_factory=list)
    """What a comment or an option allows."""
    examined: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing worse than an info."""
        return all(finding.severity is Severity.INFO for finding in self.findings)


def target_of(shard: LiveShard, revisions: Iterable[str], *, is_at_once: bool = True) -> Target:
    """Return what to examine for a shard; it is not connected to."""
    is_schema = shard.shard.schema is not None and shard.backend.name == "postgresql"
    return Target(shard.shard_id, shard.engine.dialect, frozenset(revisions), is_schema, is_at_once)


def target_of_engine(name: str, revisions: Iterable[str]) -> Target:
    """Return what to examine for an engine of which no shard is asked; on PostgreSQL as for shards that are schemas.

    Raises:
        UnknownName: shardctl knows no such engine.
    """
    if name not in BACKENDS:
        raise UnknownName(f"no engine `{name}`", name=name, known=BACKENDS)
    try:
        dialect = make_url(f"{name}://").get_dialect()()
    except (NoSuchModuleError, ArgumentError) as error:
        raise UnknownName(f"no engine `{name}`: {error}", name=name, known=BACKENDS) from error
    return Target(None, dialect, frozenset(revisions), is_schema=name == "postgresql", is_at_once=False)


def check_codes(codes: Iterable[str]) -> frozenset[str]:
    """Return codes of rules as they are written.

    Raises:
        UnknownName: No rule has this code.
    """
    found = frozenset(code.upper() for code in codes)
    for code in sorted(found - set(RULES)):
        raise UnknownName(
            f"no rule `{code}`", name=code, known=RULES, hint="`shardctl migrate lint --rules` lists them"
        )
    return found


def examine(scripts: Scripts, targets: Sequence[Target], *, allow: Collection[str] = ()) -> Report:
    """Examine revisions for the targets that have them before them.

    Args:
        scripts: The project's revisions.
        targets: Shards, or engines.
        allow: The codes of rules that are allowed everywhere.
    """
    wanted = {revision for target in targets for revision in target.revisions}
    order = [script for script in reversed(list(scripts.directory.walk_revisions())) if script is not None]
    found: dict[tuple[object, ...], Finding] = {}
    report = Report(examined=tuple(script.revision for script in order if script.revision in wanted))
    sources = {script.revision: read_source(script.path) for script in order if script.revision in wanted}
    for group in _by_dialect(targets):
        for finding in _examine_group(scripts, order, sources, group):
            key = (finding.code, finding.path, finding.line, finding.why, finding.safer)
            found[key] = _merged(found[key], finding) if key in found else finding
    position = {revision: index for index, revision in enumerate(report.examined)}
    for finding in sorted(found.values(), key=lambda one: (position[one.revision], one.line or 0, one.code)):
        is_allowed = finding.code in allow or sources[finding.revision].allows(finding.code, finding.line)
        (report.allowed if is_allowed else report.findings).append(finding)
    return report


def _examine_group(
    scripts: Scripts, order: Sequence[Script], sources: dict[str, Source], group: Sequence[Target]
) -> Iterator[Finding]:
    history, dialect = History(), group[0].dialect
    for script in order:
        concerned = [target for target in group if script.revision in target.revisions]
        named = (concerned or group)[0].shard_id or ""
        if not concerned:
            _revision(script, [record(script, scripts, dialect, named)], group[0], history)  # into the history
            continue
        recordings = _record_all(script, scripts, dialect, named)
        asks_shard = any(recording.asks_shard for recording in recordings)
        first = _revision(script, recordings, group[0], history)
        yield from _apply_rules(first, sources, concerned[:1] if asks_shard else concerned, history)
        if asks_shard:
            for target in concerned[1:]:
                recordings = _record_all(script, scripts, dialect, target.shard_id or "")
                yield from _apply_rules(_revision(script, recordings, target, history), sources, [target], history)


def _apply_rules(
    revision: Revision, sources: dict[str, Source], targets: Sequence[Target], history: History
) -> Iterator[Finding]:
    source = sources[revision.id]
    revision.downgrade, revision.misspelt = source.downgrade, source.misspelt(list(RULES))
    for rule in RULES.values():
        for hit in rule.hits(revision):
            yield from _findings(rule, hit, revision, targets, history)


def _record_all(script: Script, scripts: Scripts, dialect: Dialect, shard_id: str) -> list[Recording]:
    """Record a revision twice, to see what varies; and once more with other answers, if it asks."""
    recordings = [record(script, scripts, dialect, shard_id) for _ in range(2)]
    if recordings[0].reads:
        recordings.append(record(script, scripts, dialect, shard_id, says_yes=True))
    return recordings


def _revision(script: Script, recordings: list[Recording], target: Target, history: History) -> Revision:
    revision = Revision(script.revision, script.path, target.engine, is_mariadb=is_mariadb(target.dialect))
    revision.cascading, revision.types, revision.proven = history.cascading, dict(history.types), history.proven
    runs = [
        [change for recorded in run.recorded for change in changes_of(recorded, target.dialect)] for run in recordings
    ]
    for change in runs[0]:
        revision.changes.append(history.informed(change))
        history.add(change, script.revision)
    if len(runs) > 1:
        revision.varying = [one for one, two in zip(*runs[:2], strict=False) if one.rendered != two.rendered]
    if len(runs) > 2:
        seen = {_place(change) for change in revision.changes}
        revision.changes += [history.informed(change) for change in runs[2] if _place(change) not in seen]
    revision.recreated = list(dict.fromkeys((one.table, one.line) for run in recordings for one in run.recreated))
    revision.reads = list(dict.fromkeys(read for run in recordings for read in run.reads))
    revision.error = next((run.error for run in recordings if run.error is not None), None)
    return revision


def is_mariadb(dialect: Dialect) -> bool:
    """Say whether an engine is known to be MariaDB: by its URL, or because it was connected to."""
    return bool(getattr(dialect, "is_mariadb", False))


def _place(change: Change) -> tuple[object, ...]:
    return change.kind, change.line, change.table, change.name


def _findings(
    rule: Rule, hit: Hit, revision: Revision, targets: Sequence[Target], history: History
) -> Iterator[Finding]:
    hurt = [target for target in targets if _is_hurt(rule, hit, revision, target, history)]
    if not hurt:
        return
    severity = rule.severity
    if rule.on_schemas is not None and any(target.is_schema for target in hurt):
        severity = rule.on_schemas
    why, safer = rule.says(hit)
    path = Path(revision.path)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    shards = tuple(target.shard_id for target in hurt if target.shard_id is not None)
    yield Finding(rule.code, severity, str(shown), hit.line, revision.id, (revision.engine,), shards, why, safer)


def _is_hurt(rule: Rule, hit: Hit, revision: Revision, target: Target, history: History) -> bool:
    if rule.only_schemas and not target.is_schema:
        return False
    if not rule.spares_new_tables:
        return True
    maker = history.created_by.get(hit.table, "") if hit.made_by is None else hit.made_by
    return not maker or (maker != revision.id and not (target.is_at_once and maker in target.revisions))


def _merged(one: Finding, other: Finding) -> Finding:
    return replace(
        one,
        severity=min(one.severity, other.severity, key=_WORST_FIRST.index),
        engines=tuple(dict.fromkeys((*one.engines, *other.engines))),
        shards=tuple(dict.fromkeys((*one.shards, *other.shards))),
    )


def _by_dialect(targets: Sequence[Target]) -> list[list[Target]]:
    groups: dict[tuple[object, ...], list[Target]] = {}
    for target in targets:
        groups.setdefault((target.dialect.name, is_mariadb(target.dialect)), []).append(target)
    return list(groups.values())
