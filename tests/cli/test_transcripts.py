"""Every transcript says what really happens: see tests/fixtures/cli.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fixtures.cli import Workspace, read_transcript

TRANSCRIPTS = Path(__file__).parent / "transcripts"
FILES = [
    pytest.param(
        file,
        id=str(file.relative_to(TRANSCRIPTS).with_suffix("")),
        marks=[pytest.mark.slow] if "\n==== slow\n" in file.read_text(encoding="utf-8") else [],
    )
    for file in sorted(TRANSCRIPTS.rglob("*.txt"))
]


@pytest.mark.parametrize("file", FILES)
def test_transcript(file: Path, workspace: Workspace, request: pytest.FixtureRequest) -> None:
    text = file.read_text(encoding="utf-8")
    transcript = read_transcript(text)
    if transcript.project:
        request.getfixturevalue({"weather": "weather", "weather, filled": "filled"}[transcript.project])
    found = transcript.run(workspace)
    if os.environ.get("SHARDCTL_UPDATE_TRANSCRIPTS"):
        file.write_text(found, encoding="utf-8")
    else:
        assert found.splitlines() == text.splitlines()


def test_there_are_transcripts_of_bad_input() -> None:
    assert len(list((TRANSCRIPTS / "errors").glob("*.txt"))) >= 45
