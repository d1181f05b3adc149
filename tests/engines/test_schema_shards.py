"""Shards that are schemas of one database, or attached files: all operations land in the own one, or are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from shardctl.fleet import Fleet, Outcome
from shardctl.schema.results import MigrationResult
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.histories import Revision, run_stock, state_of, write_history
from tests.fixtures.projects import GENERIC_ENV, Project, create_places, in_shard, migrate_fleet, place_shards

SQLITE = "sqlite = op.get_bind().dialect.name == 'sqlite'\n"
LOWER = "things = sa.table(T, sa.column('id', sa.Integer), sa.column('name', sa.String))\n"
TABLE = "things = sa.Table(T, sa.MetaData(), autoload_with=op.get_bind())\n"
SEEN = (
    "op.bulk_insert(sa.table(T, sa.column('id', sa.Integer), sa.column('name', sa.String)), [{'id': 9, 'name': %s}])\n"
)

# What each does to a table `T` of its own, with columns id, name, kind and other, and two rows.
OPERATIONS = {
    "create_table": "op.create_table('made', sa.Column('id', sa.Integer(), primary_key=True))",
    "drop_table": "op.drop_table(T)",
    "rename_table": "op.rename_table(T, T + '_renamed')",
    "add_column": "op.add_column(T, sa.Column('extra', sa.String(9), server_default='x'))",
    "drop_column": "op.drop_column(T, 'other')",
    "alter_type": SQLITE
    + "if not sqlite:\n    op.alter_column(T, 'name', existing_type=sa.String(20), type_=sa.String(99))",
    "alter_name": "op.alter_column(T, 'name', existing_type=sa.String(20), new_column_name='label')"
    " if op.get_bind().dialect.name != 'sqlite' else op.execute(f'alter table {T} rename column name to label')",
    "alter_nullable": SQLITE
    + "if not sqlite:\n    op.alter_column(T, 'name', existing_type=sa.String(20), nullable=False)",
    "alter_default": SQLITE
    + "if not sqlite:\n    op.alter_column(T, 'name', existing_type=sa.String(20), server_default='d')",
    "create_index": "op.create_index('ix_made', T, ['name'])",
    "drop_index": "op.create_index('ix_gone', T, ['name'])\nop.drop_index('ix_gone', T)",
    "unique": SQLITE + "if not sqlite:\n    op.create_unique_constraint('uq_made', T, ['name'])",
    "foreign_key": SQLITE + "if not sqlite:\n    op.create_foreign_key('fk_made', T, 't_add_column', ['kind'], ['id'])",
    "check": SQLITE + "if not sqlite:\n    op.create_check_constraint('ck_made', T, sa.text('id > 0'))",
    "drop_constraint": SQLITE
    + "if not sqlite:\n    op.create_unique_constraint('uq_gone', T, ['name'])\n"
    + "    op.drop_constraint('uq_gone', T, type_='unique')",
    "table_comment": SQLITE + "if not sqlite:\n    op.create_table_comment(T, 'of the shard')",
    "column_comment": SQLITE
    + "if not sqlite:\n    op.alter_column(T, 'name', existing_type=sa.String(20), comment='of the shard')",
    "batch_auto": "with op.batch_alter_table(T) as batch:\n    batch.add_column(sa.Column('extra', sa.Integer()))\n"
    "    batch.alter_column('name', existing_type=sa.String(20), type_=sa.String(77))",
    "batch_always": "with op.batch_alter_table(T, recreate='always') as batch:\n"
    "    batch.create_unique_constraint('uq_batch', ['name'])\n    batch.drop_column('other')",
    "bulk_insert_table": TABLE + "op.bulk_insert(things, [{'id': 3, 'name': 'bulk'}])",
    "bulk_insert_lower": LOWER + "op.bulk_insert(things, [{'id': 3, 'name': 'bulk'}, {'id': 4, 'name': 'more'}])",
    "insert_table": TABLE + "op.execute(things.insert().values(id=3, name='core'))",
    "update_lower": LOWER + "op.execute(things.update().values(name='core'))",
    "delete_lower": LOWER + "op.get_bind().execute(things.delete().where(things.c.id == 1))",
    "execute_str": "op.execute(f\"insert into {T} (id, name) values (3, 'str')\")",
    "execute_text": "op.execute(sa.text(f'update {T} set name = :name').bindparams(name='text'))",
    "bind_text": "op.get_bind().execute(sa.text(f'delete from {T} where id = :id'), {'id': 2})",
    "driver_sql": "op.get_bind().exec_driver_sql(f'update {T} set kind = 7')",
    "table_create": "sa.Table('made_by_bind', sa.MetaData(), sa.Column('id', sa.Integer)).create(op.get_bind())",
    "create_all": "metadata = sa.MetaData()\nsa.Table('made_by_all', metadata, sa.Column('id', sa.Integer))\n"
    "metadata.create_all(op.get_bind())",
    "orm": "from sqlalchemy.orm import Session, declarative_base\n\nBase = declarative_base()\n\n"
    "class Thing(Base):\n    __tablename__ = T\n    id = sa.Column(sa.Integer, primary_key=True)\n"
    "    name = sa.Column(sa.String(20))\n\n"
    "with Session(op.get_bind()) as session:\n    session.get(Thing, 1).name = 'orm'\n"
    "    session.add(Thing(id=3, name='new'))\n    session.commit()",
    "raw_view": "op.execute(f'create view v_made as select id from {T}')",
    "has_table": SEEN % "str(sa.inspect(op.get_bind()).has_table('only_in_the_default'))",
    "table_names": "names = sa.inspect(op.get_bind()).get_table_names()\n"
    + SEEN % "str('only_in_the_default' in names)",
    "columns": SEEN % "''.join(column['name'][0] for column in sa.inspect(op.get_bind()).get_columns(T))",
    "autoload": TABLE + SEEN % "''.join(column.name[0] for column in things.columns)",
}


def every_operation() -> list[Revision]:
    creates = "".join(
        f"op.create_table('t_{name}', sa.Column('id', sa.Integer(), primary_key=True),"
        " sa.Column('name', sa.String(20)), sa.Column('kind', sa.Integer()), sa.Column('other', sa.Integer()))\n"
        f"op.execute(\"insert into t_{name} (id, name, kind) values (1, 'a', 1), (2, 'b', 2)\")\n"
        for name in OPERATIONS
    )
    revisions = [Revision("tables", None, creates)]
    for name, body in OPERATIONS.items():
        revisions.append(Revision(f"do_{name}", revisions[-1].id, f"T = 't_{name}'\n{body}"))
    return revisions


def make_decoys(engine: Engine) -> None:
    """Put tables of the same names into the default schema, which any operation would work on just as well."""
    with engine.begin() as connection:
        for name in OPERATIONS:
            columns = "id int primary key, name varchar(20), kind int, other int, decoy int"
            connection.execute(text(f"create table t_{name} ({columns})"))
            connection.execute(text(f"insert into t_{name} values (1, 'decoy', 1, 1, 1), (2, 'decoys', 2, 2, 2)"))
        connection.execute(text("create table only_in_the_default (id int)"))
        connection.execute(text("create table cities (id int, name varchar(64))"))
        connection.execute(text("create table alembic_version (version_num varchar(64) primary key)"))
        connection.execute(text("insert into alembic_version values ('tables')"))


class Decoyed:
    """Shards beside a default schema full of decoys."""

    def __init__(self, project: Project, databases: Databases, kind: str) -> None:
        self.project = project
        self.databases = databases
        place_shards(project, kind, databases, ["asia", "europe"])
        for entry in project.shards.values():
            if "attach" in entry:
                entry["attach"] = str(project.folder / entry["attach"])
        self.fleet = project.open()
        create_places(self.fleet, databases)
        self.default = create_engine(self.fleet.shards["asia"].shard.url)
        make_decoys(self.default)
        self.before = self.default_state()

    def default_state(self) -> dict[str, Any]:
        with self.default.connect() as connection:
            names = sorted(name for (name,) in connection.execute(text(_TABLES[self.databases.engine])))
            return {name: sorted(map(tuple, connection.execute(text(f"select * from {name}")))) for name in names}

    def migrate(self) -> dict[str, Outcome[MigrationResult]]:
        return {outcome.shard_id: outcome for outcome in migrate_fleet(self.fleet, self.project.scripts())}


_TABLES = {
    "postgresql": "select tablename from pg_tables where schemaname = 'public'"
    " union all select viewname from pg_views where schemaname = 'public'",
    "sqlite": "select name from main.sqlite_master where type <> 'index'",
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    return made


@pytest.fixture(params=["postgresql schemas", "sqlite attached"])
def decoyed(request: pytest.FixtureRequest, project: Project, tmp_path: Path) -> Iterator[Decoyed]:
    yield from _decoyed(project, request.param, tmp_path)


@pytest.fixture
def schemas(project: Project, tmp_path: Path) -> Iterator[Decoyed]:
    yield from _decoyed(project, "postgresql schemas", tmp_path)


def _decoyed(project: Project, kind: str, folder: Path) -> Iterator[Decoyed]:
    engine = kind.partition(" ")[0]
    if engine != "sqlite":
        server_url(engine)
    databases = Databases(engine, folder)
    made = Decoyed(project, databases, kind)
    yield made
    made.default.dispose()
    databases.drop_all()


def alone(folder: Path, databases: Databases) -> Fleet:
    """Make a database that has nothing but one shard."""
    folder.mkdir()
    project = Project(folder, {"alone": {"url": databases.create("alone")}})
    return project.open()


def test_every_operation_lands_in_the_own_schema(decoyed: Decoyed, tmp_path: Path) -> None:
    write_history(decoyed.project.migrations, every_operation())

    outcomes = decoyed.migrate()

    assert {name: outcome.problem for name, outcome in outcomes.items() if not outcome.is_ok} == {}
    assert decoyed.default_state() == decoyed.before
    by_alembic = alone(tmp_path / "alone", decoyed.databases)
    run_stock(by_alembic.shards.values(), decoyed.project.migrations, "head")
    expected = state_of(by_alembic.shards["alone"])
    assert len(expected) > len(OPERATIONS)
    for live in decoyed.fleet.shards.values():
        assert state_of(live) == expected


CREATE = "op.create_table('cities', sa.Column('id', sa.Integer()), sa.Column('name', sa.String(64)))"
LEAVING = {
    "schema=": ("op.create_table('x', sa.Column('id', sa.Integer()), schema='public')", "it names the schema `public`"),
    "column of another": (
        "op.add_column('cities', sa.Column('x', sa.Integer()), schema='public')",
        "it names the schema `public`: `ALTER TABLE public.cities ADD COLUMN x INTEGER`",
    ),
    "raw": ("op.execute('insert into public.cities values (1)')", "it names the schema `public`"),
    "search_path": (
        "op.execute('set search_path to public')\nop.execute('insert into cities values (1)')",
        "it left the schema `s_asia` for `public`: `set search_path to public`",
    ),
    "local search_path": ("op.execute('set local search_path = public, s_asia')", "it left the schema `s_asia`"),
    "as pg_dump does": (
        "op.get_bind().execute(sa.text(\"select pg_catalog.set_config('search_path', '', false)\")).one()",
        "it left the schema `s_asia` for `None`",
    ),
    "set schema": ("op.execute(\"set schema 'public'\")", "it left the schema `s_asia` for `public`"),
    "in a WITH": (
        "op.execute('with n as (select 1) insert into public.cities select * from n')",
        "it changed `public.cities`, outside of `s_asia`",
    ),
    "in a block": (
        "op.execute('do $$ begin update public.cities set id = 1; create table public.y (id int); end $$')",
        "it changed `public.cities`, `public.y`, outside of `s_asia`",
    ),
    "hidden search_path": (
        "op.execute(\"do $$ begin perform set_config('search_' || 'path', 'public', false); end $$\")",
        "it left the schema `s_asia` for `public`",
    ),
    "translated": (
        "op.get_bind().execution_options(schema_translate_map={None: 'public'})\n"
        "op.create_table('x', sa.Column('id', sa.Integer()))",
        "it names the schema `public`",
    ),
}


@pytest.mark.parametrize("name", LEAVING)
def test_a_revision_that_leaves_the_schema_is_rolled_back(name: str, schemas: Decoyed) -> None:
    body, message = LEAVING[name]
    write_history(
        schemas.project.migrations,
        [
            Revision("r1", None, CREATE),
            Revision("r2", "r1", f"op.execute('insert into cities (id) values (1)')\n{body}"),
        ],
    )

    error = schemas.migrate()["asia"].error

    assert error is not None
    assert message in error.message.replace('"', "")
    assert error.facts == ("rolled back: still at `r1`",)
    assert schemas.default_state() == schemas.before
    assert in_shard(schemas.fleet.shards["asia"], "select * from cities") == []


def test_what_shards_share_in_another_schema_may_be_referred_to(schemas: Decoyed) -> None:
    with schemas.default.begin() as connection:
        for statement in (
            "create table countries (id int primary key)",
            "insert into countries values (1)",
            "create sequence ids",
            "create type mood as enum ('calm')",
        ):
            connection.execute(text(statement))
    body = (
        "op.create_table('towns', sa.Column('id', sa.Integer(), server_default=sa.text(\"nextval('public.ids')\")),\n"
        "    sa.Column('country', sa.Integer(), sa.ForeignKey('public.countries.id')))\n"
        "op.execute('alter table towns add column mood public.mood')\n"
        "op.execute(\"insert into towns (country, mood) select id, 'calm' from public.countries\")\n"
    )
    write_history(schemas.project.migrations, [Revision("r1", None, body)])

    assert {name: outcome.problem for name, outcome in schemas.migrate().items() if not outcome.is_ok} == {}
    for live in schemas.fleet.shards.values():
        assert in_shard(live, "select country, mood from towns") == [(1, "calm")]


def test_env_py_that_puts_the_version_table_elsewhere_is_refused(schemas: Decoyed) -> None:
    schemas.project.write_env(
        GENERIC_ENV.replace(
            "target_metadata=target_metadata\n", 'target_metadata=None, version_table_schema="public"\n'
        )
    )
    write_history(schemas.project.migrations, [Revision("r1", None, CREATE)])
    for outcome in schemas.migrate().values():
        assert outcome.error.message == (
            "env.py: the version table is not to be in the schema `public`, which is not the shard's"
        )
        assert outcome.error.facts == ("the shard is at no revision",)
    assert schemas.default_state() == schemas.before


def test_env_py_that_translates_is_overruled(decoyed: Decoyed) -> None:
    decoyed.project.write_env(
        "from alembic import context\n\n"
        "connection = context.config.attributes['connection']\n"
        "connection = connection.execution_options(schema_translate_map={None: 'public'})\n"
        "context.configure(connection=connection)\n"
        "with context.begin_transaction():\n    context.run_migrations()\n"
    )
    write_history(decoyed.project.migrations, [Revision("r1", None, CREATE)])

    assert {outcome.result.to for outcome in decoyed.migrate().values()} == {("r1",)}
    assert decoyed.default_state() == decoyed.before
    for live in decoyed.fleet.shards.values():
        assert in_shard(live, "select * from cities") == []


def test_mysql_use_is_refused_before_the_next_statement(project: Project, mysql: Databases) -> None:
    elsewhere = mysql.create("elsewhere")
    database = make_url(elsewhere).database
    place_shards(project, "mysql databases", mysql, ["asia"])
    fleet = project.open()
    create_places(fleet, mysql)
    write_history(project.migrations, [Revision("r1", None, f"op.execute('USE {database}')\n{CREATE}")])

    (outcome,) = migrate_fleet(fleet, project.scripts())

    assert f"it left the schema `{fleet.shards['asia'].engine.url.database}` for `{database}`" in outcome.error.message
    engine = create_engine(elsewhere)
    with engine.connect() as connection:
        assert connection.execute(text("show tables")).all() == []
    engine.dispose()


def test_mysql_schema_named_by_a_statement_is_refused(project: Project, mysql: Databases) -> None:
    elsewhere = mysql.create("elsewhere")
    own = make_url(mysql.create("own")).database
    database = make_url(elsewhere).database
    project.shards["asia"] = {"url": elsewhere, "schema": own}
    fleet = project.open()
    insert = f"op.execute('insert into {database}.cities values (1)')"
    write_history(project.migrations, [Revision("r1", None, CREATE), Revision("r2", "r1", insert)])

    (outcome,) = migrate_fleet(fleet, project.scripts())

    assert f"it names the schema `{database}`" in outcome.error.message
    assert outcome.error.to == ("r1",)
