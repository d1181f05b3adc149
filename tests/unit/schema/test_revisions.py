"""A migrations directory: what is read from it, and what is wrong with it."""

from __future__ import annotations

import sys
from inspect import signature
from pathlib import Path

import pytest
from alembic.config import Config

from shardctl.errors import ConfigError, Refused, UnknownName
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.revisions import load_scripts
from tests.fixtures.projects import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    return made


def failure(project: Project) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        project.scripts()
    return caught.value


def test_no_directory_is_configured() -> None:
    with pytest.raises(ConfigError, match=r"shardctl.toml: no `migrations`"):
        load_scripts(None, where="shardctl.toml")


def test_directory_is_missing(tmp_path: Path) -> None:
    error = failure(Project(tmp_path))
    assert error.message == f"shardctl.toml: there is no directory `{tmp_path}/migrations`"
    assert error.hint == "`alembic init migrations` makes one"


def test_env_py_is_missing(project: Project) -> None:
    (project.migrations / "env.py").unlink()
    assert failure(project).message == f"shardctl.toml: no `env.py` in `{project.migrations}`"


def test_no_revision_yet(project: Project) -> None:
    scripts = project.scripts()
    assert (scripts.heads, scripts.resolve("head"), scripts.pending(Goal(target="head"), ())) == ((), (), ())


@pytest.mark.parametrize(
    ("direction", "target", "revisions", "message"),
    [
        ("upgrade", "+3", (), "cannot go `+3` from `base`: only 2 revisions lie ahead"),
        ("upgrade", "+2", ("r1",), "cannot go `+2` from `r1`: only 1 revision lies ahead"),
        ("downgrade", "-1", (), "cannot go `-1` from `base`: no revision lies behind"),
        ("upgrade", "r1+5", (), "`r1+5` cannot be reached from `base`"),  # Alembic fails an assertion
        (
            "downgrade",
            "r2",
            ("r1",),
            "`r2` cannot be reached from `r1`: Destination r2 is not a valid",
        ),
    ],
)
def test_a_target_out_of_reach(
    project: Project, direction: str, target: str, revisions: tuple[str, ...], message: str
) -> None:
    project.write_revision("r1", None, "pass")
    project.write_revision("r2", "r1", "pass")
    scripts, goal = project.scripts(), Goal(Direction(direction), target)
    scripts.check(goal)
    with pytest.raises(Refused) as caught:
        scripts.steps(goal, revisions)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("goal", "hint"),
    [
        (Goal(Direction.UPGRADE, "-1"), "`shardctl migrate downgrade -1` does"),
        (Goal(Direction.DOWNGRADE, "+1"), "`shardctl migrate --to +1` does"),
        (Goal(Direction.STAMP, "+1"), "name the revision: `shardctl migrate log` lists them"),
        (Goal(Direction.STAMP, "+1", purges=True), "name the revision: `shardctl migrate log` lists them"),
    ],
)
def test_a_count_that_leads_the_wrong_way(project: Project, goal: Goal, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        project.scripts().check(goal)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("op.execute(", "migrations: `r1.py` cannot be loaded: SyntaxError: "),
        ("pass\nimport nothing_of_that_name", "cannot be loaded"),
        ("pass\nraise SystemExit(3)", "migrations: `r1.py` cannot be loaded: SystemExit: 3"),
    ],
)
def test_broken_revision(project: Project, body: str, message: str) -> None:
    file = project.write_revision("r1", None, "pass")
    file.write_text(file.read_text().replace("import sqlalchemy as sa", body))
    error = failure(project)
    assert error.message.startswith("migrations: `r1.py` cannot be loaded: ")
    assert message in error.message


def test_revision_refers_to_one_that_is_missing(project: Project) -> None:
    project.write_revision("r2", "r1", "pass")
    assert "r1" in failure(project).message
    assert "is not present" in failure(project).message


