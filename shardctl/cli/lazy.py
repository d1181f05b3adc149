"""Commands that are imported when they are asked for, and options that are read without pydantic.

Both are for the time until a command does something: to run one, the modules of the others are not needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from importlib import import_module
from typing import Any, ClassVar, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup


class PlainOptions:
    """What a class of commands has whose parameters read plain values by themselves.

    Typer would import pydantic for each value, also for a default: that takes longer than all else until a command
    runs. Whatever is not plain, or not right, is left to it, and so are its messages.
    """

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters."""
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            by_typer = getattr(parameter, "get_runtime_param", None)  # another Typer may read values in another way
            if by_typer is not None and "get_runtime_param" not in vars(parameter):
                parameter.get_runtime_param = partial(_Plain, by_typer)
        return parameters


class Command(PlainOptions, TyperCommand):
    """A command."""


class OptionalValues(Command):
    """A command with options that may stand without their number: Typer's options have a value or have none."""

    defaults: ClassVar[Mapping[str, str]] = {"--keys": "10", "--watch": "2"}
    """By option, the value that it has then."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, with the values that were left out."""
        pairs = [
            [argument, self.defaults[argument]]
            if argument in self.defaults and not re.fullmatch(r"[0-9.]+", value)
            else [argument]
            for argument, value in zip(args, [*args[1:], ""], strict=False)
        ]
        return super().parse_args(ctx, [argument for pair in pairs for argument in pair])


class Group(PlainOptions, TyperGroup):
    """A group of commands, each imported when it is first looked up."""

    places: ClassVar[Mapping[str, str]]
    """Where each is, as `module:attribute`: a function, or a Typer of further commands."""
    classes: ClassVar[Mapping[str, type[Command]]] = {}
    """Of those that are no plain `Command`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = _Commands(self.places, self.classes)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


class _Commands(Mapping[str, Any]):
    def __init__(self, places: Mapping[str, str], classes: Mapping[str, type[Command]]) -> None:
        self._places = places
        self._classes = classes
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            module, _, attribute = self._places[name].partition(":")
            target = getattr(import_module(module), attribute)
            if not isinstance(target, typer.Typer):
                function, target = target, typer.Typer(add_completion=False, rich_markup_mode=None)
                target.command(name, cls=self._classes.get(name, Command))(function)
            self._made[name] = typer.main.get_command(target)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _Plain:
    """What makes of a value what a parameter is declared as."""

    def __init__(self, by_typer: Callable[[], Any]) -> None:
        self._by_typer = by_typer

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        described = param.type_descriptor
        found = _read(value, described.annotation, described.parameter_info)
        return self._by_typer().coerce(value, param=param, ctx=ctx) if found is None else found


def _read(value: Any, kind: Any, info: Any) -> Any:
    """Return the value of a default, or of a plain text; None if there is more to it."""
    if info.parser is not None:
        return None
    if get_origin(kind) is list and isinstance(value, list | tuple):
        items = [_read(item, get_args(kind)[0], info) for item in value]
        return None if None in items else items
    if type(value) is kind:
        return value
    if not isinstance(value, str) or not isinstance(kind, type):
        return None
    if issubclass(kind, Enum):
        return next((member for member in kind if member.value == value), None)
    if kind in (int, float) and re.fullmatch(r"[0-9]{1,9}" + (r"(\.[0-9]{1,9})?" if kind is float else ""), value):
        number = kind(value)
        is_within = (info.min is None or number >= info.min) and (info.max is None or number <= info.max)
        return number if is_within else None
    return None
