"""Constants in a statement -> the values that a sharding key has where the engine holds them equal to it.

The rule to protect: a value is given only where the engine's comparison is proven to be Python's; what is not, is
`UNKNOWN`, and asks every shard.
"""

from __future__ import annotations

import datetime
import re
import uuid
from typing import Any, Final

from sqlglot import exp

from shardctl.query.parameters import MISSING, bound_value

UNKNOWN: Final = object()

_INTEGER = re.compile(r"[0-9]{1,18}")
_INTEGER_TEXT = re.compile(r"-?[0-9]{1,15}")  # which MySQL compares as a double
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_LONG_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def constant(node: Any, type_: type, engine: str) -> Any:
    """Return the value of a constant that a column is compared with, None for NULL, or UNKNOWN.

    Args:
        node: One side of a comparison.
        type_: What `constant_type` says of the column.
        engine: The engine that compares.
    """
    if isinstance(node, exp.Paren):
        return constant(node.this, type_, engine)
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Placeholder):
        return _parameter(bound_value(str(node.name)), type_, engine)
    if isinstance(node, exp.Neg):
        found = constant(node.this, int, engine) if type_ is int and _is_number(node.this) else UNKNOWN
        return -found if isinstance(found, int) else UNKNOWN
    if _is_number(node):
        return int(node.this) if type_ is int and _INTEGER.fullmatch(node.this) else UNKNOWN
    if isinstance(node, exp.Literal):
        return _text(str(node.this), type_, engine)
    is_date = isinstance(node, exp.Cast) and node.to.this is exp.DataType.Type.DATE
    if is_date and engine != "sqlite" and isinstance(node.this, exp.Literal) and not _is_number(node.this):
        return _text(str(node.this.this), type_, engine) if _DATE.fullmatch(node.this.this) else UNKNOWN
    return UNKNOWN


def _is_number(node: Any) -> bool:
    return isinstance(node, exp.Literal) and not node.is_string


def _parameter(value: Any, type_: type, engine: str) -> Any:
    if value is None:
        return None
    if value is MISSING or type(value) not in (int, str):
        return UNKNOWN
    if isinstance(value, int):
        return value if type_ is int and abs(value) < 10**18 else UNKNOWN
    if type_ is str:
        return value
    # PostgreSQL is told that it is text, and compares it with nothing else.
    return _text(value, type_, engine) if engine != "postgresql" else UNKNOWN


def _text(text: str, type_: type, engine: str) -> Any:
    """Return what a string stands for beside a column of a type."""
    try:
        if type_ is str:
            return UNKNOWN if "\\" in text or "\0" in text else text
        if type_ is int:
            return int(text) if _INTEGER_TEXT.fullmatch(text) else UNKNOWN
        if type_ is uuid.UUID:
            return uuid.UUID(text) if _UUID.fullmatch(text) else UNKNOWN
        if type_ is datetime.date:
            return datetime.date.fromisoformat(text) if _DATE.fullmatch(text) else UNKNOWN
        # SQLite compares times as the texts that SQLAlchemy stores, which have six digits at the end.
        form = _LONG_TIME if engine == "sqlite" else _TIME
        is_time = form.fullmatch(text) or (engine != "sqlite" and _DATE.fullmatch(text))
        return datetime.datetime.fromisoformat(text) if type_ is datetime.datetime and is_time else UNKNOWN
    except ValueError:  # no such day
        return UNKNOWN
