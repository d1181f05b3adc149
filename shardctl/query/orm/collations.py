"""The collation by which a shard compares an expression of a SQLAlchemy SELECT, asked on the session's connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, false, func, literal, select, union_all

from shardctl.errors import QueryRefused
from shardctl.query.orm.froms import with_columns

_BUILT_IN = {"BINARY", "NOCASE", "RTRIM"}


def collation_of(
    connection: Connection, statement: Select[Any], expression: Any, *, keeps_groups: bool = False
) -> str | None:
    """Return the collation of an expression over a statement's sources; None if they have no rows to tell it from."""
    bare = with_columns(statement, expression.label("__v"))
    bare._distinct = False
    if not keeps_groups:
        bare = bare.group_by(None)
        bare._having_criteria = ()
    match connection.dialect.name:
        case "sqlite":
            return _of_sqlite(connection, bare)
        case "postgresql":
            probe = select(func.pg_collation_for(bare.limit(0).scalar_subquery()))
            return str(connection.execute(probe).scalar() or '"default"')
    source = bare.limit(1).subquery()
    found = connection.execute(select(func.collation(source.c["__v"]))).scalar()
    return None if found is None else str(found)


def _of_sqlite(connection: Connection, bare: Any) -> str:
    """Tell it by how it compares; a subquery's column keeps it."""
    registered = {str(row[1]) for row in connection.exec_driver_sql("PRAGMA collation_list")} - _BUILT_IN
    if registered:
        names = ", ".join(f"`{name}`" for name in sorted(registered))
        raise QueryRefused(f"the application adds collations to SQLite ({names}) that cannot be repeated here")
    source = union_all(bare.where(false()), select(literal("a"))).subquery()
    value = source.c[0]
    row = connection.execute(select(value == "A", value == "a ")).one()
    return "NOCASE" if row[0] else "RTRIM" if row[1] else "BINARY"


def agreed(found: Sequence[Any], names: Sequence[Any], what: str, why: str) -> Any:
    """Return what all shards say, of those that say anything.

    Raises:
        QueryRefused: They differ.
    """
    seen: dict[Any, Any] = {}
    for name, own in zip(names, found, strict=True):
        if own is not None:
            seen.setdefault(own, name)
    if len(seen) > 1:
        raise QueryRefused(
            f"the shards {why} differently: `{what}`",
            facts=[f"{name}: {getattr(own, 'name', own)}" for own, name in seen.items()],
            hint="name the collation or the type, or migrate the shards to one revision",
        )
    return next(iter(seen), None)
