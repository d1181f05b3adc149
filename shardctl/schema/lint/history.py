"""What the revisions before one have made, as far as it can be told from recording them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Column

from shardctl.schema.lint.changes import Change, Kind


@dataclass(slots=True)
class History:
    """The tables of one engine after some revisions."""

    types: dict[tuple[str, str], Any] = field(default_factory=dict)
    created_by: dict[str, str] = field(default_factory=dict)
    """The revision that made a table, by the table's name."""
    checks: dict[tuple[str, str], Change] = field(default_factory=dict)
    proven: list[Change] = field(default_factory=list)
    cascading: dict[str, frozenset[str]] = field(default_factory=dict)

    def informed(self, change: Change) -> Change:
        """Return a change with who made its table, and the type that its column had where the revision does not say."""
        change = replace(change, made_by=self.created_by.get(change.table, ""))
        if change.kind is not Kind.ALTER_TYPE or change.old_type is not None or change.new_type is None:
            return change
        return replace(change, old_type=self.types.get((change.table, change.name)))

    def add(self, change: Change, revision_id: str) -> None:
        """Go on by one change."""
        if change.kind is Kind.CREATE_TABLE:
            self.created_by[change.table] = revision_id
            for item in change.column or ():
                if isinstance(item, Column):
                    self.types[change.table, item.name] = item.type
        elif change.kind is Kind.DROP_TABLE:
            self.created_by.pop(change.table, None)
        elif change.kind is Kind.RENAME_TABLE and change.table in self.created_by:
            self.created_by[change.new_name] = self.created_by[change.table]
        elif change.kind in {Kind.ADD_COLUMN, Kind.ALTER_TYPE} and change.new_type is not None:
            self.types[change.table, change.name] = change.new_type
        for parent in change.referred:
            self.cascading[parent] = self.cascading.get(parent, frozenset()) | {change.table}
        self._note_check(change)

    def _note_check(self, change: Change) -> None:
        key = (change.table, change.name)
        if change.kind is Kind.ADD_CONSTRAINT and change.constraint == "check":
            self.checks[key] = change
            if change.is_validated:
                self.proven.append(change)
        elif change.kind is Kind.VALIDATE and key in self.checks:
            self.proven.append(self.checks[key])
