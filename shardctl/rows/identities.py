"""Text from the command line -> primary keys and column values, typed from the mapped columns."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.orm import Mapper

from shardctl.errors import ConfigError, UnknownName
from shardctl.fleet.rules import columns_of, python_type

Target = Mapper[Any] | Table
Identity = tuple[Any, ...]

_TRUE = ("1", "true", "t", "yes")
_FALSE = ("0", "false", "f", "no")


def name_of(target: Target) -> str:
    """Return the class's name, or the table's."""
    return target.name if isinstance(target, Table) else target.class_.__name__


def key_columns(target: Target) -> tuple[Column[Any], ...]:
    """Return the columns of the primary key.

    Raises:
        ConfigError: The table has none.
    """
    columns = tuple(column for column in target.primary_key if isinstance(column, Column))
    if not columns:
        raise ConfigError(f"{name_of(target)} has no primary key", hint="look for its rows with `--by column=value`")
    return columns


def read_identities(target: Target, words: Sequence[str]) -> list[Identity]:
    """Read primary keys: for a key of several columns, that many words each.

    Raises:
        ConfigError: The number of words does not fit, or a word is not of its column's type.
    """
    columns = key_columns(target)
    if len(words) % len(columns):
        names = ", ".join(column.name for column in columns)
        raise ConfigError(
            f"{name_of(target)} has a primary key of {len(columns)} columns ({names}), and {len(words)} "
            f"{'value is' if len(words) == 1 else 'values are'} given",
            hint=f"give {len(columns)} values for each row",
        )
    groups = [words[start : start + len(columns)] for start in range(0, len(words), len(columns))]
    return [read_identity(target, group) for group in groups]


def read_identity(target: Target, words: Sequence[str]) -> Identity:
    """Read one primary key, whose columns are all given.

    Raises:
        ConfigError: A word is not of its column's type.
    """
    return tuple(read_value(column, word) for column, word in zip(key_columns(target), words, strict=True))


def key_names(target: Target) -> list[tuple[str, ...]]:
    """Return the names of each column of the primary key: the attribute's, and the column's."""
    columns = key_columns(target)
    if isinstance(target, Table):
        return [(column.name,) for column in columns]
    return [tuple(dict.fromkeys((target.get_property_by_column(column).key, column.name))) for column in columns]


def once(identities: Iterable[Identity]) -> Iterator[Identity]:
    """Yield primary keys, and none of them again."""
    seen: set[Any] = set()
    for key in identities:
        known = key[0] if len(key) == 1 else key  # which takes less memory
        if known not in seen:
            seen.add(known)
            yield key


def read_conditions(target: Target, words: Sequence[str]) -> dict[str, Any]:
    """Read `column=value` words into attribute name -> value.

    Raises:
        ConfigError: A word has no `=`, or its value is not of the column's type.
        UnknownName: There is no such column.
    """
    known = columns_of(target)
    conditions: dict[str, Any] = {}
    for word in words:
        name, separator, text = word.partition("=")
        if not separator:
            raise ConfigError(f"`--by {word}` is not `column=value`")
        if name not in known:
            raise UnknownName(f"{name_of(target)} has no column `{name}`", name=name, known=known)
        conditions[name] = read_value(known[name], text)
    return conditions


def read_value(column: Column[Any], text: str) -> Any:
    """Read a value of a column's type.

    Raises:
        ConfigError: The text is not one.
    """
    type_ = python_type(column)
    if type_ is None:
        return text
    try:
        return _reader(type_)(text if issubclass(type_, str) else text.strip())
    except (ValueError, decimal.InvalidOperation, KeyError):
        raise ConfigError(f"`{text}` is not {_article(type_)} {type_.__name__}, as {column.name} is") from None


def _reader(type_: type) -> Callable[[str], Any]:
    if issubclass(type_, enum.Enum):
        return lambda text: type_[text]
    readers: dict[type, Callable[[str], Any]] = {
        bool: _read_bool,
        bytes: lambda text: bytes.fromhex(text.removeprefix("0x")),
        datetime.datetime: datetime.datetime.fromisoformat,
        datetime.date: datetime.date.fromisoformat,
        datetime.time: datetime.time.fromisoformat,
        decimal.Decimal: decimal.Decimal,
        float: float,
        int: int,
        uuid.UUID: uuid.UUID,
    }
    return readers.get(type_, str)


def _read_bool(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ValueError(text)
    return text.lower() in _TRUE


def _article(type_: type) -> str:
    return "an" if type_.__name__[0] in "aeio" else "a"
