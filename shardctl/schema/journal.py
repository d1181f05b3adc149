"""The journal of a revision's statements, where CREATE and ALTER cannot be rolled back (MySQL and MariaDB).

A revision that was killed goes on behind its last finished statement. What changes rows is written down in the same
transaction, so that both are there or neither. What changes the schema commits by itself: it is written down as started
before, and as done after. At most one statement can be started and not done; it runs again, and may answer that it had
been done. SELECTs always run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, event, insert, select, update

from shardctl.errors import ShardError
from shardctl.schema.history import JOURNAL
from shardctl.schema.mysql_statements import Kind, can_be_repeated, done_already, has_rows, kind_of, needs_session
from shardctl.schema.statements import Statement, watch_statements

STARTED, DONE = "started", "done"
TEXT_LENGTH = 500
DEADLOCK = 1213


class HalfApplied(ShardError):
    """A revision has stopped in the middle, and how it goes on cannot be known."""

    def __init__(
        self, shard_id: str, revision: str, direction: str, number: int, why: str, done: Sequence[str] = ()
    ) -> None:
        end = revision if direction == "upgrade" else "REVISION"
        super().__init__(
            f"half-applied: {'' if direction == 'upgrade' else f'{direction} of '}revision `{revision}`, "
            f"statement {number}: {why}",
            facts=[f"done: {text}" for text in done],
            hint=f"finish it by hand, and `shardctl migrate stamp {end} --shard {shard_id}`; or undo what is done, and"
            f" `DELETE FROM {JOURNAL.name}` there",
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A statement that an earlier run started."""

    number: int
    digest: str
    state: str
    row_count: int
    last_id: int
    text: str

    @property
    def is_done_schema(self) -> bool:
        return self.state == DONE and kind_of(self.text) is Kind.SCHEMA


