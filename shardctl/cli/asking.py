"""What `query` asks, and how it is answered: shared by the command and the prompt."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shardctl.cli import diagnostics, output
from shardctl.cli.footer import footer
from shardctl.cli.options import RowFormat
from shardctl.cli.output import Format
from shardctl.errors import ConfigError, Interrupted, PartialFailure, QueryRefused, ShardError, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

    from shardctl.cli.plan_tree import Ran
    from shardctl.fleet import Fleet, LiveShard
    from shardctl.query import QueryResult, QueryRows
    from shardctl.query.asked import Asked
    from shardctl.query.explain import Explained
    from shardctl.query.scan import ShardsFailed

_NAME = re.compile(r"[A-Za-z_][\w.]*")
_MOST_SHARD_COLUMNS = 8
_STREAMED = (RowFormat.CSV, RowFormat.NDJSON)
"""Printed as rows come."""
_KEPT = (RowFormat.PARQUET, RowFormat.ARROW)
"""Printed once all rows are there, which wait in a file."""
_WITHOUT_THEM = "`--partial-results` prints what the others give"


@dataclass
class Asking:
    """The shards that are asked, and how answers are printed."""

    fleet: Fleet
    shards: list[LiveShard]
    timeout_s: float
    format: RowFormat
    by_shard: bool = False
    partial: bool = False
    """Whether the other shards' answers are printed where some fail."""
    file: Path | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_rows_pulled: int = 1_000_000
    everywhere: bool = False
    """Whether shards are asked that the sharding key rules out."""
    dialect: str | None = None
    """The statement's, if it is not the shards'."""
    memory_limit: str = "2GB"

    def statement(
        self, text: str, *, where: str | None = None, order_by: str | None = None, limit: int | None = None
    ) -> str:
        """Return the SQL of a statement, a class or a table, or a named query `@name`.

        Raises:
            ConfigError: There is no such name, or conditions come with a statement.
        """
        if text.startswith("@"):
            text = self._named(text[1:])
        elif _NAME.fullmatch(text):
            if self.dialect is not None:
                raise ConfigError("`--dialect` goes with a statement, not with a class or table")
            from shardctl.query import class_statement, models_of

            engine = self.shards[0].backend.name
            is_mixed = any(live.backend.name != engine for live in self.shards)
            models = models_of(self.fleet)
            return class_statement(models, text, engine, where=where, order_by=order_by, limit=limit, is_mixed=is_mixed)
        if where or order_by or limit is not None:
            raise ConfigError("`--where`, `--order-by` and `--limit` go with a class or table, not with a statement")
        return text

    def _named(self, name: str) -> str:
        queries = self.fleet.shard_map.queries
        if name not in queries:
            where = self.fleet.shard_map.where
            hint = None if queries else f'write it in {where}: `[queries]` and `{name or "name"} = "SELECT …"`'
            raise UnknownName(f"no query named `{name}` in {where}", name=name, known=queries, hint=hint)
        return queries[name]

    def answer(self, sql: str) -> None:
        """Run a statement and print the rows.

        Raises:
            PartialFailure: Some shards failed, and the others' answer is printed.
        """
        from shardctl.query.asked import noting
        from shardctl.query.parameters import bound, check_names
        from shardctl.query.scan import ShardsFailed

        check_names(sql, self.parameters)
        if self.format in (*_STREAMED, *_KEPT) and not self.partial:
            with bound(self.parameters), noting() as asked:
                self._stream(sql, asked)
            return
        failure: ShardsFailed | None = None
        with bound(self.parameters), noting() as asked:
            try:
                result = self._run(sql, self.shards)
            except ShardsFailed as error:
                failure = error
                result = self._run_without(sql, error)
        self._print(result, asked, failure)
        if failure is not None:
            raise PartialFailure(
                f"the answer is without {diagnostics.listed(failure.shard_ids)}",
                facts=failure.facts,
                hint=failure.hint,
            )

    def explain(self, sql: str, *, analyze: bool = False, shard_plans: bool = False) -> None:
        """Print what would be done for a statement, or with `analyze` what was.

        Args:
            sql: The statement.
            analyze: Whether it is run.
            shard_plans: Whether the plans of the shards' own engines are printed too.
        """
        from shardctl.cli import plan_tree
        from shardctl.query.explain import explain, look
        from shardctl.query.parameters import bound, check_names

        check_names(sql, self.parameters)
        ran: Ran | None = None
        with bound(self.parameters), diagnostics.working(f"planning for {len(self.shards)} shards"):
            if analyze:
                found, ran = self._analyze(sql)
            else:
                found = explain(
                    self.fleet,
                    sql,
                    shards=self.shards,
                    timeout_s=self.timeout_s,
                    everywhere=self.everywhere,
                    dialect=self.dialect,
                )
            looks = look(self.fleet, found, self.shards, timeout_s=self.timeout_s, with_plans=shard_plans)
        with output.into(self.file):
            plan_tree.emit(found, looks, ran, self.format)

    def _options(self) -> dict[str, Any]:
        """Return how a statement is run, as `run_query` and its likes take it."""
        return {
            "timeout_s": self.timeout_s,
            "max_rows_pulled": self.max_rows_pulled,
            "everywhere": self.everywhere,
            "dialect": self.dialect,
            "memory_limit": self.memory_limit,
        }

    def _analyze(self, sql: str) -> tuple[Explained, Ran]:
        from shardctl.cli.plan_tree import Ran
        from shardctl.query.explain import analyze

        try:
            found, result, asked = analyze(
                self.fleet,
                sql,
                shards=self.shards,
                **self._options(),
            )
        except KeyboardInterrupt:
            raise Interrupted("interrupted: the statement was cancelled on every shard") from None
        return found, Ran(len(result.rows), result.seconds, asked)

    def overview(self) -> None:
        """Print how many rows of each table each shard has."""
        from shardctl.query import count_rows, online

        online(self.shards)
        tables = list(self.fleet.models.tables)
        with diagnostics.working(f"counting on {len(self.shards)} shards"):
            counts = count_rows(self.fleet, self.shards, tables, timeout_s=self.timeout_s)
        shard_ids = [live.shard_id for live in self.shards]
        if self.format is not RowFormat.TABLE or len(shard_ids) > _MOST_SHARD_COLUMNS:
            rows = [[table, shard_id, counts[table][shard_id]] for table in tables for shard_id in shard_ids]
            self._emit(["table", "shard", "rows"], rows)
            return
        wide = [
            [table, *counts[table].values(), sum(count or 0 for count in counts[table].values())] for table in tables
        ]
        output.emit(["table", *shard_ids, "total"], wide, Format.TABLE, null="-")

    def _run(self, sql: str, shards: list[LiveShard]) -> QueryResult:
        from shardctl.query import run_query

        try:
            with diagnostics.working(f"asking {len(shards)} shards"):
                return run_query(
                    self.fleet,
                    sql,
                    shards=shards,
                    with_shard=self.by_shard,
                    **self._options(),
                )
        except KeyboardInterrupt:
            raise Interrupted("interrupted: the statement was cancelled on every shard") from None

    def _run_without(self, sql: str, failure: ShardsFailed) -> QueryResult:
        """Ask the shards that did not fail once more: what they gave is one answer only together."""
        others = [live for live in self.shards if live.shard_id not in failure.shard_ids]
        if not others:
            raise failure
        if not self.partial:
            failure.hint = failure.hint or _WITHOUT_THEM
            raise failure
        return self._run(sql, others)

    def _print(self, result: QueryResult, asked: Asked, failure: ShardsFailed | None) -> None:
        extra: dict[str, Any] = {"shards": list(result.shard_ids), "seconds": round(result.seconds, 3)}
        if asked.all_received is not None:
            extra["bytes_received"] = asked.all_received
        if failure is not None:
            extra["missing"] = list(failure.shard_ids)
        before = output.bytes_written()
        with output.into(self.file):
            self._emit(result.columns, result.rows, extra=extra)
        self._say_footer(result, len(result.rows), result.seconds, asked, output.bytes_written() - before)

    def _stream(self, sql: str, asked: Asked) -> None:
        """Print rows as they come."""
        from shardctl.query import stream_query
        from shardctl.query.scan import ShardsFailed

        started, before, count = time.monotonic(), output.bytes_written(), 0

        def counted(rows: Generator[Any, None, None]) -> Generator[Any, None, None]:
            nonlocal count
            with closing(rows):
                for row in rows:
                    count += 1
                    yield row

        try:
            with diagnostics.working(f"asking {len(self.shards)} shards"):
                result = stream_query(
                    self.fleet,
                    sql,
                    shards=self.shards,
                    with_shard=self.by_shard,
                    **self._options(),
                )
            with output.into(self.file), closing(counted(result.rows)) as rows:
                self._emit(result.columns, rows)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted: the statement was cancelled on every shard", facts=self._printed(count)
            ) from None
        except (ShardError, QueryRefused) as error:
            error.facts += tuple(self._printed(count))
            if isinstance(error, ShardsFailed) and len(error.shard_ids) < len(self.shards):
                error.hint = error.hint or _WITHOUT_THEM
            raise
        self._say_footer(result, count, time.monotonic() - started, asked, output.bytes_written() - before)

    def _printed(self, count: int) -> list[str]:
        """Return what must be known of rows that were printed before the others failed."""
        is_printed = count and self.file is None and self.format in _STREAMED
        return [f"printed before: {count} rows, which are not all"] if is_printed else []

    def _say_footer(self, result: QueryResult | QueryRows, rows: int, seconds: float, asked: Asked, size: int) -> None:
        if output.is_terminal() or (self.file is not None and diagnostics.is_watched()):
            diagnostics.say(footer(result, rows, seconds, asked, size))

    def _emit(self, columns: Sequence[str], rows: Iterable[Any], *, extra: Mapping[str, Any] | None = None) -> None:
        if self.format in _KEPT:
            from shardctl.cli import arrow

            arrow.emit(columns, rows, self.format)
        else:
            output.emit(columns, rows, Format(self.format), null="NULL", extra=extra)


def check_format(format_: RowFormat, file: Path | None) -> None:
    """Refuse at once what could not be printed at the end.

    Raises:
        ConfigError: A package is not installed, or standard output is a terminal.
    """
    if format_ not in _KEPT:
        return
    from shardctl.cli import arrow

    arrow.check_installed()
    if file is None and output.is_terminal():
        raise ConfigError(f"`{format_.value}` is not for a terminal", hint="name a file with `-o FILE`")
