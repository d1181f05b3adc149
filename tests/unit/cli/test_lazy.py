"""Commands and options that are read without their weight, against Typer's own reading of the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from shardctl.cli.lazy import Command
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
