"""`shardctl migrate`: Alembic's migrations, on one shard or on all of them."""

from __future__ import annotations

from typing import Annotated

import typer

from shardctl.cli import options
from shardctl.cli.migrate.carry_out import carry_out
from shardctl.cli.migrate.request import Request
from shardctl.cli.output import Format
from shardctl.errors import ConfigError


def migrate(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="REVISION", help="The target, as Alembic writes it.")] = "head",
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
    """Upgrade shards to the head of the project's Alembic migrations.

    Shards run at the same time, wave by wave. When one fails, those that run are finished and no further one is
    started; running the command again continues. Exit code 4: some shards are done, some are not.

    Examples: shardctl migrate --all-shards; shardctl migrate --shard asia --dry-run; shardctl migrate --all-shards
    --canary asia --wave-size 25%
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    carry_out(
        Request(
            direction="upgrade",
            target=to,
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


def _refuse_options(context: typer.Context) -> None:
    """Refuse options in front of a sub-command: they would be those of the upgrade, and be ignored."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            option = parameter.opts[-1]
            raise ConfigError(
                f"`{option}` stands in front of `{context.invoked_subcommand}`, and would mean nothing there",
                hint=f"put it behind: `{context.command_path} {context.invoked_subcommand} {option} …`",
            )
