"""Single values as people and machines read them."""

from __future__ import annotations

import datetime
import decimal
import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any


def to_json(value: Any) -> Any:
    """Return a value that JSON has; numbers that JSON would round stay text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value == value and abs(value) != float("inf") else str(value)
        case dict():
            return {str(key): to_json(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [to_json(item) for item in value]
    return to_text(value)


def to_text(value: Any, *, null: str = "") -> str:
    """Return a value as people read it."""
    match value:
        case None:
            return null
        case bool():
            return "true" if value else "false"
        case bytes() | bytearray() | memoryview():
            return "0x" + bytes(value).hex()
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case decimal.Decimal():
            return format(value, "f") if value.is_finite() else str(value)
        case dict() | list():
            return json.dumps(to_json(value), ensure_ascii=False)
    return str(value)


def printable(text: str) -> str:
    """Escape what would move the cursor or break the line."""
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") else char
        for char in text
    )


def unique(columns: Sequence[str]) -> list[str]:
    """Number repeated names, which an object could hold only once."""
    seen: Counter[str] = Counter()
    names = []
    for column in columns:
        seen[column] += 1
        names.append(column if seen[column] == 1 else f"{column}_{seen[column]}")
    return names
