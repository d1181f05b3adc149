"""What the fleet's engine says of an answer before there is one: its columns' names and types.

A type that is not the one that the translation has found out is a reason to refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shardctl.errors import ShardError
from shardctl.fleet.live_shard import driver_line
from shardctl.query.engines import ENGINES
from shardctl.query.engines.values import run_as_written
from shardctl.query.here.kinds import Kind, not_listed
from shardctl.query.here.quotients import mysql_scale
from shardctl.query.parse import Statement, args_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Object ids of built-in types are the same on every server.
_OIDS = {
    "bool": {16},
    "bytea": {17},
    "int8": {20},
    "int2": {21},
    "int4": {23},
    "text": {25, 1043},
    "float8": {701},
    "bpchar": {1042},
    "date": {1082},
    "timestamp": {1114},
    "timestamptz": {1184},
    "numeric": {1700},
    "quotient": {1700},
    "uuid": {2950},
}
_MYSQL = {
    "bool": "BIGINT",
    "int8": "BIGINT",
    "uint8": "BIGINT UNSIGNED",
    "float8": "DOUBLE",
    "text": "VARCHAR",
    "bytea": "varbinary",
    "date": "DATE",
    "timestamp": "DATETIME(6)",
}


def described(connection: Connection, statement: Statement, kinds: Sequence[Kind]) -> tuple[str, ...]:
    """Return the names of an answer's columns.

    Raises:
        ShardError: The statement is wrong.
        NotListed: A column's type is not what was expected.
    """
    if statement.engine == "postgresql":
        found = _postgresql(connection, statement.sql)
    else:
        found = _mysql(connection, _without_rows(statement))
    if len(found) != len(kinds):
        raise not_listed("an answer with columns of its own")
    for (name, is_type), kind in zip(found, kinds, strict=True):
        if not is_type(kind):
            raise not_listed(f"the type of `{name}`, taken for {kind.name},")
    return tuple(name for name, _ in found)


def _postgresql(connection: Connection, sql: str) -> list[tuple[str, Any]]:
    raw: Any = connection.connection.driver_connection
    if connection.dialect.driver != "psycopg":
        raise not_listed(f"the driver `{connection.dialect.driver}`")
    for result in (raw.pgconn.prepare(b"", sql.encode()), raw.pgconn.describe_prepared(b"")):
        if result.error_message:
            line = result.error_message.decode(errors="replace").splitlines()[0].removeprefix("ERROR:").strip()
            raise ShardError(f"the statement is not understood: {line}")
    return [(result.fname(i).decode(), _is_of(result.ftype(i))) for i in range(result.nfields)]


def _is_of(oid: int) -> Callable[[Kind], bool]:
    return lambda kind: oid in _OIDS.get(kind.name, set())


def _mysql(connection: Connection, sql: str) -> list[tuple[str, Any]]:
    try:
        found = run_as_written(connection, sql)
    except connection.dialect.loaded_dbapi.Error as error:
        raise ShardError(f"the statement is not understood: {driver_line(error)}") from error
    types = ENGINES["mysql"].types(found)
    return [
        (name, lambda kind, own=own.name: own == _mysql_name(kind))
        for name, own in zip(found.keys(), types, strict=True)
    ]


def _without_rows(statement: Statement) -> str:
    """Return a statement of the same columns that MySQL and MariaDB do not run through."""
    if statement.tree.args.get("limit") is None:
        # MariaDB takes no WITH in brackets.
        return f"{statement.sql} LIMIT 0" if args_of(statement.tree, "with") else f"({statement.sql}) LIMIT 0"
    # With a LIMIT inside, brackets would make a table of the answer, whose columns must have different names.
    depth = 0
    for token in reversed(statement.tokens):
        depth += (token.kind == "R_PAREN") - (token.kind == "L_PAREN")
        if token.kind == "LIMIT" and depth == 0:
            return f"{statement.sql[: token.start]}LIMIT 0"
    raise not_listed("a `LIMIT` in other words")


def _mysql_name(kind: Kind) -> str:
    if kind.name in ("numeric", "quotient"):
        return f"DECIMAL(65,{kind.scale if kind.name == 'numeric' else mysql_scale(kind)})"
    return _MYSQL.get(kind.name, "")
