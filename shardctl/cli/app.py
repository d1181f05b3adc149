"""The command line: its commands, and what `shardctl` alone answers."""

from __future__ import annotations

from typing import Annotated, ClassVar

import typer

from shardctl import __version__
from shardctl.cli.boundary import Boundary
from shardctl.cli.lazy import Group, OptionalValues

EPILOG = "Exit codes: 0 done, 1 findings, 2 usage, 3 failed, 4 partial, 5 refused, 6 locked, 70 a bug, 130 interrupted."


class Root(Boundary, Group):
    """All commands, in the order of the help: as one needs them."""

    places: ClassVar = {
        "init": "shardctl.cli.init:init",
        "migrate": "shardctl.cli.migrate.group:group",
        "status": "shardctl.cli.status:status",
        "history": "shardctl.cli.history:history",
        "drift": "shardctl.cli.drift:drift",
        "query": "shardctl.cli.query:query",
        "explain": "shardctl.cli.explain:explain",
        "exec": "shardctl.cli.exec:exec_",
        "locate": "shardctl.cli.locate:locate",
        "choosers": "shardctl.cli.choosers.group:group",
        "audit": "shardctl.cli.audit:audit",
        "stats": "shardctl.cli.stats:stats",
        "shards": "shardctl.cli.shards:shards",
    }
    classes: ClassVar = {"stats": OptionalValues, "status": OptionalValues}


app = typer.Typer(
    cls=Root,
    name="shardctl",
    help="Administer the shards of a SQLAlchemy application.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"shardctl {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Administer the shards of a SQLAlchemy application."""
