"""The lock of a SQLite file: a lock on a file beside it, which the operating system drops when its holder dies.

Never on the database file itself: closing it would drop all locks that SQLite has on it in this process
(sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from shardctl.errors import ShardError
from shardctl.schema.history import who

SUFFIX = "-shardctl-lock"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as far as that is known."""

    who: str
    """user@host, or a session of the server."""
    pid: int | None
    since: datetime | None
    """With its zone."""

    def __str__(self) -> str:
        pid = f", process {self.pid}" if self.pid is not None else ""
        since = f", since {self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return f"{self.who}{pid}{since}"


class FileLock:
    """The lock of one SQLite file; of a database in memory, which is this process's own, nothing is locked.

    The file that is locked is removed under its own lock, and whoever locks one makes sure that it is still the one
    that has the name: two runs cannot hold two files of one name.
    """

    def __init__(self, database: Path | None) -> None:
        # One database has one lock, by whatever link it is reached.
        self._file = database.resolve() if database is not None else None
        self._descriptor: int | None = None

    @property
    def path(self) -> Path | None:
        """The file that is locked: beside the database, where SQLite needs to write its own journal too."""
        return self._file.with_name(self._file.name + SUFFIX) if self._file is not None else None

    def take(self, connection: Connection | None = None) -> bool:
        """Take the lock if it is free.

        Raises:
            ShardError: The folder cannot be written to.
        """
        path = self.path
        while path is not None:
            descriptor = _open(path)
            if not _lock(descriptor):
                os.close(descriptor)
                return False
            if _is_named(descriptor, path):
                self._descriptor = descriptor
                _write_holder(descriptor)
                return True
            os.close(descriptor)
        return True

    def holder(self, connection: Connection | None = None) -> Holder | None:
        """Return who wrote itself down in the file; None if nobody has yet."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8")) if self.path is not None else None
            return Holder(found["who"], found["pid"], datetime.fromisoformat(found["since"])) if found else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def is_held(self) -> bool:
        """Say whether somebody has it."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC) if self.path is not None else None
        except OSError:
            return False
        if descriptor is None:
            return False
        if not _lock(descriptor):
            os.close(descriptor)
            return True
        os.close(descriptor)
        return False

    def release(self, connection: Connection | None = None) -> None:
        """Let go of the lock, and leave no file behind."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None or self.path is None:
            return
        with suppress(OSError):
            self.path.unlink()
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ShardError(
            f"cannot make the lock file `{path.name}` in `{path.parent}`: {error.strerror}",
            hint="SQLite writes its journal there as well: the folder has to be writable",
        ) from error


def _lock(descriptor: int) -> bool:
    import fcntl  # POSIX only

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        os.close(descriptor)
        raise ShardError(f"the file system cannot lock files: {error.strerror}") from error
    return True


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether the file that was locked still has its name: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(descriptor: int) -> None:
    found = {"who": who(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(found).encode(), 0)
