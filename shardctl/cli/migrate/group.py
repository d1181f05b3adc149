"""`shardctl migrate`, which upgrades, and the commands below it."""

from __future__ import annotations

import typer

from shardctl.cli.migrate.run import migrate

group = typer.Typer(name="migrate", invoke_without_command=True)
group.callback()(migrate)
