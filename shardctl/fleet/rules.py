"""The rules of the shard map as they are once the models are known, and what databases make of a key's values."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Date, DateTime, Dialect, Enum, Integer, String, Table, TypeDecorator, Uuid
from sqlalchemy.dialects.mysql import SET
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.types import CHAR, NCHAR, TIMESTAMP, TypeEngine

from shardctl.errors import NoPlacement
from shardctl.topology.routing import RoutingKey
from shardctl.topology.strategies import Strategy

_MYSQL = ("mysql", "mariadb")


@dataclass(frozen=True, slots=True)
class Sharded:
    """A class or table spread by a sharding key."""

    name: str
    strategy: Strategy
    attributes: tuple[str, ...]
    columns: tuple[Column[Any], ...]
    routing: RoutingKey
    dialect: Dialect
    """Of the engines, as far as the application's own types ask for one."""

    def stored(self, column: Column[Any], value: Any) -> Any:
        """Return a value of the key as it is loaded again: rows are placed by what is stored, not by what was set.

        Raises:
            NoPlacement: The column's type refuses it.
        """
        type_ = column.type
        if isinstance(type_, TypeDecorator):
            try:
                if _is_overridden(type_, "process_bind_param"):
                    value = type_.process_bind_param(value, self.dialect)
                if _is_overridden(type_, "process_result_value"):
                    value = type_.process_result_value(value, self.dialect)
            except Exception as error:  # the application's own code
                raise NoPlacement(
                    f"{type(type_).__name__} refuses {value!r}: {type(error).__name__}: {error}"
                ) from error
        elif isinstance(value, enum.Enum) and isinstance(value, str | int) and not isinstance(type_, Enum):
            value = value.value
        return value


@dataclass(frozen=True, slots=True)
class Follow:
    """A class whose rows live where their parent lives."""

    name: str
    relationship: RelationshipProperty[Any]

    @property
    def parent(self) -> Mapper[Any]:
        return self.relationship.mapper


@dataclass(frozen=True, slots=True)
class Reference:
    """A table of which each of its shards holds a full copy."""

    name: str
    shard_ids: tuple[str, ...]


Rule = Sharded | Follow | Reference


def columns_of(target: Mapper[Any] | Table) -> dict[str, Column[Any]]:
    """Return the columns of a class by attribute name, or of a table by key."""
    if isinstance(target, Table):
        return dict(target.columns.items())
    return {name: attribute.columns[0] for name, attribute in target.column_attrs.items()}  # type: ignore[misc]


def python_type(column: Column[Any]) -> type | None:
    """Return the Python type of a column's values, if its type says."""
    try:
        return column.type.python_type
    except NotImplementedError:
        return None


def is_compared_exactly(column: Column[Any], dialects: Iterable[Dialect]) -> bool:
    """Say whether databases hold two texts of a column equal exactly when Python does.

    Not so in MySQL, whose usual collations ignore case, accents and blanks at the end, under other explicit collations,
    for blank-padded types, nor for types that give one value several spellings.
    """
    return all(_is_compared_exactly(_plain_type(column.type, dialect), dialect) for dialect in dialects)


def is_ordered_exactly(column: Column[Any], dialects: Iterable[Dialect]) -> bool:
    """Say whether databases order the values of a column as Python does.

    PostgreSQL orders text by the database's locale, unless a column says otherwise; and what the application stores in
    place of its values may have any order.
    """
    if isinstance(column.type, TypeDecorator) and _is_overridden(column.type, "process_bind_param"):
        return False
    return all(_is_ordered_exactly(_plain_type(column.type, dialect), dialect) for dialect in dialects)


def constant_type(column: Column[Any], dialects: Iterable[Dialect]) -> type | None:
    """Return the Python type of the values that a column's constants in SQL text stand for; None if that is not sure.

    Not so where the application makes other values of what is stored, nor where equality is another engine's affair:
    collations that may hold anything equal, time zones, numbers that are rounded.
    """
    found = {_constant_type(column.type, dialect) for dialect in dialects}
    return found.pop() if len(found) == 1 else None


def fits(value: Any, column: Column[Any]) -> bool:
    """Say whether a value is of the column's own type, so that no database converts it before it compares."""
    expected = python_type(column)
    if value is None or expected is None:
        return True
    if isinstance(value, bool) and expected is not bool:
        return False
    return isinstance(value, expected)


def _is_compared_exactly(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    if isinstance(type_, Enum):
        return type_.enum_class is not None or dialect.name not in _MYSQL
    if not isinstance(type_, String):
        try:
            return not issubclass(str, type_.python_type) and not issubclass(type_.python_type, str)
        except NotImplementedError:
            return False
    if isinstance(type_, CHAR | NCHAR | CITEXT):
        return False
    collation = (type_.collation or "").lower()
    if dialect.name in _MYSQL:
        return collation == "binary" or (
            collation.endswith("_bin") and ("_nopad_" in collation or "_0900_" in collation)
        )
    return collation in ("", "binary", "c", "posix")


def _constant_type(type_: TypeEngine[Any], dialect: Dialect) -> type | None:
    type_ = type_._variant_mapping.get(dialect.name, type_)
    if not type(type_).__module__.startswith("sqlalchemy.") or isinstance(type_, Enum | SET):
        return None
    is_generic = type(type_).__module__ == "sqlalchemy.sql.sqltypes"  # SQLite's own dates have formats of their own
    match type_:
        case Integer():
            return int
        case String():
            known = {"sqlite": ("", "binary", "nocase", "rtrim"), "postgresql": ("", "c", "posix")}.get(dialect.name)
            return str if known is None or (type_.collation or "").lower() in known else None
        case Date():
            return datetime.date if is_generic or dialect.name != "sqlite" else None
        case DateTime() if not type_.timezone and not isinstance(type_, TIMESTAMP):
            return datetime.datetime if is_generic or dialect.name != "sqlite" else None
        case Uuid() if type_.as_uuid and type_.native_uuid and dialect.name == "postgresql":
            return uuid.UUID
    return None


def _is_ordered_exactly(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    if isinstance(type_, String) and not isinstance(type_, Enum) and dialect.name == "postgresql":
        return not isinstance(type_, CITEXT) and (type_.collation or "").lower() in ("c", "posix")
    return _is_compared_exactly(type_, dialect)


def _plain_type(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return the type that a database is told of."""
    type_ = type_._variant_mapping.get(dialect.name, type_)
    return _plain_type(type_.load_dialect_impl(dialect), dialect) if isinstance(type_, TypeDecorator) else type_


def _is_overridden(type_: TypeDecorator[Any], method: str) -> bool:
    return getattr(type(type_), method) is not getattr(TypeDecorator, method)
