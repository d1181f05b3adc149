"""`shardctl stats`: how much each table has on each shard, how unevenly, and what has been added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shardctl.cli import diagnostics, options
from shardctl.cli.failures import raise_unread
from shardctl.cli.output import Format
from shardctl.cli.progress import collect
from shardctl.cli.project import cluster_name, open_fleet, select, without_offline
from shardctl.cli.recorded import is_whole, keep
from shardctl.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from shardctl.cli.stats_listing import Listing
    from shardctl.fleet import Fleet, Outcome
    from shardctl.rows.sizes import ShardSize
    from shardctl.rows.stats import Meant

MOST_SHARDS = 40
"""Of more shards, tables are summed up, unless each shard is asked for."""


def stats(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", autocompletion=options.complete_class, help="Only these: classes or tables."),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Count the rows, in place of the engine's estimates.")] = False,
    keys: Annotated[
        int | None,
        typer.Option("--keys", metavar="[N]", min=1, help="The N sharding keys with the most rows, counted; 10."),
    ] = None,
    summary: Annotated[
        bool | None,
        typer.Option("--summary/--no-summary", help=f"A line for each table; the default above {MOST_SHARDS} shards."),
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Also draw the rows, as a picture.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page: the picture and the numbers.")
    ] = None,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    timeout: options.Timeout = None,
    format_: options.Formats = Format.TABLE,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Show how much each table has on each shard, and how unevenly.

    Rows are the engine's estimates unless counted, and it is said of each number. A run over all shards is recorded,
    and the next one shows what has been added. Exit code 4: a shard did not answer.

    Examples: shardctl stats; shardctl stats Report --exact; shardctl stats --keys 5; shardctl stats --html stats.html
    """
    if keys is not None and (svg or html or summary):
        raise ConfigError("`--keys` lists keys: it goes with neither `--summary` nor a picture")
    fleet = open_fleet(config, app)
    asked, offline = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    if offline:
        diagnostics.say(f"note: left out: {', '.join(f'{live.shard_id} is offline' for live in offline)}")
    if not asked:
        raise ConfigError("every shard that is meant is offline")
    if keys is not None:
        from shardctl.cli.stats_keys import show_largest_keys

        show_largest_keys(fleet, asked, names or [], keys, timeout_s=timeout, format_=format_)
        return
    from shardctl.cli.stats_listing import say_what_is_behind, show
    from shardctl.rows.growth import to_record
    from shardctl.rows.stats import read_stats

    meant = _meant(fleet)
    wanted = [_table_name(fleet, name) for name in names or []]
    with fleet:
        reading = read_stats(fleet, asked, is_exact=exact, names=wanted, timeout_s=timeout)
        found = collect(reading, asked, doing="counting" if exact else "reading sizes")
    if any(outcome.is_ok for outcome in found):
        listing = _listing(fleet, found, meant, wanted)
        show(listing, format_, is_short=len(asked) > MOST_SHARDS if summary is None else summary)
        _write_pictures(listing, svg, html)
        if format_ is Format.TABLE:
            say_what_is_behind(listing, is_exact=exact)
        if is_whole(fleet, asked):
            keep(fleet, "stats", to_record(listing.sizes))
    raise_unread(found)


def _meant(fleet: Fleet) -> Mapping[str, Meant]:
    """Return what the models say of tables; nothing where there are none, or they cannot be imported."""
    from shardctl.rows.stats import meant_tables

    try:
        return meant_tables(fleet)
    except ConfigError as error:
        diagnostics.say(f"note: nothing says which tables a shard should have, or why: {error.message}")
        return {}


def _table_name(fleet: Fleet, name: str) -> str:
    """Return the table of a class; what is no class is a table, of which only the shards may know."""
    try:
        target: Any = fleet.models.find(name)
    except ConfigError:
        return name
    return str(getattr(target, "local_table", target).name)


def _listing(
    fleet: Fleet, found: Sequence[Outcome[ShardSize]], meant: Mapping[str, Meant], wanted: Sequence[str]
) -> Listing:
    from shardctl.cli.stats_listing import Listing
    from shardctl.fleet.records import Records
    from shardctl.rows.growth import growth_since
    from shardctl.rows.stats import table_stats, total_of
    from shardctl.schema.history import OWN_TABLES
    from shardctl.schema.revisions import DEFAULT_VERSION_TABLE

    sizes = {outcome.shard_id: outcome.result for outcome in found if outcome.is_ok}
    tables = table_stats(sizes, meant, left_out={*OWN_TABLES, DEFAULT_VERSION_TABLE})
    known = {table.name for table in tables}
    for name in wanted:
        if name not in known:
            classes = fleet.models.mappers if meant else ()
            raise UnknownName(f"no mapped class or table named `{name}`", name=name, known=[*classes, *known])
    tables = [table for table in tables if not wanted or table.name in wanted]
    return Listing(
        name=cluster_name(fleet),
        tables=tables,
        total=total_of(tables),
        growth=growth_since(Records(fleet.shard_map).all("stats"), tables),
        sizes=sizes,
        unread=[outcome.shard_id for outcome in found if not outcome.is_ok],
    )


def _write_pictures(listing: Listing, svg: Path | None, html: Path | None) -> None:
    from shardctl.cli import output, stats_picture

    for file, draw in ((svg, stats_picture.svg), (html, stats_picture.html)):
        if file is not None:
            with output.into(file):
                output.write(draw(listing))
            diagnostics.say(f"wrote {file}")
