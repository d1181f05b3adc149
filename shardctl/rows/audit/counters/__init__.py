"""What counts the values of columns on a shard: sequences, identities, AUTO_INCREMENT; one module for each engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Column, Connection, Table
from sqlalchemy import Sequence as ModelSequence

Columns = Mapping[tuple[str, str], Column[Any]]
"""Columns of models, by what their table is called on the shard, schema included if it needs one, and by their name."""


@dataclass(frozen=True, slots=True)
class Counter:
    """What counts a column's values."""

    column: Column[Any]
    name: str
    """What people call it."""
    written: str
    """What a statement calls it; nothing for one that belongs to its table."""
    step: int = 1
    is_readable: bool = True
    """Whether the login may ask for its next value."""

    @property
    def table(self) -> Table:
        return self.column.table


class Counters(Protocol):
    """The counters of one engine."""

    def find(self, connection: Connection, columns: Columns) -> Sequence[Counter]:
        """Return what counts some columns."""
        ...

    def next_value(self, connection: Connection, counter: Counter) -> int:
        """Return the value that comes next."""
        ...

    def mend(self, connection: Connection, counter: Counter, furthest: int) -> str:
        """Return the statement after which the values come behind one that is taken."""
        ...


def model_sequences(columns: Columns) -> list[tuple[ModelSequence, Column[Any]]]:
    """Return the sequences that models take values from by themselves, which the database need not know of."""
    found = []
    for column in columns.values():
        default = column.default
        if isinstance(default, ModelSequence):
            found.append((default, column))
    return found
