"""`shardctl migrate`, which upgrades, and the commands below it."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.core import TyperCommand

from shardctl.cli.migrate.check import check
from shardctl.cli.migrate.downgrade import downgrade
from shardctl.cli.migrate.heads import heads
from shardctl.cli.migrate.lint import lint
from shardctl.cli.migrate.log import log
from shardctl.cli.migrate.revision import revision
from shardctl.cli.migrate.run import migrate
from shardctl.cli.migrate.stamp import stamp
from shardctl.cli.status import status


class RelativeTarget(TyperCommand):
    """A command whose target may be `-1`, which is no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, relative targets last."""
        targets = [argument for argument in args if re.fullmatch(r"-\d+", argument)]
        if targets and "--" not in args:
            args = [argument for argument in args if argument not in targets] + ["--", *targets]
        return super().parse_args(ctx, args)


group = typer.Typer(name="migrate", invoke_without_command=True)
group.callback()(migrate)
group.command(cls=RelativeTarget)(downgrade)
group.command(cls=RelativeTarget)(stamp)
group.command()(lint)
group.command()(status)
group.command()(check)
group.command()(revision)
group.command()(log)
group.command()(heads)
