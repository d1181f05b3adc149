"""`--isolate`: each shard in an interpreter of its own, for an env.py or migrations that keep state in the process.

    shardctl ── request, later a byte that means stop ──▶ python -m shardctl.schema.isolation
             ◀── events, then the result or the error ──  (its standard output; what is printed there goes to stderr)

The request names the shard map, never a URL: the child reads it, and takes its secrets, as this process did. A child is
in a session of its own, so that ^C reaches it as a request to stop. It takes the end of its input for the same, should
this process be killed.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import shardctl
from shardctl.errors import Refused, ShardctlError, ShardError
from shardctl.fleet import Fleet, LiveShard
from shardctl.fleet.backends.sqlite import database_file
from shardctl.fleet.engines import silence_pools
from shardctl.fleet.fan_out import run_one
from shardctl.schema.apply import upgrade
from shardctl.schema.events import Event, OnEvent, Printed, RevisionFinished, RevisionStarted
from shardctl.schema.goals import UPGRADE_TO_HEAD, Goal
from shardctl.schema.results import MigrationResult, failure
from shardctl.schema.revisions import Scripts, load_scripts, read_revisions
from shardctl.schema.run_env import version_table_of
from shardctl.schema.shard_environment import Progress

POLL_S = 0.1
OnLine = Callable[[str, str], None]
"""Told the shard, and a line that its process wrote to standard error."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a child is to do."""

    file: Path | None
    app: str | None
    shard_id: str
    goal: Goal
    options: dict[str, Any]
    """Further arguments of `apply.upgrade`."""


@dataclass(slots=True)
class Isolation:
    """Upgrades shards of one fleet as `apply.upgrade` does, each in a fresh interpreter."""

    fleet: Fleet
    on_line: OnLine
    processes: dict[str, int] = field(default_factory=dict)
    """The process ids of the children that run, by shard."""

    def upgrade(
        self,
        shard: LiveShard,
        scripts: Scripts,
        goal: Goal = UPGRADE_TO_HEAD,
        *,
        stop: threading.Event | None = None,
        on_event: OnEvent | None = None,
        **options: Any,
    ) -> MigrationResult:
        """Bring one shard to a revision: the arguments, the result and the errors are those of `apply.upgrade`.

        Raises:
            MigrationFailed: Also if the process died; the message names the signal, the facts what state is left.
            Refused: Also for a shard in this process's memory.
        """
        if shard.backend.name == "sqlite" and database_file(shard.engine.url) is None:
            raise Refused("the shard is in the memory of this process", hint="leave out `--isolate`")
        shard_map = self.fleet.shard_map
        request = Request(shard_map.source, shard_map.app, shard.shard_id, goal, options)
        is_over = threading.Event()
        with _start() as child:
            self.processes[shard.shard_id] = child.pid
            helpers = [
                threading.Thread(target=self._pass_on_lines, args=(shard.shard_id, child.stderr), daemon=True),
                threading.Thread(target=_pass_on_stop, args=(child, stop, is_over), daemon=True),
            ]
            try:
                _send(child.stdin, request)
                for thread in helpers:
                    thread.start()
                answer = _Answer(on_event or self._pass_on_printed)
                answer.read_all(child.stdout)
                child.wait()
            finally:
                is_over.set()
                for thread in helpers:
                    thread.join()
                del self.processes[shard.shard_id]
        if answer.value is not None:
            return _result(answer.value)
        raise _died(shard, scripts, child.returncode, answer.revision, options.get("expected") or ())

    def _pass_on_printed(self, event: Event) -> None:
        if isinstance(event, Printed):
            self.on_line(event.shard_id, event.line)

    def _pass_on_lines(self, shard_id: str, stderr: IO[bytes]) -> None:
        for line in stderr:
            self.on_line(shard_id, line.decode(errors="replace").rstrip("\n"))


