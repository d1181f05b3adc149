"""The part of the pytest plugin that is loaded once it is asked for: it watches the run, reports, and fails it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardctl.testing.scatter import Scattered, Watch

MARKER = "shardctl_scatter"
OUTPUT = "shardctl_scatter"
"""Under which name a worker of pytest-xdist hands over what it saw."""
MAX_NAMES = 6


class ScatterReport:
    """Watches the statements of a run.

    Args:
        config: Pytest's.
        limit: How many executions may scatter; None: any number.
        always: Whether to report also what is within the limit.
    """

    def __init__(self, config: pytest.Config, limit: int | None, *, always: bool) -> None:
        self._config = config
        self._limit = limit
        self._always = always
        self._watch = Watch()
        self._excused: set[str] = set()
        """Tests whose marker says what they may do."""
        self._lost: list[str] = []
        """Workers that ended before they could say what they saw."""

    # -- the run -------------------------------------------------------------------------------------------------------

    def pytest_sessionstart(self) -> None:
        is_worker = hasattr(self._config, "workerinput")
        if is_worker or self._config.getoption("dist", "no") == "no":
            self._watch.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._watch.test = item.nodeid
        if item.get_closest_marker(MARKER) is not None:
            self._excused.add(item.nodeid)
        try:
            return (yield)
        finally:
            self._watch.test = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        marker = item.get_closest_marker(MARKER)
        limit = None if marker is None else _limit_of(marker)
        before = self._watch.seen_in(item.nodeid)
        result = yield
        if limit is not None:
            self._check(item.nodeid, before, limit)
        return result

    def _check(self, test: str, before: Mapping[Any, int], limit: int) -> None:
        """Fail a test if more has scattered since `before` than it allows."""
        __tracebackhide__ = True
        found = [
            replace(self._watch.found[key], count=times - before.get(key, 0), tests={test: times})
            for key, times in self._watch.seen_in(test).items()
            if times > before.get(key, 0)
        ]
        count = sum(entry.count for entry in found)
        if count > limit:
            head = f"{_executions(count)} scattered over shards; this test allows {limit}"
            pytest.fail("\n".join([head, *self._lines(found)]), pytrace=False)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        output = getattr(node, "workeroutput", {}).get(OUTPUT)
        if output is None:
            self._lost.append(str(node.gateway.id))
            return
        self._excused.update(output["excused"])
        for file, line, text, count, shards, tests in output["found"]:
            found = self._watch.found.setdefault((file, line, text), Scattered(file, line, text))
            found.count += count
            found.shards.update(dict.fromkeys(shards))
            for test, times in tests.items():
                found.tests[test] = found.tests.get(test, 0) + times

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._watch.stop()
        if hasattr(self._config, "workeroutput"):
            found = [
                [entry.file, entry.line, entry.text, entry.count, list(entry.shards), entry.tests]
                for entry in self._watch.found.values()
            ]
            output: dict[str, Any] = self._config.workeroutput
            output[OUTPUT] = {"found": found, "excused": sorted(self._excused)}
        elif self._is_too_many() and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            reporter = self._config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None and self._config.getoption("no_summary", default=False):
                reporter.write_line("")
                self._write_reason(reporter)

    def pytest_unconfigure(self) -> None:
        self._watch.stop()

    # -- what came of it -----------------------------------------------------------------------------------------------

    def _counted(self) -> int:
        """Return how many executions scattered, but for those of tests that say for themselves what they may do."""
        return sum(
            times
            for entry in self._watch.found.values()
            for test, times in entry.tests.items()
            if test not in self._excused
        )

    def _is_too_many(self) -> bool:
        return self._limit is not None and self._counted() > self._limit

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not (self._always or self._is_too_many() or self._lost):
            return
        terminalreporter.section("scattered over shards", sep="=")
        found = sorted(self._watch.found.values(), key=lambda entry: (-entry.count, entry.file, entry.line, entry.text))
        for line in self._lines(found):
            terminalreporter.write_line(line)
        counted, total = self._counted(), sum(entry.count for entry in found)
        excused = f", {total - counted} of them in tests that allow it" if total > counted else ""
        terminalreporter.write_line(f"{_executions(total)} scattered{excused}" if total else "nothing scattered")
        if self._lost:
            terminalreporter.write_line(f"incomplete: {', '.join(self._lost)} ended without saying what scattered")
        if self._is_too_many():
            self._write_reason(terminalreporter)

    def _write_reason(self, reporter: pytest.TerminalReporter) -> None:
        scattered = f"failed: {_executions(self._counted())} scattered"
        reporter.write_line(f"{scattered}, and at most {self._limit} may (--shardctl-max-scatter)", red=True)

    def _lines(self, found: Iterable[Scattered]) -> list[str]:
        lines = []
        for entry in found:
            times = "once" if entry.count == 1 else f"{entry.count} times"
            shards = _listed(list(entry.shards))
            lines.append(f"{self._shown(entry.file)}:{entry.line}: {times} to {len(entry.shards)} shards: {shards}")
            lines.append(f"    {entry.text}")
            tests = [test or "outside of tests" for test in entry.tests]
            lines.append(f"    in {tests[0]}" + (f" and {len(tests) - 1} more" if len(tests) > 1 else ""))
        return lines

    def _shown(self, file: str) -> str:
        path = Path(file)
        return str(path.relative_to(self._config.rootpath)) if path.is_relative_to(self._config.rootpath) else file


def _limit_of(marker: pytest.Mark) -> int | None:
    """Return what a marker allows: a number, or None for any."""
    values = [*marker.args, *marker.kwargs.values()]
    if len(values) > 1 or not set(marker.kwargs) <= {"max"} or not all(type(value) is int for value in values):
        pytest.fail(f"write `@pytest.mark.{MARKER}` or `@pytest.mark.{MARKER}(max=3)`", pytrace=False)
    return values[0] if values else None


def _executions(count: int) -> str:
    return f"{count} execution{'' if count == 1 else 's'}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES])
    return shown + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
