"""`shardctl locate --offline` and `--new`: what the rules say, of rows that nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import typer

from shardctl.cli import diagnostics, output
from shardctl.cli.locate_view import key_text
from shardctl.cli.output import Format
from shardctl.errors import ExitCode, NoPlacement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardctl.fleet import Fleet, LiveShard
    from shardctl.rows.homes import Home
    from shardctl.rows.identities import Identity, Target


def show_possible(
    fleet: Fleet, target: Target, identities: Iterable[Identity], conditions: Mapping[str, Any], format_: Format
) -> None:
    """Print which shards can hold rows; no connection is opened.

    Raises:
        typer.Exit: The rules leave no shard for one of them.
    """
    from shardctl.rows.identities import name_of, once
    from shardctl.rows.offline import possible_home, possible_homes

    name = name_of(target)
    nowhere: list[str] = []
    is_for_machines = format_ in (Format.JSON, Format.NDJSON)

    def answers() -> Iterator[tuple[str, Any, Home]]:
        if conditions:
            said = ", ".join(f"{column}={value}" for column, value in conditions.items())
            yield f"{name} {said}", None, possible_home(fleet, target, conditions)
            return
        with closing(possible_homes(fleet, target, once(identities))) as found:  # type: ignore[type-var]
            for identity, home in found:
                yield f"{name} {key_text(identity)}", list(identity), home

    def rows() -> Iterator[Sequence[Any]]:
        for said, key, home in answers():
            if not home.shard_ids and len(nowhere) < 9:
                nowhere.append(said)
            if is_for_machines:
                yield [[name, key], list(home.shard_ids), home.reason]
            else:
                yield [said, ", ".join(home.shard_ids), home.reason]

    columns = ["identity", "shards", "reason"] if is_for_machines else ["row", "can be on", "reason"]
    output.emit(columns, rows(), format_)
    if nowhere:
        diagnostics.say(f"the rules have no shard for {diagnostics.listed(nowhere)}")
        raise typer.Exit(ExitCode.FINDINGS)


def show_new(
    fleet: Fleet,
    target: Target,
    words: Sequence[str],
    shards: Sequence[LiveShard],
    format_: Format,
    *,
    timeout_s: float | None,
    offline: bool,
) -> None:
    """Print where a row would go that does not exist yet.

    Raises:
        typer.Exit: Nothing says where.
    """
    from shardctl.rows.new_row import new_home, read_new_row

    new = read_new_row(target, words)
    try:
        with diagnostics.working("asking where it would go"):
            home = new_home(fleet, target, new, shards, timeout_s=timeout_s, offline=offline)
    except NoPlacement as error:
        if format_ in (Format.JSON, Format.NDJSON):
            output.emit(["shard", "reason"], [[None, error.message]], format_)
        diagnostics.error(NoPlacement(f"it has no shard: {error.message}", facts=error.facts, hint=error.hint))
        raise typer.Exit(ExitCode.FINDINGS) from None
    output.emit(["shard", "reason"], [[shard_id, home.reason] for shard_id in home.shard_ids], format_)
