"""`shardctl locate`: which shards hold rows, and which ones should."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import one_error
from shardctl.cli.locate_keys import KeySource
from shardctl.cli.locate_rules import show_new, show_possible
from shardctl.cli.locate_view import Tally, View, routing_lines, routing_objects, unanswered
from shardctl.cli.output import Format
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.cli.values import to_json
from shardctl.errors import ConfigError

if TYPE_CHECKING:
    from shardctl.fleet import LiveShard, Outcome
    from shardctl.rows.locate import Locator, Search

_STREAMED = (Format.CSV, Format.NDJSON)


def locate(
    name: Annotated[
        str, typer.Argument(metavar="CLASS", autocompletion=options.complete_class, help="Class or table.")
    ],
    key: Annotated[
        list[str] | None, typer.Argument(metavar="KEY", help="Primary keys, their columns in order.")
    ] = None,
    stdin: Annotated[
        bool, typer.Option("--stdin", help="Read primary keys from standard input, one in each line.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Read them from CSV; a header may name the key's columns."),
    ] = None,
    by: Annotated[list[str] | None, typer.Option("--by", metavar="COLUMN=VALUE", help="Look by other columns.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Rows of one shard at the most, with --by.")] = 100,
    related: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="RELATIONSHIP", help="Also show where its rows are; repeatable."),
    ] = None,
    routing: Annotated[bool, typer.Option("--routing", help="Also show what each chooser answers.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Answer by the rules alone, without a connection.")
    ] = False,
    new: Annotated[
        list[str] | None,
        typer.Option("--new", metavar="COLUMN=VALUE", help="Say where a new row would go, and why; repeatable."),
    ] = None,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Show which shards hold a row, and which one should.

    Every shard is asked. Exit code 1: not found, misplaced, duplicate, or what belongs beside a row is elsewhere;
    4: a shard did not answer, so the answer is incomplete.

    Examples: shardctl locate WeatherLocation 1 4; shardctl locate WeatherLocation --by city=Tokyo
    """
    _check_ways(name, {"keys": key, "--stdin": stdin, "--file": file, "--by": by, "--new": new})
    way = "--new" if new else "--offline" if offline else None
    _check_no_search(way, {"--with": related, "--routing": routing})
    fleet = open_fleet(config, app)
    target = fleet.models.find(name)
    chosen = select(fleet, shards=shard, labels=label, exclude=exclude)
    timeout_s = timeout or fleet.shard_map.timeout_s
    from shardctl.rows.identities import read_conditions

    identities = iter(()) if by or new else KeySource(key or [], stdin, file).read(target)
    conditions = read_conditions(target, by or [])
    with fleet:
        if new:
            asked, _ = without_offline(chosen)
            show_new(fleet, target, new, asked, format_, timeout_s=timeout_s, offline=offline)
        elif offline:
            show_possible(fleet, target, identities, conditions, format_)
        else:
            from shardctl.rows.locate import Locator

            asked, left_out = without_offline(chosen)
            locator = Locator(fleet, target, asked, timeout_s=timeout_s, with_routing=routing, related=related or [])
            found = (
                iter([locator.by_conditions(conditions, limit)]) if conditions else locator.by_identities(identities)
            )
            _show(locator, found, left_out, format_)


def _check_ways(name: str, ways: Mapping[str, object]) -> None:
    """Refuse anything but one way to say which rows."""
    given = [way for way, value in ways.items() if value]
    if len(given) != 1:
        message = f"not {' and '.join(given)} together" if given else "no row is named"
        raise ConfigError(
            f"{message}: give primary keys, `--stdin`, `--file FILE`, `--by column=value` or `--new column=value`",
            hint=f"for example `shardctl locate {name} 1`",
        )


def _check_no_search(way: str | None, options_: Mapping[str, object]) -> None:
    """Refuse what can only be said of rows that are looked for."""
    given = [option for option, value in options_.items() if value]
    if way is not None and given:
        raise ConfigError(f"`{way}` looks for no row, and takes no `{given[0]}`")


def _show(locator: Locator, found: Iterator[Search], left_out: Sequence[LiveShard], format_: Format) -> None:
    """Print what is found, and end with the code that it means."""
    tally = Tally()
    view = View.of(locator, is_incomplete=bool(left_out))
    counted = _counted(found, tally)
    is_shown = format_ in _STREAMED and output.is_terminal()
    with nullcontext() if is_shown else diagnostics.working(f"asking {len(locator.shards)} shards"):
        if format_ in _STREAMED:
            _stream(counted, view, left_out, format_)
        else:
            searches = list(counted)
    if format_ is Format.JSON:
        _print_json(searches, view, left_out)
    elif format_ not in _STREAMED:
        _print_table(searches, view, format_)
    failed = len(tally.failed) + len(left_out)
    if failed < len(locator.shards) + len(left_out):
        is_whole = len(locator.shards) == len(locator.fleet.shards)
        asked = "on the shards that answered" if failed else "on any shard" if is_whole else "on the shards asked"
        code = tally.conclude(view.class_name, locator.scope, asked)
    _check_complete(tally.failed, left_out, len(locator.shards) + len(left_out))
    raise typer.Exit(code)


def _counted(found: Iterator[Search], tally: Tally) -> Iterator[Search]:
    for search in found:
        tally.add(search)
        yield search


def _stream(found: Iterator[Search], view: View, left_out: Sequence[LiveShard], format_: Format) -> None:
    """Print rows batch by batch; the next is not looked for before one is printed."""
    lines = view.csv_lines if format_ is Format.CSV else view.json_lines
    columns = view.csv_columns() if format_ is Format.CSV else view.json_columns()
    rows = (line for search in chain(found, [unanswered(left_out)]) for line in lines(search))
    output.emit(columns, rows, format_)


def _print_json(searches: Sequence[Search], view: View, left_out: Sequence[LiveShard]) -> None:
    failed = {
        outcome.shard_id: outcome.error.message for search in searches for outcome in search.failed if outcome.error
    }
    extra: dict[str, Any] = {
        "missing": [to_json(key) for search in searches for key in search.missing],
        "failed": failed,
    }
    if view.with_routing:
        extra["routing"] = [item for search in searches for item in routing_objects(search)]
    rows = [line for search in [*searches, unanswered(left_out)] for line in view.json_lines(search)]
    output.emit(view.json_columns(), rows, Format.JSON, extra=extra)


def _print_table(searches: Sequence[Search], view: View, format_: Format) -> None:
    rows = [view.line(row) for search in searches for row in search.found]
    if rows:
        output.emit(view.columns(), rows, format_, null="NULL")
    routing = [line for search in searches for line in routing_lines(search)]
    if routing:
        output.write("\n" if rows else "")
        output.emit(["primary key", "identity_chooser", "execute_chooser"], routing, format_)


def _check_complete(failed: Sequence[Outcome[Any]], left_out: Sequence[LiveShard], asked: int) -> None:
    """Refuse to call an answer complete that lacks a shard's."""
    missing = len(failed) + len(left_out)
    if not missing:
        return
    message = f"none of {asked} shards could answer"
    hint = "`shardctl shards` shows which shards answer, and at which revision"
    if missing < asked:
        message = f"the answer is incomplete: {missing} of {asked} shards could not answer"
        hint += "; `--exclude NAME` leaves one out"
    facts = [f"{shard.shard_id}: offline" for shard in left_out]
    raise one_error(message, failed, is_partial=missing < asked, facts=facts, hint=hint)
