"""The statement that makes a copy of a reference table like the others, or shows where it is not.

A statement is given only where nothing has to be guessed: most copies agree, rows are few, and every value is one that
can be written as text without doubt.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any

from sqlalchemy import (
    ClauseElement,
    Column,
    ColumnElement,
    Select,
    TypeDecorator,
    and_,
    delete,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from shardctl.errors import ShardctlError
from shardctl.fleet import LiveShard
from shardctl.rows.audit.commands import shard_command, written
from shardctl.rows.audit.copies import Copies
from shardctl.rows.audit.differences import Way
from shardctl.rows.audit.finding import SAMPLES
from shardctl.rows.audit.keys import Value


class _Unsure(Exception):
    """A value cannot be written without doubt."""


@dataclass(frozen=True, slots=True)
class Mend:
    """What is done about rows of some copies.

    Args:
        copies: The copies of the table.
        base: One that is right.
        group: Those that differ from it.
        is_settled: Whether more copies are like the base than like any other.
    """

    copies: Copies
    base: LiveShard
    group: Sequence[LiveShard]
    is_settled: bool

    def command(self, way: Way, samples: Sequence[Value]) -> str:
        """Return the command for rows that differ in one way."""
        try:
            if self.is_settled and len(samples) <= SAMPLES and self.copies.table.primary_key:
                statement = self._statement(way, samples)
                if statement is not None:
                    names = [shard.shard_id for shard in self.group]
                    return shard_command(names, self._written(statement), writes=True)
        except (_Unsure, ShardctlError, SQLAlchemyError):
            pass  # it is shown then
        return shard_command([self.base.shard_id, self.group[0].shard_id], self._shown(way, samples[:SAMPLES]))

    def _statement(self, way: Way, samples: Sequence[Value]) -> ClauseElement | None:
        """Return what changes the rows; None where no one statement does."""
        kind, columns = way
        table = self.copies.table
        if kind == "row extra":
            return delete(table).where(self._is_one_of(samples, self.group[0]))
        if kind == "row missing":
            rows = self._rows(samples, self.base)
            return insert(table).values(rows) if len(rows) == len(samples) else None
        if len(samples) > 1:
            return None
        (row,) = self._rows(samples, self.group[0], of=self.base)
        changed = {column: value for column, value in row.items() if column.name in columns}
        return update(table).where(self._is_one_of(samples, self.group[0])).values(changed)

    def _rows(
        self, samples: Sequence[Value], shard: LiveShard, *, of: LiveShard | None = None
    ) -> list[dict[Column[Any], Any]]:
        """Return rows of a copy, or of another one with the same keys, with values that can be written."""
        columns = list(self.copies.table.columns)
        if any(column.computed is not None or column.identity is not None for column in columns):
            raise _Unsure(self.copies.name)
        with (of or shard).connect() as connection:
            rows = connection.execute(select(*columns).where(self._is_one_of(samples, shard))).all()
        return [{column: _sure(column, value) for column, value in zip(columns, row, strict=True)} for row in rows]

    def _is_one_of(self, samples: Sequence[Value], shard: LiveShard) -> ColumnElement[bool]:
        """Return the condition for rows by their keys, as a shard's driver gave them."""
        columns = list(self.copies.table.primary_key)
        keys = [self.copies.shown(sample, shard.engine.dialect) for sample in samples]
        for key in keys:
            for column, value in zip(columns, key, strict=True):
                _sure(column, value)
        if len(columns) == 1:
            return columns[0].in_([key[0] for key in keys])
        equal = [[column == value for column, value in zip(columns, key, strict=True)] for key in keys]
        return or_(*(and_(*parts) for parts in equal))

    def _shown(self, way: Way, samples: Sequence[Value]) -> str:
        statement: Select[Any] = select(literal_column("*")).select_from(self.copies.table)
        try:
            shard = self.base if way[0] == "row missing" else self.group[0]
            if self.copies.table.primary_key:
                return self._written(statement.where(self._is_one_of(samples, shard)))
        except (_Unsure, SQLAlchemyError):
            pass  # all of them are shown then
        return self._written(statement)

    def _written(self, statement: ClauseElement) -> str:
        return written(statement, self.group[0].engine.dialect)


def _sure(column: Column[Any], value: Any) -> Any:
    """Return a value that every engine reads as it is written.

    Raises:
        _Unsure: It is not one.
    """
    if isinstance(column.type, TypeDecorator):
        raise _Unsure(column.name)
    match value:
        case None | bool() | int():
            return value
        case float() | Decimal() if isfinite(value):
            return value
        case str() if value.isprintable() and "\\" not in value:
            return value
        case datetime.datetime() if value.tzinfo is None:
            return value
        case datetime.date() if not isinstance(value, datetime.datetime):
            return value
    raise _Unsure(column.name)
