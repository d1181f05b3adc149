"""`shardctl migrate`, which upgrades, and the commands below it."""

from __future__ import annotations

import re
import shlex
from typing import Any, ClassVar

import typer

from shardctl.cli.lazy import Command, Group
from shardctl.cli.migrate.run import migrate
from shardctl.errors import ConfigError


class RelativeTarget(Command):
    """A command whose target may be `-1`, which is no option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, relative targets last."""
        targets = [argument for argument in args if re.fullmatch(r"-\d+", argument)]
        if targets and "--" not in args:
            args = [argument for argument in args if argument not in targets] + ["--", *targets]
        return super().parse_args(ctx, args)


class MigrateGroup(Group):
    """The commands below `migrate`, and what to type in place of Alembic's."""

    places: ClassVar = {
        "downgrade": "shardctl.cli.migrate.downgrade:downgrade",
        "stamp": "shardctl.cli.migrate.stamp:stamp",
        "lint": "shardctl.cli.migrate.lint:lint",
        "status": "shardctl.cli.migrate.status:status",
        "check": "shardctl.cli.migrate.check:check",
        "revision": "shardctl.cli.migrate.revision:revision",
        "log": "shardctl.cli.migrate.log:log",
        "heads": "shardctl.cli.migrate.heads:heads",
    }
    classes: ClassVar = {"downgrade": RelativeTarget, "stamp": RelativeTarget}

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

group = typer.Typer(
    name="migrate", cls=MigrateGroup, invoke_without_command=True, add_completion=False, rich_markup_mode=None
)
group.callback()(migrate)