@dataclass(slots=True)
class Journal:
    """The journal of one run on one shard."""

    shard_id: str
    direction: str
    found: dict[tuple[str, str], list[Entry]] = field(default_factory=dict)
    """What earlier runs left, by direction and revision."""
    revision: str = ""
    number: int = 0
    skipped: int = 0
    _entries: dict[int, Entry] = field(default_factory=dict)
    _pending: list[dict[str, Any]] = field(default_factory=list)
    """Of statements that change rows and are not committed yet."""
    _failed: set[int] = field(default_factory=set)
    """Statements that were started, and then refused by the server."""
    _is_written: bool = False
    _has_read: bool = False
    _is_own: bool = False

    def load(self, connection: Connection) -> None:
        """Read what earlier runs left."""
        self.found = {}
        columns = (JOURNAL.c.statement, JOURNAL.c.digest, JOURNAL.c.state, JOURNAL.c.row_count, JOURNAL.c.last_id)
        query = select(JOURNAL.c.direction, JOURNAL.c.revision, *columns, JOURNAL.c.statement_text)
        for direction, revision, *rest in connection.execute(query.order_by(JOURNAL.c.statement)):
            self.found.setdefault((direction, revision), []).append(Entry(*rest))

    @contextmanager
    def keep(self, connection: Connection, revision: str) -> Iterator[None]:
        """Keep the journal of the statements of one revision."""
        self.revision, self.number, self.skipped = revision, 0, 0
        self._entries = {entry.number: entry for entry in self.found.get((self.direction, revision), ())}
        self._is_written, self._has_read = bool(self._entries), False
        self._pending, self._failed = [], set()
        watch_statements(connection, self.execute)
        event.listen(connection, "commit", self._write_pending)
        event.listen(connection, "rollback", self._drop_pending)
        try:
            yield
            self._check_complete()
        finally:
            event.remove(connection, "commit", self._write_pending)
            event.remove(connection, "rollback", self._drop_pending)
            watch_statements(connection, None)
            # They are committed with the version table, which then says that the whole revision is done.
            self._pending = []

    def forget(self, connection: Connection) -> None:
        """Remove the revision's entries, in the transaction that writes its version."""
        if self._is_written:
            connection.execute(self._own_entries(delete(JOURNAL)))

    def drop(self, connection: Connection, direction: str, revision: str) -> None:
        """Remove the entries of a revision that has been finished or undone since, by other means."""
        del self.found[direction, revision]
        of_direction = JOURNAL.c.direction == direction
        connection.execute(delete(JOURNAL).where(of_direction, JOURNAL.c.revision == revision))

    def forget_all(self, connection: Connection) -> None:
        """Remove all entries: the shard was said to be at a revision as a whole."""
        connection.execute(delete(JOURNAL))

    def settle(self, connection: Connection) -> int:
        """Take back what the server refused, after a revision failed; return how many of its statements are done."""
        if self._failed:
            numbers = JOURNAL.c.statement.in_(self._failed)
            connection.execute(self._own_entries(delete(JOURNAL)).where(numbers, JOURNAL.c.state == STARTED))
        self.load(connection)
        return len(self.found.get((self.direction, self.revision), ()))

    def execute(self, statement: Statement) -> None:
        """Run one statement of the revision, or skip it.

        Raises:
            HalfApplied: It is not known what the statement has done, or what it would have to answer.
        """
        kind = statement.kind
        if self._is_own or kind is Kind.READ:
            self._has_read = self._has_read or not self._is_own
            statement.run()
        elif kind is Kind.CONTROL:
            self._write_pending(statement.connection)
            statement.run()
        elif kind is Kind.TEMPORARY:
            if self._entries:
                raise self._half_applied(self.number + 1, "it needs a temporary table, which is gone")
            statement.run()
        else:
            self._execute_once(statement)

    def _execute_once(self, statement: Statement) -> None:
        entry = self._place(statement)
        if entry is not None and entry.state == DONE:
            self._skip(statement, entry)
            return
        if self.skipped and needs_session(statement.text):
            raise self._half_applied(self.number, "it needs what an earlier statement left in a session that is gone")
        if statement.kind is Kind.WRITE and not statement.is_autocommit:
            self._execute_within(statement)
        elif entry is not None:
            self._execute_again(statement)
        else:
            self._execute_apart(statement)

    def _execute_within(self, statement: Statement) -> None:
        """Run a statement that is committed with its transaction."""
        try:
            statement.run()
        except Exception as error:
            if _code_of(error) == DEADLOCK:  # the server has rolled back the transaction
                self._pending = []
            raise
        self._pending.append(self._row(statement, DONE))

    def _execute_apart(self, statement: Statement) -> None:
        """Run a statement that commits by itself."""
        self._write(statement.connection, [*self._pending, self._row(statement, STARTED)])
        self._pending = []
        if statement.kind is not Kind.SCHEMA:
            statement.commit()  # nothing else would do it before the statement runs
        try:
            statement.run()
        except Exception as error:
            if not statement.is_disconnect(error):
                self._failed.add(self.number)
            raise
        self._finish(statement)

    def _execute_again(self, statement: Statement) -> None:
        """Run a statement that may have been done."""
        if statement.kind is not Kind.SCHEMA or not can_be_repeated(statement.text):
            raise self._half_applied(self.number, f"it may or may not have been done: {_shortened(statement.text)}")
        try:
            statement.run()
        except Exception as error:
            if _code_of(error) not in done_already(statement.text):
                raise
        self._finish(statement)

    def _finish(self, statement: Statement) -> None:
        row = self._row(statement, DONE)
        values = {name: row[name] for name in ("state", "row_count", "last_id")}
        with self._on_own_account():
            query = self._own_entries(update(JOURNAL)).where(JOURNAL.c.statement == self.number)
            statement.connection.execute(query.values(values))
        statement.commit()

    def _skip(self, statement: Statement, entry: Entry) -> None:
        if has_rows(statement.text):
            raise self._half_applied(self.number, "it was done, and the rows that it answered are not known any more")
        self.skipped += 1
        try:
            statement.cursor.rowcount, statement.cursor.lastrowid = entry.row_count, entry.last_id
        except AttributeError:
            if statement.kind is Kind.WRITE:
                raise self._half_applied(self.number, "it was done, and its driver cannot be told so") from None

    def _place(self, statement: Statement) -> Entry | None:
        """Give a statement its number, and find what an earlier run has done of it."""
        self.number += 1
        entry = self._entries.get(self.number)
        rest = [entry for number, entry in self._entries.items() if number >= self.number]
        if not rest or (entry is not None and entry.digest == statement.digest):
            return entry
        if entry is None:  # it was rolled back to a savepoint
            return None
        # A revision that looks first may leave out what it finds done.
        later = next((entry for entry in rest if entry.digest == statement.digest), None)
        passed = [entry for entry in rest if later is None or entry.number < later.number]
        if not self._has_read or not all(entry.is_done_schema for entry in passed):
            raise self._half_applied(
                self.number,
                f"an earlier run did `{_shortened(entry.text)}` there, and now it is `{_shortened(statement.text)}`",
            )
        self.number = later.number if later is not None else passed[-1].number + 1
        return later

    def _check_complete(self) -> None:
        rest = [entry for number, entry in self._entries.items() if number > self.number]
        if rest and not (self._has_read and all(entry.is_done_schema for entry in rest)):
            raise self._half_applied(
                rest[0].number, f"an earlier run did `{_shortened(rest[0].text)}` there, and now there is none"
            )

    def _half_applied(self, number: int, why: str) -> HalfApplied:
        done = [_shortened(entry.text) for entry in self._entries.values() if entry.state == DONE]
        return HalfApplied(self.shard_id, self.revision, self.direction, number, why, done)

    def _write_pending(self, connection: Connection) -> None:
        pending, self._pending = self._pending, []
        if pending:
            self._write(connection, pending)

    def _drop_pending(self, connection: Connection) -> None:
        self._pending = []

    def _write(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        self._is_written = True
        with self._on_own_account():
            connection.execute(insert(JOURNAL), rows)

    @contextmanager
    def _on_own_account(self) -> Iterator[None]:
        self._is_own = True
        try:
            yield
        finally:
            self._is_own = False

    def _own_entries(self, statement: Any) -> Any:
        return statement.where(JOURNAL.c.direction == self.direction, JOURNAL.c.revision == self.revision)

    def _row(self, statement: Statement, state: str) -> dict[str, Any]:
        return {
            "direction": self.direction,
            "revision": self.revision,
            "statement": self.number,
            "digest": statement.digest,
            "state": state,
            "row_count": getattr(statement.cursor, "rowcount", None) or 0,
            "last_id": getattr(statement.cursor, "lastrowid", None) or 0,
            "statement_text": statement.text[:TEXT_LENGTH],
        }


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:99]}…"


def _code_of(error: Exception) -> object:
    return error.args[0] if error.args else None
