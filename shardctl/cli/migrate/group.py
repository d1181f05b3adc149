"""`shardctl migrate`, which upgrades, and the commands below it."""

from __future__ import annotations

import re
import shlex
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from shardctl.cli.migrate.check import check
from shardctl.cli.migrate.downgrade import downgrade
from shardctl.cli.migrate.heads import heads
from shardctl.cli.migrate.lint import lint
from shardctl.cli.migrate.log import log
from shardctl.cli.migrate.revision import revision
from shardctl.cli.migrate.run import migrate
from shardctl.cli.migrate.stamp import stamp
from shardctl.cli.status import status
from shardctl.errors import ConfigError


class RelativeTarget(TyperCommand):
    """A command whose target may be `-1`, which is no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, relative targets last."""
        targets = [argument for argument in args if re.fullmatch(r"-\d+", argument)]
        if targets and "--" not in args:
            args = [argument for argument in args if argument not in targets] + ["--", *targets]
        return super().parse_args(ctx, args)


class Group(TyperGroup):
    """The commands below `migrate`, and what to type in place of Alembic's."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command; `upgrade` is none, and must not be answered with `downgrade`."""
        name = args[0]
        if name in _UPGRADES or re.fullmatch(r"head|\+\d+|(?=.*\d)[0-9a-f]{3,}", name):
            rest = args[1:] if name in _UPGRADES else args
            target = ["--to"] if rest and not rest[0].startswith("-") else []
            shards = [] if any(argument.startswith("-") for argument in rest) else ["--all-shards"]
            raise ConfigError(
                f"no such command `{name}`: `{ctx.command_path}` itself upgrades",
                hint=f"`{shlex.join([*ctx.command_path.split(), *target, *rest, *shards])}`",
            )
        if name in _ALEMBIC:
            raise ConfigError(f"no such command `{name}`", hint=f"here it is `{ctx.command_path} {_ALEMBIC[name]}`")
        return super().resolve_command(ctx, args)


_UPGRADES = ("upgrade", "up")
_ALEMBIC = {
    "branches": "log",
    "current": "status",
    "history": "log",
    "merge": "revision --head heads -m merge",
    "show": "log",
}

group = typer.Typer(name="migrate", cls=Group, invoke_without_command=True)
group.callback()(migrate)
group.command(cls=RelativeTarget)(downgrade)
group.command(cls=RelativeTarget)(stamp)
group.command()(lint)
group.command()(status)
group.command()(check)
group.command()(revision)
group.command()(log)
group.command()(heads)
