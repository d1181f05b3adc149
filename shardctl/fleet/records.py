"""What earlier runs found, in files beside the shard map: the databases are only read.

One file for each run, written whole or not at all, so that runs at the same time need no lock.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardctl.errors import ShardctlError
from shardctl.topology.model import ShardMap

FOLDER_VARIABLE = "SHARDCTL_STATE_DIR"
KEPT = 30
"""Runs of one kind that are kept; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one run found."""

    when: datetime.datetime
    """In UTC."""
    data: Mapping[str, Any]


class Records:
    """The records of one shard map, or of one application.

    Args:
        shard_map: Their folder is `.shardctl` beside its file, or in the working directory where it has none; the
            environment variable `SHARDCTL_STATE_DIR` names another.
    """

    def __init__(self, shard_map: ShardMap) -> None:
        source = shard_map.source
        root = os.environ.get(FOLDER_VARIABLE)
        self.root = Path(root) if root else (source.parent if source else Path.cwd()) / ".shardctl"
        name = source.name if source else shard_map.app or "shardctl"
        self.folder = self.root / re.sub(r"[^\w.-]+", "-", name)

    def write(self, kind: str, data: Mapping[str, Any]) -> Path:
        """Keep what a run found, and return its file.

        Args:
            kind: The command's name; `last` and `all` know it by this.
            data: What JSON can hold.

        Raises:
            ShardctlError: The file cannot be written.
        """
        when = datetime.datetime.now(datetime.UTC)
        file = self.folder / kind / f"{when:%Y%m%dT%H%M%S.%f}Z-{os.getpid()}.json"
        try:
            self.make_folder(kind)
            replace_file(file, json.dumps({"when": when.isoformat(), "data": data}))
            for old in self._files(kind)[:-KEPT]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise ShardctlError(
                f"cannot keep a record in {self.folder / kind}: {error.strerror or error}",
                hint=f"name another folder with `{FOLDER_VARIABLE}`",
            ) from error
        return file

    def make_folder(self, kind: str) -> Path:
        """Make the folder of one kind, and have Git pass over it all.

        Raises:
            OSError: It cannot be made.
        """
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
        return folder

    def last(self, kind: str) -> Record | None:
        """Return the newest record that can be read."""
        return next((record for file in reversed(self._files(kind)) if (record := _read(file))), None)

    def all(self, kind: str) -> list[Record]:
        """Return the records that can be read, the oldest first."""
        return [record for file in self._files(kind) if (record := _read(file))]

    def _files(self, kind: str) -> list[Path]:
        return sorted((self.folder / kind).glob("*Z-*.json"))


def replace_file(file: Path, text: str) -> None:
    """Write a file whole, or leave the one that is there.

    Raises:
        OSError: It cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _read(file: Path) -> Record | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Record(datetime.datetime.fromisoformat(found["when"]), found["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
