"""What `migrate lint` found: for people, for scripts, and for the tools that show it beside the code."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from shardctl.cli import diagnostics, output
from shardctl.cli.output import Format

if TYPE_CHECKING:
    from shardctl.schema.lint.examine import Finding, Report

COLUMNS = ["code", "severity", "file", "line", "revision", "engines", "shards", "why", "safer"]
SEVERITIES = ("error", "warning", "info")
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


class LintFormat(StrEnum):
    """How findings are written."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    MARKDOWN = "markdown"
    GITHUB = "github"
    SARIF = "sarif"


def write(report: Report, format_: LintFormat) -> None:
    """Write what was found to standard output."""
    if format_ is LintFormat.TABLE:
        output.write(_readable(report.findings))
    elif format_ is LintFormat.GITHUB:
        output.write("".join(map(_github, report.findings)))
    elif format_ is LintFormat.SARIF:
        output.write(json.dumps(_sarif(report.findings), indent=2) + "\n")
    else:
        extra = {"examined": list(report.examined), "allowed": len(report.allowed)}
        is_flat = format_ in (LintFormat.CSV, LintFormat.MARKDOWN)
        rows = [_row(finding, is_flat=is_flat) for finding in report.findings]
        output.emit(COLUMNS, rows, Format(format_.value), extra=extra)


def _row(finding: Finding, *, is_flat: bool) -> list[object]:
    names = [list(finding.engines), list(finding.shards)]
    lists = [", ".join(entry) if is_flat else entry for entry in names]
    place = [finding.path, finding.line, finding.revision]
    return [finding.code, finding.severity.value, *place, *lists, finding.why, finding.safer]


def _readable(findings: Sequence[Finding]) -> str:
    """Return the findings by file, each with its place, why, and what is safer."""
    lines: list[str] = []
    path = None
    for finding in findings:
        if finding.path != path:
            path = finding.path
            lines += (
                ["", f"{path} (revision {finding.revision})"] if lines else [f"{path} (revision {finding.revision})"]
            )
        where = diagnostics.listed(finding.shards) or ", ".join(finding.engines)
        place = "" if finding.line is None else f"line {finding.line}: "
        lines.append(f"  {place}{finding.severity.value} {finding.code} on {where}")
        lines += [f"    {finding.why}", f"    safer: {finding.safer}"]
    return wrapped(lines)


def _github(finding: Finding) -> str:
    """Return a workflow command, which GitHub shows beside the line."""
    level = {"info": "notice"}.get(finding.severity.value, finding.severity.value)
    text = f"{finding.why}; safer: {finding.safer}".replace("%", "%25").replace("\n", "%0A")
    return f"::{level} file={finding.path},line={finding.line or 1},title={finding.code}::{text}\n"


def _sarif(findings: Sequence[Finding]) -> dict[str, object]:
    from shardctl import __version__
    from shardctl.schema.lint.rules import RULES

    rules = [
        {"id": rule.code, "shortDescription": {"text": rule.title}, "fullDescription": {"text": rule.explanation}}
        for rule in RULES.values()
    ]
    results = [
        {
            "ruleId": finding.code,
            "level": _LEVELS[finding.severity.value],
            "message": {"text": f"{finding.why}. Safer: {finding.safer}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": finding.path},
                        "region": {"startLine": finding.line or 1},
                    }
                }
            ],
        }
        for finding in findings
    ]
    driver = {"name": "shardctl", "version": __version__, "rules": rules}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return {"$schema": schema, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def wrapped(lines: Sequence[str]) -> str:
    """Break lines at the width of a terminal, with their indentation; a pipe gets them whole."""
    if output.is_terminal():
        width = shutil.get_terminal_size().columns
        lines = [part for line in lines for part in _broken(line, width)]
    return "".join(f"{line}\n" for line in lines)


def _broken(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [""]
