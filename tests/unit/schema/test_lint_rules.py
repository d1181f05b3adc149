"""Every rule: what it finds, on the very line, and the safe form that it does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from shardctl.schema.lint.examine import Finding, examine, target_of_engine
from shardctl.schema.lint.rules import RULES
from tests.fixtures.projects import Project

BEFORE = """
op.create_table(
    "users",
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("name", sa.String(50)),
    sa.Column("bio", sa.Text()),
    sa.Column("score", sa.Numeric(10, 2)),
)
op.create_table("teams", sa.Column("id", sa.Integer(), primary_key=True))
op.create_table(
    "orders",
    sa.Column("id", sa.Integer(), primary_key=True),
    sa.Column("user_id", sa.Integer(), sa.ForeignKey("users.id", ondelete="CASCADE")),
)
"""
BLOCK = "with op.get_context().autocommit_block():\n    "
CHECK = 'op.create_check_constraint("c", "users", "id > 0"'
KEY = 'op.create_foreign_key("k", "users", "teams", ["id"], ["id"]'


@dataclass(frozen=True)
class Case:
    """A rule's code, an engine, a body with `# <-` where the rule finds something, and a body where it does not."""

    code: str
    engine: str
    hazard: str
    safe: str = ""


CASES = [
    Case(
        "PG01",
        "postgresql",
        'op.create_index("i", "users", ["name"])  # <-',
        BLOCK + 'op.create_index("i", "users", ["name"], postgresql_concurrently=True)',
    ),
    Case(
        "PG01", "postgresql", 'op.execute("create unique index i on users (name)")  # <-', BEFORE.replace("users", "u")
    ),
    Case("PG01", "postgresql", 'op.add_column("users", sa.Column("a", sa.Integer(), index=True))  # <-'),
    Case(
        "PG01",
        "postgresql",
        'op.create_index(  # <-\n    "i",\n    "users",\n    ["name"],\n)',
        'op.create_table("fresh", sa.Column("a", sa.Integer()))\nop.create_index("i", "fresh", ["a"])',
    ),
    Case(
        "PG02",
        "postgresql",
        'op.create_index("i", "users", ["name"], postgresql_concurrently=True)  # <-',
        BLOCK + 'op.execute("VACUUM users")',
    ),
    Case("PG02", "postgresql", 'op.execute("CREATE INDEX CONCURRENTLY i ON users (name)")  # <-'),
    Case("PG02", "postgresql", 'op.execute("vacuum analyze users")  # <-'),
    Case(
        "PG03",
        "postgresql",
        'op.drop_index("i", table_name="users")  # <-',
        BLOCK + 'op.execute("DROP INDEX CONCURRENTLY IF EXISTS i")',
    ),
    Case(
        "PG04",
        "postgresql",
        'op.alter_column("users", "name", nullable=False)  # <-',
        'op.create_check_constraint("c", "users", "name IS NOT NULL", postgresql_not_valid=True)\n'
        'op.execute("ALTER TABLE users VALIDATE CONSTRAINT c")\nop.alter_column("users", "name", nullable=False)',
    ),
    Case("PG04", "postgresql", 'op.execute("ALTER TABLE users ALTER COLUMN name SET NOT NULL")  # <-'),
    Case(
        "PG05",
        "postgresql",
        'op.alter_column("users", "id", type_=sa.BigInteger(), existing_type=sa.Integer())  # <-',
        'op.alter_column("users", "name", type_=sa.String(80), existing_type=sa.String(50))\n'
        'op.alter_column("users", "name", type_=sa.Text(), existing_type=sa.String(50))',
    ),
    Case(
        "PG05",
        "postgresql",
        'op.alter_column("elsewhere", "name", type_=sa.Text())  # <-',
        'op.alter_column("users", "name", type_=sa.Text())',  # an earlier revision says what it was
    ),
    Case("PG05", "postgresql", 'op.execute("ALTER TABLE users ALTER name TYPE integer USING name::int")  # <-'),
    Case("PG06", "postgresql", f"{KEY})  # <-", f"{KEY}, postgresql_not_valid=True)"),
    Case(
        "PG06",
        "postgresql",
        'op.add_column("users", sa.Column("t", sa.Integer(), sa.ForeignKey("teams.id")))  # <-',
        'op.execute("ALTER TABLE users ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES teams (id) NOT VALID")',
    ),
    Case("PG06", "postgresql", 'op.execute("ALTER TABLE users ADD COLUMN t int REFERENCES teams (id)")  # <-'),
    Case("PG07", "postgresql", f"{CHECK})  # <-", f"{CHECK}, postgresql_not_valid=True)"),
    Case(
        "PG08",
        "postgresql",
        'op.create_unique_constraint("u", "users", ["name"])  # <-',
        'op.execute("ALTER TABLE users ADD CONSTRAINT u UNIQUE USING INDEX i")',
    ),
    Case("PG08", "postgresql", 'op.add_column("users", sa.Column("a", sa.Integer(), unique=True))  # <-'),
    Case("PG08", "postgresql", 'op.create_primary_key("p", "users", ["name"])  # <-'),
    Case(
        "PG09",
        "postgresql",
        'op.add_column("users", sa.Column("a", sa.Uuid(), server_default=sa.text("gen_random_uuid()")))  # <-',
        'op.add_column("users", sa.Column("a", sa.DateTime(), server_default=sa.func.now()))',
    ),
    Case("PG09", "postgresql", 'op.add_column("users", sa.Column("a", sa.Integer(), sa.Identity()))  # <-'),
    Case("PG09", "postgresql", 'op.execute("ALTER TABLE users ADD a bigserial")  # <-'),
    Case(
        "PG10",
        "postgresql",
        f'{CHECK}, postgresql_not_valid=True)\nop.execute("ALTER TABLE users VALIDATE CONSTRAINT c")  # <-',
        'op.execute("ALTER TABLE users VALIDATE CONSTRAINT c")',
    ),
    Case(
        "PG11",
        "postgresql",
        'op.execute("REINDEX TABLE users")  # <-',
        BLOCK + 'op.execute("REINDEX TABLE CONCURRENTLY users")',
    ),
    Case("PG11", "postgresql", 'op.execute("ALTER TABLE users SET TABLESPACE fast")  # <-'),
    Case(
        "PG12",
        "postgresql",
        'op.add_column("users", sa.Column("a", sa.Integer()))\nop.execute("UPDATE users SET a = 1 WHERE id < 9")  # <-',
        'op.add_column("users", sa.Column("a", sa.Integer()))\nop.execute("UPDATE teams SET id = 1 WHERE id < 9")',
    ),
    Case(
        "MY01",
        "mysql",
        'op.alter_column("users", "id", type_=sa.BigInteger(), existing_type=sa.Integer())  # <-',
        'op.alter_column("users", "name", type_=sa.String(60), existing_type=sa.String(50))',
    ),
    Case("MY01", "mysql", 'op.execute("ALTER TABLE users MODIFY name VARCHAR(300)")  # <-'),
    Case("MY01", "mysql", 'op.alter_column("users", "name", type_=sa.String(90))  # <-'),  # beyond 255 bytes
    Case("MY01", "mysql", 'op.execute("ALTER TABLE users CONVERT TO CHARACTER SET utf8mb4")  # <-'),
    Case("MY02", "mysql", f"{KEY})  # <-", 'op.create_index("i", "users", ["name"])'),
    Case(
        "MY03",
        "mysql",
        'op.add_column("users", sa.Column("a", sa.Integer(), sa.Computed("id + 1", persisted=True)))  # <-',
        'op.add_column("users", sa.Column("a", sa.Integer(), sa.Computed("id + 1", persisted=False)))',
    ),
    Case(
        "MY04",
        "mysql",
        'op.create_index("i", "users", ["bio"])  # <-',
        'op.create_index("i", "users", ["bio"], mysql_length={"bio": 100})\nop.create_index("j", "users", ["name"])',
    ),
    Case("MY04", "mysql", 'op.create_table("t", sa.Column("a", sa.JSON(), unique=True))  # <-'),
    Case("MY04", "mysql", 'op.create_table("t", sa.Column("a", sa.Text()), sa.UniqueConstraint("a"))  # <-'),
    Case(
        "MY05",
        "mysql",
        'op.create_index("i", "users", ["name"], unique=True, postgresql_where=sa.text("id > 3"))  # <-',
        'op.create_index("i", "users", ["name"], unique=True)',
    ),
    Case(
        "MY06",
        "mysql",
        'op.add_column("users", sa.Column("a", sa.Text(), server_default="x"))  # <-',
        'op.add_column("users", sa.Column("a", sa.Text(), server_default=sa.text("(concat(\'x\'))")))\n'
        'op.add_column("users", sa.Column("b", sa.String(5), server_default="x"))',
    ),
    Case(
        "MY07",
        "mysql",
        'op.drop_index("a", table_name="users")\nop.drop_index("b", table_name="users")  # <-',
        'op.drop_index("a", table_name="users")\nop.execute("UPDATE users SET id = 1 WHERE id = 2")',
    ),
    Case(
        "SQ01",
        "sqlite",
        'op.alter_column("users", "name", nullable=False)  # <-',
        'with op.batch_alter_table("users") as batch:\n    batch.alter_column("name", nullable=False)',
    ),
    Case("SQ01", "sqlite", f"{KEY})  # <-"),
    Case("SQ01", "sqlite", 'op.drop_constraint("k", "users", type_="foreignkey")  # <-'),
    Case("SQ01", "sqlite", 'op.execute("ALTER TABLE users ALTER COLUMN name SET NOT NULL")  # <-'),
    Case(
        "SQ02",
        "sqlite",
        'op.add_column("users", sa.Column("a", sa.DateTime(), server_default=sa.func.now()))  # <-',
        'with op.batch_alter_table("users", recreate="always") as batch:\n'
        '    batch.add_column(sa.Column("a", sa.DateTime(), server_default=sa.func.now()))',
    ),
    Case("SQ02", "sqlite", 'op.add_column("users", sa.Column("a", sa.Integer(), unique=True))  # <-'),
    Case("SQ02", "sqlite", 'op.add_column("users", sa.Column("a", sa.Integer(), nullable=False))  # <-'),
    Case(
        "SQ03",
        "sqlite",
        'with op.batch_alter_table("users") as batch:  # <-\n    batch.alter_column("name", nullable=False)',
        'with op.batch_alter_table("teams") as batch:\n    batch.alter_column("id", nullable=False)\n'
        'with op.batch_alter_table("users") as batch:\n    batch.add_column(sa.Column("a", sa.Integer()))',
    ),
    Case(
        "DS01",
        "sqlite",
        'op.drop_column("users", "name")  # <-',
        'op.create_table("fresh", sa.Column("a", sa.Integer()), sa.Column("b", sa.Integer()))\n'
        'op.drop_column("fresh", "a")',
    ),
    Case("DS01", "mysql", 'op.execute("ALTER TABLE users ADD a INT, DROP COLUMN name")  # <-'),
    Case("DS01", "sqlite", 'with op.batch_alter_table("users") as batch:\n    batch.drop_column("name")  # <-'),
    Case(
        "DS02",
        "mysql",
        'op.drop_table("users")  # <-',
        'op.create_table("t", sa.Column("a", sa.Integer()))\nop.drop_table("t")',
    ),
    Case("DS02", "postgresql", 'op.execute("DROP TABLE IF EXISTS users CASCADE")  # <-'),
    Case(
        "DS03",
        "postgresql",
        'op.alter_column("users", "name", type_=sa.String(20))  # <-',
        'op.alter_column("users", "name", type_=sa.String(70))\n'
        'op.alter_column("users", "id", type_=sa.BigInteger())\n'
        'op.alter_column("users", "score", type_=sa.Numeric(12, 2))',
    ),
    Case("DS03", "mysql", 'op.alter_column("users", "score", type_=sa.Integer())  # <-'),
    Case("DS04", "sqlite", 'op.execute("DELETE FROM users")  # <-', 'op.execute("DELETE FROM users WHERE id < 3")'),
    Case("DS04", "postgresql", 'op.execute("truncate users, teams")  # <-'),
    Case("DS04", "mysql", 'op.execute(sa.table("users").delete())  # <-'),
    Case(
        "DM01",
        "mysql",
        "op.execute(\"UPDATE users SET name = 'WHERE'\")  # <-",
        'op.execute("UPDATE users SET id = 1 WHERE id = 2")',
    ),
    Case("DM01", "sqlite", 'op.get_bind().execute(sa.text("update users set name = 1"))  # <-'),
    Case(
        "DM01",
        "postgresql",
        'op.execute(sa.table("users", sa.column("id")).update().values(id=1))  # <-',
        'users = sa.table("users", sa.column("id"))\nop.execute(users.update().where(users.c.id == 2).values(id=1))',
    ),
    Case(
        "BC01",
        "postgresql",
        'op.rename_table("users", "people")  # <-',
        'op.create_table("people", sa.Column("a", sa.Integer()))',
    ),
    Case("BC01", "mysql", 'op.execute("RENAME TABLE users TO people")  # <-'),
    Case(
        "BC02",
        "sqlite",
        'op.alter_column("users", "name", new_column_name="full_name")  # <-',
        'op.add_column("users", sa.Column("full_name", sa.String(50)))',
    ),
    Case("BC02", "postgresql", 'op.execute("ALTER TABLE users RENAME name TO full_name")  # <-'),
    Case(
        "BC03",
        "postgresql",
        'op.add_column("users", sa.Column("a", sa.Integer(), nullable=False))  # <-',
        'op.add_column("users", sa.Column("a", sa.Integer(), nullable=False, server_default="0"))',
    ),
    Case("BC03", "mysql", 'op.execute("ALTER TABLE users ADD COLUMN a INT NOT NULL")  # <-'),
    Case(
        "SH01",
        "postgresql",
        'op.drop_index("i", table_name="users", schema="public")  # <-',
        'op.execute("SELECT extract(year from o.day) FROM pg_catalog.pg_class o JOIN users u ON o.id = u.id")',
    ),
    Case("SH01", "postgresql", 'op.execute("INSERT INTO public.users (id) SELECT id FROM old")  # <-'),
    Case("SH01", "mysql", 'op.execute("UPDATE `shop`.`users` SET id = 1 WHERE id = 2")  # <-'),
    Case("SH01", "postgresql", 'op.execute("CREATE INDEX i ON public.users (name)")  # <-'),
    Case("SH01", "postgresql", 'op.create_table("t", sa.Column("a", sa.ForeignKey("public.users.id")))  # <-'),
    Case(
        "SH01",
        "postgresql",
        'with op.batch_alter_table("users", schema="s") as batch:\n    batch.drop_column("name")  # <-',
    ),
    Case("SH01", "postgresql", 'op.bulk_insert(sa.table("users", sa.column("id"), schema="s"), [{"id": 1}])  # <-'),
    Case("SH02", "postgresql", 'op.execute("SET search_path TO public")  # <-', 'op.execute("SET lock_timeout = 5")'),
    Case("SH02", "mysql", 'op.execute("USE shop")  # <-'),
    Case("SH03", "postgresql", 'op.execute("CREATE ROLE reader")  # <-', 'op.execute("CREATE TYPE mood AS ENUM (1)")'),
    Case("SH03", "mysql", 'op.execute("SET GLOBAL max_connections = 5")  # <-', 'op.execute("SET SESSION x = 5")'),
    Case("SH04", "postgresql", 'op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")  # <-', 'op.execute("SELECT 1")'),
    Case(
        "SH05",
        "postgresql",
        "op.execute(\"INSERT INTO teams (id) VALUES (nextval('s'))\")  # <-",
        "op.execute(\"INSERT INTO users (name) VALUES ('now()')\")",
    ),
    Case(
        "SH05",
        "sqlite",
        'import uuid\nop.bulk_insert(sa.table("users", sa.column("name")), [{"name": str(uuid.uuid4())}])  # <-',
        'op.bulk_insert(sa.table("users", sa.column("name")), [{"name": "fixed"}])',
    ),
    Case(
        "SH05",
        "mysql",
        'import time\nop.get_bind().execute(sa.text("UPDATE users SET id = :t"), {"t": time.time()})  # <-',
    ),
    Case(
        "EN01",
        "mysql",
        'op.create_table("t", sa.Column("a", sa.String()))  # <-',
        'op.create_table("t", sa.Column("a", sa.String(9)))',
    ),
    Case("EN01", "sqlite", 'op.create_table("t", sa.Column("a", sa.ARRAY(sa.Integer)))  # <-'),
    Case(
        "EN01",
        "mysql",
        'op.drop_constraint("k", "users")  # <-',
        'op.drop_constraint("k", "users", type_="foreignkey")',
    ),
    Case(
        "EN01",
        "mysql",
        'with op.batch_alter_table("users") as batch:\n    batch.add_column(sa.Column("a", sa.String()))  # <-',
    ),
    Case(
        "TX01",
        "postgresql",
        'op.add_column("users", sa.Column("a", sa.Integer()))\n'
        'with op.get_context().autocommit_block():\n    op.execute("VACUUM users")  # <-',
        BLOCK + 'op.execute("VACUUM users")',
    ),
    Case("TX02", "sqlite", 'op.execute("COMMIT")  # <-', "op.execute(\"INSERT INTO users (name) VALUES ('COMMIT')\")"),
    Case(
        "IN01",
        "sqlite",
        'if sa.inspect(op.get_bind()).has_table("x"):  # <-\n    op.drop_table("x")',
        'op.drop_table("x")',
    ),
    Case(
        "IN02",
        "postgresql",
        'total = op.get_bind().execute(sa.text("SELECT count(*) FROM users")).one()  # <-\nop.drop_table("users")',
        'op.get_bind().execute(sa.text("SELECT count(*) FROM users")).all()',
    ),
    Case(
        "IN03",
        "mysql",
        'raise ValueError("not today")  # <-',
        'if op.get_bind().dialect.name != "mysql":\n    raise ValueError',
    ),
    Case(
        "IN04",
        "sqlite",
        'op.drop_table("users")  # shardctl: allow DS99 it is old  # <-',
        'op.drop_table("users")  # shardctl: allow DS02 it is old',
    ),
]
IDS = [f"{case.code}-{number}" for number, case in enumerate(CASES)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    made.write_revision("r1", None, BEFORE)
    return made


def findings(project: Project, engine: str, revision: str = "r2") -> list[Finding]:
    scripts = project.scripts()
    return examine(scripts, [target_of_engine(engine, [revision])]).findings


def lines_marked(file: Path) -> list[int]:
    return [number for number, line in enumerate(file.read_text().splitlines(), 1) if line.endswith("# <-")]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_hazard_is_found_on_its_line(case: Case, project: Project) -> None:
    file = project.write_revision("r2", "r1", case.hazard)
    found = [finding for finding in findings(project, case.engine) if finding.code == case.code]
    assert [finding.line for finding in found] == lines_marked(file)
    rule = RULES[case.code]
    expected = rule.on_schemas if rule.on_schemas and case.engine == "postgresql" else rule.severity
    assert {finding.severity for finding in found} == {expected}


@pytest.mark.parametrize("case", [case for case in CASES if case.safe], ids=lambda case: case.code)
def test_safe_form_is_not_found(case: Case, project: Project) -> None:
    project.write_revision("r2", "r1", case.safe)
    assert [finding for finding in findings(project, case.engine) if finding.code == case.code] == []


@pytest.mark.parametrize(
    ("downgrade", "upgrade", "code"),
    [
        ("    pass", 'op.drop_table("users")', "IR01"),
        ('    """Nothing."""', 'op.drop_table("users")', "IR01"),
        ("    raise NotImplementedError", 'op.drop_table("users")', "IR02"),
        ("    op.drop_table('x')", 'op.drop_table("users")', None),
        ("    pass", 'op.execute("UPDATE users SET id = 1 WHERE id = 2")', None),
        ("    pass", "pass", None),
    ],
)
def test_downgrades(downgrade: str, upgrade: str, code: str | None, project: Project) -> None:
    file = project.write_revision("r2", "r1", upgrade)
    file.write_text(file.read_text().replace("def downgrade():\n    pass", f"def downgrade():\n{downgrade}"))
    found = [finding for finding in findings(project, "sqlite") if finding.code in {"IR01", "IR02"}]
    assert [(finding.code, finding.line) for finding in found] == ([(code, 12)] if code else [])


def test_downgrade_that_is_missing(project: Project) -> None:
    file = project.write_revision("r2", "r1", 'op.drop_table("users")')
    file.write_text(file.read_text().partition("\n\n\ndef downgrade")[0] + "\n")
    assert [(f.code, f.line) for f in findings(project, "sqlite") if f.code.startswith("IR")] == [("IR02", None)]


def test_every_rule_is_tried() -> None:
    assert {case.code for case in CASES} | {"IR01", "IR02"} == set(RULES)


@pytest.mark.parametrize("code", RULES)
def test_every_rule_explains_itself(code: str) -> None:
    rule = RULES[code]
    assert rule.explanation
    assert not rule.why.endswith(".")
    assert not rule.safer.endswith(".")
