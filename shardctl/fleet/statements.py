"""What a SQLAlchemy statement reads and writes: its tables, its conditions, the rows of an INSERT."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Table, TextClause
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.selectable import AliasedReturnsRows

from shardctl.errors import NoPlacement
from shardctl.fleet.rules import Sharded

_INSERT = re.compile(r"\s*(insert|replace|merge)\b", re.IGNORECASE)


def conditions(statement: Any) -> Iterator[Any]:
    """Yield what every row of a statement fulfils: its WHERE, and that of a subquery that is all it selects from.

    Not that of a subquery beside other tables: one that counts has a row on every shard.
    """
    yield from where(statement)
    sources = sources_of(statement)
    if len(sources) == 1 and isinstance(sources[0], AliasedReturnsRows):
        yield from conditions(_unaliased(sources[0]))


def where(statement: Any) -> list[Any]:
    """Return a statement's own WHERE, if it has one."""
    clause = getattr(statement, "whereclause", None)
    return [] if clause is None else [clause]


def sources_of(statement: Any) -> list[Any]:
    """Return what is in a SELECT's FROM, joins as they are."""
    return list(statement.get_final_froms()) if hasattr(statement, "get_final_froms") else []


def tables_of(statement: Any, sources: Iterable[Any]) -> list[Table]:
    """Return the tables that a statement reads or writes at its outermost level."""
    if hasattr(statement, "table") and isinstance(statement.table, Table):
        return [statement.table]
    elements = (element for source in sources for element in visitors.iterate(source))
    return list(dict.fromkeys(element for element in elements if isinstance(element, Table)))


def inserted_keys(statement: Insert, rule: Sharded, parameters: Any) -> list[tuple[Any, ...]]:
    """Return the sharding key of each row of an INSERT … VALUES."""
    compiled = statement.compile().params if not parameters else {}
    rows = parameters if isinstance(parameters, list | tuple) else [parameters or compiled]
    if statement._multi_values:
        rows = [
            {getattr(column, "key", column): value for column, value in row.items()} if isinstance(row, dict) else {}
            for group in statement._multi_values
            for row in group
        ]
    keys = []
    for row in rows:
        values = tuple(
            rule.stored(column, row.get(attribute, row.get(column.key)))
            for attribute, column in zip(rule.attributes, rule.columns, strict=True)
        )
        if None in values:
            raise NoPlacement(f"an INSERT into {rule.name} does not give {', '.join(rule.attributes)}")
        keys.append(values)
    return keys


def inserts(statement: Any) -> bool:
    """Say whether a statement that is no INSERT adds rows all the same: SQL text, or a CTE that inserts."""
    if isinstance(statement, TextClause):
        return _INSERT.match(statement.text) is not None
    return any(isinstance(element, Insert) for element in visitors.iterate(statement))


def _unaliased(source: Any) -> Any:
    while isinstance(source, AliasedReturnsRows):
        source = source.element
    return source
