"""A connection to a database server rather than to a shard on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from shardctl.errors import ShardUnreachable

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


@contextmanager
def on_server(engine: Engine) -> Iterator[Connection]:
    """Connect to a server for its own sake, outside transactions.

    Raises:
        ShardUnreachable: It does not answer, or refuses the login.
    """
    try:
        connection = engine.connect()
    except SQLAlchemyError as error:
        raise ShardUnreachable(f"cannot connect to {engine.url.render_as_string()}") from error
    with connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def committed(connection: Connection) -> Iterator[None]:
    """Commit at the end what is done from here on."""
    connection.rollback()  # out of a snapshot that somebody else began
    yield
    connection.commit()
