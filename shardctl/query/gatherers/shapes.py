"""Tables as a shard's own catalogue has them: what their copies in another place must be like."""

from __future__ import annotations

from dataclasses import dataclass

CONSTANT = "0"


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """One column."""

    name: str
    declared: str
    """The type as the engine writes it, with its collation."""
    is_integer: bool = False
    """Whether every value is an integer: such values compare alike everywhere."""
    read_as: str = ""
    """What a scan selects in its place, for a value that would not travel without loss."""
    never_null: bool = False
    """Whether the catalogue says so."""

    @property
    def is_constant(self) -> bool:
        """Whether a scan selects the same for every row: it is never NULL, and no more of it is wanted."""
        return self.read_as == CONSTANT


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table and its columns, in their order."""

    name: str
    columns: tuple[ColumnShape, ...]
    primary_key: tuple[str, ...] = ()
    """Of a copy: what other columns may depend on, where the statement groups by it."""

    def column(self, name: str) -> ColumnShape | None:
        """Return the column that a name means; engines but for PostgreSQL ignore its case."""
        exact = next((column for column in self.columns if column.name == name), None)
        return exact or next((column for column in self.columns if column.name.lower() == name.lower()), None)
