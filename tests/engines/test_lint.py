"""What `migrate lint` says is true on real servers, and examining changes nothing there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, inspect
from sqlalchemy.exc import OperationalError

from shardctl.errors import ShardctlError
from shardctl.fleet import Fleet, LiveShard
from shardctl.schema.apply import upgrade
from shardctl.schema.goals import Goal
from shardctl.schema.lint.examine import examine, target_of
from shardctl.schema.lint.recorder import record
from shardctl.schema.lint.sql import statements
from shardctl.schema.plan import survey_revisions
from shardctl.schema.revisions import read_revisions
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.lint_cases import BEFORE, CASES, Case
from tests.fixtures.projects import Project, create_places, in_shard, place_shards

HAZARDS = """
op.create_index("i", "users", ["name"])
op.drop_column("users", "bio")
op.drop_table("orders")
op.execute("DELETE FROM teams")
op.get_bind().execute(sa.text("DROP TABLE teams"))
op.get_bind().exec_driver_sql("CREATE TABLE rogue (id integer)")
with op.batch_alter_table("users") as batch:
    batch.alter_column("name", existing_type=sa.String(50), type_=sa.String(20))
with op.get_context().autocommit_block():
    op.execute("UPDATE users SET name = 'x'")
op.bulk_insert(sa.table("teams", sa.column("id")), [{"id": 1}])
sa.MetaData().create_all(op.get_bind())
sa.Table("rogue_too", sa.MetaData(), sa.Column("id", sa.Integer())).create(op.get_bind())
"""
FAILING = {"PG02", "MY04", "SQ01", "SQ02", "BC03", "EN01"}
REWRITING = {"PG05", "PG09"}
COPYING = {"MY01", "MY02", "MY03"}
NOT_WITHOUT_COPY = {1845, 1846}
"""What MySQL and MariaDB answer where a table has to be copied, or writes have to wait."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, BEFORE)
    return made


@pytest.fixture
def fleet(project: Project, databases: Databases) -> Iterator[Fleet]:
    """Two shards; `old` is at the first revision."""
    place_shards(
        project,
        f"{databases.engine} {'files' if databases.engine == 'sqlite' else 'databases'}",
        databases,
        ["new", "old"],
    )
    with project.open() as opened:
        create_places(opened, databases)
        upgrade(opened.shard("old"), project.scripts(), Goal(target="r1"))
        yield opened


def kind_of(databases: Databases) -> str:
    return "sqlite files" if databases.engine == "sqlite" else f"{databases.engine} databases"


def state(shard: LiveShard) -> dict[str, object]:
    """Return everything of a shard that a migration could change."""
    tables = {}
    with shard.connect() as connection:
        inspector = inspect(connection)
        for table in inspector.get_table_names():
            columns = [
                (column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)
            ]
            rows = connection.exec_driver_sql(f"select * from {table} order by 1").all()
            tables[table] = (columns, [index["name"] for index in inspector.get_indexes(table)], rows)
        return {"tables": tables, "revisions": read_revisions(connection)}


