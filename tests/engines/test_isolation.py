"""Shards upgraded in processes of their own: the same results, and nothing in common but the database server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import inspect, make_url

from shardctl.errors import Interrupted, Refused, ShardctlError
from shardctl.fleet import Fleet
from shardctl.schema.apply import upgrade
from shardctl.schema.goals import UPGRADE_TO_HEAD
from shardctl.schema.isolation import Isolation
from shardctl.schema.results import MigrationFailed
from shardctl.schema.revisions import read_revisions
from tests.fixtures.apps import Opener, open_app
from tests.fixtures.cli import Workspace
from tests.fixtures.engines import Databases
from tests.fixtures.histories import SHARD_TAG, Revision, busy_history, state_of, write_history
from tests.fixtures.projects import GENERIC_ENV, Project, create_places, in_shard, place_shards

__all__ = ["open_app"]

pytestmark = pytest.mark.slow  # an interpreter for each shard

CITIES = "op.create_table('cities', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('number', sa.Integer()))"
LONG = {
    "postgresql": "select pg_sleep(6)",
    "mysql": "select sleep(6)",
    "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n where i < 40000000) select max(i) from n",
}
WAIT_S = 30


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    return made


def shards(project: Project, databases: Databases, *names: str) -> Fleet:
    kind = "files" if databases.engine == "sqlite" else "databases"
    place_shards(project, f"{databases.engine} {kind}", databases, list(names))
    fleet = project.open()
    create_places(fleet, databases)
    return fleet


class Lines:
    """What children wrote to standard error."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def __call__(self, shard_id: str, line: str) -> None:
        self.all.append((shard_id, line))


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_state_that_a_process_keeps_is_not_shared(
    project: Project, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = shards(project, databases, "asia", "europe", "africa")
    (project.folder / "counting.py").write_text("import itertools\n\nnumbers = itertools.count(1)\n")
    project.write_env("import os, sys\nsys.path.append(os.getcwd())\nprint('env.py ran')\n" + GENERIC_ENV)
    count = "from counting import numbers\n\nop.execute(f'insert into cities values (1, {next(numbers)})')"
    write_history(project.migrations, [Revision("r1", None, CITIES), Revision("r2", "r1", count)])
    scripts, lines = project.scripts(), Lines()
    isolation = Isolation(fleet, lines)
    monkeypatch.chdir(project.folder)

    outcomes = list(fleet.fan_out(lambda shard: isolation.upgrade(shard, scripts), jobs=2))

    assert [outcome.problem for outcome in outcomes if not outcome.is_ok] == []
    assert {(outcome.result.from_, outcome.result.to, outcome.result.applied) for outcome in outcomes} == {
        ((), ("r2",), ("r1", "r2"))
    }
    assert [in_shard(live, "select number from cities") for live in fleet.shards.values()] == [[(1,)]] * 3
    assert sorted(lines.all) == [(name, "env.py ran") for name in sorted(fleet.shards)]
    assert {isolation.upgrade(live, scripts).outcome for live in fleet.shards.values()} == {"at head"}
    assert isolation.processes == {}


def test_a_busy_history_ends_as_in_this_process(project: Project, databases: Databases) -> None:
    fleet = shards(project, databases, "asia", "europe")
    asia, europe = fleet.shards.values()
    write_history(project.migrations, busy_history(["europe"], at_first_statement=True))
    scripts = project.scripts()
    isolation = Isolation(fleet, Lines())

    assert isolation.upgrade(asia, scripts).to == ("r5",)
    assert state_of(asia)["cities"]["rows"][1][1] == "asia 10"
    with pytest.raises(MigrationFailed) as apart:
        isolation.upgrade(europe, scripts)
    with pytest.raises(MigrationFailed) as here:
        upgrade(europe, scripts)
    # The second found r1 to r3 done.
    assert (apart.value.from_, here.value.from_) == ((), ("r3",))
    assert {**vars(apart.value), "from_": ("r3",)} == vars(here.value)
    assert apart.value.revision == "r4"


def test_refusals_are_those_of_the_shard(project: Project, databases: Databases) -> None:
    fleet = shards(project, databases, "asia")
    write_history(project.migrations, [Revision("r1", None, CITIES)])
    in_shard(fleet.shards["asia"], "create table strange (id int)")
    with pytest.raises(Refused, match="the shard has 1 table and no revision") as refused:
        Isolation(fleet, Lines()).upgrade(fleet.shards["asia"], project.scripts())
    assert "stamp" in str(refused.value.hint)


def test_a_process_that_is_killed_is_its_shards_failure(project: Project, databases: Databases) -> None:
    fleet = shards(project, databases, "asia", "europe")
    die = (
        "import os, signal\nif context.config.attributes['shard'] == 'asia':\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    write_history(
        project.migrations,
        [
            Revision("r1", None, CITIES),
            Revision("r2", "r1", f"op.add_column('cities', sa.Column('x', sa.Integer()))\n{die}"),
        ],
    )
    scripts = project.scripts()
    isolation = Isolation(fleet, Lines())

    outcomes = {found.shard_id: found for found in fleet.fan_out(lambda shard: isolation.upgrade(shard, scripts))}

    assert outcomes["europe"].result.to == ("r2",)
    error = outcomes["asia"].error
    assert isinstance(error, MigrationFailed)
    assert (error.message, error.to) == ("revision `r2`: its process was killed by SIGKILL", ("r1",))
    half = "mysql rolls back no CREATE or ALTER: `r2` may be half applied; still at `r1`"
    assert error.facts == (half if databases.engine == "mysql" else "rolled back: still at `r1`",)
    assert error.is_half_done is (databases.engine == "mysql")
    with fleet.shards["asia"].connect() as connection:
        columns = {column["name"] for column in inspect(connection).get_columns("cities")}
    assert columns == ({"id", "number", "x"} if databases.engine == "mysql" else {"id", "number"})


def test_a_process_that_exits_is_its_shards_failure(project: Project, databases: Databases) -> None:
    fleet = shards(project, databases, "asia")
    write_history(project.migrations, [Revision("r1", None, "import os\nos._exit(7)")])
    with pytest.raises(
        MigrationFailed, match=r"^revision `r1`: its process ended with exit code 7 before it was done"
    ) as failed:
        Isolation(fleet, Lines()).upgrade(fleet.shards["asia"], project.scripts())
    assert failed.value.to == ()


@pytest.mark.slow
def test_told_to_stop_it_rolls_back_or_finishes_the_revision(project: Project, databases: Databases) -> None:
    fleet = shards(project, databases, "asia")
    asia = fleet.shards["asia"]
    long = f"import sys\nprint('begun', file=sys.stderr, flush=True)\nop.execute({LONG[databases.engine]!r})"
    write_history(project.migrations, [Revision("r1", None, f"{CITIES}\n{long}"), Revision("r2", "r1", "pass")])
    lines, stop, raised = Lines(), threading.Event(), []

    def run() -> None:
        try:
            Isolation(fleet, lines).upgrade(asia, project.scripts(), stop=stop)
        except ShardctlError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: ("asia", "begun") in lines.all)
    time.sleep(0.3)
    stop.set()
    thread.join(WAIT_S)

    (error,) = raised
    with asia.connect() as connection:
        left = read_revisions(connection), inspect(connection).has_table("cities")
    if databases.engine == "mysql":
        assert isinstance(error, Interrupted)
        assert left == (("r1",), True)
    else:
        assert left == ((), False)


