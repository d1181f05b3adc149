"""The README is run: every console block, in order, in one fresh copy of the repository."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from shardctl.topology.load import load
from tests.fixtures.cli import REPOSITORY, Workspace, normalised

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
DEMO = "make demo"
NOT_RUN = ("make test",)  # it would run this test


@dataclass(frozen=True)
class Command:
    """A command, and the standard output that the README shows."""

    text: str
    expected: str


def blocks(language: str) -> list[str]:
    return [match["text"] for match in FENCE.finditer(README) if match["language"] == language]


def read_commands(block: str) -> list[Command]:
    """Read `$ command` lines; a command goes on while a quote is open, and what follows is its output."""
    commands: list[Command] = []
    lines = block.splitlines(keepends=True)
    while lines:
        line = lines.pop(0)
        assert line.startswith("$ "), f"a console block begins with a command: {line!r}"
        text = line.removeprefix("$ ")
        while is_open(text):
            text += lines.pop(0)
        until = next((index for index, line in enumerate(lines) if line.startswith("$ ")), len(lines))
        if text.startswith(DEMO):  # it prints the commands that it runs
            until = len(lines)
        commands.append(Command(text.strip(), "".join(lines[:until])))
        lines = lines[until:]
    return commands


def is_open(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return True
    return False


def comparable(text: str, workspace: Workspace) -> list[str]:
    """Return lines without what differs from run to run, and without blank ones at both ends."""
    text = re.sub(r" +\d+\.\d+(?=   (?:upgraded|at head|failed)$)", "   #.#", text, flags=re.MULTILINE)
    text = re.sub(r"^[\w-]+(?= · \d+ shards · )", "NAME", text, flags=re.MULTILINE)  # the folder's name
    return normalised(text.strip("\n"), workspace).splitlines()


def copy_repository(folder: Path) -> None:
    """Copy the files that a clone has."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a clone: git does not list its files")
    for name in filter(None, listing.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)


def stand_in_for_venv(workspace: Workspace) -> None:
    """Make the Makefile take the running environment for the one that it would make."""
    venv = workspace.folder / ".venv"
    shutil.copytree(workspace.commands(), venv / "bin")
    for stamp in (".installed", ".installed-tests"):
        (venv / stamp).touch()


@pytest.mark.slow
def test_the_readme_shows_what_happens(workspace: Workspace) -> None:
    found = [read_commands(block) for block in blocks("console")]
    assert any(found), "the README has no console block"
    copy_repository(workspace.folder)
    stand_in_for_venv(workspace)
    for command in (command for block in found for command in block):
        if command.text.startswith(NOT_RUN):
            continue
        ended = workspace.run(command.text)
        assert comparable(ended.stdout, workspace) == comparable(command.expected, workspace), (
            f"{command.text}\n{ended.stdout}{ended.stderr}"
        )


def test_the_first_screen_has_the_two_commands_of_a_newcomer() -> None:
    first_screen = "\n".join(README.splitlines()[:60])
    assert f"$ {DEMO}" in first_screen
    assert "$ make test" in first_screen


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml_blocks_are_right(text: str, tmp_path: Path) -> None:
    values = tomllib.loads(text)
    if "[shards." in text:
        file = tmp_path / "shardctl.toml"
        file.write_text(text, encoding="utf-8")
        shard_map = load(file, environ=dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "x"))
        assert list(shard_map.shards) == list(values["shards"])


@pytest.mark.parametrize("text", blocks("python"))
def test_python_blocks_are_python(text: str) -> None:
    compile(text, "README.md", "exec")


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []


@pytest.mark.parametrize("path", ["Makefile", "examples/weather/demo.sh"])
def test_what_a_newcomer_runs_is_there(path: str) -> None:
    assert (REPOSITORY / path).is_file()
