"""`shardctl explain`: which shards a statement goes to and why, and what becomes of their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shardctl.cli import options
from shardctl.cli.asking import Asking
from shardctl.cli.options import RowFormat
from shardctl.cli.output import Format
from shardctl.cli.project import note_broken_models, open_fleet, select
from shardctl.cli.statements import read_statement
from shardctl.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from shardctl.fleet import Fleet


def explain(
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="STATEMENT",
            autocompletion=options.complete_class,
            help="A SELECT, a class, @NAME, MODULE:ATTRIBUTE of a statement in Python, or - for stdin.",
        ),
    ] = None,
    file: options.StatementFile = None,
    param: options.Params = None,
    python: Annotated[
        bool, typer.Option("--python", help="The statement is Python: a select(), update() or delete().")
    ] = False,
    analyze: Annotated[bool, typer.Option("--analyze", help="Run it, and show what it took.")] = False,
    shard_plans: Annotated[
        bool, typer.Option("--shard-plans", help="Show the plan of each shard's own engine, too.")
    ] = False,
    max_rows_pulled: options.MaxRowsPulled = 1_000_000,
    everywhere: options.Everywhere = False,
    dialect: options.Dialect = None,
    memory_limit: options.MemoryLimit = "2GB",
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Show where a statement goes and why, without running it.

    Also what each shard is sent, how the answers become one, and how many rows the shards' engines expect. A statement
    in Python goes where the session's own execute_chooser sends it, an application's too.

    Examples: shardctl explain "SELECT count(*) FROM Report"; shardctl explain --python
    "select(WeatherLocation).where(WeatherLocation.continent == 'Asia')"; shardctl explain app.queries:hottest
    """
    text = read_statement(statement, file)
    if text is None:
        raise ConfigError("there is no statement", hint='for example `shardctl explain "SELECT count(*) FROM …"`')
    fleet = open_fleet(config, app)
    chosen = select(fleet, shards=shard, labels=label, exclude=exclude)
    note_broken_models(fleet)
    from shardctl.query.orm.python import is_target
    from shardctl.query.parameters import read_parameters

    values = read_parameters(param or [])
    with fleet:
        if python or is_target(text):
            if analyze or shard_plans or everywhere or len(chosen) < len(fleet.shards):
                raise ConfigError("a statement in Python goes where the session sends it, and is not run")
            _explain_python(fleet, text, values, format_)
            return
        asking = Asking(fleet, chosen, timeout or fleet.shard_map.timeout_s, RowFormat(format_.value))
        asking.parameters = values
        asking.max_rows_pulled = max_rows_pulled
        asking.everywhere = everywhere
        asking.dialect = dialect
        asking.memory_limit = memory_limit
        asking.explain(asking.statement(text), analyze=analyze, shard_plans=shard_plans)


def _explain_python(fleet: Fleet, text: str, values: Mapping[str, Any], format_: Format) -> None:
    from shardctl.cli import plan_tree
    from shardctl.query import models_of
    from shardctl.query.orm.explain import explain_statement
    from shardctl.query.orm.python import evaluate, is_target, load_statement

    source = fleet.shard_map.source
    if is_target(text):
        found = load_statement(text, source.parent if source else None)
    else:
        found = evaluate(text, models_of(fleet))
    plan = explain_statement(fleet, found, values)
    unused = [name for name in values if not any(name in sent.parameters for sent in plan.sent)]
    if unused:
        raise ConfigError(f"nothing in the statement is called `{unused[0]}`", hint="`bindparam()` names a value")
    plan_tree.emit(plan, {}, None, format_)
