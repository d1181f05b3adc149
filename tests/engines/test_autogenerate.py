"""Revisions written from the models, against shards that are alike: and never with shardctl's own tables in them."""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from alembic import command

from shardctl.errors import ConfigError, Refused, ShardError
from shardctl.fleet import Fleet
from shardctl.schema import history
from shardctl.schema.comparison import find_drift
from shardctl.schema.create import init, plan_init
from shardctl.schema.fingerprint import Fingerprint, read_fingerprints
from shardctl.schema.new_revision import RevisionRequest, choose_shard, needs_shard, write_revision
from shardctl.schema.revisions import Scripts
from tests.fixtures.apps import Opener, open_app
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, create_places, in_shard, place_shards

__all__ = ["open_app"]

MODELS = """
from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, String, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class City(Base):
    __tablename__ = "cities"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
"""
DIRECTORY = """
models = "the_models:Base"
tables.City = { strategy = "directory", key = "name", on = "asia", table = "city_shards", default = "europe" }
"""
ENV = """
from shardctl.schema.environment import run_migrations
from the_models import Base

run_migrations(target_metadata=Base.metadata, include_name=lambda name, type_, parents: name != "legacy")
"""
AUTOGENERATE = RevisionRequest("new", autogenerate=True, rev_id="r1")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "the_models.py").write_text(MODELS)
    made = Project(tmp_path, more=DIRECTORY)
    with redirect_stdout(io.StringIO()):
        made.init("generic")
    made.write_env(ENV)
    yield made
    sys.modules.pop("the_models", None)


def open_fleet(project: Project, databases: Databases) -> Fleet:
    what = "files" if databases.engine == "sqlite" else "databases"
    place_shards(project, f"{databases.engine} {what}", databases, ["asia", "europe"])
    fleet = project.open()
    create_places(fleet, databases)
    return fleet


def read(fleet: Fleet, scripts: Scripts) -> dict[str, Fingerprint]:
    found = {outcome.shard_id: outcome.result for outcome in read_fingerprints(fleet, fleet.shards.values(), scripts)}
    return {name: found[name] for name in fleet.shards}


def write_first(project: Project, fleet: Fleet) -> Scripts:
    """Write the first revision from the models, and bring the shards there."""
    scripts = project.scripts()
    [file] = write_revision(fleet, scripts, AUTOGENERATE, choose_shard(fleet, read(fleet, scripts), scripts))
    text = file.read_text()
    assert text.count("op.create_table(") == 1
    assert "'cities'" in text
    scripts = project.scripts()
    for outcome in init(fleet, fleet.shards.values(), plan_init(fleet, scripts)):
        assert outcome.result.revision == ("r1",)
    return scripts


def add_own_tables(fleet: Fleet) -> None:
    for live in fleet.shards.values():
        history.metadata.create_all(live.engine)
        in_shard(live, "create table legacy (id integer)")


def test_own_tables_and_directories_are_in_no_revision(project: Project, databases: Databases) -> None:
    fleet = open_fleet(project, databases)
    scripts = write_first(project, fleet)
    add_own_tables(fleet)
    in_shard(fleet.shard("asia"), "select count(*) from city_shards")
    found = read(fleet, scripts)
    assert {object_.table for object_ in found["asia"].objects} == {"cities", "legacy"}
    live = choose_shard(fleet, found, scripts)
    request = RevisionRequest("none", autogenerate=True, rev_id="r2")
    assert write_revision(fleet, scripts, request, live) == []
    assert find_drift(fleet, found, scripts).groups == ()


