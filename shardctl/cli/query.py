"""`shardctl query`: one SQL statement over the shards, with the answer one database would give."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.asking import Asking, check_format
from shardctl.cli.options import RowFormat
from shardctl.cli.project import note_broken_models, open_fleet, select
from shardctl.cli.statements import read_statement
from shardctl.errors import ConfigError


def query(
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="STATEMENT",
            autocompletion=options.complete_class,
            help="A SELECT, a class, @NAME of a named query, or - for stdin.",
        ),
    ] = None,
    where: Annotated[str | None, typer.Option("--where", help="A condition, with a class or table.")] = None,
    order_by: Annotated[str | None, typer.Option("--order-by", help="A sort order, with a class or table.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=0, help="Rows at most, with a class or table.")] = None,
    file: options.StatementFile = None,
    param: options.Params = None,
    by_shard: Annotated[
        bool, typer.Option("--by-shard", "--with-shard", help="Put a column `shard` in front, and group by it.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial-results", help="Answer without the shards that fail; exit code 4.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the plan as `explain` does, and run nothing.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the rows to a file, whole or not.")
    ] = None,
    max_rows_pulled: options.MaxRowsPulled = 1_000_000,
    everywhere: options.Everywhere = False,
    dialect: options.Dialect = None,
    memory_limit: options.MemoryLimit = "2GB",
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: options.Timeout = None,
    format_: options.RowFormats = RowFormat.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Run one read-only SQL statement over the shards.

    The answer is the one that a single database with all rows would give; what cannot be answered so is refused. The
    database itself refuses to write. Each shard is read in one snapshot of its own. Without a statement: a prompt on a
    terminal, otherwise the number of rows of each table on each shard. Shards that can hold none of the rows by the
    conditions on sharding keys are not asked.

    Examples: shardctl query "SELECT city FROM weather_locations ORDER BY city"; shardctl query WeatherLocation --where
    "continent = 'Asia'"; shardctl query "SELECT count(*) FROM Report WHERE temperature > :t" --param t=20
    """
    text = read_statement(statement, file)
    check_format(format_, out)
    fleet = open_fleet(config, app)
    chosen = select(fleet, shards=shard, labels=label, exclude=exclude)
    note_broken_models(fleet)
    from shardctl.query.parameters import read_parameters

    asking = Asking(fleet, chosen, timeout or fleet.shard_map.timeout_s, format_, by_shard, partial, out)
    asking.parameters = read_parameters(param or [])
    asking.max_rows_pulled = max_rows_pulled
    asking.everywhere = everywhere
    asking.dialect = dialect
    asking.memory_limit = memory_limit
    with fleet:
        if text is not None:
            sql = asking.statement(text, where=where, order_by=order_by, limit=limit)
            (asking.explain if explain else asking.answer)(sql)
        elif param or explain:
            raise ConfigError("`--param` and `--explain` go with a statement")
        elif diagnostics.is_terminal() and output.is_terminal():
            from shardctl.cli.prompt import run_prompt

            run_prompt(asking)
        else:
            asking.overview()
