"""What checks of choosers found, and how long the choosers took."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from shardctl.rows.choosers.rules import RULES, Rule, Severity
from shardctl.rows.choosers.watched import CHOOSERS, Call


@dataclass(slots=True)
class Finding:
    """One fault of one chooser with one class."""

    rule: Rule
    class_name: str
    """Empty where it is of no class."""
    chooser: str
    what: str
    example: str
    """The first time that it was met: the question, and what came of it."""
    count: int = 1
    """How often it was met."""


@dataclass(slots=True)
class Timing:
    """What one chooser took for one class."""

    class_name: str
    chooser: str
    seconds: list[float] = field(default_factory=list)
    """Of each call."""
    raised: int = 0

    @property
    def median_ms(self) -> float:
        return statistics.median(self.seconds) * 1000

    @property
    def max_ms(self) -> float:
        return max(self.seconds) * 1000


@dataclass(slots=True)
class Report:
    """What was found."""

    allowed: frozenset[str] = frozenset()
    """Codes that are left out."""
    generated: int = 0
    """Objects that were made up."""
    stored: int = 0
    """Rows that were looked at."""
    notes: list[str] = field(default_factory=list)
    """What was not examined, and why."""
    _timings: dict[tuple[str, str], Timing] = field(default_factory=dict)
    _found: dict[tuple[str, str, str, str], Finding] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """What was found, the worst first."""
        order = list(Severity)
        return sorted(self._found.values(), key=lambda entry: (order.index(entry.rule.severity), entry.rule.code))

    @property
    def timings(self) -> list[Timing]:
        """What the choosers took, class by class."""
        classes = list(dict.fromkeys(class_name for class_name, _ in self._timings))
        order = [(class_name, chooser) for class_name in classes for chooser in CHOOSERS]
        return [self._timings[key] for key in order if key in self._timings]

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing but information."""
        return all(finding.rule.severity is Severity.INFO for finding in self._found.values())

    def add(self, code: str, class_name: str, chooser: str, what: str, example: str) -> None:
        """Note that a fault was met."""
        key = (code, class_name, chooser, what)
        if code in self.allowed:
            return
        if key in self._found:
            self._found[key].count += 1
        else:
            self._found[key] = Finding(RULES[code], class_name, chooser, what, example)

    def is_blamed(self, class_name: str, chooser: str) -> bool:
        """Say whether something was found of a chooser with a class."""
        return any(key[1:3] == (class_name, chooser) for key in self._found)

    def add_calls(self, class_name: str, calls: Iterable[Call]) -> None:
        """Note how long choosers took."""
        for call in calls:
            key = (class_name, call.chooser)
            timing = self._timings.setdefault(key, Timing(class_name, call.chooser))
            timing.seconds.append(call.seconds)
            timing.raised += call.raised
