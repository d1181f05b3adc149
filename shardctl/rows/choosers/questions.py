"""Questions to choosers, each asked three times: is the answer one that SQLAlchemy can use, and always the same?"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.horizontal_shard import ShardedSession

from shardctl.errors import Refused
from shardctl.fleet.choosers import NOT_ASKED, Answer
from shardctl.rows.choosers.report import Report
from shardctl.rows.choosers.watched import Call, Watched

Ask = Callable[[ShardedSession], Answer]


@dataclass(frozen=True, slots=True)
class Question:
    """Something that a chooser is asked about one class."""

    class_name: str
    chooser: str
    example: str
    """The question in words, for who reads of a wrong answer."""
    may_fail: bool = False
    """Whether it is about made-up values, which a chooser need not know."""
    may_read: bool = False
    """Whether an answer may be looked for in a database."""
    made_up: frozenset[str] = frozenset()
    """Texts that a chooser may take for names of shards, as it was asked to."""


class Interview:
    """Asks questions, and reports what is wrong with the answers.

    Args:
        watched: Makes the sessions.
        report: What is found goes there.
        known: The shards.
    """

    def __init__(self, watched: Watched, report: Report, known: Sequence[str]) -> None:
        self._watched = watched
        self._report = report
        self._known = frozenset(known)
        self._barred: set[str] = set()
        """Choosers that would have written."""
        self.last: Answer | None = None
        """The last answer, of use or not."""

    @property
    def is_refused(self) -> bool:
        """Say whether the last answer was a refusal, as for a shard that must not change."""
        return self.last is not None and self.last.raised is not None and issubclass(self.last.raised, Refused)

    def ask(self, question: Question, ask: Ask, sessions: Sequence[ShardedSession]) -> Answer | None:
        """Ask in each of the sessions, the first of them twice.

        Returns:
            The answer; None if it is of no use.
        """
        if question.chooser in self._barred:
            return None
        answers, calls = self._answers(question, ask, (sessions[0], *sessions))
        self.last = first = answers[0]
        if first is NOT_ASKED:
            return None
        self._report.add_calls(question.class_name, calls)
        own = [call for call in calls if call.chooser == question.chooser]
        self._check_effects(question, own)
        is_affected = any(call.writes or call.changed for call in own)
        if is_affected or self.is_refused or not self._is_same(question, answers):
            return None  # what came of it says nothing more
        fault = self._fault(question, first)
        if fault is None:
            return first
        code, what = fault
        is_echo = code == "C103" and question.made_up.issuperset(first.shard_ids)
        if not question.may_fail or not (is_echo or first.raised is not None or first.said is None):
            self.report(code, question, what, f": {first}")
        return None

    def _answers(
        self, question: Question, ask: Ask, sessions: Iterable[ShardedSession]
    ) -> tuple[list[Answer], list[Call]]:
        """Ask until all have answered, or until one writes: that chooser is not asked about the class again."""
        answers: list[Answer] = []
        calls: list[Call] = []
        for session in sessions:
            answers.append(ask(session))
            calls += self._watched.take_calls()
            if any(call.writes for call in calls):
                self._barred.add(question.chooser)
                gc.collect()  # of connections that it opened and did not close
                break
        return answers, calls

    def report(self, code: str, question: Question, what: str, outcome: str = "") -> None:
        """Report a fault, with the question as its example."""
        self._report.add(code, question.class_name, question.chooser, what, f"{question.example}{outcome}")

    def _is_same(self, question: Question, answers: Iterable[Answer]) -> bool:
        said = {f"{', '.join(sorted(answer.shard_ids))}{answer.raised}": answer for answer in answers}
        if len(said) > 1:
            outcome = ", then ".join(str(answer) for answer in said.values())
            self.report("C105", question, "gives several answers", f": {outcome}")
        return len(said) == 1

    def _check_effects(self, question: Question, calls: Sequence[Call]) -> None:
        written = [text for call in calls for text in call.writes]
        if written:
            self.report("C106", question, "writes to a database", f": {written[0][:80]}")
        reads = max((call.reads for call in calls), default=0)
        if reads and not question.may_read:
            self.report("C107", question, f"sends {reads} SELECT{'' if reads == 1 else 's'}")
        changed = list(dict.fromkeys(name for call in calls for name in call.changed))
        if changed:
            self.report("C108", question, f"changes {', '.join(changed)}")

    def _fault(self, question: Question, answer: Answer) -> tuple[str, str] | None:
        """Return what is wrong with an answer: a code, and what it does."""
        if answer.raised is not None:
            return "C101", f"raises {answer.raised.__name__}"
        said: Any = answer.said
        if question.chooser == "shard_chooser":
            if not isinstance(said, str):
                return "C102", f"returns {_kind(said)}, not the name of one shard"
        elif isinstance(said, str):
            return "C102", "returns text, which SQLAlchemy takes for one shard a letter"
        elif not isinstance(said, Iterable):
            return "C102", f"returns {_kind(said)}, not names of shards"
        unknown = [name for name in answer.shard_ids if name not in self._known]
        if unknown:
            return "C103", "names a shard that does not exist"
        return None if answer.shard_ids else ("C104", "names no shard")


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
