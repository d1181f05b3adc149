"""`--format ndjson`: what happens in a run, as it happens, one JSON object on each line."""

from __future__ import annotations

import datetime
import json
import re
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shardctl.cli import output
from shardctl.cli.values import to_json

if TYPE_CHECKING:
    from shardctl.cli.migrate.report import Report
    from shardctl.schema.rollout import RunEvent


class Stream:
    """Writes events to standard output, from whichever thread they come."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Say what will run."""
        self._write("run_started", {"version": output.JSON_VERSION, **self._report.head()})

    def take(self, event: RunEvent) -> None:
        """Write an event."""
        from shardctl.schema.rollout import ShardFinished, WaveAwaited, WaveStarted

        match event:
            case WaveStarted():
                self._write("wave_started", {"wave": event.wave.number, "shards": list(event.wave.shard_ids)})
            case WaveAwaited():
                self._write("wave_awaited", {"wave": event.wave.number, "seconds": event.seconds})
            case ShardFinished():
                self._write("shard_finished", self._report.entry(event.shard_id))
            case _:
                name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
                fields = asdict(event)
                self._write(name, {"shard": fields.pop("shard_id"), **fields})

    def end(self) -> None:
        """Say how it ended."""
        self._write("run_finished", self._report.summary())

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        with self._lock:
            line = {"event": name, "at": now, **{key: to_json(value) for key, value in fields.items()}}
            output.write(json.dumps(line) + "\n")
