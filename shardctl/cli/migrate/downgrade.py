"""`shardctl migrate downgrade`: revisions taken back."""

from __future__ import annotations

from typing import Annotated

import typer

from shardctl.cli import options
from shardctl.cli.migrate.carry_out import carry_out
from shardctl.cli.migrate.request import Request
from shardctl.cli.output import Format


def downgrade(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A revision, as Alembic writes it.")],
    all_shards: options.AllShards = False,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    part: options.Part = None,
    canary: options.Canary = None,
    wave_size: options.WaveSize = None,
    order: options.OrderBy = "map",
    pause: options.Pause = 0.0,
    confirm_each_wave: options.ConfirmEachWave = False,
    on_error: options.OnErrors = options.OnError.STOP,
    max_failures: options.MaxFailures = None,
    jobs: options.Jobs = 32,
    isolate: options.Isolate = False,
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
    """Take revisions back: to an id, `-1`, `base`, or `branch@base`.

    What a downgrade drops is lost. It asks for the name of the shard, or for the number of shards if there are several.

    Examples: shardctl migrate downgrade -1 --shard asia; shardctl migrate downgrade base --all-shards --yes
    """
    carry_out(
        Request(
            direction="downgrade",
            target=target,
            all_shards=all_shards,
            shard=shard,
            label=label,
            exclude=exclude,
            part=part,
            canary=canary,
            wave_size=wave_size,
            order=order,
            pause=pause,
            confirm_each_wave=confirm_each_wave,
            on_error=on_error,
            max_failures=max_failures,
            jobs=jobs,
            isolate=isolate,
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
