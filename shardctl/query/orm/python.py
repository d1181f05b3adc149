"""Python on the command line -> a SQLAlchemy statement: an expression, or the `module:attribute` of an application."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import TextClause, orm
from sqlalchemy.orm import FromStatement, Query
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import SelectBase

from shardctl.errors import ConfigError
from shardctl.fleet.models import Models, load_attribute

_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_EXAMPLE = 'for example `--python "select(City).where(City.id == 3)"`'


def is_target(text: str) -> bool:
    """Say whether a text is a `module:attribute`, which no SQL statement is."""
    return _TARGET.fullmatch(text) is not None


def load_statement(target: str, folder: Path | None) -> Any:
    """Import `module:attribute`: a statement, or a function that makes one.

    Raises:
        ConfigError: It cannot be imported, or is none.
    """
    value, _ = load_attribute(target, folder=folder, where="explain", what="queries")
    if callable(value) and not isinstance(value, type | SelectBase | UpdateBase | TextClause):
        try:
            value = value()
        except Exception as error:
            raise ConfigError(f"calling `{target}` failed: {type(error).__name__}: {error}") from error
    return _statement(value, target)


def evaluate(text: str, models: Models | None) -> Any:
    """Evaluate an expression in which SQLAlchemy's names, the mapped classes and the tables are known.

    Raises:
        ConfigError: It fails, or is no statement.
    """
    names: dict[str, Any] = {}
    for library in (orm, sqlalchemy):
        names |= {name: value for name, value in vars(library).items() if not name.startswith("_")}
    if models is not None:
        names |= dict(models.tables)
        names |= {name: mapper.class_ for name, mapper in models.mappers.items()}
    try:
        value = eval(text, names)  # of whoever types the command, as `python -c` would
    except Exception as error:
        raise ConfigError(f"the Python expression failed: {type(error).__name__}: {error}", hint=_EXAMPLE) from error
    return _statement(value, "the expression")


def _statement(value: Any, what: str) -> Any:
    if isinstance(value, Query):
        value = value.statement
    if not isinstance(value, SelectBase | UpdateBase | TextClause | FromStatement):
        raise ConfigError(
            f"{what} is of type {type(value).__name__}, not a select(), update() or delete()", hint=_EXAMPLE
        )
    return value
