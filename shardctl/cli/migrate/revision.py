"""`shardctl migrate revision`: a new revision file, empty or with what the models have and the shards have not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shardctl.cli import diagnostics, options, output
from shardctl.cli.failures import raise_failures
from shardctl.cli.progress import collect
from shardctl.cli.project import open_fleet, select, without_offline
from shardctl.errors import Refused

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard
    from shardctl.schema.revisions import Scripts


def revision(
    message: Annotated[str | None, typer.Option("-m", "--message", help="What it does, for the file's name.")] = None,
    autogenerate: Annotated[
        bool, typer.Option("--autogenerate", help="Fill it with what the models have and the shards have not.")
    ] = False,
    head: Annotated[str, typer.Option(metavar="REVISION", help="The revision that it follows.")] = "head",
    splice: Annotated[bool, typer.Option("--splice", help="Allow a revision that is no head.")] = False,
    branch_label: Annotated[str | None, typer.Option(metavar="NAME", help="A label for its branch.")] = None,
    depends_on: Annotated[
        list[str] | None, typer.Option(metavar="REVISION", help="A revision that it needs; repeatable.")
    ] = None,
    rev_id: Annotated[str | None, typer.Option(metavar="ID", help="Its id, in place of a random one.")] = None,
    shard: options.Shards = None,
    label: options.Labels = None,
    exclude: options.Exclude = None,
    config: options.Config = None,
    app: options.App = None,
) -> None:
    """Write a new revision file, and print its path.

    With --autogenerate the models are compared with a shard. All shards that are meant have to be at the head, and
    alike: otherwise name one. Where nothing differs, no file is written.

    Examples: shardctl migrate revision -m "add zip" --autogenerate; shardctl migrate revision -m fill --shard asia
    """
    fleet = open_fleet(config, app)
    selected, _ = without_offline(select(fleet, shards=shard, labels=label, exclude=exclude))
    from shardctl.schema.new_revision import RevisionRequest, needs_shard, write_revision
    from shardctl.schema.revisions import load_scripts

    scripts = load_scripts(fleet.shard_map.migrations, where=fleet.shard_map.where)
    request = RevisionRequest(message, autogenerate, head, splice, branch_label, tuple(depends_on or ()), rev_id)
    with fleet:
        live = None
        if needs_shard(scripts, request):
            live = _choose(fleet, selected, scripts, is_compared=autogenerate)
        files = write_revision(fleet, scripts, request, live)
    for file in files:
        output.write(f"{_shown(file)}\n")
    if not files:
        diagnostics.say("no file was written: the shards have what the models have")


def _choose(fleet: Fleet, selected: list[LiveShard], scripts: Scripts, *, is_compared: bool) -> LiveShard:
    """Return the shard that env.py runs on."""
    if not selected:
        raise Refused("every shard that is meant is offline")
    if not is_compared:
        return selected[0]
    from shardctl.schema.fingerprint import read_fingerprints
    from shardctl.schema.new_revision import choose_shard

    read = collect(read_fingerprints(fleet, selected, scripts), selected, doing="reading schemas")
    raise_failures(read, done="read", is_read=True)
    return choose_shard(fleet, {outcome.shard_id: outcome.result for outcome in read}, scripts)


def _shown(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
