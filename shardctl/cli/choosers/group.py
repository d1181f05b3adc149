"""`shardctl choosers`: the commands about the functions that a ShardedSession asks."""

from __future__ import annotations

from typing import ClassVar

import typer

from shardctl.cli.lazy import Group


class ChoosersGroup(Group):
    """The commands below `choosers`."""

    places: ClassVar = {"lint": "shardctl.cli.choosers.lint:lint"}


group = typer.Typer(
    name="choosers", cls=ChoosersGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None
)


@group.callback()
def choosers() -> None:
    """Check the functions that say which shard is asked."""
