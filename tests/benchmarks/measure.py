"""Times two ways of doing a thing against one another: both in one run, by turns, and by their medians."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
Run = Callable[[], object]

_PEAK = """
import resource, subprocess, sys

subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    against: str
    ratio: float
    unit: str = "times as fast"


def nothing() -> None:
    """Prepare or check nothing."""


def ratios(
    ours: Run, others: Sequence[Run], *, rounds: int, before: Run = nothing, after: Run = nothing
) -> list[float]:
    """Return how many times as long each of the others takes, by medians of alternating rounds.

    Args:
        ours: What is to be shown.
        others: What it is compared with.
        rounds: How often each runs.
        before: Prepares each run, untimed.
        after: Checks each run, untimed.
    """
    times: dict[Run, list[float]] = {run: [] for run in (*others, ours)}
    for number in range(rounds):
        for run in times:
            before()
            started = time.perf_counter()
            run()
            times[run].append(time.perf_counter() - started)
            after()
            note(f"round {number + 1} of {rounds}: {times[run][-1]:.2f} s")
    return [statistics.median(times[other]) / statistics.median(times[ours]) for other in others]


def ratio(other: Run, ours: Run, *, rounds: int) -> float:
    """Return how many times as long `other` takes."""
    return ratios(ours, [other], rounds=rounds)[0]


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def command(*words: str, cwd: Path = ROOT) -> Run:
    """Return what runs a program that is installed beside Python."""

    def run() -> object:
        return subprocess.run(
            [program(words[0]), *words[1:]], cwd=cwd, env=environment(), check=True, capture_output=True
        )

    return run


def shell(script: str, *, cwd: Path) -> Run:
    """Return what runs a shell script."""

    def run() -> object:
        return subprocess.run(["sh", "-c", script], cwd=cwd, env=environment(), check=True, capture_output=True)

    return run


def peak_kib(words: Sequence[str], *, cwd: Path) -> int:
    """Run a program to its end, and return the most memory that it had at one time, in KiB."""
    # By a small process: a child's figure starts at what its parent had.
    wrapper = [sys.executable, "-I", "-S", "-c", _PEAK, program(words[0]), *words[1:]]
    done = subprocess.run(wrapper, cwd=cwd, env=environment(), check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """Return the environment of both sides; compiled modules are kept, as they are of what is installed."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}


def note(text: str) -> None:
    if os.environ.get("SHARDCTL_BENCHMARKS_VERBOSE"):
        print(text, file=sys.stderr, flush=True)
