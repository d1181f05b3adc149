"""Threads that wait a while for more to do: to start one takes longer than a small query.

Daemon threads: a driver that never returns must not keep the process alive.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import TypeAlias

IDLE_S = 5.0
"""How long a thread waits for more to do."""

_Jobs: TypeAlias = "queue.SimpleQueue[tuple[Callable[[], None], str]]"
_idle: list[_Jobs] = []  # appending and popping are atomic


def start_thread(run: Callable[[], None], name: str) -> None:
    """Run a function, which must not raise, in a thread of this name."""
    try:
        jobs = _idle.pop()
    except IndexError:
        jobs = queue.SimpleQueue()
        threading.Thread(target=_work, args=(jobs,), daemon=True).start()
    jobs.put((run, name))


def _work(jobs: _Jobs) -> None:
    while True:
        try:
            run, threading.current_thread().name = jobs.get(timeout=IDLE_S)
        except queue.Empty:
            try:
                _idle.remove(jobs)
            except ValueError:  # somebody has just taken it: what there is to do is on its way
                continue
            return
        run()
        del run  # with all that it holds
        _idle.append(jobs)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_idle.clear)  # a child has none of these threads
