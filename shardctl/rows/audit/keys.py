"""Rows in the order of their primary key, a chunk at a time: each database pages in its own order, by its own index.

Values are taken as the driver gives them, and given back so: what an application's type makes of a stored value need
not lead back to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BINARY,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    Enum,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    Text,
    TypeDecorator,
    Uuid,
    and_,
    bindparam,
    cast,
    collate,
    func,
    or_,
    text,
    tuple_,
    type_coerce,
)
from sqlalchemy.types import Date, DateTime, Interval, NullType, Time, TypeEngine

Value = tuple[Any, ...]
"""A primary key as the driver gives it."""

_PLAIN = (Integer, Numeric, Float, Boolean, Date, DateTime, Time, Interval, LargeBinary)
"""Types that every engine orders as Python does, and whose equal values are the same."""


@dataclass(frozen=True, slots=True)
class Key:
    """The columns of a primary key on shards of one engine.

    Args:
        columns: The columns.
        engine: `sqlite`, `postgresql` or `mysql`.
        is_typed: Whether values are as SQLAlchemy's types make them, so that shards of several engines have the same.
    """

    columns: tuple[Column[Any], ...]
    engine: str
    is_typed: bool = False

    @property
    def parts(self) -> list[ColumnElement[Any]]:
        """What is selected, ordered and compared."""
        return [self._part(column) for column in self.columns]

    def _part(self, column: Column[Any]) -> ColumnElement[Any]:
        type_ = plain_type(column)
        if self.engine == "mysql" and isinstance(type_, Enum):  # ordered by its number, and compared as text
            return exact(column, self.engine)
        return type_coerce(column, type_ if self.is_typed else NullType())

    def after(self, last: Value | None) -> ColumnElement[bool] | None:
        """Return the condition of the rows behind a key; None: there is none."""
        return None if last is None else self._beyond(last, ">")

    def up_to(self, last: Value | None) -> ColumnElement[bool] | None:
        """Return the condition of the rows up to a key, and with it."""
        return None if last is None else self._beyond(last, "<=")

    def between(self, first: Value | None, last: Value | None) -> list[ColumnElement[bool]]:
        """Return the conditions of the rows behind `first` and up to `last`."""
        return [condition for condition in (self.after(first), self.up_to(last)) if condition is not None]

    def one_of(self, values: Sequence[Value]) -> ColumnElement[bool]:
        """Return the condition of the rows with these keys."""
        parts = self.parts
        if len(parts) == 1:
            given = bindparam(None, [value[0] for value in values], expanding=True, type_=self._type(0))
            return parts[0].in_(given)
        return or_(*[and_(*[part == self._bound(i, value[i]) for i, part in enumerate(parts)]) for value in values])

    def _beyond(self, last: Value, operator: str) -> ColumnElement[bool]:
        parts = self.parts
        bounds = [self._bound(i, value) for i, value in enumerate(last)]
        if len(parts) == 1:
            return parts[0].op(operator, is_comparison=True)(bounds[0])
        if self.engine != "mysql":
            return tuple_(*parts).op(operator, is_comparison=True)(tuple_(*bounds))
        # MySQL finds no range in an index by a comparison of rows, but does by this one.
        strict = operator[0]
        alternatives = [
            and_(
                *[part == bound for part, bound in zip(parts[:i], bounds[:i], strict=True)],
                parts[i].op(strict if i < len(parts) - 1 else operator, is_comparison=True)(bounds[i]),
            )
            for i in range(len(parts))
        ]
        return or_(*alternatives)

    def _bound(self, index: int, value: Any) -> ColumnElement[Any]:
        return bindparam(None, value, type_=self._type(index))

    def _type(self, index: int) -> TypeEngine[Any]:
        return plain_type(self.columns[index]) if self.is_typed else NullType()

    def loaded(self, rows: Iterable[Sequence[Any]]) -> list[Any]:
        """Return selected keys as values to compare: single ones, or tuples of several."""
        if len(self.columns) == 1:
            return [row[0] for row in rows]
        return [tuple(row) for row in rows]

    def whole(self, loaded: Any) -> Value:
        """Return one of the keys that `loaded` returned as a tuple."""
        return (loaded,) if len(self.columns) == 1 else loaded


def raw(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column whose values are as the driver gives them."""
    return type_coerce(column, NullType())


def exact(column: ColumnElement[Any], engine: str) -> ColumnElement[Any]:
    """Return a text by its bytes: no collation holds two different ones equal."""
    if engine == "postgresql":
        return collate(cast(column, Text), "C")
    if engine == "mysql":
        return type_coerce(cast(func.convert(column.op("USING")(text("utf8mb4"))), BINARY), NullType())
    return type_coerce(collate(type_coerce(column, Text), "BINARY"), NullType())


def plain_type(column: ColumnElement[Any]) -> TypeEngine[Any]:
    """Return a column's type below what an application makes of it."""
    type_: TypeEngine[Any] = column.type
    while isinstance(type_, TypeDecorator):
        type_ = type_.impl_instance
    return type_


def is_plain(type_: TypeEngine[Any], engine: str) -> bool:
    """Say whether an engine orders a type's values as Python does, and holds only the same ones equal."""
    if isinstance(type_, Uuid):
        return engine != "mysql"  # of text there, under any collation; MariaDB has an order of its own
    return isinstance(type_, _PLAIN) and not isinstance(type_, Enum)


def engine_of(dialect: Dialect) -> str:
    """Return the engine of a dialect: MariaDB is MySQL here."""
    return "mysql" if dialect.name == "mariadb" else dialect.name
