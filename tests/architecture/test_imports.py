"""Who may import whom, and what must not be imported to answer quickly."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.cli import REPOSITORY, Workspace
from tests.fixtures.projects import Project

HEAVY = ("sqlalchemy", "alembic", "duckdb", "sqlglot", "rich", "pydantic", "prompt_toolkit", "psycopg", "pymysql")
UNUSED = ("sqlalchemy.orm", "sqlglot", "rich.console", "pydantic", "prompt_toolkit")
"""What migrations of SQLite shards have no use for, as long as nobody watches."""

REPORT = """
import json, os, sys
from shardctl.cli.app import app

read, write = os.pipe()
os.dup2(write, 1)
try:
    app(sys.argv[1:], prog_name="shardctl")
except SystemExit as ended:
    code = ended.code
sys.stdout.flush()
os.close(write)
os.write(2, json.dumps([code, sorted(set(%r) & set(sys.modules))]).encode())
"""


def heavy_imports(workspace: Workspace, *arguments: str, heavy: tuple[str, ...] = HEAVY, **environ: str) -> list[str]:
    """Run the command line in a process of its own, and return the heavy modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT % (heavy,), *arguments],
        cwd=workspace.folder,
        env=workspace.full_environ() | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, imported = json.loads(done.stderr.splitlines()[-1])
    assert code in (0, None)
    return list(imported)


def test_the_import_contracts_are_kept(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--config", REPOSITORY / "pyproject.toml", "--cache-dir", tmp_path],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


COMMANDS = ["init", "migrate", "status", "history", "drift", "query", "locate", "choosers", "audit", "stats", "shards"]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)], ids=" ".join
)
def test_help_and_version_import_nothing_heavy(arguments: list[str], workspace: Workspace) -> None:
    assert heavy_imports(workspace, *arguments) == []


@pytest.mark.parametrize("words", ["shardctl ", "shardctl locate ", "shardctl shards --shard "])
def test_completion_imports_nothing_heavy(words: str, weather: Workspace) -> None:
    environ = {"_SHARDCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert heavy_imports(weather, **environ) == []


def test_migrate_imports_nothing_that_it_does_not_use(workspace: Workspace) -> None:
    project = Project(workspace.folder, {"asia": {"url": "sqlite:///asia.db"}})
    project.init("generic")
    project.write_revision("r1", None, "op.create_table('cities', sa.Column('id', sa.Integer(), primary_key=True))")
    project.write_shard_map()
    (workspace.folder / "asia.db").touch()
    options = ["--all-shards", "--yes", "--jobs", "4", "--pause", "0.0", "--on-error", "continue"]
    assert heavy_imports(workspace, "migrate", *options, heavy=UNUSED) == []
    with sqlite3.connect(workspace.folder / "asia.db") as connection:
        assert connection.execute("select * from alembic_version").fetchall() == [("r1",)]


def test_a_heavy_import_would_be_seen(filled: Workspace) -> None:
    assert "sqlalchemy" in heavy_imports(filled, "shards")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, shardctl; assert not set({HEAVY!r}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def run_tool(name: str, *arguments: str) -> None:
    program = Path(sys.executable).with_name(name)
    if not program.exists() and shutil.which(name) is None:
        pytest.skip(f"no {name} here: pip install 'shardctl[test]'")
    command = [program if program.exists() else name, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_ruff_finds_nothing() -> None:
    run_tool("ruff", "check", "--no-cache", ".")


@pytest.mark.slow
def test_everything_is_formatted() -> None:
    run_tool("ruff", "format", "--check", "--no-cache", ".")


@pytest.mark.slow
def test_mypy_finds_nothing(tmp_path: Path) -> None:
    run_tool("mypy", "--strict", "--cache-dir", str(tmp_path), "-p", "shardctl")
