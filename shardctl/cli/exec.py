"""`shardctl exec`: one statement sent to each shard as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import failed_of, one_error
from shardctl.cli.options import OnError
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline, writable
from shardctl.cli.statements import read_statement
from shardctl.cli.values import printable
from shardctl.errors import ConfigError, Interrupted, Refused

if TYPE_CHECKING:
    from shardctl.fleet import LiveShard, Outcome
    from shardctl.query.execute import Executed, Execution


def exec_(
    statement: Annotated[
        str | None, typer.Argument(metavar="STATEMENT", help="One SQL statement, or - for stdin.")
    ] = None,
    all_shards: options.AllShards = False,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    file: options.StatementFile = None,
    param: options.Params = None,
    write: Annotated[bool, typer.Option("--write", help="Let it change something; asks first.")] = False,
    autocommit: Annotated[
        bool, typer.Option("--autocommit", help="Outside a transaction, with --write: VACUUM needs it.")
    ] = False,
    on_error: Annotated[
        OnError | None,
        typer.Option("--on-error", help="Whether others are begun after one failed; stop, with --write."),
    ] = None,
    jobs: options.Jobs = 32,
    timeout: options.Timeout = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Send one statement to each shard as it is, a result for each.

    Nothing is merged. The database itself refuses to write unless --write is given; then each shard has a transaction
    of its own, and --timeout is the only limit of time. Exit code 4: it ran on some shards and failed on others.

    Examples: shardctl exec "SELECT version()" --all-shards; shardctl exec "ANALYZE" --all-shards --write
    """
    text = read_statement(statement, file)
    if text is None:
        raise ConfigError("there is no statement", hint='for example `shardctl exec "ANALYZE" --all-shards`')
    if autocommit and not write:
        raise ConfigError("`--autocommit` goes with `--write`: what only reads has a read-only transaction")
    fleet = open_fleet(config, app)
    chosen = select(fleet, shards=shard, labels=label, exclude=exclude, all_shards=all_shards)
    selected = writable(chosen, is_named=bool(shard)) if write else _reachable(chosen, is_named=bool(shard))
    from shardctl.query.execute import Execution, check_one_statement, execute
    from shardctl.query.parameters import check_names, read_parameters

    values = read_parameters(param or [])
    check_names(text, values)
    check_one_statement(text, [live.backend.name for live in selected])
    execution = Execution(text, writes=write, autocommit=autocommit, parameters=values)
    if dry_run:
        _say_plan(execution)
        rows = [[live.shard_id, live.backend.name, _how(execution)] for live in selected]
        output.emit(["shard", "engine", "runs"], rows, format_)
        return
    if write and not yes:
        _say_plan(execution)
        diagnostics.say(f"  on {len(selected)} shards: {diagnostics.listed([live.shard_id for live in selected])}")
        diagnostics.confirm("run it?", yes=yes)
    stops = on_error is OnError.STOP or (on_error is None and write)
    limit_s = timeout if write else timeout or fleet.shard_map.timeout_s
    with fleet:
        running = execute(fleet, execution, selected, timeout_s=limit_s, jobs=jobs, stops=stops)
        outcomes = _collect(running, selected, write=write)
    _emit(outcomes, format_)
    _raise_failures(outcomes, write=write)


def _reachable(shards: list[LiveShard], *, is_named: bool) -> list[LiveShard]:
    """Leave out what is declared offline, and say so."""
    online, offline = without_offline(shards)
    names = diagnostics.listed([live.shard_id for live in offline])
    if offline and (is_named or not online):
        raise Refused(f"offline in the shard map: {names}", hint="leave them out with `--exclude`")
    if offline:
        diagnostics.say(f"note: left out, offline: {names}")
    return online


def _how(execution: Execution) -> str:
    if not execution.writes:
        return "read-only"
    return "outside a transaction" if execution.autocommit else "in a transaction"


def _say_plan(execution: Execution) -> None:
    for line in execution.sql.splitlines():
        diagnostics.say(f"  {printable(line)}")
    diagnostics.say(f"  {_how(execution)} on each shard")


def _collect(running: Any, selected: list[LiveShard], *, write: bool) -> list[Outcome[Executed]]:
    try:
        return collect(running, selected, doing="running", describe=_line if write else None)
    except Interrupted as error:
        hint = "look at the shards that are not done before you run it again" if write else None
        raise Interrupted(error.message, facts=error.facts, hint=hint) from None


def _line(outcome: Outcome[Executed]) -> str:
    from shardctl.query.execute import NotStarted

    if isinstance(outcome.error, NotStarted):
        return f"{outcome.shard_id}: not started"
    return f"{outcome.shard_id}: {'failed' if outcome.error else 'done'} after {outcome.seconds:.1f} s"


def _emit(outcomes: list[Outcome[Executed]], format_: Format) -> None:
    """Print the rows of shards with equal columns together, or the outcomes if there are no rows to have."""
    answered = [(outcome.shard_id, outcome.value) for outcome in outcomes if outcome.value is not None]
    shapes = list(dict.fromkeys(executed.columns for _, executed in answered if executed.columns))
    extra = {"outcomes": [_outcome(outcome) for outcome in outcomes]}
    if not shapes:
        affected = [outcome.value.rows_affected if outcome.value else None for outcome in outcomes]
        rows = [[outcome.shard_id, count, _word(outcome)] for outcome, count in zip(outcomes, affected, strict=True)]
        output.emit(["shard", "rows affected", "outcome"], rows, format_, extra=extra)
        return
    if format_ in (Format.TABLE, Format.MARKDOWN):
        for number, shape in enumerate(shapes):
            if number:
                output.write("\n")
            rows = [[name, *row] for name, executed in answered if executed.columns == shape for row in executed.rows]
            output.emit(["shard", *shape], rows, format_, null="NULL")
        return
    columns = list(dict.fromkeys(column for shape in shapes for column in shape)) if len(shapes) > 1 else [*shapes[0]]
    rows = []
    for name, executed in answered:
        for row in executed.rows:
            own = dict(zip(executed.columns, row, strict=True))
            rows.append([name, *(row if len(shapes) == 1 else [own.get(column) for column in columns])])
    output.emit(["shard", *columns], rows, format_, extra=extra)


def _word(outcome: Outcome[Executed]) -> str:
    from shardctl.query.execute import NotStarted

    if isinstance(outcome.error, NotStarted):
        return "not started"
    return "failed" if outcome.error else "done"


def _outcome(outcome: Outcome[Executed]) -> dict[str, Any]:
    return {
        "shard": outcome.shard_id,
        "outcome": _word(outcome),
        "rows_affected": outcome.value.rows_affected if outcome.value else None,
        "seconds": round(outcome.seconds, 3),
        "error": outcome.error.message if outcome.error else None,
    }


def _raise_failures(outcomes: list[Outcome[Executed]], *, write: bool) -> None:
    """Raise one error for all shards that failed.

    Raises:
        ShardctlError: PartialFailure if it ran on some.
    """
    failed = failed_of(outcomes)
    if not failed:
        return
    done = len(outcomes) - len(failed)
    hint = None
    if write and done:
        again = " ".join(f"--shard {outcome.shard_id}" for outcome in failed[:4]) + (" …" if len(failed) > 4 else "")
        hint = f"what is done stays done; run it again with `{again}`"
    message = f"the statement ran on {done} of {len(outcomes)} shard{'s' if len(outcomes) > 1 else ''}"
    raise one_error(message, failed, is_partial=done > 0, hint=hint)