@pytest.mark.slow
def test_a_child_outlives_its_parent_only_to_leave_the_shard_whole(project: Project, databases: Databases) -> None:
    fleet = shards(project, databases, "asia")
    long = (
        f"import os, pathlib\npathlib.Path('pid').write_text(str(os.getpid()))\nop.execute({LONG[databases.engine]!r})"
    )
    write_history(project.migrations, [Revision("r1", None, f"{CITIES}\n{long}"), Revision("r2", "r1", "pass")])
    code = (
        "import shardctl\n"
        "from shardctl.schema.isolation import Isolation\n"
        "from shardctl.schema.revisions import load_scripts\n"
        "fleet = shardctl.open('shardctl.toml')\n"
        "scripts = load_scripts(fleet.shard_map.migrations, where='')\n"
        "Isolation(fleet, print).upgrade(fleet.shards['asia'], scripts)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=project.folder)
    pid_file = project.folder / "pid"
    wait_until(lambda: pid_file.exists() and pid_file.read_text() != "")
    time.sleep(0.3)
    parent.send_signal(signal.SIGKILL)
    parent.wait()

    wait_until(lambda: not is_running(int(pid_file.read_text())))
    with fleet.shards["asia"].connect() as connection:
        left = read_revisions(connection), inspect(connection).has_table("cities")
    assert left == ((("r1",), True) if databases.engine == "mysql" else ((), False))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # Nobody may have taken note of its end yet.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_passwords_are_in_no_list_of_processes(project: Project, postgresql: Databases) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc to look at")
    url = postgresql.create("asia")
    password = make_url(url).password or "hunter2"
    project.shards["asia"] = {"url": make_url(url).set(password=password).render_as_string(hide_password=False)}
    look = (
        "import pathlib\n"
        "seen = b''.join(pathlib.Path('/proc/self', name).read_bytes() for name in ('cmdline', 'environ'))\n"
        "assert b'shardctl.schema.isolation' in seen\n"
        f"assert {password.encode()!r} not in seen\n"
        f"assert {password.encode()!r} in op.get_bind().engine.url.render_as_string(hide_password=False).encode()\n"
    )
    write_history(project.migrations, [Revision("r1", None, look)])
    fleet = project.open()

    result = Isolation(fleet, Lines()).upgrade(fleet.shards["asia"], project.scripts(), UPGRADE_TO_HEAD)

    assert result.to == ("r1",)


def test_a_shard_in_memory_is_refused(project: Project, open_app: Opener) -> None:
    fleet = open_app(
        "made = sessionmaker(class_=ShardedSession, shards={'one': create_engine('sqlite://')}, **choosers)"
    )
    write_history(project.migrations, [Revision("r1", None, CITIES)])
    with pytest.raises(Refused, match="in the memory of this process"):
        Isolation(fleet, Lines()).upgrade(fleet.shards["one"], project.scripts())


@pytest.mark.slow
def test_interrupted_command_line_leaves_whole_shards(workspace: Workspace, databases: Databases) -> None:
    project = Project(workspace.folder)
    project.write_env()
    fleet = shards(project, databases, "asia", "europe")
    long = f"op.execute({LONG[databases.engine]!r})\nimport pathlib, os\npathlib.Path(tag).write_text(str(os.getpid()))"
    write_history(
        project.migrations,
        [
            Revision("r1", None, f"{CITIES}\nimport pathlib\npathlib.Path('begun').touch()\n{SHARD_TAG}{long}"),
            Revision("r2", "r1", "pass"),
        ],
    )
    process = workspace.start(
        "migrate", "--all-shards", "--yes", "--isolate", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until(lambda: (workspace.folder / "begun").exists())
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=WAIT_S)

    assert process.returncode == 130, stderr
    assert b"interrupted" in stderr
    for live in fleet.shards.values():
        with live.connect() as connection:
            assert inspect(connection).has_table("cities") is bool(read_revisions(connection))
            if databases.engine != "mysql":
                assert read_revisions(connection) == ()