def test_examining_executes_nothing(project: Project, fleet: Fleet) -> None:
    old = fleet.shard("old")
    in_shard(old, "insert into teams (id) values (7)")
    in_shard(old, "insert into users (id, name, bio) values (1, 'ada', 'b')")
    project.write_revision("r2", "r1", HAZARDS)
    before = {shard_id: state(shard) for shard_id, shard in fleet.shards.items()}
    scripts = project.scripts()
    found = {outcome.shard_id: outcome.result for outcome in survey_revisions(fleet, fleet.shards.values(), scripts)}
    targets = [target_of(shard, found[shard_id].pending) for shard_id, shard in fleet.shards.items()]
    sent: list[str] = []

    def note(connection: object, cursor: object, statement: str, *more: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        report = examine(scripts, targets)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert sent == []
    assert {shard_id: state(shard) for shard_id, shard in fleet.shards.items()} == before
    assert {f.shards for f in report.findings if f.code == "DS01"} == {("old",)}
    assert {f.code for f in report.findings} >= {"DS01", "DS02", "DS04", "DM01"}
    assert not [f for f in report.findings if f.code in {"IN02", "IN03"}]


def test_postgresql_counts_no_statement(project: Project, postgresql: Databases) -> None:
    place_shards(project, "postgresql schemas", postgresql, ["only"])
    project.write_revision("r2", "r1", HAZARDS)
    with project.open() as fleet:
        create_places(fleet, postgresql)
        shard = fleet.shard("only")
        upgrade(shard, project.scripts(), Goal(target="r1"))
        counted = "select relname, n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables order by relname"
        catalogue = "select relname, oid, relfilenode from pg_class where relnamespace = 's_only'::regnamespace"
        before = in_shard(shard, counted), sorted(in_shard(shard, catalogue))
        assert {row[0] for row in before[0]} >= {"alembic_version", "marks", "orders", "teams", "users"}
        examine(project.scripts(), [target_of(shard, ["r2"])])
        assert (in_shard(shard, counted), sorted(in_shard(shard, catalogue))) == before


def cases(codes: set[str]) -> list[Case]:
    return [case for case in CASES if case.code in codes and "elsewhere" not in case.hazard]


@pytest.fixture
def shard(case: Case, project: Project, tmp_path: Path) -> Iterator[LiveShard]:
    """A shard at the first revision, with rows, on the engine of a case."""
    if case.engine != "sqlite":
        server_url(case.engine)
    databases = Databases(case.engine, tmp_path)
    place_shards(project, kind_of(databases), databases, ["only"])
    with project.open() as opened:
        create_places(opened, databases)
        only = opened.shard("only")
        upgrade(only, project.scripts(), Goal(target="r1"))
        in_shard(only, "insert into users (id, name, bio) values (1, 'ada', 'b'), (2, 'bo', 'c')")
        in_shard(only, "insert into teams (id) values (1), (2)")
        yield only
    databases.drop_all()


def is_found(case: Case, project: Project, shard: LiveShard) -> bool:
    """Say whether the rule finds it for this very server: MariaDB takes some of what MySQL refuses."""
    report = examine(project.scripts(), [target_of(shard, ["r2"])])
    return case.code in {finding.code for finding in report.findings}


def statements_of(project: Project, shard: LiveShard) -> list[str]:
    """Return what the second revision sends."""
    scripts = project.scripts()
    script = scripts.directory.get_revision("r2")
    recorded = record(script, scripts, shard.engine.dialect, shard.shard_id).recorded
    rendered = [one.rendered or str(getattr(one.operation, "sqltext", "")) for one in recorded]
    return [statement for text in rendered for statement in statements(text)]


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(FAILING), ids=lambda case: case.code)
def test_what_is_said_to_fail_fails(case: Case, project: Project, shard: LiveShard) -> None:
    project.write_revision("r2", "r1", case.hazard)
    if not is_found(case, project, shard) or (case.code, case.engine) == ("BC03", "mysql"):  # it gives rows a 0
        assert upgrade(shard, project.scripts()).to == ("r2",)
        return
    with pytest.raises(ShardctlError):
        upgrade(shard, project.scripts())


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in cases(FAILING) if case.safe], ids=lambda case: case.code)
def test_what_is_said_to_be_safe_works(case: Case, project: Project, shard: LiveShard) -> None:
    project.write_revision("r2", "r1", case.safe)
    assert upgrade(shard, project.scripts()).to == ("r2",)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(REWRITING), ids=lambda case: case.code)
@pytest.mark.parametrize("is_hazard", [True, False], ids=["hazard", "safe"])
def test_what_is_said_to_write_the_table_anew_does(
    is_hazard: bool, case: Case, project: Project, shard: LiveShard
) -> None:
    body = case.hazard if is_hazard else case.safe
    file = "select pg_relation_filenode('users')"
    project.write_revision("r2", "r1", body or "pass")
    before = in_shard(shard, file)
    upgrade(shard, project.scripts())
    assert (in_shard(shard, file) != before) is is_hazard


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(COPYING), ids=lambda case: case.code)
@pytest.mark.parametrize("is_hazard", [True, False], ids=["hazard", "safe"])
def test_what_is_said_to_copy_the_table_does(is_hazard: bool, case: Case, project: Project, shard: LiveShard) -> None:
    project.write_revision("r2", "r1", (case.hazard if is_hazard else case.safe) or "pass")
    answers = []
    for statement in statements_of(project, shard):
        try:
            in_shard(shard, f"{statement}, ALGORITHM=INPLACE, LOCK=NONE")
        except OperationalError as error:
            answers.append(error.orig.args[0])  # type: ignore[union-attr]
    assert bool(answers) is is_hazard
    assert set(answers) <= NOT_WITHOUT_COPY
