"""One use of a connection to a shard: from when it is opened, or was kept, to when it is closed, or kept again."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from shardctl.fleet.backends import Keeper
    from shardctl.fleet.live_shard import LiveShard


class Use:
    """A connection that is open, and is closed or kept by `end`.

    Args:
        shard: Where it leads.
        read_only: Whether the database is to refuse writes.
        keep: Whether it may be one that was kept, and is kept again.
        is_fresh: Whether it must not be one that was kept.
        begins: Whether a transaction is begun on one that is kept; otherwise who uses it does that.

    Raises:
        ShardUnreachable: There is no answer, or the login is refused.
    """

    def __init__(
        self, shard: LiveShard, *, read_only: bool, keep: bool, is_fresh: bool = False, begins: bool = True
    ) -> None:
        self._shard = shard
        self._read_only = read_only
        may_keep = keep and read_only and shard.kept is not None
        self._keeper = shard.backend.keeper(shard.engine) if may_keep else None
        self._begins = begins
        self._place: Hashable = None
        self.was_kept = False
        found = None
        if self._keeper is not None and shard.kept is not None:
            self._place = self._keeper.place(shard.engine.url)
            found = shard.kept.take(shard.shard_id, self._place, is_fresh=is_fresh)
        elif shard.kept is not None:
            shard.kept.make_room()
        while found is not None and not self._resume(found):
            assert shard.kept is not None
            shard.kept.closed()
            found = shard.kept.take(shard.shard_id, self._place)
        if found is None:
            self._open()

    def _open(self) -> None:
        shard = self._shard
        try:
            self.connection = shard.engine.connect()
        except BaseException as error:
            if shard.kept is not None:
                shard.kept.closed()
            if isinstance(error, SQLAlchemyError):
                raise shard.unreachable(error) from error
            raise
        self._driver_connection = shard.note_open(self.connection)

    def _resume(self, connection: Connection) -> bool:
        """Begin to read on a connection that was kept; it may have been lost since."""
        self._driver_connection = self._shard.note_open(connection)
        try:
            if self._begins and self._keeper is not None:
                self._keeper.begin(connection)
        except (SQLAlchemyError, self._shard.engine.dialect.loaded_dbapi.Error):
            self._shard.is_given_up(self._driver_connection)
            _close(connection)
            return False
        self.connection = connection
        self.was_kept = True
        return True

    def begin(self) -> None:
        """Prepare the connection, unless it is one that was kept and is prepared."""
        shard, connection = self._shard, self.connection
        if self.was_kept:
            return
        if self._keeper is not None:
            self._keeper.prepare(connection)
            if self._begins:
                self._keeper.begin(connection)
            return
        if self._read_only:
            shard.backend.begin_read_only(connection)
        elif shard.may_be_autocommit:
            connection.execution_options(isolation_level=connection.default_isolation_level)
        if shard.prepare is not None:  # afterwards: SQLAlchemy sets no isolation level on a detached connection
            shard.prepare(connection)

    def end(self, *, well: bool) -> None:
        """Roll back, and close the connection; keep it instead if all went well and nobody cancelled it."""
        shard, kept = self._shard, self._shard.kept
        if kept is None or self._keeper is None or not well:
            shard.is_given_up(self._driver_connection)
            self._close()
        elif self._has_ended(self._keeper) and not shard.is_given_up(self._driver_connection):
            kept.give(shard.shard_id, self._place, self.connection)
            return
        else:
            shard.is_given_up(self._driver_connection)
            _close(self.connection)
        if kept is not None:
            kept.closed()

    def _has_ended(self, keeper: Keeper) -> bool:
        try:
            keeper.end(self.connection)
        except (SQLAlchemyError, self._shard.engine.dialect.loaded_dbapi.Error):
            return False
        return not self.connection.invalidated

    def _close(self) -> None:
        connection = self.connection
        try:
            if not connection.invalidated:
                connection.rollback()
                if self._read_only:
                    self._shard.backend.end_read_only(connection)
            connection.close()
        except SQLAlchemyError:  # the server went away: the first error said so
            connection.invalidate()


def _close(connection: Connection) -> None:
    """Close what cannot be used any more, whatever state it is in."""
    with suppress(SQLAlchemyError):
        connection.invalidate()
    with suppress(SQLAlchemyError):
        connection.close()
