"""Recording revisions: everything they may ask of `op` and `context`, and nothing of it executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardctl.errors import UnknownName
from shardctl.schema.lint.changes import Kind
from shardctl.schema.lint.examine import Finding, Report, Target, check_codes, examine, target_of, target_of_engine
from shardctl.schema.lint.sql import changes_of_sql, statements
from shardctl.schema.revisions import load_scripts
from tests.fixtures.cli import REPOSITORY
from tests.fixtures.projects import Project

DROP = 'op.drop_table("{}")'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env("raise RuntimeError('an env.py is not run, it might connect')")
    return made


def report(project: Project, engine: str = "postgresql", *revisions: str) -> Report:
    scripts = project.scripts()
    return examine(scripts, [target_of_engine(engine, revisions or scripts.known)])


def codes(found: list[Finding]) -> list[tuple[str, int | None]]:
    return [(finding.code, finding.line) for finding in found if not finding.code.startswith("IR")]


def dropped(project: Project, engine: str = "postgresql") -> list[str]:
    """Return the tables that the project's revisions were recorded to drop."""
    return [f.why.split("`")[1] for f in report(project, engine).findings if f.code == "DS02"]


def test_the_projects_own_migrations_are_clean() -> None:
    scripts = load_scripts(REPOSITORY / "migrations", where="pyproject.toml")
    found = examine(scripts, [target_of_engine("sqlite", scripts.known)])
    assert (found.findings, found.examined) == ([], ("0001", "0002"))


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "sqlite", "mariadb"])
def test_what_revisions_ask_of_op_and_context(engine: str, project: Project) -> None:
    project.write_revision(
        "r1",
        None,
        """
        table = op.create_table("t", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("n", sa.String(9)))
        op.bulk_insert(table, [{"id": 1, "n": "a"}])
        op.execute(table.update().where(table.c.id == op.inline_literal(1)).values(n="b"))
        assert context.config is op.get_context().config
        assert context.get_x_argument(as_dictionary=True).keys() == {"shard"}
        assert not context.is_offline_mode()
        assert op.get_context().dialect.name == op.get_bind().dialect.name == op.get_bind().engine.dialect.name
        assert op.get_context().bind is op.get_bind() and context.get_bind() is op.get_bind()
        with op.get_context().begin_transaction():
            op.create_table_comment("t", "a comment", existing_comment=None)
        with op.batch_alter_table("t", naming_convention={"uq": "uq_%(table_name)s"}) as batch:
            batch.add_column(sa.Column("z", sa.Integer()))
            batch.create_index("i", ["z"])
            batch.f("name")
        sa.Enum("a", "b", name="mood").create(op.get_bind(), checkfirst=True)
        meta = sa.MetaData()
        sa.Table("made", meta, sa.Column("id", sa.Integer(), primary_key=True))
        meta.create_all(op.get_bind())
        op.get_bind().exec_driver_sql("INSERT INTO t (id, n) VALUES (2, 'c')")
        op.get_bind().execution_options(isolation_level="AUTOCOMMIT")
        from sqlalchemy.orm import Session
        with Session(op.get_bind()) as session:
            session.execute(sa.text("DELETE FROM by_session"))
        with op.get_bind().begin_nested() as savepoint:
            savepoint.rollback()
        op.drop_table("made")
        op.drop_table("reached")
        """,
    )
    found = report(project, engine)
    assert [finding.why for finding in found.findings if finding.code in {"IN02", "IN03", "EN01"}] == []
    assert dropped(project, engine) == ["reached"]  # `made` is new: `create_all` was recorded
    assert ["`by_session`" in finding.why for finding in found.findings if finding.code == "DS04"] == [True]


