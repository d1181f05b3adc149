"""Values that columns may have: those that say something to a chooser, and those at the edges of a type."""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import math
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import CodeType
from typing import Any

from sqlalchemy import Column, Enum, String

from shardctl.errors import ConfigError
from shardctl.fleet.rules import Sharded, python_type
from shardctl.rows.identities import read_value
from shardctl.topology.strategies import Lookup, Range

MAX_TEXT = 40
"""Characters of a constant in a chooser that may be a value of a column."""

_EDGES: dict[type, tuple[Any, ...]] = {
    bool: (True, False),
    int: (0, 1, 2**31 - 1),
    float: (0.0, -1.5, 1e300),
    decimal.Decimal: (decimal.Decimal(0), decimal.Decimal("-1.50")),
    str: ("", " ", "Zürich", "x"),
    bytes: (b"", b"\0\xff"),
    datetime.date: (datetime.date(1970, 1, 1), datetime.date(2024, 2, 29), datetime.date(9999, 12, 31)),
    datetime.datetime: (datetime.datetime(1970, 1, 1), datetime.datetime(2038, 1, 19, 3, 14, 8)),
    datetime.time: (datetime.time(0, 0), datetime.time(23, 59, 59)),
    datetime.timedelta: (datetime.timedelta(0), datetime.timedelta(days=-1)),
    dict: ({},),
    list: ([],),
}


def edge_values(column: Column[Any]) -> tuple[Any, ...]:
    """Return values of a column's type that are easily forgotten."""
    found = tuple(value for kind, values in _EDGES.items() if kind is python_type(column) for value in values)
    return tuple(value for value in found if _fits(value, column)) + ((None,) if column.nullable else ())


def ordinary_value(column: Column[Any], numbers: random.Random) -> Any:
    """Return a value of a column's type that says nothing; None if the type is not known."""
    kind = python_type(column)
    if kind is uuid.UUID:
        return uuid.UUID(int=numbers.getrandbits(128), version=4)
    if kind is int:
        return numbers.randrange(1, 1_000_000)
    if kind is str:
        text = "".join(numbers.choices("abcdefghijklmnopqrstuvwxyz", k=8))
        return text[: getattr(column.type, "length", None) or 8]
    if kind is datetime.date:
        return datetime.date(2020, 1, 1) + datetime.timedelta(days=numbers.randrange(4_000))
    if kind is datetime.datetime:
        return datetime.datetime(2020, 1, 1) + datetime.timedelta(seconds=numbers.randrange(10**8))
    if kind is float:
        return numbers.random() * 100
    return next(iter(value for value in edge_values(column) if value is not None), None)


def known_values(column: Column[Any], rule: object, choosers: Sequence[Any], known: Mapping[str, object]) -> list[Any]:
    """Return values that decide something: of an enumeration, in the shard map's rule, or named by the choosers.

    Args:
        column: Whose values.
        rule: The shard map's rule of the class, if there is one.
        choosers: Functions, whose constants and tables of shards are looked at.
        known: The shards.
    """
    found: list[Any] = []
    if isinstance(column.type, Enum):
        found.extend(column.type.enum_class or column.type.enums)
    elif python_type(column) is bool:
        found.extend((True, False))
    if isinstance(rule, Sharded) and column in rule.columns:
        found.extend(_of_rule(column, rule))
    named = (value for chooser in choosers for value in _named_by(chooser, known) if type(value) is not bool)
    own = [*named, *(known if choosers else ())]  # a column may name the shard itself
    found.extend(value for value in own if _is_of_type(value, column) and _fits(value, column))
    return list(dict.fromkeys(found))


def _of_rule(column: Column[Any], rule: Sharded) -> Iterator[Any]:
    match rule.strategy:
        case Lookup(shards=shards):
            for text in shards:
                try:
                    yield read_value(column, text)
                except ConfigError:  # an entry that no value of the column can have
                    continue
        case Range(bounds=bounds):
            for bound in bounds:
                yield bound
                yield from _below(bound)


def _below(bound: Any) -> Iterator[Any]:
    """Yield a value just below a bound, where that is plain."""
    match bound:
        case int():
            yield bound - 1
        case float():
            yield math.nextafter(bound, -math.inf)
        case datetime.datetime():
            yield bound - datetime.timedelta(microseconds=1)
        case datetime.date():
            yield bound - datetime.timedelta(days=1)


def _named_by(chooser: Any, known: Mapping[str, object]) -> Iterator[Any]:
    """Yield the keys of mappings to shards that a chooser can see, and the constants in its code."""
    function = inspect.unwrap(chooser)
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    function = function if inspect.isfunction(function) else type(function).__call__
    if not inspect.isfunction(function):
        return
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    for value in [*function.__globals__.values(), *cells]:
        if isinstance(value, Mapping) and value and set(map(str, value.values())) <= set(known):
            yield from value
    yield from (value for value in _constants(function.__code__) if value not in known and value != function.__doc__)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _constants(code: CodeType) -> Iterator[Any]:
    """Yield what may be a value in a function's code, and in that of the functions within it."""
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _constants(value)
        for part in value if isinstance(value, tuple | frozenset) else (value,):
            if isinstance(part, int) or (isinstance(part, str) and len(part) <= MAX_TEXT and part.isprintable()):
                yield part


def _is_of_type(value: Any, column: Column[Any]) -> bool:
    kind = python_type(column)
    if isinstance(value, enum.Enum):
        return kind is not None and isinstance(value, kind)
    return type(value) is kind


def _fits(value: Any, column: Column[Any]) -> bool:
    length = column.type.length if isinstance(column.type, String) else None
    return not isinstance(value, str) or length is None or len(value) <= length
