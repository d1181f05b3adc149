"""Which of the keys that were looked for a row answers.

A database may hold another spelling equal to the key: under most of MySQL's collations 'APPLE' finds 'apple'. Where
Python cannot say, each key is asked for by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Dialect, tuple_

from shardctl.fleet.rules import is_compared_exactly
from shardctl.rows.identities import Identity
from shardctl.topology.routing import folded

Tell = Callable[[Sequence[Identity]], Iterable[tuple[Identity, tuple[Any, ...]]]]
"""Asks the database for the rows of each key by itself."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What answers one of the values that were looked for."""

    asked: Identity
    values: tuple[Any, ...]
    """As many as the question has columns; the number of rows alone if it has none."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """Says which of the keys that were asked for each row answers.

    Args:
        asked: The keys of one IN list.
        by: Their columns.
        dialect: Of the database.
        tell: Asks it for the rows of each key by itself, where Python cannot say.
    """

    asked: Sequence[Identity]
    by: Sequence[ColumnElement[Any]]
    dialect: Dialect
    tell: Tell

    def resolve(self, rows: Sequence[tuple[Any, ...]]) -> list[Answered]:
        """Return what rows answer; the key's columns are the last ones of each."""
        width = len(self.by)
        wanted = set(self.asked)
        keys = [tuple(row[-width:]) for row in rows]
        found = [
            Answered(key, row[:-width]) for key, row in zip(keys, rows, strict=True) if _hashable(key) and key in wanted
        ]
        matched = {answer.asked for answer in found}
        strays = [key for key in keys if not _hashable(key) or key not in wanted]
        rest = [key for key in self.asked if key not in matched]
        told = [Answered(key, row[:-width]) for key, row in self.tell(self._doubtful(rest, keys, strays))]
        return found + told

    def _doubtful(self, rest: list[Identity], keys: list[Identity], strays: list[Identity]) -> list[Identity]:
        """Return the keys without a row of their own that the database may have found another row for."""
        if not keys or not rest:
            return []
        if strays or not self._is_exact():
            spellings = [_spelling(key) for key in keys]
            known = set(spellings)
            doubtful = [key for key in rest if None in known or _spelling(key) in known or _spelling(key) is None]
            fits = {_spelling(key) for key in doubtful}
            unexplained = [key for key in strays if _spelling(key) not in fits]
            return rest if unexplained else doubtful
        return []

    def _is_exact(self) -> bool:
        return all(isinstance(column, Column) and is_compared_exactly(column, [self.dialect]) for column in self.by)


def _spelling(key: Identity) -> tuple[str, ...] | None:
    """Return what the spellings of a key have in common; None if that is not known."""
    parts = tuple(folded(str(value)) for value in key)
    return None if None in parts else parts  # type: ignore[return-value]


def _hashable(key: Identity) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def in_list(columns: Sequence[ColumnElement[Any]], keys: Sequence[Identity]) -> ColumnElement[bool]:
    """Return the condition that a row has one of these keys."""
    if len(columns) == 1:
        return columns[0].in_([key[0] for key in keys])
    return tuple_(*columns).in_(keys)
