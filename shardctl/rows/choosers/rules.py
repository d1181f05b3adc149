"""What can be wrong with choosers, each fault under a code of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shardctl.errors import UnknownName


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Rows are lost from sight, or what asks the chooser fails."""
    WARNING = "warning"
    """It works, until it does not."""
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault."""

    code: str
    severity: Severity
    title: str
    """What it is, in a few words."""


_ALL = (
    Rule("C101", Severity.ERROR, "a chooser raises"),
    Rule("C102", Severity.ERROR, "an answer is not of the type that SQLAlchemy expects"),
    Rule("C103", Severity.ERROR, "an answer names a shard that does not exist"),
    Rule("C104", Severity.ERROR, "an answer names no shard"),
    Rule("C105", Severity.ERROR, "the same question is answered in several ways"),
    Rule("C106", Severity.ERROR, "a chooser writes to a database (lint refuses it before it is sent)"),
    Rule("C107", Severity.WARNING, "a chooser reads from a database whenever it is asked"),
    Rule("C108", Severity.ERROR, "a chooser changes the session, or the object that it is asked about"),
    Rule("C109", Severity.WARNING, "a chooser takes longer than `--max-ms`"),
    Rule("C201", Severity.WARNING, "no generated object of a class has a home"),
    Rule("C202", Severity.WARNING, "all generated objects of a class have one home, and its table is elsewhere too"),
    Rule("C203", Severity.INFO, "nothing is ever placed on a shard"),
    Rule("C204", Severity.INFO, "stored rows are not where shard_chooser would place them"),
    Rule("C301", Severity.ERROR, "identity_chooser names shards that `get()` does not ask"),
    Rule("C302", Severity.WARNING, "identity_chooser leaves out a stored row's shard: it is loaded again and again"),
    Rule("C303", Severity.ERROR, "`get()`, or a SELECT by primary key, does not ask the shard of a stored row"),
    Rule("C304", Severity.ERROR, "a SELECT of all rows does not ask a shard that has some"),
    Rule("C305", Severity.ERROR, "an UPDATE or DELETE is not sent to a shard that has such rows"),
)

RULES = {rule.code: rule for rule in _ALL}


def check_codes(codes: Iterable[str]) -> frozenset[str]:
    """Return the codes as they are written.

    Raises:
        UnknownName: There is no such rule.
    """
    found = [code.upper() for code in codes]
    for code in found:
        if code not in RULES:
            hint = "`shardctl choosers lint --rules` lists them"
            raise UnknownName(f"no rule `{code}`", name=code, known=RULES, hint=hint)
    return frozenset(found)
