"""Findings of one table as they add up, however many rows they are about."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import Table

from shardctl.fleet import Fleet
from shardctl.rows.audit.finding import SAMPLES, Finding, Skipped
from shardctl.rows.audit.marks import State, from_saved, to_saved
from shardctl.rows.identities import Target, name_of

_Fault = tuple[str, tuple[str, ...], str]
"""The kind, the shards, the detail."""


@dataclass(slots=True)
class _Entry:
    count: int = 0
    samples: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """The faults of one table's rows.

    Args:
        check: The check.
        name: The class, or the table.
        most: Findings at the most; the rows of further ones are only counted.
    """

    check: str
    name: str
    most: int
    entries: dict[_Fault, _Entry] = field(default_factory=dict)
    beyond: int = 0
    """Rows of the findings that were left out."""

    def add(
        self,
        kind: str,
        shards: Sequence[str],
        detail: str,
        count: int = 1,
        samples: Sequence[tuple[Any, ...]] = (),
    ) -> bool:
        """Add rows to a finding, and say whether it wants more samples."""
        fault = (kind, tuple(shards), detail)
        entry = self.entries.get(fault)
        if entry is None:
            if len(self.entries) >= self.most:
                self.beyond += count
                return False
            entry = self.entries[fault] = _Entry()
        entry.count += count
        for sample in samples:
            if len(entry.samples) < SAMPLES and sample not in entry.samples:
                entry.samples.append(sample)
        return len(entry.samples) < SAMPLES

    def results(self, *, is_exact: bool) -> Iterator[Finding | Skipped]:
        """Yield what it all adds up to."""
        for (kind, shards, detail), entry in self.entries.items():
            yield Finding(
                check=self.check,
                kind=kind,
                name=self.name,
                shards=shards,
                count=entry.count,
                samples=tuple(entry.samples),
                detail=detail,
                mend=locate_command(self.name, entry.samples),
                is_exact=is_exact,
            )
        if self.beyond:
            why = f"findings beyond the first {self.most:,} are left out, with rows: {self.beyond:,}"
            yield Skipped(self.check, self.name, why)

    def saved(self) -> State:
        """Return it as JSON can hold it."""
        entries = [
            [kind, list(shards), detail, entry.count, [to_saved(sample) for sample in entry.samples]]
            for (kind, shards, detail), entry in self.entries.items()
        ]
        return {"entries": entries, "beyond": self.beyond}

    def restore(self, saved: State) -> None:
        """Take up what was saved."""
        for kind, shards, detail, count, samples in saved["entries"]:
            kept = [from_saved(sample) for sample in samples]
            self.entries[kind, tuple(shards), detail] = _Entry(count, kept)
        self.beyond = saved["beyond"]


def known_as(fleet: Fleet, target: Target) -> str:
    """Return the name by which commands know a class or a table."""
    return name_of(target) if isinstance(target, Table) else fleet.models.class_name(target)


def locate_command(name: str, samples: Sequence[tuple[Any, ...]]) -> str:
    """Return the command that shows rows, with where they belong."""
    words = [_word(value) for sample in samples for value in sample]
    if any(word.startswith("-") for word in words):
        words = ["--", *words]
    return (
        shlex.join(["shardctl", "locate", name, *words]) if words else f"shardctl query {shlex.quote(name)} --by-shard"
    )


def _word(value: Any) -> str:
    """Return a value as `locate` reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