def test_alembic_itself_does_not_see_them_either(
    project: Project, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = open_fleet(project, databases)
    scripts = write_first(project, fleet)
    add_own_tables(fleet)
    monkeypatch.setenv("SHARDCTL_CONFIG", str(project.folder / "shardctl.toml"))
    for name in fleet.shards:
        config = scripts.settings.new_config()
        config.cmd_opts = Namespace(x=[f"shard={name}"])
        with redirect_stdout(io.StringIO()):
            command.check(config)  # raises where it would write a revision


def test_refuses_shards_that_are_behind_or_differ(project: Project, databases: Databases) -> None:
    fleet = open_fleet(project, databases)
    scripts = write_first(project, fleet)
    in_shard(fleet.shard("europe"), "alter table cities add column zip varchar(9)")
    with pytest.raises(Refused) as refused:
        choose_shard(fleet, read(fleet, scripts), scripts)
    assert refused.value.facts == ("europe: column cities.zip unexpected",)

    project.write_revision("r2", "r1", "pass")
    scripts = project.scripts()
    list(init(fleet, [fleet.shard("asia")], plan_init(fleet, scripts)))
    with pytest.raises(Refused) as refused:
        choose_shard(fleet, read(fleet, scripts), scripts)
    assert refused.value.facts == ("europe: at r1",)
    assert choose_shard(fleet, {"asia": read(fleet, scripts)["asia"]}, scripts).shard_id == "asia"


def test_an_empty_revision_needs_no_shard(project: Project, databases: Databases) -> None:
    fleet = open_fleet(project, databases)
    scripts = write_first(project, fleet)
    request = RevisionRequest("fill", rev_id="r2")
    assert not needs_shard(scripts, request)
    [file] = write_revision(fleet, scripts, request, None)
    assert "down_revision" in file.read_text()
    assert project.scripts().heads == ("r2",)


def test_a_revision_that_there_is_already_is_not_written(project: Project, databases: Databases) -> None:
    fleet = open_fleet(project, databases)
    scripts = write_first(project, fleet)
    before = sorted(project.migrations.glob("versions/*.py"))
    with pytest.raises(ConfigError, match="there is a revision `r1` already"):
        write_revision(fleet, scripts, RevisionRequest("again", rev_id="r1"), None)
    with pytest.raises(ConfigError, match="migrations: "):
        write_revision(fleet, scripts, RevisionRequest("again", head="nowhere", rev_id="r2"), None)
    assert sorted(project.migrations.glob("versions/*.py")) == before


def test_settings_may_have_env_py_run_for_every_revision(project: Project, databases: Databases) -> None:
    fleet = open_fleet(project, databases)
    ini = project.folder / "alembic.ini"
    ini.write_text(ini.read_text().replace("[alembic]\n", "[alembic]\nrevision_environment = true\n", 1))
    project.write_env(ENV + "\nprint('it ran', file=__import__('sys').stderr)\nraise SystemExit(3)\n")
    scripts = project.scripts()
    assert needs_shard(scripts, RevisionRequest("fill"))
    with pytest.raises(ShardError, match="SystemExit"):
        write_revision(fleet, scripts, RevisionRequest("fill"), fleet.shard("asia"))


APP_MODELS = """
made = Sharded
for engine in shards.values():
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
with shards["west"].begin() as connection:
    connection.exec_driver_sql("create index by_hand on cities (side)")
"""


def test_an_application_is_compared_with_its_own_models(open_app: Opener) -> None:
    fleet = open_app(APP_MODELS)
    found = {outcome.shard_id: outcome.result for outcome in read_fingerprints(fleet, fleet.shards.values(), None)}
    drift = find_drift(fleet, {name: found[name] for name in fleet.shards}, None)
    assert [(group.shard_ids, str(group.finding.object), group.finding.against) for group in drift.groups] == [
        (("west",), "index by_hand", ("models", "1 of 2 shards"))
    ]


SHARED = """
engine = create_engine("sqlite:///one.db", poolclass=NullPool)
shards = {name: engine.execution_options(shard=name) for name in ("east", "west")}
made = sessionmaker(class_=ShardedSession, shards=shards, **choosers)
"""


def test_shards_that_share_tables_are_refused(open_app: Opener) -> None:
    fleet = open_app(SHARED)
    errors = {outcome.error.message for outcome in read_fingerprints(fleet, fleet.shards.values(), None)}
    assert errors == {
        "`east`, `west` are one database without schemas of their own: which table belongs to which cannot be told"
    }


TENANTS = """
class Order(Base):
    __tablename__ = "orders"
    __table_args__ = {{"schema": "tenant"}}
    id: Mapped[int] = mapped_column(primary_key=True)
    up_id: Mapped[int | None] = mapped_column(ForeignKey("tenant.orders.id"))

Base.metadata.remove(City.__table__)
Base.metadata.remove(Setting.__table__)
engine = create_engine({url!r}, poolclass=NullPool)
with engine.begin() as connection:
    for name in ("east", "west"):
        connection.exec_driver_sql(f"create schema {{name}}")
shards = {{
    name: engine.execution_options(schema_translate_map={{"tenant": name}}) for name in ("east", "west")
}}
for shard in shards.values():
    with shard.begin() as connection:
        Base.metadata.create_all(connection)
made = sessionmaker(class_=ShardedSession, shards=shards, **choosers)
"""


def test_schemas_that_an_application_translates_are_compared_with_its_models(
    open_app: Opener, postgresql: Databases
) -> None:
    fleet = open_app(TENANTS.format(url=postgresql.create("app")))

    def told() -> list[str]:
        found = {outcome.shard_id: outcome.result for outcome in read_fingerprints(fleet, fleet.shards.values(), None)}
        groups = find_drift(fleet, found, None).groups
        return [f"{', '.join(group.shard_ids)}: {group.finding.object} {group.finding.text}" for group in groups]

    assert told() == []
    in_shard(fleet.shard("east"), "alter table east.orders add column zip varchar(9)")
    assert told() == ["east: column orders.zip unexpected"]
