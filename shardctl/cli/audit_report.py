"""What an audit found, for people and for programs, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from shardctl.cli import diagnostics, output, recorded
from shardctl.cli.failures import LEAVE_OUT, one_error
from shardctl.cli.output import Format
from shardctl.cli.values import to_json, to_text
from shardctl.errors import ExitCode

if TYPE_CHECKING:
    from shardctl.fleet import LiveShard, Outcome
    from shardctl.rows.audit.finding import Finding, Trouble
    from shardctl.rows.audit.run import Audit

COLUMNS = ["id", "check", "kind", "table", "shards", "rows", "samples", "detail"]


@dataclass(slots=True)
class Report:
    """The end of an audit.

    Args:
        found: The audit.
        offline: Shards that were not asked.
        config: As the command was given it, and so is `app`: what mends needs them too.
        app: The application.
        whole: Tables without the column of `--since`.
    """

    found: Audit
    offline: Sequence[LiveShard]
    config: Path | None
    app: str | None
    whole: Sequence[str] = ()

    def print(self, format_: Format) -> None:
        """Write the findings to standard output, and the rest beside it."""
        findings = self.found.findings
        if format_ in (Format.JSON, Format.NDJSON):
            rows = [self._for_programs(finding) for finding in findings]
            output.emit([*COLUMNS, "mend", "is_exact"], rows, format_, extra=self._extra())
        elif findings or format_ is not Format.TABLE:
            output.emit(COLUMNS, [_for_people(finding) for finding in findings], format_)
        if format_ is Format.TABLE:
            self._say_how_to_mend()
        self._say_what_was_left_out()

    def _for_programs(self, finding: Finding) -> list[Any]:
        samples = [to_json(sample) for sample in finding.samples]
        values = [finding.finding_id, finding.check, finding.kind, finding.name, list(finding.shards), finding.count]
        return [*values, samples, finding.said, self._command(finding.mend), finding.is_exact]

    def _extra(self) -> dict[str, Any]:
        scope = self.found.scope
        return {
            "checks": list(self.found.checks),
            "looked_at": [
                {"check": check, "table": table, "rows": by_shard}
                for check, tables in self.found.looked.items()
                for table, by_shard in tables.items()
            ],
            "sample": scope.sample,
            "without_since": list(self.whole),
            "skipped": [
                {"check": skipped.check, "table": skipped.name, "why": skipped.why} for skipped in self.found.skipped
            ],
            "troubles": [
                {"shard": trouble.shard_id, "table": trouble.name or None, "error": trouble.error.message}
                for trouble in self.found.troubles
            ],
            "offline": [live.shard_id for live in self.offline],
        }

    def _command(self, mend: str) -> str:
        """Return a command for the same project: after its first two words, what this one was given."""
        import shlex

        given = ["-c", str(self.config)] if self.config is not None else []
        given += ["--app", self.app] if self.app is not None else []
        words = mend.split(" ", 2)
        return " ".join([*words[:2], *map(shlex.quote, given), *words[2:]]) if given else mend

    def _say_how_to_mend(self) -> None:
        if self.found.findings:
            diagnostics.say("what to type next:")
        for finding in self.found.findings:
            diagnostics.say(f"  {finding.finding_id}: {self._command(finding.mend)}")

    def _say_what_was_left_out(self) -> None:
        by_why: dict[tuple[str, str], list[str]] = {}
        for skipped in self.found.skipped:
            by_why.setdefault((skipped.check, skipped.why), []).append(skipped.name)
        for (check, why), names in by_why.items():
            diagnostics.say(f"note: {check}: {diagnostics.listed(names)}: {why}")
        if self.whole:
            diagnostics.say(f"note: without the column of `--since`, looked at whole: {diagnostics.listed(self.whole)}")

    def keep(self) -> None:
        """Keep a record beside the shard map; that it cannot be kept is no failure."""
        found = self.found
        findings = {check: [finding for finding in found.findings if finding.check == check] for check in found.checks}
        record = {
            "findings": {check: len(some) for check, some in findings.items()},
            "rows_found": {check: sum(finding.count for finding in some) for check, some in findings.items()},
            "tables": found.tables,
            "rows": found.rows,
            "shards": [live.shard_id for live in found.scope.shards],
            "sample": found.scope.sample,
            "is_limited": bool(found.scope.since),
            "not_answered": sorted(self._missing()),
        }
        recorded.keep(found.scope.fleet, "audit", record)

    def conclude(self) -> None:
        """End with the code that the findings mean.

        Raises:
            ShardctlError: A shard did not answer.
        """
        self._check_complete()
        number = len(self.found.findings)
        looked_at = self._looked_at() if self.found.tables else "there was nothing to look at"
        diagnostics.say(f"{_counted(number, 'finding') if number else 'no findings'}: {looked_at}")
        if number:
            raise typer.Exit(ExitCode.FINDINGS)

    def _missing(self) -> set[str]:
        """Return the shards without which the answer is."""
        return {trouble.shard_id for trouble in self.found.troubles} | {live.shard_id for live in self.offline}

    def _check_complete(self) -> None:
        missing = self._missing()
        if not missing:
            return
        asked = len(self.found.scope.shards) + len(self.offline)
        raise one_error(
            f"the audit is incomplete: {len(missing)} of {asked} shards could not answer",
            list({(trouble.shard_id, trouble.name): self._failed(trouble) for trouble in self.found.troubles}.values()),
            is_partial=len(missing) < asked,
            facts=[f"{live.shard_id}: offline" for live in self.offline],
            hint=LEAVE_OUT,
        )

    def _failed(self, trouble: Trouble) -> Outcome[Any]:
        """Return a trouble as an outcome whose error says what it is about."""
        from shardctl.fleet import Outcome

        error = trouble.error
        message = f"{trouble.name}: {error.message}" if trouble.name else error.message
        named = type(error)(message, facts=error.facts, hint=error.hint)
        return Outcome(self.found.scope.fleet.shard(trouble.shard_id), 0.0, error=named)

    def _looked_at(self) -> str:
        found = self.found
        part = " of a sample" if found.scope.sample is not None else ""
        rows = f"{_counted(len(found.tables), 'table')}, {_counted(found.rows, 'row')}{part}"
        return f"{rows} on {_counted(len(found.shards), 'shard')}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _for_people(finding: Finding) -> list[Any]:
    samples = ", ".join(
        to_text(sample[0]) if len(sample) == 1 else f"({', '.join(map(to_text, sample))})" for sample in finding.samples
    )
    rows = finding.count if finding.is_exact else f"at least {finding.count}"
    values = [finding.finding_id, finding.check, finding.kind, finding.name]
    return [*values, ", ".join(finding.shards), rows, samples, finding.said]
