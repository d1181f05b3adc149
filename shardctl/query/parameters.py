"""Values for a statement's `:name`s: bound by the driver, never pasted into the text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from sqlalchemy import Connection, TextClause, text

from shardctl.errors import ConfigError

_QUOTED = re.compile(
    r"""'(?:[^'\\]|''|\\.)*' | "(?:[^"]|"")*" | `[^`]*` | (\$\w*\$).*?\1 | --[^\n]* | /\*.*?\*/""",
    re.VERBOSE | re.DOTALL,
)
_NAME = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)(?!:)")

MISSING: Final = object()

_VALUES: ContextVar[Mapping[str, Any] | None] = ContextVar("parameters", default=None)


def read_parameters(given: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` each: a value is what JSON calls a number, a string, true, false or null, otherwise text.

    Raises:
        ConfigError: One is not of this form, or is given twice.
    """
    values: dict[str, Any] = {}
    for entry in given:
        name, separator, value = entry.partition("=")
        if not separator or not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise ConfigError(f"`--param {entry}` is not `name=value`", hint="for example `--param city=Tokyo`")
        if name in values:
            raise ConfigError(f"the parameter `{name}` is given twice")
        values[name] = _read(name, value)
    return values


def _read(name: str, value: str) -> Any:
    try:
        read = json.loads(value, parse_constant=str)
    except ValueError:
        return value
    if isinstance(read, list | dict):
        raise ConfigError(f"`--param {name}` takes one value, not a list or an object")
    return read


def names_in(sql: str) -> set[str]:
    """Return the names of the parameters in a statement; what is quoted is none."""
    return {found[1] for part, is_quoted in _parts(sql) if not is_quoted for found in _NAME.finditer(part)}


def check_names(sql: str, values: Mapping[str, Any]) -> None:
    """Refuse values that nothing in a statement asks for.

    Raises:
        ConfigError: The statement has no `:name` of this name.
    """
    unused = [name for name in values if name not in names_in(sql)]
    if unused:
        raise ConfigError(
            f"nothing in the statement is called `:{unused[0]}`", hint=f"write `:{unused[0]}`, without quotes"
        )


@contextmanager
def bound(values: Mapping[str, Any]) -> Iterator[None]:
    """Have `with_values` know these values, here and in the threads that are started meanwhile."""
    token = _VALUES.set(values or None)
    try:
        yield
    finally:
        _VALUES.reset(token)


def is_bound(name: str) -> bool:
    """Say whether there is a value of this name."""
    return bound_value(name) is not MISSING


def bound_value(name: str) -> Any:
    """Return the value of this name, or MISSING."""
    return (_VALUES.get() or {}).get(name, MISSING)


def bound_values() -> Mapping[str, Any]:
    """Return all values by name."""
    return _VALUES.get() or {}


def with_values(sql: str) -> TextClause | None:
    """Return a statement with its values bound; None if it has none and is to be sent as it is."""
    values = _VALUES.get()
    names = names_in(sql) & values.keys() if values else None
    if not names or values is None:
        return None

    def escaped(part: str, *, is_quoted: bool) -> str:
        return re.sub(
            r"(?<![:\w\\]):(?=(\w+)(?!:))",
            lambda found: ":" if not is_quoted and found[1] in names else "\\:",
            part,
        )

    escaped_sql = "".join(escaped(part, is_quoted=is_quoted) for part, is_quoted in _parts(sql))
    return text(escaped_sql).bindparams(**{name: values[name] for name in names})


def for_driver(connection: Connection, sql: str) -> tuple[str, Any]:
    """Return a statement and its values in the form of a connection's own driver; without values, it as it is."""
    statement = with_values(sql)
    if statement is None:
        return sql, None
    compiled = statement.compile(dialect=connection.dialect)
    values = compiled.params
    order = getattr(compiled, "positiontup", None)
    return str(compiled), values if order is None else tuple(values[name] for name in order)


def _parts(sql: str) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a statement, and whether each is quoted or a comment."""
    position = 0
    for found in _QUOTED.finditer(sql):
        yield sql[position : found.start()], False
        yield found[0], True
        position = found.end()
    yield sql[position:], False
