"""`shardctl migrate stamp`: a revision written down, and nothing run."""

from __future__ import annotations

from typing import Annotated

import typer

from shardctl.cli import options
from shardctl.cli.migrate.carry_out import carry_out
from shardctl.cli.migrate.request import Request
from shardctl.cli.output import Format


def stamp(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A revision, as Alembic writes it.")],
    all_shards: options.AllShards = False,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    purge: Annotated[
        bool, typer.Option("--purge", help="In place of all that the table says, of lost revisions as well.")
    ] = False,
    jobs: options.Jobs = 32,
    lock_wait: options.LockWait = 0.0,
    lock_timeout: options.LockTimeout = 5.0,
    statement_timeout: options.StatementTimeout = None,
    retries: options.Retries = 5,
    dry_run: options.DryRun = False,
    sql: options.Sql = False,
    sql_dir: options.SqlDir = None,
    yes: options.Yes = False,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Write a revision into the version table, and run nothing.

    For a shard whose tables are those of a revision already: it is then under the migrations' care. A shard at a
    revision that the project has lost takes --purge.

    Examples: shardctl migrate stamp head --shard asia; shardctl migrate stamp 0002 --all-shards
    """
    carry_out(
        Request(
            direction="stamp",
            target=target,
            purge=purge,
            all_shards=all_shards,
            shard=shard,
            label=label,
            exclude=exclude,
            jobs=jobs,
            lock_wait=lock_wait,
            lock_timeout=lock_timeout,
            statement_timeout=statement_timeout,
            retries=retries,
            dry_run=dry_run,
            sql=sql,
            sql_dir=sql_dir,
            yes=yes,
            format_=format_,
            config=config,
            app=app,
        )
    )
