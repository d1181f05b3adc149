"""The sharding examples that SQLAlchemy ships work as they are; their databases are in files, or in memory."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy
from typer.testing import CliRunner

from shardctl.cli.app import app as command_line
from tests.fixtures.cli import Workspace

CACHE = Path(__file__).parents[2] / ".cache" / "sqlalchemy"
DOWNLOAD_S = 300

IN_MEMORY = 'create_engine("sqlite://", echo=echo)'
SAVED_ROWS = {"north_america": 2, "asia": 1, "europe": 2, "south_america": 2}


@pytest.fixture(scope="session")
def originals() -> Path:
    """The folder with SQLAlchemy's own sharding examples, of the version that is installed."""
    version = sqlalchemy.__version__
    folder = CACHE / version
    if not (folder / "separate_tables.py").is_file():
        try:
            CACHE.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=CACHE) as download:
                extract_examples(download_sources(version, Path(download)), folder)
        except (subprocess.SubprocessError, OSError, StopIteration) as error:
            reason = f"SQLAlchemy {version}'s source distribution cannot be had: {type(error).__name__}"
            if os.environ.get("CI"):
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)
    return folder


def download_sources(version: str, into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", f"sqlalchemy=={version}", "--no-binary", "sqlalchemy"]
    subprocess.run([*command, "--no-deps", "-d", str(into)], check=True, capture_output=True, timeout=DOWNLOAD_S)
    return next(into.glob("*.tar.gz"))


def extract_examples(archive: Path, folder: Path) -> None:
    """Take the examples out of an archive, under names that hide nothing of the standard library."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as members:
        for member in members:
            path = Path(member.name)
            if path.parts[1:3] == ("examples", "sharding") and path.suffix == ".py":
                content = members.extractfile(member)
                assert content is not None
                name = {"asyncio.py": "asyncio_shards.py"}.get(path.name, path.name)
                partial = folder / f"{name}.{os.getpid()}"
                partial.write_bytes(content.read())
                partial.replace(folder / name)


def on_files(source: str, name: str) -> str:
    """Put an example's databases into files.

    Its id generator opens a second connection within the flush, which a file would lock out: one connection for each
    thread, as the databases in memory have.
    """
    assert IN_MEMORY in source
    for number in range(source.count(IN_MEMORY)):
        engine = f'create_engine("sqlite:///{name}_{number}.db", echo=echo, poolclass=SingletonThreadPool)'
        source = source.replace(IN_MEMORY, engine, 1)
    return source.replace("from sqlalchemy import select\n", "from sqlalchemy import select, SingletonThreadPool\n", 1)


@pytest.fixture(params=["separate_databases", "separate_tables"])
def original(request: pytest.FixtureRequest, originals: Path, workspace: Workspace) -> Workspace:
    """A folder with an example as `example:Session`, its databases in files."""
    source = (originals / f"{request.param}.py").read_text()
    workspace.write("example.py", on_files(source, request.param))
    workspace.environ["SHARDCTL_APP"] = "example:Session"
    return workspace


@pytest.fixture
def schemas(originals: Path, workspace: Workspace) -> Workspace:
    """The example with schemas, which makes its files anew whenever it is imported."""
    workspace.write("separate_schema_translates.py", (originals / "separate_schema_translates.py").read_text())
    workspace.write("example.py", "from separate_schema_translates import *\n\nmain()\n")
    workspace.environ["SHARDCTL_APP"] = "example:Session"
    return workspace


def data(workspace: Workspace, arguments: str, *, code: int = 0) -> dict[str, object]:
    """Run shardctl, and return its standard output, which must be JSON and nothing else."""
    ended = workspace.shardctl(f"{arguments} --format json")
    assert ended.code == code, ended.stderr
    return json.loads(ended.stdout)


def found(document: dict[str, object]) -> list[tuple[str, str]]:
    return [(row["shard"], row["verdict"]) for row in document["rows"]]


def rows_of(overview: dict[str, object], table: str) -> dict[str, int]:
    return {row["shard"]: row["rows"] for row in overview["rows"] if row["table"] == table}


@pytest.mark.slow
def test_originals_on_files(original):
    needs = data(original, "init --dry-run")["rows"]
    assert [row["missing"] for row in needs] == ["file, 3 tables"] * 4
    made = data(original, "init --yes")["rows"]
    assert {row["outcome"] for row in made} == {"created"}
    assert data(original, "init --dry-run")["rows"][0]["missing"] == "nothing"
    assert {row["outcome"] for row in data(original, "init")["rows"]} == {"unchanged"}

    assert original.run("python example.py").code == 0

    assert [row["reachable"] for row in data(original, "shards")["rows"]] == ["yes"] * 4
    assert found(data(original, "locate WeatherLocation 1")) == [("asia", "ok")]
    three = [("north_america", "ok"), ("asia", "ok"), ("south_america", "ok")]
    assert found(data(original, "locate Report 1")) == three
    assert found(data(original, "locate Report --by temperature=80")) == [("asia", "ok")]
    routing = data(original, "locate WeatherLocation 1 --routing")["routing"]
    everywhere = "north_america, asia, europe, south_america"
    assert routing == [{"primary_key": [1], "identity_chooser": everywhere, "execute_chooser": everywhere}]
    assert data(original, "locate WeatherLocation 999", code=1)["missing"] == [[999]]


@pytest.mark.slow
def test_choosers_of_originals_are_clean(original):
    assert original.run("python example.py").code == 0
    found = data(original, "choosers lint")
    assert found["rows"] == []
    assert found["stored"] == sum(SAVED_ROWS.values()) + 3
    assert data(original, "choosers lint --no-rows")["rows"] == []


@pytest.mark.slow
def test_query_of_originals_on_files(original):
    assert original.run("python example.py").code == 0
    prefix = "_prefix__" if "_prefix__" in (original.folder / "example.py").read_text() else ""

    cities = data(original, f'query "select city from {prefix}weather_locations order by city desc limit 3"')["rows"]
    assert [row["city"] for row in cities] == ["Toronto", "Tokyo", "Quito"]
    count = data(original, f'query "select count(*) as n, avg(temperature) as t from {prefix}weather_reports"')["rows"]
    assert count == [{"n": 3, "t": 80.0}]
    europe = data(original, "query WeatherLocation --where \"continent = 'Europe'\"")["rows"]
    assert {row["city"] for row in europe} == {"London", "Dublin"}
    assert rows_of(data(original, "query"), f"{prefix}weather_locations") == SAVED_ROWS


@pytest.mark.slow
def test_original_with_schemas(schemas):
    assert [row["reachable"] for row in data(schemas, "shards")["rows"]] == ["yes"] * 4
    assert {row["outcome"] for row in data(schemas, "init")["rows"]} == {"unchanged"}
    all_four = [(name, "ok") for name in SAVED_ROWS]
    assert found(data(schemas, "locate WeatherLocation 1")) == all_four
    located = data(schemas, "locate Report 1 --routing")
    assert found(located) == [(name, "ok") for name in ("north_america", "asia", "south_america")]
    assert located["routing"][0]["identity_chooser"] == "raised NotImplementedError"
    rows = data(schemas, 'query "select city from weather_locations order by city limit 2"')["rows"]
    assert [row["city"] for row in rows] == ["Brasila", "Dublin"]
    assert rows_of(data(schemas, "query"), "weather_locations") == SAVED_ROWS


def test_original_with_schemas_before_its_tables_are_made(schemas):
    schemas.environ["SHARDCTL_APP"] = "separate_schema_translates:Session"
    (schemas.folder / "example.py").unlink()

    made = data(schemas, "init --yes")["rows"]

    assert [(row["created"], row["outcome"]) for row in made] == [("2 tables", "created")] * 4


def test_original_with_asyncio_is_refused(originals, workspace):
    workspace.write("example.py", (originals / "asyncio_shards.py").read_text())

    ended = workspace.shardctl("locate WeatherLocation 1 --app example:Session")

    assert (ended.code, ended.stdout) == (2, "")
    has_driver = importlib.util.find_spec("greenlet") and importlib.util.find_spec("aiosqlite")
    assert ("makes asynchronous sessions" if has_driver else "importing `example`") in ended.stderr


@pytest.mark.parametrize("name", ["separate_databases", "separate_schema_translates", "separate_tables"])
def test_originals_in_memory(originals, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    unique = f"{name}_in_memory"
    (tmp_path / f"{unique}.py").write_text((originals / f"{name}.py").read_text())
    (tmp_path / f"run_{unique}.py").write_text(f"from {unique} import *\n\nmain()\n")
    before = set(sys.modules)
    try:
        run = CliRunner().invoke(
            command_line, ["locate", "Report", "1", "--format", "json", "--app", f"run_{unique}:Session"]
        )
        assert run.exit_code == 0, run.output
        assert found(json.loads(run.stdout)) == [(shard, "ok") for shard in ("north_america", "asia", "south_america")]
    finally:
        module = sys.modules[unique]
        for shard in module.Session.kw["shards"].values():
            shard.dispose()
        for new in set(sys.modules) - before:
            if unique in new:
                del sys.modules[new]
