"""What the READMEs of examples/ say to type works, and prints what they show."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.fixtures.cli import REPOSITORY, Workspace, normalised

READMES = sorted((REPOSITORY / "examples").glob("*/README.md"))


def run_block(block: str, workspace: Workspace) -> str:
    """Run the commands of a console block, and return it with what they print."""
    shown = []
    for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
        if command.startswith("export "):
            name, _, value = command.removeprefix("export ").partition("=")
            workspace.environ[name] = value
            shown.append(f"$ {command}\n")
            continue
        ended = workspace.run(command)
        assert ended.code == 0, ended.stderr
        shown.append(f"$ {command}\n{ended.stdout}")
    return "\n".join(shown)


@pytest.mark.slow
@pytest.mark.parametrize("readme", READMES, ids=lambda readme: readme.parent.name)
def test_readme(readme: Path, workspace: Workspace):
    ignored = shutil.ignore_patterns("__pycache__", "data")
    shutil.copytree(REPOSITORY / "examples", workspace.folder / "examples", ignore=ignored)
    text = readme.read_text()

    ran = re.sub(
        r"(?<=^```console\n).*?(?=^```$)", lambda block: run_block(block[0], workspace), text, flags=re.M | re.S
    )

    if os.environ.get("SHARDCTL_UPDATE_TRANSCRIPTS"):
        readme.write_text(ran)
    assert normalised(ran, workspace) == normalised(text, workspace)


def test_every_example_says_what_to_type():
    folders = {path.parent for path in (REPOSITORY / "examples").glob("*/*.*") if "__pycache__" not in path.parts}
    assert {readme.parent for readme in READMES} == folders - {REPOSITORY / "examples" / "weather"}
