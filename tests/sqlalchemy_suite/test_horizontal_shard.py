"""SQLAlchemy's own tests of its sharding extension pass with shardctl's session in the place of ShardedSession."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import sqlalchemy

from tests.engines.test_sqlalchemy_examples import CACHE, download_sources

NEEDED = ("setup.cfg", "test/__init__.py", "test/requirements.py", "test/ext/__init__.py")
SUITE = "test/ext/test_horizontal_shard.py"
PLUGIN = """\
import pytest

pytest.register_assert_rewrite("sqlalchemy.testing.assertions")

from sqlalchemy.testing.plugin.pytestplugin import *
"""
REPLACED = """\
import sqlalchemy.ext.horizontal_shard

from shardctl.query.orm import MergingSession

sqlalchemy.ext.horizontal_shard.ShardedSession = MergingSession
"""
TIMEOUT_S = 900


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with what the suite needs of the source distribution of the version that is installed."""
    version = sqlalchemy.__version__
    archive = CACHE / f"{version}.tar.gz"
    if not archive.is_file():
        try:
            CACHE.mkdir(parents=True, exist_ok=True)
            partial = archive.with_suffix(f".{os.getpid()}")
            partial.write_bytes(download_sources(version, tmp_path).read_bytes())
            partial.replace(archive)
        except (subprocess.SubprocessError, OSError, StopIteration) as error:
            reason = f"SQLAlchemy {version}'s source distribution cannot be had: {type(error).__name__}"
            if os.environ.get("CI"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
    folder = tmp_path / "suite"
    with tarfile.open(archive) as members:
        for member in members:
            path = Path(*Path(member.name).parts[1:])
            if str(path) in (*NEEDED, SUITE):
                content = members.extractfile(member)
                assert content is not None
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content.read())
    (folder / "conftest.py").write_text(PLUGIN)
    (folder / "test/ext/conftest.py").write_text(REPLACED)
    return folder


@pytest.mark.slow
def test_suite_of_sqlalchemy(sources):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", SUITE]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    path = os.pathsep.join([str(Path(__file__).parents[2]), environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, cwd=sources, env=environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert passed is not None
    assert int(passed[1]) > 150, "the suite has become another one"
