"""Where rows of a class or a table are read from, and what is read of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, Join, Select, Table, func, select

from shardctl.fleet.rules import columns_of
from shardctl.rows.identities import Target


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows of a class or a table are read from."""

    target: Target
    from_: FromClause
    where: tuple[ColumnElement[bool], ...] = ()
    """What tells the rows of a class from others in the same table."""

    @property
    def tables(self) -> list[Table]:
        if isinstance(self.target, Table):
            return [self.target]
        return [table for table in self.target.tables if isinstance(table, Table)]


def source_of(target: Target) -> Source | None:
    """Return where rows are read from; None for a class that only a session knows how to load."""
    if isinstance(target, Table):
        return Source(target, target)
    is_plain = (
        isinstance(target.selectable, Table | Join)
        and not any(mapper.concrete for mapper in target.iterate_to_root())
        and all(isinstance(table, Table) for table in target.tables)
        and all(isinstance(column, Column) for column in columns_of(target).values())
    )
    if not is_plain:
        return None
    where: tuple[ColumnElement[bool], ...] = ()
    if target.single and target.polymorphic_on is not None:
        known = [mapper.polymorphic_identity for mapper in target.self_and_descendants]
        where = (target.polymorphic_on.in_(known),)
    return Source(target, target.persist_selectable, where)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be read of rows, and by which columns they are looked for."""

    source: Source
    by: tuple[ColumnElement[Any], ...]
    columns: tuple[ColumnElement[Any], ...] = ()
    """Without any: how many rows there are."""

    @property
    def is_count(self) -> bool:
        return not self.columns

    def select(self, *where: ColumnElement[bool]) -> Select[Any]:
        """Return a SELECT of the columns, and of those that rows are looked for by, all with names of our own."""
        read = self.columns or (func.count(),)
        named = [column.label(f"c{index}") for index, column in enumerate((*read, *self.by))]
        statement = select(*named).select_from(self.source.from_).where(*self.source.where, *where)
        return statement.group_by(*self.by) if self.is_count else statement
