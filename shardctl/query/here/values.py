"""Typed values: pieces of SQL for DuckDB with the type that the fleet's engine gives them, and how two of them meet."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field, replace
from decimal import Decimal

from shardctl.query.here.kinds import DATE, INT4, INT8, TIMESTAMP, UNKNOWN, Kind, as_numeric, not_listed, numeric

Origin = tuple[str, str]
"""A column of a pulled table: their names."""


@dataclass(frozen=True, slots=True)
class Value:
    """One expression."""

    sql: str
    kind: Kind
    origins: frozenset[Origin] = frozenset()
    """The pulled columns that a text comes from."""
    is_column: bool = False
    """Whether it is such a column as it is."""
    literal: str | None = None
    """What is written, if it is a literal."""


@dataclass
class Demands:
    """What pulled text must be like for byte order to be the collation's: seen once the rows are here."""

    compared: set[Origin] = field(default_factory=set)
    """Columns that must hold printable characters, and no blank at the end."""
    grouped: set[Origin] = field(default_factory=set)
    """Columns whose values must not be equal to one another but for their case."""


def cast(value: Value, kind: Kind) -> Value:
    """Return a value as another type of DuckDB's."""
    return replace(value, sql=f"CAST({value.sql} AS {kind.sql})", kind=kind)


def quoted_text(text: str) -> str:
    """Return text as a literal of DuckDB's."""
    if "\0" in text:
        raise not_listed("a literal with a zero byte")
    return "'" + text.replace("'", "''") + "'"


def number(text: str, engine: str) -> Value:
    """Return a literal number."""
    if re.fullmatch(r"\d+", text):
        size = int(text)
        if size < 2**63:
            kind = INT4 if engine == "postgresql" and size < 2**31 else INT8
            return Value(f"CAST({size} AS {kind.sql})", kind, literal=text)
        if engine == "mysql":
            raise not_listed(f"the number {text}")
    if not re.fullmatch(r"\d*\.?\d*", text) or text == ".":
        raise not_listed(f"the number {text}")
    whole, _, decimals = text.partition(".")
    kind = numeric(max(len(whole.lstrip("0")) + len(decimals), 1), len(decimals))
    return Value(f"CAST('{text}' AS {kind.sql})", kind, literal=text)


def typed_literal(value: Value, like: Kind) -> Value:
    """Return NULL, or a string, as the type of what it meets."""
    if value.kind.name == "null":
        return replace(value, sql=f"CAST(NULL AS {like.sql})", kind=like)
    text = value.literal or ""
    if like.name == "text":
        if like.folds and not re.fullmatch(r"([ -~]*[!-~])?", text):
            raise not_listed("a text that is not ASCII, or ends with a blank, under this collation")
        return replace(value, kind=like)
    if like.name == "bpchar":
        return replace(value, sql=quoted_text(text.rstrip(" ")), kind=Kind("text", is_ordered=like.is_ordered))
    if like.name == "date" and re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return date_literal(text)
    if like.name == "timestamp":
        return timestamp_literal(text)
    if like.name == "uuid" and re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        return Value(f"CAST('{text}' AS UUID)", like)
    raise not_listed(f"the text '{text}' as a {like.name}")


def date_literal(text: str) -> Value:
    """Return a date that is written as `2024-01-31`."""
    try:
        return Value(f"DATE '{datetime.date.fromisoformat(text)}'", DATE)
    except ValueError:
        raise not_listed(f"the date '{text}'") from None