def test_both_answers_of_a_question_are_followed(project: Project) -> None:
    project.write_revision(
        "r1",
        None,
        """
        inspector = sa.inspect(op.get_bind())
        if inspector.has_table("a"):
            op.drop_table("there")
        else:
            op.drop_table("not_there")
        if "c" in [column["name"] for column in inspector.get_columns("a")]:
            op.drop_table("with_column")
        if "x" not in inspector.get_table_names():
            op.drop_table("without_table")
        if op.get_bind().scalar(sa.text("SELECT count(*) FROM a")):
            op.drop_table("with_rows")
        for row in op.get_bind().execute(sa.text("SELECT id FROM a")).mappings().all():
            op.drop_table("for_each_row")
        op.drop_table("always")
        """,
    )
    assert sorted(dropped(project)) == sorted(
        ["there", "not_there", "with_column", "without_table", "with_rows", "always"]
    )
    assert {finding.code for finding in report(project).findings} == {"DS02", "IN01", "IR01"}


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("from sqlalchemy.orm import Session\nSession(op.get_bind()).query(sa.column('a')).all()", "of a result"),
        ("sa.Table('t', sa.MetaData(), autoload_with=op.get_bind())", "inspect"),
        ("sa.MetaData().reflect(op.get_bind())", "inspect"),
        ("op.run_async(print)", "op.run_async"),
        ("op.get_bind().execute(sa.select(sa.column('a'))).one()", "`one`"),
        ("op.get_bind().connection", "get_bind().connection"),
        ("assert op.get_bind().execute(sa.select(sa.column('a'))).all()", "AssertionError"),
    ],
)
def test_what_only_a_database_knows_ends_the_examination(body: str, what: str, project: Project) -> None:
    file = project.write_revision("r1", None, f"{DROP.format('before')}\n{body}\n{DROP.format('after')}")
    found = report(project)
    (unseen,) = [finding for finding in found.findings if finding.code == "IN02"]
    assert what in unseen.why
    assert file.read_text().splitlines()[(unseen.line or 0) - 1].strip() in body
    assert dropped(project) == ["before"]


@pytest.mark.parametrize("how", ["raise SystemExit(3)", "op.nonsense()", "1 / 0", "import nothing_of_that_name"])
def test_revision_that_raises_is_a_finding(how: str, project: Project) -> None:
    project.write_revision("r1", None, f"{DROP.format('before')}\n{how}")
    assert codes(report(project).findings) == [("DS02", 9), ("IN03", 10)]


def test_a_revision_without_upgrade(project: Project) -> None:
    file = project.write_revision("r1", None, "pass")
    file.write_text("revision = 'r1'\ndown_revision = None\n")
    (finding,) = report(project).findings
    assert (finding.code, finding.line) == ("IN03", None)


def test_the_line_is_the_revisions_also_through_helpers_and_loops(project: Project) -> None:
    (project.migrations / "tables.py").write_text(
        "from alembic import op\n\n\ndef drop(name):\n    op.drop_table(name)\n"
    )
    project.write_revision(
        "r1",
        None,
        """
        import importlib.util, pathlib
        spec = importlib.util.spec_from_file_location("tables", pathlib.Path(__file__).parents[1] / "tables.py")
        tables = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tables)
        tables.drop("a")
        for name in ["b", "c"]:
            op.drop_table(name)
        """,
    )
    assert codes(report(project).findings) == [("DS02", 13), ("DS02", 15), ("DS02", 15)]


def test_plugins_are_recorded_by_what_they_are_made_of(project: Project) -> None:
    project.write_revision(
        "r1",
        None,
        """
        from alembic.operations import MigrateOperation, Operations
        class DropBoth(MigrateOperation):
            @classmethod
            def drop_both(cls, operations):
                return operations.invoke(cls())
        Operations.register_operation("drop_both")(DropBoth)
        @Operations.implementation_for(DropBoth)
        def drop(operations, operation):
            operations.drop_table("a")
            operations.execute("DROP TABLE b")
        op.drop_both()
        """,
    )
    assert dropped(project) == ["a", "b"]


COMMENTS = [
    ('op.drop_table("t")  # shardctl: allow DS02 moved to the archive', True),
    ('op.drop_table("t")  #shardctl:allow ds02', True),
    ('# shardctl: allow DS02 moved\nop.drop_table("t")', True),
    ('# shardctl: allow DS02 moved\n# and a second line\nop.drop_table("t")', True),
    ('op.drop_table(\n    "t",\n)  # shardctl: allow DS02', True),
    ('op.drop_table(\n    "t",  # shardctl: allow PG01, DS02 both\n)', True),
    ('# shardctl: allow DS02 moved\nop.f("x")\nop.drop_table("t")', False),
    ('op.drop_table("t")\n# shardctl: allow DS02 below', False),
    ('op.drop_table("t")  # shardctl: allow DS01 another', False),
    ('op.drop_table("t")  # allow DS02', False),
    ('op.f("# shardctl: allow DS02")\nop.drop_table("t")', False),
    ('for name in ["t"]:  # shardctl: allow DS02 head\n    op.drop_table(name)', False),
]


