"""A rule: what it looks for, why that is dangerous, and what is safer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from shardctl.schema.lint.changes import Change, Revision


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """It fails, destroys data, or works on the wrong place."""
    WARNING = "warning"
    """It hurts an application that runs, or leaves shards that differ."""
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Hit:
    """A place that a rule found."""

    line: int | None
    table: str = ""
    words: Mapping[str, Any] = field(default_factory=dict)
    made_by: str | None = None
    """The revision that made the table as it was then; empty if none is known; None if that was not looked up."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    code: str
    severity: Severity
    title: str
    engines: tuple[str, ...]
    why: str
    safer: str
    find: Callable[[Revision], Iterator[Change | Hit]]
    spares_new_tables: bool = False
    """Whether a table that has no rows and no readers yet is no concern of it."""
    on_schemas: Severity | None = None
    """How bad it is on shards that are schemas of one database, if that differs."""
    only_schemas: bool = False

    @property
    def explanation(self) -> str:
        """The long text."""
        return inspect.cleandoc(self.find.__doc__ or "")

    def hits(self, revision: Revision) -> Iterator[Hit]:
        """Return the places in a revision."""
        if revision.engine not in self.engines:
            return
        for found in self.find(revision):
            yield found if isinstance(found, Hit) else Hit(found.line, found.table, _words(found), found.made_by)

    def says(self, hit: Hit) -> tuple[str, str]:
        """Return why, and what is safer, for a place."""
        return self.why.format_map(hit.words), self.safer.format_map(hit.words)


RULES: dict[str, Rule] = {}
EVERY_ENGINE = ("postgresql", "mysql", "sqlite")
Find = Callable[[Revision], Iterator[Change | Hit]]


def rule(
    code: str, severity: Severity, title: str, *, why: str, safer: str, engine: str | None = None, **more: Any
) -> Callable[[Find], Find]:
    """Make a rule of a function that finds places in a revision; its docstring is the long text."""

    def make(find: Find) -> Find:
        engines = EVERY_ENGINE if engine is None else (engine,)
        RULES[code] = Rule(code, severity, title, engines, why, safer, find, **more)
        return find

    return make


def _words(change: Change) -> dict[str, Any]:
    return {
        "table": change.table or "the table",
        "name": change.name,
        "new_name": change.new_name,
        "column": change.name or "column",
        "columns": ", ".join(f'"{name or "…"}"' for name in change.columns) or "…",
        "constraint": change.constraint,
        "schemas": ", ".join(f"`{name}`" for name in change.schemas),
        "default": change.default,
        "type": repr(change.new_type) if change.new_type is not None else "another type",
        "old": repr(change.old_type) if change.old_type is not None else "the old type",
        "refusal": change.refusal,
        "statement": _shortened(change.sql or change.rendered),
    }


def _shortened(sql: str, most: int = 60) -> str:
    text = " ".join(sql.split()).rstrip(";")
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"
