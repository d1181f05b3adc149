"""`shardctl locate`: which shards hold a row, and which one should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import one_error
from shardctl.cli.output import Format
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.cli.values import to_json, to_text
from shardctl.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from shardctl.rows.locate import FoundRow, Search

MAX_WIDTH = 40
"""Characters of one value in a table."""


def locate(
    name: Annotated[
        str, typer.Argument(metavar="CLASS", autocompletion=options.complete_class, help="Class or table.")
    ],
    key: Annotated[
        list[str] | None, typer.Argument(metavar="KEY", help="Primary keys, their columns in order.")
    ] = None,
    by: Annotated[list[str] | None, typer.Option("--by", metavar="COLUMN=VALUE", help="Look by other columns.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows of one shard at the most, with --by.")] = 100,
    routing: Annotated[bool, typer.Option("--routing", help="Also show what each chooser answers.")] = False,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Show which shards hold a row, and which one should.

    Every shard is asked. Exit code 1: not found, or misplaced; 4: a shard did not answer, so the answer is incomplete.

    Examples: shardctl locate WeatherLocation 1 4; shardctl locate WeatherLocation --by city=Tokyo
    """
    if bool(key) == bool(by):
        raise ConfigError(
            "give either primary keys or `--by column=value`", hint=f"for example `shardctl locate {name} 1`"
        )
    fleet = open_fleet(config, app)
    target = fleet.models.find(name)
    selected, offline = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    from shardctl.rows.identities import read_conditions, read_identities
    from shardctl.rows.locate import locate as search_shards

    identities = read_identities(target, key or [])
    conditions = read_conditions(target, by or [])
    with fleet, diagnostics.working(f"asking {len(selected)} shards"):
        search = search_shards(
            fleet,
            target,
            selected,
            identities=identities,
            conditions=conditions,
            limit=limit,
            timeout_s=timeout or fleet.shard_map.timeout_s,
            with_routing=routing,
        )
    _print(search, format_, with_routing=routing)
    _check_complete(search, [live.shard_id for live in offline], len(selected) + len(offline))
    _conclude(search, name)


def _print(search: Search, format_: Format, *, with_routing: bool) -> None:
    if format_ in (Format.TABLE, Format.MARKDOWN, Format.CSV):
        _print_table(search, format_, with_routing=with_routing)
        return
    columns = ["shard", "identity", "expected", "verdict", "reason", "row"]
    rows = [
        [row.shard_id, _identity(row), list(row.expected), row.verdict, row.reason, dict(row.values)]
        for row in search.found
    ]
    if with_routing:
        columns.append("shard_chooser")
        for values, row in zip(rows, search.found, strict=True):
            values.append(str(row.shard_chooser))
    extra: dict[str, Any] = {
        "missing": [to_json(identity) for identity in search.missing],
        "failed": {outcome.shard_id: outcome.error.message for outcome in search.failed if outcome.error},
    }
    if with_routing:
        extra["routing"] = [
            {
                "primary_key": to_json(routing.primary_key),
                "identity_chooser": str(routing.identity_chooser),
                "execute_chooser": str(routing.execute_chooser),
            }
            for routing in search.routing
        ]
    output.emit(columns, rows, format_, extra=extra)


def _identity(row: FoundRow) -> list[Any]:
    """Return SQLAlchemy's identity key, with the class by its name."""
    return [row.class_name, list(row.primary_key), row.shard_id]


def _print_table(search: Search, format_: Format, *, with_routing: bool) -> None:
    if search.found:
        columns = ["shard", "identity key", "belongs on", "verdict", *search.found[0].values]
        if with_routing:
            columns.insert(4, "shard_chooser")
        rows = []
        for row in search.found:
            key = f"({row.class_name}, {row.primary_key!r}, {row.shard_id!r})"
            cells = [row.shard_id, key, ", ".join(row.expected) or row.reason, row.verdict]
            if with_routing:
                cells.append(str(row.shard_chooser))
            rows.append([*cells, *(_shortened(value) for value in row.values.values())])
        output.emit(columns, rows, format_, null="NULL")
    if with_routing and search.routing:
        output.write("\n" if search.found else "")
        output.emit(
            ["primary key", "identity_chooser", "execute_chooser"],
            [
                [repr(item.primary_key), str(item.identity_chooser), str(item.execute_chooser)]
                for item in search.routing
            ],
            format_,
        )


def _shortened(value: object) -> object:
    text = to_text(value)
    return text[: MAX_WIDTH - 1] + "…" if len(text) > MAX_WIDTH and output.is_terminal() else value


def _check_complete(search: Search, offline: list[str], asked: int) -> None:
    """Refuse to call an answer complete that lacks a shard's."""
    missing = len(search.failed) + len(offline)
    if not missing:
        return
    message = f"none of {asked} shards could answer"
    hint = "`shardctl shards` shows which shards answer, and at which revision"
    if missing < asked:
        message = f"the answer is incomplete: {missing} of {asked} shards could not answer"
        hint += "; `--exclude NAME` leaves one out"
    facts = [f"{shard_id}: offline" for shard_id in offline]
    raise one_error(message, search.failed, is_partial=missing < asked, facts=facts, hint=hint)


def _conclude(search: Search, name: str) -> None:
    """Say what a table of rows does not show, and end with the code that it means."""
    if search.is_cut:
        diagnostics.say("note: a shard has more rows than `--limit` shows")
    if search.missing:
        keys = diagnostics.listed([", ".join(map(str, key)) for key in search.missing])
        diagnostics.say(f"not found on any shard: {name} {keys}")
        raise typer.Exit(ExitCode.FINDINGS)
    if not search.found:
        diagnostics.say(f"not found on any shard: no such {name}")
        raise typer.Exit(ExitCode.FINDINGS)
    misplaced = [row for row in search.found if row.verdict == "misplaced"]
    if misplaced:
        diagnostics.say(f"misplaced: {len(misplaced)} of {len(search.found)} rows are not where they belong")
        raise typer.Exit(ExitCode.FINDINGS)
