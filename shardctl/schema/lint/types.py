"""What a change of a column's type means: whether values may not fit, and whether an engine writes the table anew."""

from __future__ import annotations

from typing import Any

from sqlalchemy.types import CHAR, BigInteger, Date, DateTime, Enum, Float, Integer, Numeric, SmallInteger, String

_UTF8_BYTES = 4
_ONE_BYTE_LENGTH = 255


def is_narrower(old: Any, new: Any) -> bool:
    """Say whether there are values of the old type that the new one has no room for."""
    if old is None:
        return False
    if isinstance(old, Enum) and isinstance(new, Enum):
        return not set(old.enums) <= set(new.enums)
    if isinstance(old, String):
        return not isinstance(new, String) or isinstance(new, Enum) or _is_less(new.length, old.length)
    if isinstance(old, Integer):
        return isinstance(new, Integer) and _rank(new) < _rank(old)
    if isinstance(old, Numeric):
        return isinstance(new, Integer) or (_is_exact(old, new) and _has_fewer_digits(old, new))
    if isinstance(old, DateTime):
        return isinstance(new, Date) or (isinstance(new, DateTime) and old.timezone and not new.timezone)
    return False


def rewrites_on_postgresql(old: Any, new: Any) -> bool:
    """Say whether PostgreSQL writes the table, or its indexes, anew for the change."""
    if old is None:
        return True
    if _is_text(old) and _is_text(new):
        return _is_less(new.length, old.length)
    if _is_exact(old, new):
        return bool(new.scale != old.scale or _is_less(new.precision, old.precision)) and new.precision is not None
    return repr(old) != repr(new)


def copies_on_mysql(old: Any, new: Any) -> bool:
    """Say whether MySQL copies the table for the change."""
    if old is None:
        return True
    if _is_text(old) and _is_text(new) and old.length and new.length:
        bytes_of = (old.length * _UTF8_BYTES, new.length * _UTF8_BYTES)
        is_same_prefix = (bytes_of[0] > _ONE_BYTE_LENGTH) == (bytes_of[1] > _ONE_BYTE_LENGTH)
        return bool(new.length < old.length or not is_same_prefix)
    if isinstance(old, Enum) and isinstance(new, Enum):
        return list(new.enums[: len(old.enums)]) != list(old.enums)
    return repr(old) != repr(new)


def _is_text(type_: Any) -> bool:
    return isinstance(type_, String) and not isinstance(type_, Enum | CHAR)


def _is_less(new: int | None, old: int | None) -> bool:
    """Say whether a limit is lower than another; None is no limit."""
    return new is not None and (old is None or new < old)


def _rank(type_: Integer) -> int:
    return 1 if isinstance(type_, SmallInteger) else 3 if isinstance(type_, BigInteger) else 2


def _is_exact(old: Any, new: Any) -> bool:
    return all(isinstance(type_, Numeric) and not isinstance(type_, Float) for type_ in (old, new))


def _has_fewer_digits(old: Any, new: Any) -> bool:
    if new.precision is None:
        return False
    if old.precision is None:
        return True
    scales = (old.scale or 0, new.scale or 0)
    return bool(scales[1] < scales[0] or new.precision - scales[1] < old.precision - scales[0])