def test_revision_is_there_twice(project: Project) -> None:
    project.write_revision("r1", None, "pass")
    project.write_revision("r1", None, "pass", name="copy")
    assert failure(project).message == "migrations: Revision r1 is present more than once"


def test_two_heads(project: Project) -> None:
    project.write_revision("r1", None, "pass")
    project.write_revision("r2a", "r1", "pass")
    project.write_revision("r2b", "r1", "pass")
    scripts = project.scripts()
    with pytest.raises(ConfigError, match="migrations: 2 heads: `r2a`, `r2b`") as caught:
        scripts.resolve("head")
    assert (
        caught.value.hint
        == "`shardctl migrate --to heads` brings shards to all of them; `alembic merge heads` makes them one"
    )
    assert scripts.resolve("heads") == ("r2a", "r2b")
    assert sorted(scripts.pending(Goal(target="heads"), ("r1",))) == ["r2a", "r2b"]


def test_targets(project: Project) -> None:
    project.write_revision("abc1", None, "pass")
    project.write_revision("def2", "abc1", "pass")
    project.write_revision("ghi3", "def2", "pass")
    scripts = project.scripts()
    assert scripts.resolve("head") == ("ghi3",)
    assert scripts.resolve("def") == ("def2",)
    assert scripts.pending(Goal(target="head"), ()) == ("abc1", "def2", "ghi3")
    assert scripts.pending(Goal(target="def2"), ("abc1",)) == ("def2",)
    assert scripts.pending(Goal(target="abc1"), ("def2",)) == ()
    with pytest.raises(UnknownName, match="migrations: no revision `deff`"):
        scripts.resolve("deff")


def test_the_ini_whose_script_location_this_is(project: Project) -> None:
    ini = project.folder / "alembic.ini"
    ini.write_text("[other]\nscript_location = elsewhere\n[billing]\nscript_location = migrations\ncolour = green\n")
    scripts = project.scripts()
    assert (scripts.settings.ini, scripts.settings.section) == (ini, "billing")
    assert scripts.settings.new_config().get_main_option("colour") == "green"
    assert scripts.settings.alembic_command("current") == f"alembic -c {ini} -n billing current"

    ini.write_text("[alembic]\nscript_location = elsewhere\n")
    assert project.scripts().settings.ini is None

    beside = project.migrations / "alembic.ini"
    beside.write_text("[alembic]\nscript_location = %(here)s\n")
    assert project.scripts().settings.ini == beside


def test_broken_ini(project: Project) -> None:
    (project.folder / "alembic.ini").write_text("[alembic\n")
    assert failure(project).message.startswith("alembic.ini: ")


def test_sys_path_grows_once_and_is_absolute(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.folder / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\nprepend_sys_path = .\npath_separator = os\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = list(sys.path)
    project.scripts()
    project.scripts()
    assert sys.path == [str(project.folder), *before]


def test_percent_sign_in_the_folder(tmp_path: Path) -> None:
    project = Project(tmp_path / "100%(done)s")
    project.folder.mkdir()
    project.write_env()
    project.write_revision("r1", None, "pass")
    assert project.scripts().heads == ("r1",)


def test_settings_in_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "toml_file" not in signature(Config).parameters:
        pytest.skip("this Alembic reads no pyproject.toml")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    project = Project(tmp_path)
    project.init("pyproject")
    (tmp_path / "more").mkdir()
    text = (tmp_path / "pyproject.toml").read_text()
    assert "[tool.alembic]" in text
    (tmp_path / "pyproject.toml").write_text(text + '\nversion_locations = ["%(here)s/more"]\n')
    project.write_revision("r1", None, "pass", name="../../more/r1")
    scripts = project.scripts()
    assert (scripts.settings.ini, scripts.settings.pyproject) == (tmp_path / "alembic.ini", tmp_path / "pyproject.toml")
    assert scripts.heads == ("r1",)
    assert sys.path[0] == str(tmp_path)


def test_without_settings_the_folder_beside_is_importable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert not project.scripts().settings.is_found
    assert sys.path[0] == str(project.folder)
