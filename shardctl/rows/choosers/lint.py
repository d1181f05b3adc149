"""`choosers lint`: every class's choosers, asked about generated objects and stored rows; nothing is written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, inspect
from sqlalchemy.orm import Mapper

from shardctl.fleet import Fleet
from shardctl.fleet.rules import columns_of
from shardctl.rows.choosers.examine import Examination, Subject
from shardctl.rows.choosers.objects import Maker
from shardctl.rows.choosers.report import Report
from shardctl.rows.choosers.stored import Sample
from shardctl.rows.choosers.values import known_values
from shardctl.rows.choosers.watched import CHOOSERS, Watched

_ENOUGH = 10
"""So many placed objects for each shard say that one without any is never chosen."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to look at, and how."""

    samples: int = 25
    """Generated objects of each class."""
    seed: int = 0
    max_ms: float | None = None
    """What a chooser may take, in the median."""
    allowed: frozenset[str] = frozenset()
    """Codes to leave out."""
    told: Callable[[str], None] = lambda _name: None
    """Called with each class that is done."""


def lint_choosers(fleet: Fleet, mappers: Sequence[Mapper[Any]], samples: Iterable[Sample], wish: Wish) -> Report:
    """Check the choosers of a fleet's sessions.

    Args:
        fleet: With an application's session factory, or with the shard map's.
        mappers: The classes to look at.
        samples: Rows that are stored, as `read_samples` yields them.
        wish: How.
    """
    samples = list(samples)
    stored: dict[Mapper[Any], list[Any]] = defaultdict(list)
    for instance in (instance for sample in samples for instance in sample.objects):
        stored[inspect(instance).mapper].append(instance)
    report = Report(wish.allowed)
    for name, reason in sorted({entry for sample in samples for entry in sample.unread}):
        report.notes.append(f"rows of {name} cannot be read: {reason}")
    watched = Watched(fleet.sessionmaker())
    maker = Maker(wish.seed, _known_values(fleet, stored))
    placed: Counter[str] = Counter()
    with watched.watching():
        for mapper in mappers:
            generated = [] if _is_abstract(mapper) else [maker.make(mapper, number) for number in range(wish.samples)]
            subject = Subject(mapper, generated, stored[mapper])
            report.generated += len(generated)
            report.stored += len(subject.stored)
            examination = Examination(fleet, watched, report, subject)
            examination.run()
            placed += examination.placed
            wish.told(subject.name)
    _check_shards(fleet, mappers, placed, report)
    _check_times(report, wish.max_ms)
    return report


def _is_abstract(mapper: Mapper[Any]) -> bool:
    """Say whether no row is an object of the class itself, but of its subclasses only."""
    return mapper.polymorphic_on is not None and mapper.polymorphic_identity is None


def _known_values(fleet: Fleet, stored: dict[Mapper[Any], list[Any]]) -> dict[Column[Any], list[Any]]:
    """Return, by column, the values that choosers know, as far as that can be seen."""
    with fleet.sessionmaker()() as session:
        choosers = [getattr(session, name) for name in CHOOSERS] if fleet.placement is None else []
    known: dict[Column[Any], list[Any]] = {}
    for mapper in fleet.models.mappers.values():
        rule = fleet.placement.rule(mapper) if fleet.placement is not None else None
        for key, column in columns_of(mapper).items():
            if not isinstance(column, Column) or column.primary_key or column.foreign_keys:
                continue
            values = known_values(column, rule, choosers, fleet.shards)
            rows = [inspect(row).dict.get(key) for row in stored.get(mapper, ())]
            seen = [value for value in rows if value is not None and value.__hash__ is not None]
            known[column] = list(dict.fromkeys([*values, *seen]))
    return known


def _check_shards(fleet: Fleet, mappers: Sequence[Mapper[Any]], placed: Counter[str], report: Report) -> None:
    """Report shards that nothing is ever placed on, where shard_chooser gives its answers."""
    if any(finding.rule.code.startswith("C1") and finding.chooser == "shard_chooser" for finding in report.findings):
        return
    used = set(placed)
    if fleet.placement is not None:
        for mapper in mappers:
            if fleet.placement.rule(mapper) is not None:
                used |= set(fleet.placement.shard_ids(mapper))
    elif placed.total() < _ENOUGH * len(fleet.shards):
        return
    for shard_id in fleet.shards:
        if shard_id not in used:
            report.add("C203", "", "shard_chooser", f"places nothing on `{shard_id}`", f"{placed.total()} objects")


def _check_times(report: Report, max_ms: float | None) -> None:
    for timing in report.timings:
        if max_ms is not None and timing.median_ms > max_ms:
            example = f"{timing.median_ms:.2f} ms in the median, {timing.max_ms:.2f} ms at most"
            report.add("C109", timing.class_name, timing.chooser, f"takes longer than {max_ms:g} ms", example)
