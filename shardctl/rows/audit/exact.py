"""Stored values in a form in which two are equal exactly if they are the same value, whichever engine they come from.

NULL is not the empty text, and texts differ by case and by blanks at their end. Numbers are equal as numbers, whatever
their scale or type; -0 is 0, and NaN is NaN. Times with a zone are equal if they are one instant.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from decimal import Decimal
from enum import Enum
from math import isfinite
from types import NoneType
from typing import Any

LONG = 200
"""Texts and bytes above this length are known by a digest."""

Exact = str | None


def exact(value: Any) -> Exact:
    """Return a value's form."""
    write = _FORMS.get(type(value))
    return write(value) if write is not None else _of_subclass(value)


def exact_json(value: Any) -> Exact:
    """Return the form of a JSON document, in which the order of names means nothing, nor do blanks; NULL is none."""
    if value is None:
        return None
    try:
        return _of_document(json.loads(value, parse_float=Decimal))
    except (TypeError, ValueError):
        return exact(value)


def _of_document(value: Any) -> str:
    match value:
        case bool() | None:
            return f"j{value}"
        case dict():
            return f"o{sorted((name, _of_document(part)) for name, part in value.items())!r}"
        case list():
            return f"l{[_of_document(part) for part in value]!r}"
    return str(exact(value))


def digest(forms: Sequence[Exact]) -> int:
    """Return 128 bits for a row."""
    written = repr(tuple(forms)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(written, digest_size=16).digest(), "big")


def _of_subclass(value: Any) -> Exact:
    if isinstance(value, Enum):
        return f"s{value.name}"
    if isinstance(value, Set):
        return f"e{sorted(map(str, map(exact, value)))!r}"
    if isinstance(value, Mapping):
        return f"o{sorted((str(name), exact(part)) for name, part in value.items())!r}"
    for type_, write in _FORMS.items():
        if isinstance(value, type_):
            return write(value)
    return f"r{value!r}"


def _text(value: str) -> str:
    if len(value) <= LONG:
        return f"s{value}"
    return f"S{hashlib.blake2b(value.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def _bytes(value: bytes | bytearray | memoryview) -> str:
    found = bytes(value)
    return f"b{found.hex()}" if len(found) <= LONG else f"B{hashlib.blake2b(found, digest_size=16).hexdigest()}"


def _number(value: float | Decimal) -> str:
    if not isfinite(value):
        return "nNaN" if value != value else f"n{float(value)}"
    numerator, denominator = value.as_integer_ratio()
    return f"n{numerator}" if denominator == 1 else f"n{numerator}/{denominator}"


def _moment(value: datetime.datetime) -> str:
    """Write an instant in UTC; a time without a zone is taken as it is, for SQLite and MySQL store no zones."""
    if value.tzinfo is not None:
        try:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        except OverflowError:  # at the very ends of time
            return f"t{value.isoformat()}"
    return f"t{value.isoformat()}"


_FORMS: Mapping[type, Callable[[Any], Exact]] = {
    NoneType: lambda value: None,
    str: _text,
    bool: lambda value: f"n{int(value)}",
    int: lambda value: f"n{int(value)}",
    float: _number,
    Decimal: _number,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    datetime.datetime: _moment,
    datetime.date: lambda value: f"d{value.isoformat()}",
    datetime.time: lambda value: f"h{value.isoformat()}",
    datetime.timedelta: lambda value: f"i{value // datetime.timedelta(microseconds=1)}",
    uuid.UUID: lambda value: f"u{value.hex}",
    list: lambda value: f"l{[exact(part) for part in value]!r}",
    tuple: lambda value: f"l{[exact(part) for part in value]!r}",
}