def timestamp_literal(text: str) -> Value:
    """Return a time that is written as `2024-01-31 12:30:00`."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?", text):
        raise not_listed(f"the time '{text}'")
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise not_listed(f"the time '{text}'") from None
    return Value(f"TIMESTAMP '{found.isoformat(' ')}'", TIMESTAMP)


def met(left: Value, right: Value, engine: str) -> tuple[Value, Value]:
    """Return two values as the one type in which the engine compares them, or returns either."""
    if left.kind == UNKNOWN and right.kind.name in ("unknown", "null") and engine == "postgresql":
        text = Kind("text")
        return typed_literal(left, text), typed_literal(right, text)
    if left.kind.name in ("unknown", "null") and right.kind.name not in ("unknown", "null"):
        return met(typed_literal(left, right.kind), right, engine)
    if right.kind.name in ("unknown", "null") and left.kind.name not in ("unknown", "null"):
        return met(left, typed_literal(right, left.kind), engine)
    names = {left.kind.name, right.kind.name}
    if left.kind == right.kind and names.isdisjoint({"unknown", "null", "quotient"}):
        return left, right
    if left.kind.is_exact and right.kind.is_exact:
        kind = widest(left.kind, right.kind)
        return cast(left, kind), cast(right, kind)
    if "float8" in names and (left.kind.is_exact or right.kind.is_exact):
        kind = Kind("float8")
        return cast(left, kind), cast(right, kind)
    if left.kind.is_text and right.kind.is_text:
        return _texts(left, right, engine)
    if names == {"date", "timestamp"}:
        return cast(left, TIMESTAMP), cast(right, TIMESTAMP)
    raise not_listed(f"{left.kind.name} together with {right.kind.name}")


def widest(left: Kind, right: Kind) -> Kind:
    """Return the type that holds both of two exact numbers."""
    order = ("int2", "int4", "int8")
    if left.name in order and right.name in order:
        return left if order.index(left.name) >= order.index(right.name) else right
    one, other = as_numeric(left), as_numeric(right)
    scale = max(one.scale, other.scale)
    return numeric(max(one.digits - one.scale, other.digits - other.scale) + scale, scale)


def _texts(left: Value, right: Value, engine: str) -> tuple[Value, Value]:
    left, right = as_text(left), as_text(right)
    if left.kind == right.kind:
        return left, right
    if engine == "mysql":
        raise not_listed("a comparison of texts of two collations")
    kind = Kind("text", is_ordered=left.kind.is_ordered and right.kind.is_ordered)
    return replace(left, kind=kind), replace(right, kind=kind)


def as_text(value: Value) -> Value:
    """Return PostgreSQL's `char(n)` as what it is compared by: without the blanks at its end."""
    if value.kind.name != "bpchar":
        return value
    return replace(
        value, sql=f"rtrim({value.sql}, ' ')", kind=Kind("text", is_ordered=value.kind.is_ordered), is_column=False
    )


def comparable(value: Value, demands: Demands, engine: str, *, is_order: bool) -> str:
    """Return what DuckDB compares for a text, and note what the rows must be like for that.

    Args:
        value: The text, or anything else, which is compared as it is.
        demands: Where to note it.
        engine: The fleet's engine.
        is_order: Whether it matters which of two is less.
    """
    if not value.kind.is_text:
        return value.sql
    if engine == "postgresql":
        if is_order and not value.kind.is_ordered:
            raise not_listed("the order of text under this collation")
        return value.sql
    if not value.kind.is_ordered:
        raise not_listed("a comparison of text under this collation")
    demands.compared |= value.origins
    sql = value.sql if value.is_column else f"rtrim({value.sql}, ' ')"
    return f"upper({sql})" if value.kind.folds else sql


def groupable(value: Value, demands: Demands, engine: str) -> str:
    """Return what DuckDB groups by: values of which only equal ones are equal under the collation."""
    if engine == "postgresql" or value.kind.name != "text":
        return value.sql
    comparable(value, demands, engine, is_order=True)
    if value.is_column:
        demands.grouped |= value.origins
        return value.sql
    doubtful = f"{value.sql} LIKE '% '" + (f" OR {value.sql} <> upper({value.sql})" if value.kind.folds else "")
    return f"CASE WHEN {doubtful} THEN error('texts that may be equal but for case or blanks') ELSE {value.sql} END"


def literal_factor(value: Value) -> Decimal:
    """Return a literal number's value.

    Raises:
        NotListed: It is no literal.
    """
    if value.literal is None or not value.kind.is_exact:
        raise not_listed("arithmetic with an average or a quotient")
    return Decimal(value.literal)
