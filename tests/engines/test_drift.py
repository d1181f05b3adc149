"""Drift on real engines: none where there is none, and what was changed by hand named exactly."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from shardctl.fleet import Fleet
from shardctl.schema.apply import upgrade
from shardctl.schema.comparison import Drift, find_drift
from shardctl.schema.create import init, plan_init
from shardctl.schema.fingerprint import Fingerprint, read_fingerprints
from shardctl.schema.new_revision import RevisionRequest, choose_shard, write_revision
from shardctl.schema.revisions import Scripts
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.projects import KINDS, Project, create_places, in_shard, place_shards

NAMES = ["asia", "europe", "africa"]
COLLATIONS = ["latin1_swedish_ci", "utf8mb4_unicode_ci", "utf8mb4_general_ci"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield Project(tmp_path)
    sys.modules.pop("the_models", None)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def databases_of_kind(kind: str, tmp_path: Path) -> Iterator[Databases]:
    made = Databases(kind.partition(" ")[0], tmp_path)
    if made.engine != "sqlite":
        server_url(made.engine)
    yield made
    made.drop_all()


def open_fleet(project: Project, kind: str, databases: Databases, models: str = "") -> Fleet:
    """Open three shards that exist and are empty, and the models that are written for them."""
    rich = f"from tests.fixtures.rich_models import rich_metadata\nmetadata = rich_metadata({databases.engine!r})\n"
    (project.folder / "the_models.py").write_text(models or rich)
    project.more = 'models = "the_models:metadata"'
    place_shards(project, kind, databases, NAMES)
    fleet = project.open()
    create_places(fleet, databases)
    return fleet


def create_tables(fleet: Fleet, scripts: Scripts | None = None) -> None:
    for outcome in init(fleet, fleet.shards.values(), plan_init(fleet, scripts)):
        assert outcome.result.outcome == "created"


def read(fleet: Fleet, scripts: Scripts | None = None) -> dict[str, Fingerprint]:
    found = {outcome.shard_id: outcome.result for outcome in read_fingerprints(fleet, fleet.shards.values(), scripts)}
    return {name: found[name] for name in fleet.shards}


def drift(fleet: Fleet, scripts: Scripts | None = None, against: str | None = None) -> Drift:
    found = find_drift(fleet, read(fleet, scripts), scripts, against=against)
    assert [outcome.problem for outcome in found.failed] == []
    return found


def test_databases_of_several_collations_are_read_together(project: Project, mysql: Databases) -> None:
    project.write_env()
    project.write_revision("r1", None, "pass")
    place_shards(project, "mysql databases", mysql, NAMES)
    fleet = project.open()
    create_places(fleet, mysql)
    for live, collation in zip(fleet.shards.values(), COLLATIONS, strict=True):
        in_shard(live, f"alter database collate {collation}")
        upgrade(live, project.scripts())
    connections: list[object] = []

    def count(*connected: object) -> None:
        connections.append(connected)

    event.listen(Engine, "do_connect", count)
    try:
        found = read(fleet, project.scripts())
    finally:
        event.remove(Engine, "do_connect", count)
    assert {name: of.revisions for name, of in found.items()} == dict.fromkeys(NAMES, ("r1",))
    assert len(connections) == 1


def told(found: Drift) -> list[str]:
    return [f"{', '.join(group.shard_ids)}: {group.finding.object} {group.finding.text}" for group in found.groups]


def test_a_fleet_made_from_the_models_has_no_drift(project: Project, kind: str, databases_of_kind: Databases) -> None:
    fleet = open_fleet(project, kind, databases_of_kind)
    create_tables(fleet)
    found = drift(fleet)
    assert told(found) == []
    assert found.compared == set(NAMES)
    assert found.sql == {}


@pytest.mark.parametrize("kind", ["postgresql schemas"])
def test_a_schema_with_an_apostrophe_in_its_name_has_no_drift(
    project: Project, kind: str, databases_of_kind: Databases
) -> None:
    table = 'Table("cities", metadata, Column("id", Integer, primary_key=True))'
    (project.folder / "the_models.py").write_text(f"from sqlalchemy import *\nmetadata = MetaData()\n{table}\n")
    project.more = 'models = "the_models:metadata"'
    place_shards(project, kind, databases_of_kind, NAMES)
    project.shards["europe"]["schema"] = "o'clock"
    fleet = project.open()
    create_places(fleet, databases_of_kind)
    create_tables(fleet)
    assert told(drift(fleet)) == []


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning", "ignore:autogenerate skipping:UserWarning")
def test_a_fleet_that_autogenerate_migrated_has_no_drift(
    project: Project, kind: str, databases_of_kind: Databases
) -> None:
    fleet = open_fleet(project, kind, databases_of_kind)
    project.init("generic")
    fleet = project.open()
    scripts = project.scripts()
    live = choose_shard(fleet, read(fleet, scripts), scripts)
    [file] = write_revision(fleet, scripts, RevisionRequest("all", autogenerate=True, rev_id="r1"), live)
    assert file.name == "r1_all.py"

    scripts = project.scripts()
    create_tables(fleet, scripts)
    assert {found.revisions for found in read(fleet, scripts).values()} == {("r1",)}
    # Alembic does not see indexes on expressions in SQLite, and warns that it leaves them out.
    left_out = ["asia, europe, africa: index ix_lower missing"] if databases_of_kind.engine == "sqlite" else []
    assert told(drift(fleet, scripts)) == left_out
    live = choose_shard(fleet, read(fleet, scripts), scripts)
    assert write_revision(fleet, scripts, RevisionRequest("none", autogenerate=True, rev_id="r2"), live) == []


COMMON = {
    "drop index {ix_title}": "index ix_title missing",
    "create index by_hand on things (big)": "index by_hand unexpected",
    "alter table things add column extra varchar(9)": "column things.extra unexpected",
    "drop table pair_users": "table pair_users missing",
    "create table rogue (id integer)": "table rogue unexpected",
}
PLANTED = {
    "sqlite": COMMON
    | {
        "alter table things drop column story": "column things.story missing",
        "drop index ix_lower": "index ix_lower missing",
        "drop index ix_part; create index ix_part on things (amount) where rank > 4": (
            "index ix_part different: `things(amount) where rank > 4` against `things(amount) where rank > 3`"
        ),
        "drop index ix_both; create index ix_both on things (amount, rank)": (
            "index ix_both different: `things(amount, rank)` against `unique things(amount, rank)`"
        ),
    },
    "postgresql": COMMON
    | {
        "alter table things drop column story": "column things.story missing",
        "alter table things alter sign type varchar(9)": (
            "column things.sign different: `varchar(9)` against `varchar(5)`"
        ),
        "alter table things alter amount set default 7": (
            "column things.amount different: `default 7` against `default 0`"
        ),
        "alter table things alter big set not null": "column things.big different: `not null` against `null`",
        "alter table things add constraint rogue_check check (rank < 50)": "check rogue_check unexpected",
        "alter table things drop constraint positive": "check positive missing",
        "alter table things drop constraint uq_code": "unique uq_code missing",
        "alter table pairs add constraint uq_rogue unique (b)": "unique uq_rogue unexpected",
        "alter table things drop constraint things_parent_id_fkey": "foreign key things_parent_id_fkey missing",
        "alter type color add value 'blue'": "type color different: `enum ('red', 'green', 'blue')` against"
        " `enum ('red', 'green')`",
        "comment on table parents is 'others'": "comment on parents different: `others` against `the parents`",
    },
    "mysql": COMMON
    | {
        "alter table things drop column story": "column things.story missing",
        "alter table things modify sign varchar(9)": "column things.sign different: `varchar(9)` against `varchar(5)`",
        "alter table things alter amount set default 7": (
            "column things.amount different: `default 7` against `default 0`"
        ),
        "alter table things modify big bigint not null": "column things.big different: `not null` against `null`",
        "alter table things add constraint rogue_check check (rank < 50)": "check rogue_check unexpected",
        "alter table things drop constraint positive": "check positive missing",
        "alter table things drop index uq_code": "unique uq_code missing",
        "alter table things drop foreign key things_ibfk_1": "foreign key things(parent_id) missing",
        "alter table parents comment 'others'": "comment on parents different: `others` against `the parents`",
    },
}
UNSEEN = {
    "create view rogue_view as select 1 as one": "view rogue_view unexpected",
    "{trigger}": "trigger rogue_trigger unexpected",
}
TRIGGERS = {
    "sqlite": "create trigger rogue_trigger after insert on pairs begin select 1; end",
    "mysql": "create trigger rogue_trigger before insert on pairs for each row set new.a = 1",
    "postgresql": (
        "create trigger rogue_trigger before update on pairs"
        " for each row execute function pg_catalog.suppress_redundant_updates_trigger()"
    ),
}


def plant(fleet: Fleet, name: str, statement: str, engine: str) -> None:
    index = "ix_title on things" if engine == "mysql" else "ix_title"
    statement = TRIGGERS[engine] if statement == "{trigger}" else statement.format(ix_title=index)
    for part in [statement] if statement == TRIGGERS[engine] else statement.split("; "):
        in_shard(fleet.shard(name), part)


def test_what_was_changed_by_hand_is_named_against_the_models(
    project: Project, kind: str, databases_of_kind: Databases
) -> None:
    fleet = open_fleet(project, kind, databases_of_kind)
    create_tables(fleet)
    planted = PLANTED[databases_of_kind.engine]
    for statement in planted:
        plant(fleet, "europe", statement, databases_of_kind.engine)
        plant(fleet, "africa", statement, databases_of_kind.engine)
    found = drift(fleet, against="models")
    assert sorted(told(found)) == sorted(f"europe, africa: {text}" for text in planted.values())


def test_what_was_changed_by_hand_is_named_against_most_shards(
    project: Project, kind: str, databases_of_kind: Databases
) -> None:
    fleet = open_fleet(project, kind, databases_of_kind)
    create_tables(fleet)
    planted = PLANTED[databases_of_kind.engine] | UNSEEN
    for statement in planted:
        plant(fleet, "europe", statement, databases_of_kind.engine)
    named = {(group.shard_ids, str(group.finding.object)) for group in drift(fleet, against="majority").groups}
    names = {name_of(text) for text in planted.values()} - {"foreign key things(parent_id)"}
    if databases_of_kind.engine == "mysql":
        names.add("foreign key things_ibfk_1")
    assert named == {(("europe",), name) for name in names}
    assert {group.finding.against for group in drift(fleet, against="asia").groups} == {("asia",)}


RARER = [
    "create table days (id int, day int) partition by range (day)",
    "create table days_1 partition of days for values from (0) to ({n})",
    "create policy own on days using (id > {n})",
    "alter table days enable row level security",
    "create type pair as (a int, b {type})",
]


def test_partitions_policies_and_composite_types_are_compared(project: Project, postgresql: Databases) -> None:
    fleet = open_fleet(project, "postgresql schemas", postgresql)
    for name in fleet.shards:
        values = {"n": 20, "type": "text"} if name == "europe" else {"n": 10, "type": "int"}
        for statement in RARER:
            in_shard(fleet.shard(name), statement.format(**values))
    groups = drift(fleet, against="majority").groups
    assert {(group.shard_ids, str(group.finding.object)) for group in groups} == {
        (("europe",), name) for name in ("table days_1", "policy own", "type pair")
    }
    assert {group.finding.expected for group in groups} == {
        "partition of days FOR VALUES FROM (0) TO (10)",
        "permissive all to public using ((id > 10))",
        "composite (a integer, b integer)",
    }


def name_of(text: str) -> str:
    """Return the object in a finding."""
    for word in (" missing", " unexpected", " different"):
        text = text.partition(word)[0]
    return text


def test_the_statements_for_mending_mend(project: Project, databases: Databases) -> None:
    kind = "sqlite files" if databases.engine == "sqlite" else f"{databases.engine} databases"
    fleet = open_fleet(project, kind, databases)
    create_tables(fleet)
    for statement, finding in PLANTED[databases.engine].items():
        if not finding.startswith(("type", "check", "index ix_part", "index ix_lower")):
            plant(fleet, "europe", statement, databases.engine)
    found = drift(fleet)
    assert list(found.sql) == [("europe",)]
    sql = found.sql["europe",]
    assert "-- DROP TABLE rogue;" in sql
    for statement in sql.replace("-- loses data:\n", "").replace("\n-- ", "\n").removeprefix("-- ").split(";\n"):
        if statement.strip():
            in_shard(fleet.shard("europe"), statement.strip().removesuffix(";"))
    assert told(drift(fleet)) == []


def test_more_schemas_of_one_server_cost_no_more_statements(
    project: Project, kind: str, databases_of_kind: Databases
) -> None:
    statements: list[str] = []

    def count(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)

    fleet = open_fleet(project, kind, databases_of_kind)
    create_tables(fleet)
    counts = []
    event.listen(Engine, "before_cursor_execute", count)
    try:
        for shards in (NAMES[:2], NAMES):
            statements.clear()
            list(read_fingerprints(fleet, [fleet.shard(name) for name in shards], None))
            counts.append(len(statements))
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    if kind in ("postgresql schemas", "mysql databases"):
        assert counts[1] == counts[0]
    else:
        assert counts[1] * 2 == counts[0] * 3


def test_only_reads(project: Project, kind: str, databases_of_kind: Databases) -> None:
    fleet = open_fleet(project, kind, databases_of_kind)
    project.init("generic")
    fleet = project.open()
    scripts = project.scripts()
    drift(fleet, scripts)
    assert [dict(found.objects) for found in read(fleet, scripts).values()] == [{}] * 3
    for live in fleet.shards.values():
        with live.connect() as connection:
            assert connection.dialect.get_table_names(connection) == []  # not even a version table


LIMITED = """
from sqlalchemy import Column, Integer, MetaData, Table

