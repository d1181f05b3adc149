"""Whether a column is what the model says, as its engine stores it: for Alembic's comparison.

Engines rewrite what they are given (`now()` becomes `current_timestamp()`, `'1'` becomes `1`), which is no drift.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Boolean, Column, Connection, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import Float

Options = dict[str, Any]

_CAST = re.compile(r"""::(?:[\w.]+|"[^"]+")(?:\([\d, ]+\)| (?:varying|precision|with(?:out)? time zone))*(?:\[\])*""")
_NOW = re.compile(r"\b(?:now|current_timestamp|localtimestamp)\b(?:\(\))?", re.IGNORECASE)
_STRING = re.compile(r"'(?:[^']|'')*'")
_LARGEST_SINGLE = 24  # bits of the mantissa: FLOAT(24) is stored as REAL, FLOAT(25) as DOUBLE PRECISION


def with_comparators(options: Options) -> Options:
    """Return options of `context.configure` that compare types and defaults, unless env.py says otherwise."""
    type_ = options.get("compare_type", True)
    compare_type = _after(type_, type_differs) if type_ else type_
    return {"compare_server_default": True, **options, "compare_type": compare_type}


def set_default_comparison(context: MigrationContext) -> None:
    """Have a context compare defaults as engines store them; an env.py's own comparison still comes first.

    Not by the option: with a function there, Alembic 1.20 fails on generated columns.
    """

    def compare(
        found: Column[Any], model: Column[Any], model_default: str | None, found_default: str | None
    ) -> bool | None:
        return default_differs(context, found, model, found_default)

    context.impl.compare_server_default = compare  # type: ignore[method-assign]


def _after(own: Any, compare: Callable[..., bool | None]) -> Callable[..., bool | None]:
    """Ask env.py's own comparison first, if it has one."""

    def compare_both(*args: Any) -> bool | None:
        found = own(*args) if callable(own) else None
        return compare(*args) if found is None else bool(found)

    return compare_both


def type_differs(
    context: MigrationContext, found: Column[Any], model: Column[Any], found_type: Any, model_type: Any
) -> bool | None:
    """Return False for what the engine stores alike, although Alembic would not think so; None leaves it to Alembic."""
    if isinstance(model_type, Float) and model_type.precision is not None and isinstance(found_type, Float):
        name = found_type.compile(dialect=_dialect(context)).upper()
        is_single = name.startswith(("REAL", "FLOAT"))
        if _dialect(context).name in ("postgresql", "mysql", "mariadb"):
            return is_single != (model_type.precision <= _LARGEST_SINGLE)
    return None


def default_differs(
    context: MigrationContext, found: Column[Any], model: Column[Any], found_default: str | None
) -> bool:
    """Return whether the default of a column is another one than the model's."""
    dialect = _dialect(context)
    if model.server_default is None and _is_counter(model, found_default):
        return False
    compiler: Any = dialect.ddl_compiler(dialect, None)
    expected = compiler.get_column_default_string(model)
    is_boolean = isinstance(model.type, Boolean)
    if comparable(found_default, is_boolean=is_boolean) == comparable(expected, is_boolean=is_boolean):
        return False
    if dialect.name == "postgresql" and found_default and expected and context.connection is not None:
        return not _are_equal_on_server(context.connection, found_default, expected, found.type)
    return True


def _is_counter(model: Column[Any], found_default: str | None) -> bool:
    """Say whether a default is what PostgreSQL's SERIAL stands for."""
    return model is model.table._autoincrement_column and (found_default or "").startswith("nextval(")


def comparable(default: str | None, *, is_boolean: bool = False) -> object:
    """Return a default in a form in which equal ones are equal, whatever the engine made of it."""
    text_ = (default or "").strip()
    while True:
        shorter = _without_casts(text_)
        if shorter.startswith("(") and _closes_at_end(shorter):
            shorter = shorter[1:-1].strip()
        if shorter == text_:
            break
        text_ = shorter
    if not text_ or text_.lower() == "null":
        return None
    if _STRING.fullmatch(text_):
        text_ = text_[1:-1].replace("''", "'").replace("\\\\", "\\")
        is_quoted = True
    else:
        text_ = _NOW.sub("current_timestamp", text_)
        text_ = "".join(_STRING.findall(text_)) + re.sub(r"\s+", "", _STRING.sub("''", text_)).lower()
        is_quoted = False
    if is_boolean and text_.lower() in ("true", "t", "1", "false", "f", "0"):
        return text_.lower() in ("true", "t", "1")
    try:
        return Decimal(text_)
    except InvalidOperation:
        return ("text" if is_quoted else "expression"), text_


def _without_casts(text_: str) -> str:
    """Return an expression without PostgreSQL's casts, `::regclass` for one; strings stay as they are."""
    strings = _STRING.findall(text_)
    pieces = [_CAST.sub("", piece) for piece in _STRING.sub("\0", text_).strip().split("\0")]
    return "".join(piece + string for piece, string in zip(pieces, [*strings, ""], strict=True)).strip()


def _closes_at_end(text_: str) -> bool:
    """Say whether the parenthesis at the beginning closes at the end."""
    depth = 0
    plain = _STRING.sub(lambda match: "x" * len(match[0]), text_)
    for position, character in enumerate(plain):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return position == len(plain) - 1
    return False


def _are_equal_on_server(connection: Connection, found: str, expected: str, type_: Any) -> bool:
    """Ask PostgreSQL whether two defaults have the same value as a column's type, such as `'{ }'` and `'{}'::jsonb`."""
    name = type_.compile(dialect=connection.dialect)
    try:
        with connection.begin_nested():
            statement = f"SELECT CAST(CAST({found} AS {name}) AS text) = CAST(CAST({expected} AS {name}) AS text)"
            return bool(connection.execute(text(statement.replace(":", r"\:"))).scalar())
    except SQLAlchemyError:
        return False


def _dialect(context: MigrationContext) -> Any:
    return context.dialect