@dataclass(slots=True)
class _Answer:
    """What a child has said so far."""

    on_event: OnEvent
    value: Any = None
    revision: str | None = None
    """The revision that runs, as far as events tell."""

    def read_all(self, stdout: IO[bytes] | None) -> None:
        assert stdout is not None
        while True:
            try:
                kind, value = pickle.load(stdout)
            except (EOFError, pickle.UnpicklingError):  # it died; perhaps in the middle of a word
                return
            if kind == "event":
                self._note(value)
            else:
                self.value = (kind, value)

    def _note(self, event: Event) -> None:
        if isinstance(event, RevisionStarted | RevisionFinished):
            self.revision = event.revision if isinstance(event, RevisionStarted) else None
        self.on_event(event)


def _start() -> subprocess.Popen[bytes]:
    # Without the working directory in front, which `-m` adds, and with all that this process added.
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "shardctl.schema.isolation"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )


def _send(stream: IO[bytes] | None, value: Any) -> None:
    assert stream is not None
    try:
        pickle.dump(value, stream)
        stream.flush()
    except BrokenPipeError:  # it died: its end says so
        return


def _pass_on_stop(child: subprocess.Popen[bytes], stop: threading.Event | None, is_over: threading.Event) -> None:
    while stop is not None and not is_over.wait(POLL_S):
        if stop.is_set():
            _send(child.stdin, "stop")
            return


def _result(answer: tuple[str, Any]) -> MigrationResult:
    kind, value = answer
    if kind == "result":
        assert isinstance(value, MigrationResult)
        return value
    if kind == "error":
        raise _whole_error(*value)
    raise RuntimeError(value)


def _died(
    shard: LiveShard, scripts: Scripts, code: int, revision: str | None, before: tuple[str, ...]
) -> ShardctlError:
    after, unreadable = None, ""
    try:
        with shard.connect() as connection:
            after = read_revisions(connection, version_table_of(shard, scripts))
    except ShardctlError as error:
        unreadable = error.message
    progress = Progress(revision, error=ShardError(f"its process {_cause(code)}"))
    return failure(shard, progress, before=before, after=after, unreadable=unreadable)


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} before it was done"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _parts(error: ShardctlError) -> tuple[type[ShardctlError], tuple[Any, ...], dict[str, Any]]:
    return type(error), error.args, vars(error)


def _whole_error(cls: type[ShardctlError], args: tuple[Any, ...], attributes: dict[str, Any]) -> ShardctlError:
    """Put an error together again: its class may take other arguments than it keeps."""
    error = cls.__new__(cls, *args)
    error.args = args
    vars(error).update(attributes)
    return error


def main() -> None:
    """Be the child: do what the request says, and answer on what was standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    silence_pools()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        kind, value = _carry_out(pickle.load(requests), requests, answers)
    except Exception as error:
        kind, value = "bug", f"in the process of its own: {type(error).__name__}: {error}"
    _send(answers, (kind, value))
    # At once: threads that a migration left behind must not keep the process, nor its exit the answer.
    answers.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _carry_out(request: Request, requests: IO[bytes], answers: IO[bytes]) -> tuple[str, Any]:
    try:
        with shardctl.open(request.file, app=request.app, pooled=False) as fleet:
            shard = fleet.shard(request.shard_id)
            scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
            stop = threading.Event()
            threading.Thread(target=_listen, args=(requests, stop, shard), daemon=True).start()
            options = {**request.options, "stop": stop, "on_event": lambda event: _send(answers, ("event", event))}
            outcome = run_one(shard, lambda live: upgrade(live, scripts, request.goal, **options))
    except ShardctlError as error:
        return "error", _parts(error)
    return ("result", outcome.value) if outcome.error is None else ("error", _parts(outcome.error))


def _listen(requests: IO[bytes], stop: threading.Event, shard: LiveShard) -> None:
    """Wait for the word to stop, or for the parent's end; then start no further revision, and cancel what is undone."""
    requests.read(1)
    stop.set()
    shard.cancel()


if __name__ == "__main__":
    main()
