"""The command line: its commands, and what `shardctl` alone answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from shardctl import __version__
from shardctl.cli.boundary import Boundary
from shardctl.cli.drift import drift
from shardctl.cli.exec import exec_
from shardctl.cli.history import history
from shardctl.cli.init import init
from shardctl.cli.locate import locate
from shardctl.cli.migrate.group import group as migrate
from shardctl.cli.query import query
from shardctl.cli.shards import shards
from shardctl.cli.status import status

EPILOG = "Exit codes: 0 done, 1 findings, 2 usage, 3 failed, 4 partial, 5 refused, 6 locked, 70 a bug, 130 interrupted."

ORDER = ["init", "migrate", "status", "history", "drift", "query", "exec", "locate", "shards"]
"""Of the commands in the help: as one needs them."""


class Commands(Boundary):
    """All commands, in their order: Typer would list groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return sorted(self.commands, key=ORDER.index)


app = typer.Typer(
    cls=Commands,
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


app.command()(init)
app.add_typer(migrate)
for command in (status, history, drift, query, locate, shards):
    app.command()(command)
app.command("exec")(exec_)
