"""`shardctl query`: one SQL statement over the shards, with the answer one database would give."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.output import Format
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import ConfigError, Interrupted, Refused

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard

_NAME = re.compile(r"[A-Za-z_][\w.]*")
_MOST_SHARD_COLUMNS = 8


def query(
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="STATEMENT",
            autocompletion=options.complete_class,
            help="A SELECT, a class, or - for stdin.",
        ),
    ] = None,
    where: Annotated[str | None, typer.Option("--where", help="A condition, with a class or table.")] = None,
    order_by: Annotated[str | None, typer.Option("--order-by", help="A sort order, with a class or table.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="Rows at most, with a class or table.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the statement from a file.")] = None,
    with_shard: Annotated[bool, typer.Option("--with-shard", help="Put a column `shard` in front.")] = False,
    max_rows_pulled: Annotated[
        int, typer.Option("--max-rows-pulled", min=0, help="Rows at most that are brought to one place.")
    ] = 1_000_000,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Run one read-only SQL statement over the shards.

    The answer is the one that a single database with all rows would give; what cannot be answered so is refused. The
    database itself refuses to write. Each shard is read in one snapshot of its own. Without a statement: a prompt on a
    terminal, otherwise the number of rows of each table on each shard.

    Examples: shardctl query "SELECT city FROM weather_locations ORDER BY city"; shardctl query WeatherLocation --where
    "continent = 'Asia'"
    """
    text = _read_statement(statement, file)
    fleet = open_fleet(config, app)
    selected, offline = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    if offline:
        names = [live.shard_id for live in offline]
        raise Refused(
            f"the answer would be incomplete: {diagnostics.listed(names)} {'is' if len(names) == 1 else 'are'} offline",
            hint=f"pass {' '.join(f'`--exclude {name}`' for name in names[:3])} for an answer without",
        )
    _note_broken_models(fleet)
    asking = Asking(fleet, selected, timeout or fleet.shard_map.timeout_s, format_, with_shard=with_shard)
    asking.max_rows_pulled = max_rows_pulled
    with fleet:
        if text is None and diagnostics.is_terminal() and output.is_terminal():
            from shardctl.cli.prompt import run_prompt

            run_prompt(asking)
        elif text is None:
            asking.overview()
        else:
            asking.answer(text, where=where, order_by=order_by, limit=limit)


def _note_broken_models(fleet: Fleet) -> None:
    """Say why class names and joins will not be understood; plain SQL works all the same."""
    if fleet.shard_map.models:
        try:
            _ = fleet.models
        except ConfigError as error:
            diagnostics.say(f"note: without models, classes and joins are not known: {error.message}")


class Asking:
    """What is asked, and how it is answered: shared by the command and the prompt."""

    def __init__(
        self, fleet: Fleet, shards: list[LiveShard], timeout_s: float, format_: Format, *, with_shard: bool
    ) -> None:
        self.fleet = fleet
        self._shards = shards
        self._timeout_s = timeout_s
        self._format = format_
        self._with_shard = with_shard
        self.max_rows_pulled = 1_000_000

    def answer(
        self, text: str, *, where: str | None = None, order_by: str | None = None, limit: int | None = None
    ) -> None:
        """Run a statement, or select from a class or table, and print the rows."""
        from shardctl.query import class_statement, models_of, run_query

        if _NAME.fullmatch(text):
            engine = self._shards[0].backend.name
            is_mixed = any(live.backend.name != engine for live in self._shards)
            text = class_statement(
                models_of(self.fleet), text, engine, where=where, order_by=order_by, limit=limit, is_mixed=is_mixed
            )
        elif where or order_by or limit is not None:
            raise ConfigError("`--where`, `--order-by` and `--limit` go with a class or table, not with a statement")
        try:
            with diagnostics.working(f"asking {len(self._shards)} shards"):
                result = run_query(
                    self.fleet,
                    text,
                    shards=self._shards,
                    with_shard=self._with_shard,
                    timeout_s=self._timeout_s,
                    max_rows_pulled=self.max_rows_pulled,
                )
        except KeyboardInterrupt:
            raise Interrupted("interrupted: the statement was cancelled on every shard") from None
        extra: dict[str, Any] = {"shards": list(result.shard_ids), "seconds": round(result.seconds, 3)}
        output.emit(result.columns, result.rows, self._format, null="NULL", extra=extra)
        if output.is_terminal():
            rows = f"{len(result.rows)} row{'' if len(result.rows) == 1 else 's'}"
            asked = f"{len(result.shard_ids)} shard{'' if len(result.shard_ids) == 1 else 's'}"
            diagnostics.say(f"{rows} from {asked} in {result.seconds:.2f} s")

    def overview(self) -> None:
        """Print how many rows of each table each shard has."""
        from shardctl.query import count_rows

        tables = list(self.fleet.models.tables)
        with diagnostics.working(f"counting on {len(self._shards)} shards"):
            counts = count_rows(self.fleet, self._shards, tables, timeout_s=self._timeout_s)
        shard_ids = [live.shard_id for live in self._shards]
        if self._format is not Format.TABLE or len(shard_ids) > _MOST_SHARD_COLUMNS:
            rows = [[table, shard_id, counts[table][shard_id]] for table in tables for shard_id in shard_ids]
            output.emit(["table", "shard", "rows"], rows, self._format)
            return
        wide = [
            [table, *counts[table].values(), sum(count or 0 for count in counts[table].values())] for table in tables
        ]
        output.emit(["table", *shard_ids, "total"], wide, self._format, null="-")


def _read_statement(statement: str | None, file: Path | None) -> str | None:
    """Return the statement from wherever it is, or None if there is none.

    Raises:
        ConfigError: It is given twice, cannot be read, or is empty.
    """
    if statement is not None and file is not None:
        raise ConfigError("give either a statement or `--file`, not both")
    try:
        if file is not None:
            statement = file.read_text(encoding="utf-8")
        elif statement == "-":
            if sys.stdin is None:
                raise ConfigError("standard input is closed")
            statement = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{file or 'stdin'}` is not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise ConfigError(f"cannot read `{file}`: {error.strerror}") from None
    if statement is None:
        return None
    statement = statement.strip()
    if not statement:
        raise ConfigError("the statement is empty", hint='for example `shardctl query "SELECT count(*) FROM …"`')
    return statement