@pytest.mark.parametrize(("body", "is_allowed"), COMMENTS)
def test_comments_that_allow(body: str, is_allowed: bool, project: Project) -> None:
    project.write_revision("r1", None, body)
    found = report(project)
    assert ("DS02" in {finding.code for finding in found.allowed}) is is_allowed
    assert ("DS02" in {finding.code for finding in found.findings}) is not is_allowed


def test_allowed_everywhere_and_misspelt(project: Project) -> None:
    project.write_revision("r1", None, DROP.format("t"))
    scripts = project.scripts()
    targets = [target_of_engine("sqlite", ["r1"])]
    found = examine(scripts, targets, allow=check_codes(["ds02", "IR01"]))
    assert (found.findings, {finding.code for finding in found.allowed}) == ([], {"DS02", "IR01"})
    with pytest.raises(UnknownName, match="no rule `PG001`") as caught:
        check_codes(["PG001"])
    assert "did you mean `PG01`?" in str(caught.value.hint)
    with pytest.raises(UnknownName, match="no engine `oracle`"):
        target_of_engine("oracle", [])


def two_shards(project: Project, **revisions: list[str]) -> list[Target]:
    project.shards = {name: {"url": f"sqlite:///{name}.db"} for name in revisions}
    fleet = project.open()
    return [target_of(fleet.shard(name), pending) for name, pending in revisions.items()]


def test_findings_name_the_shards_that_have_the_revision_before_them(project: Project) -> None:
    project.write_revision("r1", None, DROP.format("a"))
    project.write_revision("r2a", "r1", DROP.format("b"))
    project.write_revision("r2b", "r1", DROP.format("c"))
    project.write_revision("r3", "r2a", "pass", name="merge")
    file = project.migrations / "versions" / "merge.py"
    file.write_text(file.read_text().replace("down_revision = 'r2a'", "down_revision = ('r2a', 'r2b')"))
    targets = two_shards(project, asia=["r2b", "r3"], europe=["r2a", "r2b", "r3"], africa=[])
    found = examine(project.scripts(), targets)
    assert found.examined[-1] == "r3"
    assert {(f.revision, f.shards) for f in found.findings if f.code == "DS02"} == {
        ("r2a", ("europe",)),
        ("r2b", ("asia", "europe")),
    }


def test_new_tables_are_spared_on_the_shards_that_do_not_have_them_yet(project: Project) -> None:
    project.write_revision(
        "r1", None, 'op.create_table("t", sa.Column("a", sa.Integer()), sa.Column("b", sa.Integer()))'
    )
    project.write_revision("r2", "r1", 'op.drop_column("t", "a")')
    targets = two_shards(project, new=["r1", "r2"], old=["r2"])
    assert [f.shards for f in examine(project.scripts(), targets).findings if f.code == "DS01"] == [("old",)]
    assert [f.code for f in examine(project.scripts(), targets[:1]).findings if f.code == "DS01"] == []
    assert codes(report(project).findings) == [("DS01", 9)]  # by itself, it is about a table that is there


def test_a_table_that_is_dropped_and_made_anew_is_not_new(project: Project) -> None:
    project.write_revision("r1", None, 'op.drop_table("t")\nop.create_table("t", sa.Column("a", sa.Integer()))')
    assert codes(report(project, "sqlite").findings) == [("DS02", 9)]


@pytest.mark.parametrize(
    "how", ['context.config.attributes["shard"]', 'context.get_x_argument(as_dictionary=True)["shard"]']
)
def test_a_revision_that_asks_for_its_shard_is_recorded_for_each(how: str, project: Project) -> None:
    project.write_revision("r1", None, f'if {how} == "europe":\n    op.drop_table("t")\nop.drop_table("u")')
    found = examine(project.scripts(), two_shards(project, asia=["r1"], europe=["r1"], africa=["r1"]))
    assert [(f.line, f.shards) for f in found.findings if f.code == "DS02"] == [
        (10, ("europe",)),
        (11, ("asia", "europe", "africa")),
    ]


