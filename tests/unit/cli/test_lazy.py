"""Commands and options that are read without their weight, against Typer's own reading of the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from shardctl.cli.lazy import Command, OptionalValues
from shardctl.cli.output import Format

WORDS = [
    "",
    "--count 7",
    "--count 007",
    "--count=-1",
    "--count 0",
    "--count 33",
    "--count 1_0",
    "--count 1.5",
    "--count x",
    "--seconds 2",
    "--seconds 0.25",
    "--seconds 1e1",
    "--seconds nan",
    "--seconds .5",
    "--seconds=-1",
    "--name asia --name eu",
    "--text 12",
    "--text=",
    "--format json",
    "--format JSON",
    "--format nothing",
    "--file some/where",
    "--yes",
    "--limit 5",
    "--limit 0",
    "--nothing",
]


def read(cls: type[Any] | None, words: str) -> tuple[int, str]:
    """Return the exit code and what a command was called with, or what it complained of."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.command(cls=cls)
    def run(
        count: Annotated[int, typer.Option(min=1, max=32)] = 32,
        seconds: Annotated[float, typer.Option(min=0)] = 0.0,
        limit: Annotated[int | None, typer.Option(min=1)] = None,
        name: Annotated[list[str] | None, typer.Option()] = None,
        text: Annotated[str, typer.Option()] = "head",
        format_: Annotated[Format, typer.Option("--format")] = Format.TABLE,
        file: Annotated[Path | None, typer.Option()] = None,
        yes: Annotated[bool, typer.Option("--yes")] = False,
    ) -> None:
        print(repr((count, seconds, limit, name, text, format_, file, yes)))

    ended = CliRunner().invoke(app, words.split())
    return ended.exit_code, ended.output


@pytest.mark.parametrize("words", WORDS)
def test_a_command_reads_its_options_as_typer_does(words: str) -> None:
    assert read(Command, words) == read(None, words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "None ()"),
        ("--keys", "10 ()"),
        ("--keys 3", "3 ()"),
        ("--keys=3", "3 ()"),
        ("--keys towns", "10 ('towns',)"),
        ("towns --keys", "10 ('towns',)"),
        ("--keys 2 towns roads", "2 ('towns', 'roads')"),
        ("--keys --yes", "10 () True"),
    ],
)
def test_an_option_may_stand_without_its_number(words: str, expected: str) -> None:
    app = typer.Typer()

    def run(
        names: Annotated[list[str] | None, typer.Argument()] = None,
        keys: Annotated[int | None, typer.Option("--keys")] = None,
        yes: Annotated[bool, typer.Option("--yes")] = False,
    ) -> None:
        print(keys, tuple(names or ()), *([True] if yes else []))

    app.command(cls=OptionalValues)(run)
    done = CliRunner().invoke(app, words.split())
    assert (done.exit_code, done.output.strip()) == (0, expected)
