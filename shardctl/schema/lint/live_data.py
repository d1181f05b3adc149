"""What stands in for a database while a revision is recorded: it answers nothing, and notes that it was asked.

A revision that asks runs twice, once with "there is no such thing" and once with "there is", so that both branches of
an `if` are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import inspection
from sqlalchemy.engine.mock import MockConnection


class NeedsLiveData(Exception):
    """A revision cannot go on without what only a real database knows."""


class LiveResult:
    """The result of a statement that reads: no rows."""

    rowcount = 0
    returns_rows = True

    def __init__(self, *, says_yes: bool) -> None:
        self._says_yes = says_yes

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in {"all", "fetchall", "fetchmany", "partitions", "keys"}:
            return lambda *args, **options: []
        if name in {"scalars", "mappings", "tuples", "unique", "columns", "execution_options", "yield_per"}:
            return lambda *args, **options: self
        if name in {"first", "fetchone", "one_or_none", "close"}:
            return lambda *args, **options: None
        if name in {"scalar", "scalar_one_or_none"}:
            return lambda *args, **options: 1 if self._says_yes else None
        raise NeedsLiveData(f"the `{name}` of a result")


class LiveInspector:
    """What `sa.inspect(op.get_bind())` returns: everything is there, or nothing."""

    def __init__(self, connection: RecordingConnection) -> None:
        self.bind = self.engine = connection
        self.dialect = connection.dialect
        self.default_schema_name = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        self.bind.note(f"`inspect().{name}`")
        if name.startswith("has_"):
            return lambda *args, **options: self.bind.says_yes
        if name == "get_pk_constraint":
            return lambda *args, **options: _AnyItem(constrained_columns=[])
        if name.startswith("get_") and "multi" not in name:
            return lambda *args, **options: _AnyList([_AnyItem()] if self.bind.says_yes else [])
        if name == "clear_cache":
            return lambda: None
        raise NeedsLiveData(f"`inspect().{name}`")


class RecordingConnection(MockConnection):
    """What `op.get_bind()` returns: writes are recorded, reads are noted, nothing is executed."""

    closed = invalidated = False

    def __init__(self, dialect: Any, *, record: Callable[[Any, Any], None], note: Callable[[str], None]) -> None:
        super().__init__(dialect, self._execute)
        self._record = record
        self.note = note
        self.says_yes = False

    def exec_driver_sql(self, statement: str, parameters: Any = None, execution_options: Any = None) -> Any:
        return self._execute(statement, parameters)

    def scalar(self, statement: Any, parameters: Any = None, **options: Any) -> Any:
        return self._execute(statement, parameters).scalar()

    def scalars(self, statement: Any, parameters: Any = None, **options: Any) -> Any:
        return self._execute(statement, parameters)

    def begin(self) -> _Transaction:
        return _Transaction()

    def begin_nested(self) -> _Transaction:
        return _Transaction()

    def close(self) -> None:
        """Do nothing: a session gives back what it was lent."""

    def commit(self) -> None:
        self._record("COMMIT", None)

    def rollback(self) -> None:
        self._record("ROLLBACK", None)

    def in_transaction(self) -> bool:
        return False  # Alembic asks before it lets `autocommit_block` begin

    def get_execution_options(self) -> dict[str, Any]:
        return {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.note(f"`get_bind().{name}`")
        raise NeedsLiveData(f"`get_bind().{name}`")

    def _execute(self, statement: Any, parameters: Any) -> LiveResult:
        text = statement if isinstance(statement, str) else getattr(statement, "text", "")
        verb = text.lstrip("( \n\t").partition(" ")[0].strip().lower()
        returning = bool(getattr(statement, "_returning", ())) or " returning " in f" {text.lower()} "
        if getattr(statement, "is_select", False) or verb in {"select", "show", "pragma", "values", "explain", "with"}:
            self.note("the rows of a SELECT")
        else:
            if returning:
                self.note("the rows of a RETURNING")
            self._record(statement, parameters)
        return LiveResult(says_yes=self.says_yes)


class _Transaction(AbstractContextManager["_Transaction"]):
    """What `begin_nested()` returns."""

    is_active = True

    def __exit__(self, *raised: object) -> None:
        """Let through what was raised."""

    def commit(self) -> None:
        """Do nothing."""

    rollback = close = commit


class _AnyName(str):
    """Equal to every name, so that `"city" in [column["name"] for column in …]` is true."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)


class _AnyItem(dict[str, Any]):
    def __missing__(self, key: str) -> _AnyName:
        return _AnyName("unknown")

    def get(self, key: str, default: Any = None) -> Any:
        return self[key]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str | dict)

    __hash__ = None


class _AnyList(list[Any]):
    def __contains__(self, item: object) -> bool:
        return bool(self)


@inspection._inspects(RecordingConnection)
def _inspect(connection: RecordingConnection) -> LiveInspector:
    return LiveInspector(connection)