def test_schemas_and_databases_are_told_apart(project: Project) -> None:
    project.write_revision("r1", None, 'op.execute("CREATE EXTENSION pg_trgm")\nop.drop_index("i", schema="public")')
    project.shards = {
        "own": {"url": "postgresql://localhost/own"},
        "part": {"url": "postgresql://localhost/all", "schema": "part"},
    }
    fleet = project.open()
    found = examine(project.scripts(), [target_of(live, ["r1"]) for live in fleet.shards.values()]).findings
    shown = {f.code: (f.severity.value, f.shards) for f in found}
    assert shown["SH04"] == ("warning", ("part",))
    assert shown["SH01"] == ("error", ("own", "part"))
    alone = examine(project.scripts(), [target_of(fleet.shard("own"), ["r1"])]).findings
    assert {f.code: f.severity.value for f in alone}.items() >= {"SH01": "warning"}.items()


def test_mariadb_takes_a_default_that_mysql_refuses(project: Project) -> None:
    project.write_revision("r1", None, 'op.create_table("t", sa.Column("a", sa.Text(), server_default="x"))')
    assert codes(report(project, "mysql").findings) == [("MY06", 9)]
    assert codes(report(project, "mariadb").findings) == []


SQL: list[tuple[str, list[str]]] = [
    ("SELECT 1; -- DROP TABLE a;\nDELETE /* all; */ FROM b", ["SELECT 1", "DELETE FROM b"]),
    ("INSERT INTO t VALUES ('it''s; DROP TABLE a')", ["INSERT INTO t VALUES ('')"]),
    ("DO $body$ BEGIN DROP TABLE a; END $body$; DROP TABLE b", ["DO ''", "DROP TABLE b"]),
    ('DROP TABLE "Odd Name"; DROP TABLE `t`', ['DROP TABLE "Odd Name"', "DROP TABLE t"]),
    (" ;; ", []),
]


@pytest.mark.parametrize(("sql", "expected"), SQL)
def test_statements_are_brought_into_one_form(sql: str, expected: list[str]) -> None:
    assert statements(sql) == expected


ALTERS: list[tuple[str, list[tuple[Kind, str, str]]]] = [
    ("ALTER TABLE IF EXISTS ONLY t ADD c int, DROP d", [(Kind.ADD_COLUMN, "t", "c"), (Kind.DROP_COLUMN, "t", "d")]),
    (
        "ALTER TABLE t ADD c numeric(10, 2) DEFAULT f(1, 2), ADD d int",
        [(Kind.ADD_COLUMN, "t", "c"), (Kind.ADD_COLUMN, "t", "d")],
    ),
    ("ALTER TABLE t DROP CONSTRAINT IF EXISTS k CASCADE", [(Kind.DROP_CONSTRAINT, "t", "k")]),
    ("ALTER TABLE t RENAME CONSTRAINT a TO b", [(Kind.OTHER, "t", "a")]),
    ("ALTER TABLE t CHANGE a b INT", [(Kind.ALTER_TYPE, "t", "a")]),
    ("ALTER TABLE t DROP FOREIGN KEY k, DROP INDEX i", [(Kind.DROP_CONSTRAINT, "t", "k"), (Kind.DROP_INDEX, "t", "i")]),
    ("ALTER TABLE t OWNER TO me", [(Kind.OTHER, "t", "")]),
    ("ALTER TABLE t ADD CONSTRAINT drop_it CHECK (a > 0) NOT VALID", [(Kind.ADD_CONSTRAINT, "t", "drop_it")]),
    ("COMMENT ON TABLE t IS 'x'", [(Kind.OTHER, "", "")]),
    ("UPDATE t AS a SET b = 1", [(Kind.UPDATE, "t", "")]),
]


@pytest.mark.parametrize(("sql", "expected"), ALTERS)
def test_alters(sql: str, expected: list[tuple[Kind, str, str]]) -> None:
    assert [(change.kind, change.table, change.name) for change in changes_of_sql(sql, "postgresql")] == expected
