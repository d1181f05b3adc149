"""How far an audit came, in a file beside the shard map, so that one that was stopped can go on."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from shardctl.errors import ConfigError, ShardctlError
from shardctl.fleet.records import Records, replace_file
from shardctl.topology.model import ShardMap

FOLDER = "audit-left"
"""Beside the records of runs that ended."""
WRITE_EVERY_S = 2.0

Value = tuple[Any, ...]
"""A primary key as the driver gives it."""
State = dict[str, Any]
"""What JSON can hold."""


class Marks:
    """What checks have done so far; kept in memory only, unless there is a file."""

    def __init__(self, records: Records | None = None, options: Mapping[str, Any] | None = None) -> None:
        self._records = records
        name = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
        self._file = records.folder / FOLDER / f"{name}.json" if records is not None else None
        self._options = dict(options or {})
        self._states: dict[str, State] = {}
        self._written_at = time.monotonic()
        self.problem: str | None = None
        """Why the file could not be written."""

    def get(self, check: str, name: str = "") -> State | None:
        """Return what was kept last of a check's table, or of a check as a whole."""
        return self._states.get(f"{check} {name}")

    def put(self, check: str, name: str, state: State) -> None:
        """Keep the state of a check's table; it is written now and then."""
        self._states[f"{check} {name}"] = state
        if time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self.write()

    def finish(self, check: str, state: State) -> None:
        """Keep the state of a check that is over; those of its tables are not needed any more."""
        self._states = {key: kept for key, kept in self._states.items() if not key.startswith(f"{check} ")}
        self.put(check, "", state)

    def write(self) -> None:
        """Write the file; why that fails is kept in `problem`."""
        self._written_at = time.monotonic()
        if self._file is None or self._records is None:
            return
        try:
            self._records.make_folder(FOLDER)
            replace_file(self._file, json.dumps({"options": self._options, "states": self._states}))
        except OSError as error:
            self.problem = f"cannot write {self._file}: {error.strerror or error}"

    def read(self) -> None:
        """Take up what a run with the same options left.

        Raises:
            ConfigError: There is nothing, or the runs that left something had other options.
        """
        assert self._file is not None
        found = _read(self._file)
        if found is None:
            others = [other for file in sorted(self._file.parent.glob("*.json")) if (other := _read(file))]
            raise _nothing_left(self._options, others[-1]["options"] if others else None)
        self._states = found["states"]

    def remove(self) -> None:
        """Forget it all: the run is over."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()


def marks_of(shard_map: ShardMap, options: Mapping[str, Any]) -> Marks:
    """Return the marks of an audit with these options; they are of no use to one with others.

    Args:
        shard_map: Says which folder the file is in.
        options: What JSON can hold.
    """
    return Marks(Records(shard_map), {**options, "shard map": _digest(shard_map)})


def _digest(shard_map: ShardMap) -> str:
    if shard_map.source is None:
        return shard_map.app or ""
    try:
        return hashlib.sha256(shard_map.source.read_bytes()).hexdigest()[:12]
    except OSError as error:
        raise ShardctlError(f"cannot read {shard_map.source}: {error.strerror}") from error


def _nothing_left(options: Mapping[str, Any], others: Mapping[str, Any] | None) -> ConfigError:
    if others is None:
        return ConfigError("there is no interrupted audit to go on with", hint="leave out `--resume`")
    differing = [name for name in options if options[name] != others.get(name)]
    facts = [f"{name}: {_shown(others.get(name))} then, {_shown(options[name])} now" for name in differing]
    return ConfigError(
        "the audit that was interrupted had other options",
        facts=facts,
        hint="give the same ones, or leave out `--resume`",
    )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _read(file: Path) -> State | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return found if isinstance(found["states"], dict) and isinstance(found["options"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


_TAGGED = {
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "timedelta": (datetime.timedelta, lambda value: [value.days, value.seconds, value.microseconds], None),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "uuid": (uuid.UUID, str, uuid.UUID),
}


def to_saved(value: Any) -> Any:
    """Return a value of a key as JSON can hold it."""
    if value is None or type(value) in (int, str, float, bool):
        return value
    if isinstance(value, tuple | list):
        return {"tuple": [to_saved(part) for part in value]}
    for tag, (type_, write, _) in _TAGGED.items():
        if isinstance(value, type_):
            return {tag: write(value)}  # type: ignore[operator]
    return {"text": str(value)}


def from_saved(saved: Any) -> Any:
    """Return what `to_saved` was given."""
    if not isinstance(saved, dict):
        return saved
    ((tag, value),) = saved.items()
    if tag == "tuple":
        return tuple(from_saved(part) for part in value)
    if tag == "timedelta":
        return datetime.timedelta(*value)
    read = _TAGGED[tag][2] if tag in _TAGGED else None
    return read(value) if read is not None else value
