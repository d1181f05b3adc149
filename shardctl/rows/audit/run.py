"""An audit: its checks one after the other, what each looked at, and how far it came."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, cast

from shardctl.rows.audit.finding import Check, Finding, Scope, Skipped, Trouble
from shardctl.rows.audit.marks import State, from_saved, to_saved

CHECKS = {
    "placement": "shardctl.rows.audit.placement",
    "duplicates": "shardctl.rows.audit.duplicates",
    "orphans": "shardctl.rows.audit.orphans",
    "reference": "shardctl.rows.audit.reference",
    "sequences": "shardctl.rows.audit.sequences",
}
"""In the order in which they run: each by its module, whose `check` it is, and which is imported when it runs."""

Told = Callable[[str, str, str, int], None]
"""Called with a check, a table, a shard, and the rows that were looked at since the last call."""


def load_check(name: str) -> Check:
    """Import a check."""
    return cast(Check, import_module(CHECKS[name]).check)


@dataclass(slots=True)
class Audit:
    """One run, and what came of it so far.

    Args:
        scope: What to look at.
        checks: The names of the checks.
        told: Told of what is looked at.
    """

    scope: Scope
    checks: Sequence[str]
    told: Told = lambda _check, _table, _shard_id, _rows: None
    findings: list[Finding] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    looked: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """By check and table, how many rows of each shard."""
    done: list[str] = field(default_factory=list)
    """The checks that are over."""

    @property
    def tables(self) -> list[str]:
        """The tables that were looked at."""
        return sorted({table for tables in self.looked.values() for table in tables})

    @property
    def shards(self) -> list[str]:
        """The shards that were looked at."""
        tables = [by_shard for by_table in self.looked.values() for by_shard in by_table.values()]
        return sorted({shard_id for by_shard in tables for shard_id in by_shard})

    @property
    def rows(self) -> int:
        """How many rows were looked at, each once, however many checks looked at it."""
        rows: dict[tuple[str, str], int] = {}
        for tables in self.looked.values():
            for table, by_shard in tables.items():
                for shard_id, number in by_shard.items():
                    rows[table, shard_id] = max(rows.get((table, shard_id), 0), number)
        return sum(rows.values())

    def run(self) -> Generator[Finding | Skipped | Trouble, None, None]:
        """Run the checks, or what is left of them, and yield what they find."""
        for name in self.checks:
            self.looked[name] = {}
            saved = self.scope.marks.get(name)
            for item in self._replayed(name, saved) if saved is not None else self._checked(name):
                self._take(item)
                yield item
            self.done.append(name)

    def _checked(self, name: str) -> Iterator[Finding | Skipped | Trouble]:
        items: list[Finding | Skipped | Trouble] = []
        beyond = 0
        scope = replace(self.scope, told=lambda table, shard_id, rows: self._tell(name, table, shard_id, rows))
        for item in load_check(name)(scope):
            if isinstance(item, Finding) and self._count(items) >= self.scope.max_findings:
                beyond += 1
            else:
                items.append(item)
                yield item
        if beyond:
            why = f"{beyond:,} more findings are left out, beyond the first {self.scope.max_findings:,}"
            items.append(Skipped(name, "all tables", why))
            yield items[-1]
        if not any(isinstance(item, Trouble) for item in items):
            self.scope.marks.finish(name, {"items": [_saved(item) for item in items], "looked": self.looked[name]})

    @staticmethod
    def _count(items: Sequence[Finding | Skipped | Trouble]) -> int:
        return sum(isinstance(item, Finding) for item in items)

    def _replayed(self, name: str, saved: State) -> Iterator[Finding | Skipped | Trouble]:
        for table, by_shard in saved["looked"].items():
            for shard_id, rows in by_shard.items():
                self._tell(name, table, shard_id, rows)
        yield from map(_restored, saved["items"])

    def _tell(self, check: str, table: str, shard_id: str, rows: int) -> None:
        by_shard = self.looked[check].setdefault(table, {})
        by_shard[shard_id] = by_shard.get(shard_id, 0) + rows
        self.told(check, table, shard_id, rows)

    def _take(self, item: Finding | Skipped | Trouble) -> None:
        match item:
            case Finding():
                self.findings.append(item)
            case Skipped():
                self.skipped.append(item)
            case Trouble():
                self.troubles.append(item)


def _saved(item: Any) -> State:
    if isinstance(item, Skipped):
        return {"skipped": [item.check, item.name, item.why]}
    assert isinstance(item, Finding)
    values = {name: getattr(item, name) for name in item.__dataclass_fields__}
    return {"finding": {**values, "samples": to_saved(item.samples)}}


def _restored(saved: State) -> Finding | Skipped:
    if "skipped" in saved:
        return Skipped(*saved["skipped"])
    values = saved["finding"]
    return Finding(**{**values, "shards": tuple(values["shards"]), "samples": from_saved(values["samples"])})