metadata = MetaData()
Table("everywhere", metadata, Column("id", Integer, primary_key=True))
Table("somewhere", metadata, Column("id", Integer, primary_key=True), info={"shards": ["asia"]})
"""


def test_a_table_that_is_meant_for_some_shards_is_not_missed_on_others(project: Project, databases: Databases) -> None:
    kind = "sqlite files" if databases.engine == "sqlite" else f"{databases.engine} databases"
    fleet = open_fleet(project, kind, databases, LIMITED)
    create_tables(fleet)
    assert told(drift(fleet)) == []
    in_shard(fleet.shard("asia"), "drop table somewhere")
    assert told(drift(fleet)) == ["asia: table somewhere missing"]


def test_shards_are_compared_with_those_at_the_same_revision(project: Project, databases: Databases) -> None:
    kind = "sqlite files" if databases.engine == "sqlite" else f"{databases.engine} databases"
    fleet = open_fleet(project, kind, databases, LIMITED)
    project.init("generic")
    project.write_revision(
        "r1",
        None,
        """
        op.create_table("everywhere", sa.Column("id", sa.Integer(), primary_key=True))
        op.create_table("somewhere", sa.Column("id", sa.Integer(), primary_key=True))
        """,
    )
    fleet = project.open()
    create_tables(fleet, project.scripts())
    project.write_revision("r2", "r1", "op.create_index('ix_id', 'everywhere', ['id'])")
    scripts = project.scripts()
    list(init(fleet, [fleet.shard("asia")], plan_init(fleet, scripts)))
    found = drift(fleet, scripts)
    assert told(found) == ["asia: index ix_id unexpected"]
    assert found.groups[0].finding.against == ("models",)
    assert found.notes == (
        "europe, africa: at r1, not at the head: not compared with the models",
        "asia: no other shard has that engine and revision: not compared with others",
    )
