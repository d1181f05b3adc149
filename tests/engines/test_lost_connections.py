"""What a person sees when a server takes connections away."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.fixtures.cli import Workspace
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, create_places, place_shards
from tests.fixtures.servers import CannotStart, start

OTHERS = """\
bind = op.get_bind()
for other in bind.execute(sa.text(
    "select id from information_schema.processlist where db = database() and id <> connection_id()"
)).scalars().all():
    op.execute(f"kill {other}")
"""


def workspace(project: Project, databases: Databases) -> Workspace:
    place_shards(project, f"{databases.engine} databases", databases, ["asia"])
    with project.open() as fleet:
        create_places(fleet, databases)
    return Workspace(project.folder)


@pytest.mark.parametrize("isolate", ["", "--isolate"])
def test_a_connection_of_env_py_that_is_lost_is_nothing_to_print(
    tmp_path: Path, mysql: Databases, isolate: str
) -> None:
    project = Project(tmp_path / "project")
    project.write_env()
    project.write_revision("r1", None, OTHERS)
    ended = workspace(project, mysql).shardctl(f"migrate --all-shards --yes {isolate}")
    assert ended.code == 0
    assert "upgraded" in ended.stdout
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_server_that_is_lost_leaves_what_is_said(tmp_path: Path, engine: str) -> None:
    try:
        server = start(engine)
    except CannotStart as error:
        pytest.skip(str(error))
    project = Project(tmp_path / "project")
    project.write_env()
    end = {"postgresql": "SIGQUIT", "mysql": "SIGKILL"}[engine]
    lose = f"import os, signal, time\nos.kill({server.process.pid}, signal.{end})\ntime.sleep(0.5)"
    project.write_revision("r1", None, f"op.execute('create table cities (id int)')\n{lose}\nop.execute('select 1')")
    with create_engine(server.url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("create database asia"))
    project.shards["asia"] = {"url": server.url.set(database="asia").render_as_string(hide_password=False)}
    project.write_shard_map()

    ended = Workspace(project.folder).shardctl("migrate --all-shards --yes")

    assert ended.code == 3
    extent = {"postgresql": "is there as a whole, or not at all", "mysql": "may be half applied"}[engine]
    left = f"    `r1` {extent}; the shard's revision cannot be read now: cannot connect to "
    assert [line for line in ended.stderr.splitlines() if line.startswith(left)], ended.stderr
    assert "run the same command again" in ended.stderr
