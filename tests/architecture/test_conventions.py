"""What holds for the whole code: names, help, exports, completion."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import shardctl
from shardctl.cli.app import app
from tests.fixtures.cli import REPOSITORY, Workspace


def commands_of(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{path}{name}", command
        if hasattr(command, "commands"):
            yield from commands_of(command, f"{path}{name} ")


COMMANDS = dict(commands_of(typer.main.get_command(app)))


def test_exports_are_sorted_and_complete() -> None:
    assert shardctl.__all__ == sorted(shardctl.__all__)
    public = {
        name
        for name, value in vars(shardctl).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == "shardctl"
    }
    assert public | {"__version__"} == set(shardctl.__all__)


def test_no_module_is_a_drawer_for_anything() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "constants"}
    found = [
        path for path in REPOSITORY.glob("shardctl/**/*.py") if path.stem in drawers or path.parent.name in drawers
    ]
    assert found == []


def test_modules_say_what_lives_in_them() -> None:
    silent = [
        str(path.relative_to(REPOSITORY))
        for path in REPOSITORY.glob("shardctl/**/*.py")
        if path.stat().st_size and not path.read_text(encoding="utf-8").startswith('"""')
    ]
    assert silent == []


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_have_help_and_so_have_their_options(name: str) -> None:
    command = COMMANDS[name]
    first_line = command.help.splitlines()[0]
    assert len(first_line) <= 70
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name} {parameter.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_live_in_the_module_of_their_name(name: str) -> None:
    module = COMMANDS[name].callback.__module__.removeprefix("shardctl.cli.")
    # A group has a folder: its own command is in `run`, or it has none; a command may be in a group and at the top.
    assert module in (name.replace(" ", "."), f"{name}.run", f"{name}.group", name.rpartition(" ")[2])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name: str) -> None:
    assert f"shardctl {name}" in (REPOSITORY / "README.md").read_text(encoding="utf-8")


def complete(workspace: Workspace, words: str, *, shell: str = "bash") -> list[str]:
    environ = {"_SHARDCTL_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        environ |= {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    else:
        environ |= {"_TYPER_COMPLETE_ARGS": words}
    done = subprocess.run(
        [sys.executable, "-m", "shardctl"],
        cwd=workspace.folder,
        env=workspace.full_environ() | environ,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_knows_commands_shards_labels_and_classes(weather: Workspace) -> None:
    assert complete(weather, "shardctl ") == [
        "init",
        "migrate",
        "status",
        "history",
        "drift",
        "query",
        "explain",
        "exec",
        "locate",
        "choosers",
        "audit",
        "stats",
        "shards",
    ]
    assert complete(weather, "shardctl shards --shard ") == ["north_america", "asia", "europe", "south_america"]
    assert complete(weather, "shardctl migrate --exclude a") == ["asia"]
    assert complete(weather, "shardctl migrate --label w") == ["wave=canary"]
    assert complete(weather, "shardctl locate ") == ["WeatherLocation", "Report"]
    assert complete(weather, "shardctl locate W") == ["WeatherLocation"]
    assert "asia" in " ".join(complete(weather, "shardctl shards --shard a", shell="zsh"))


def test_completion_takes_the_shard_map_that_is_named(weather: Workspace, tmp_path: Path) -> None:
    weather.write("other.toml", '[shards.mars]\nurl = "sqlite:///mars.db"\n')
    assert complete(weather, "shardctl shards -c other.toml --shard ") == ["mars"]


@pytest.mark.parametrize("text", ["", "not toml", "[shards.a]\n"])
def test_completion_is_silent_about_a_wrong_shard_map(text: str, workspace: Workspace) -> None:
    workspace.write("shardctl.toml", text)
    assert complete(workspace, "shardctl shards --shard ") == []
    assert complete(workspace, "shardctl locate ") == []
