"""The pytest plugin, in runs of pytest of their own."""

from __future__ import annotations

import re
import sys
import textwrap

import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook

MODELS = """
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

class Base(DeclarativeBase):
    pass

class City(Base):
    __tablename__ = "cities"
    id: Mapped[int] = mapped_column(primary_key=True)
    side: Mapped[str]
    streets: Mapped[list["Street"]] = relationship(back_populates="city")

class Street(Base):
    __tablename__ = "streets"
    id: Mapped[int] = mapped_column(primary_key=True)
    city_id: Mapped[int] = mapped_column(ForeignKey("cities.id"))
    name: Mapped[str] = mapped_column(default="High Street")
    city: Mapped[City] = relationship(back_populates="streets")
"""

SHARD_MAP = """
models = "models:Base"

[shards.east]
url = "postgresql://app:${A_PASSWORD_THAT_IS_NOT_SET}@nowhere/east"

[shards.west]
url = "${A_URL_THAT_IS_NOT_SET}"

[tables.City]
strategy = "lookup"
key = "side"
shards = { E = "east", W = "west" }

[tables.Street]
strategy = "follow"
parent = "city"
"""

APP = """
from sqlalchemy import create_engine, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import sessionmaker
from models import Base, City, Street

SIDES = {"E": "east", "W": "west"}

def everywhere(*args, **kw):
    return list(SIDES.values())

def make(engine_of=create_engine, **options):
    shards = {name: engine_of(f"sqlite:///{name}.db") for name in SIDES.values()}
    return shards, dict(
        shards=shards, shard_chooser=lambda mapper, instance, clause=None: SIDES[instance.side],
        identity_chooser=everywhere, execute_chooser=everywhere, **options,
    )

def all_cities(session):
    return session.scalars(select(City)).all()

def eastern(session):
    return session.scalars(select(City).options(set_shard_id("east"))).all()
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a shard map, an application of its own, and tests that are written for the purpose."""
    pytester.makepyfile(models=MODELS, app=APP)
    pytester.path.joinpath("shardctl.toml").write_text(SHARD_MAP)
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error\n"
    )
    return pytester


def write_tests(project: pytest.Pytester, source: str) -> None:
    head = "import pytest, app\nfrom sqlalchemy import select, update, delete\nfrom models import City, Street\n"
    project.makepyfile(test_it=head + textwrap.dedent(source))


def reported(result: pytest.RunResult) -> list[str]:
    """Return the lines of the report."""
    text = result.stdout.str()
    assert "= scattered over shards =" in text, text
    section = re.split(r"\n=+ ", text.partition("= scattered over shards =")[2])[0]
    return [line for line in section.splitlines()[1:] if line and not re.match(r"\d+ (passed|failed)", line)]


def line_of(project: pytest.Pytester, file: str, end: str) -> int:
    lines = project.path.joinpath(file).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(end))


SCATTERS = """
    def test_scatters(shardctl_fleet):
        with shardctl_fleet.session() as session:
            app.all_cities(session)
            app.all_cities(session)
"""


def test_off_unless_asked_for(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_it="""
        import sys

        def test_nothing_is_imported(pytestconfig):
            assert "shardctl.pytest_plugin" in sys.modules
            heavy = {"sqlalchemy", "alembic", "sqlglot", "typer", "rich"}
            assert not heavy & set(sys.modules)
            assert not [name for name in sys.modules if name.startswith("shardctl.testing")]
        """
    )
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    assert "scattered" not in result.stdout.str()


def test_report_names_the_line_the_statement_the_shards_and_the_tests(project: pytest.Pytester) -> None:
    write_tests(
        project,
        """
        def test_one(shardctl_fleet):
            with shardctl_fleet.session() as session:
                app.all_cities(session)
                app.eastern(session)
                session.scalars(select(City).where(City.side == "E")).all()

        def test_two(shardctl_fleet):
            with shardctl_fleet.session() as session:
                app.all_cities(session)
                session.get(City, 1)
                session.scalars(select(City).where(City.side.in_(["E", "W"]))).all()  # in
        """,
    )
    result = project.runpytest_subprocess("--shardctl-scatter")
    assert result.ret == 0
    line = line_of(project, "app.py", "return session.scalars(select(City)).all()")
    assert reported(result) == [
        f"app.py:{line}: 2 times to 2 shards: east, west",
        "    SELECT … FROM cities",
        "    in test_it.py::test_one and 1 more",
        f"test_it.py:{line_of(project, 'test_it.py', 'session.get(City, 1)')}: once to 2 shards: east, west",
        "    SELECT … FROM cities WHERE cities.id = :pk_1",
        "    in test_it.py::test_two",
        f"test_it.py:{line_of(project, 'test_it.py', '# in')}: once to 2 shards: east, west",
        "    SELECT … FROM cities WHERE cities.side IN (:side_1)",
        "    in test_it.py::test_two",
        "4 executions scattered",
    ]


def test_sessions_of_an_application_in_every_way_that_they_ask(project: pytest.Pytester) -> None:
    write_tests(
        project,
        """
        def test_ways():
            shards, options = app.make()
            for engine in shards.values():
                app.Base.metadata.create_all(engine)
            with app.sessionmaker(class_=app.ShardedSession, **options)() as session:
                session.add_all([City(id=1, side="E"), City(id=2, side="W")])
                session.commit()
                session.expire_all()
                city = session.get(City, 2)
                city.side
                session.refresh(city)
                city.streets
                session.query(City).filter(City.side == "E").first()
                session.execute(update(City).values(side="W"), execution_options={"synchronize_session": False})
                session.execute(delete(City).where(City.id == 9))
                app.eastern(session)
                session.rollback()
            for engine in shards.values():
                engine.dispose()
        """,
    )
    result = project.runpytest_subprocess("--shardctl-scatter")
    assert result.ret == 0, result.stdout.str()
    lines = [line.strip() for line in reported(result)]
    statements = [lines[index + 1] for index, line in enumerate(lines) if line.startswith("test_it.py:")]
    assert statements == [
        "SELECT … FROM cities WHERE cities.id = :pk_1",
        "load of City.streets",
        "SELECT … FROM cities WHERE cities.side = :side_1 LIMIT :param_1",
        "UPDATE cities SET side=:side",
        "DELETE FROM cities WHERE cities.id = :id_1",
    ]
    assert lines[-1] == "5 executions scattered"


def test_sessions_of_asyncio_show_the_line_that_awaits(project: pytest.Pytester) -> None:
    write_tests(
        project,
        """
        import asyncio

        async def ask():
            engines, options = app.make(lambda url: app.create_async_engine(url.replace("sqlite", "sqlite+aiosqlite")))
            options["shards"] = {name: engine.sync_engine for name, engine in engines.items()}
            for engine in engines.values():
                async with engine.begin() as connection:
                    await connection.run_sync(app.Base.metadata.create_all)
            async with app.AsyncSession(sync_session_class=app.ShardedSession, **options) as session:
                await session.scalars(select(City))  # here
            for engine in engines.values():
                await engine.dispose()

        def test_asynchronous():
            asyncio.run(ask())
        """,
    )
    result = project.runpytest_subprocess("--shardctl-scatter")
    assert result.ret == 0, result.stdout.str()
    number = line_of(project, "test_it.py", "# here")
    assert reported(result)[0] == f"test_it.py:{number}: once to 2 shards: east, west"


@pytest.mark.parametrize(("limit", "code"), [(2, 0), (1, 1), (0, 1)])
def test_a_run_above_the_threshold_fails(project: pytest.Pytester, limit: int, code: int) -> None:
    write_tests(project, SCATTERS)
    result = project.runpytest_subprocess(f"--shardctl-max-scatter={limit}")
    result.assert_outcomes(passed=1)
    assert result.ret == code
    reason = f"failed: 2 executions scattered, and at most {limit} may (--shardctl-max-scatter)"
    assert (reason in result.stdout.str()) == bool(code)
    assert ("= scattered over shards =" in result.stdout.str()) == bool(code)


@pytest.mark.slow
def test_settings_stand_for_options_and_the_reason_is_always_said(project: pytest.Pytester) -> None:
    write_tests(project, SCATTERS)
    project.makeini("[pytest]\nshardctl_max_scatter = 0\n")
    result = project.runpytest_subprocess("--no-summary")
    assert result.ret == 1
    assert "failed: 2 executions scattered, and at most 0 may" in result.stdout.str()
    result = project.runpytest_subprocess("--shardctl-max-scatter=2")
    assert result.ret == 0
    project.makeini("[pytest]\nshardctl_scatter = true\n")
    assert reported(project.runpytest_subprocess())[-1] == "2 executions scattered"


def test_a_limit_that_is_no_number(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--shardctl-max-scatter=-1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "`-1` is not a number of executions: 0 or more" in result.stderr.str()
    project.makeini("[pytest]\nshardctl_max_scatter = few\n")
    result = project.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "shardctl_max_scatter: `few` is not a number of executions" in result.stderr.str()


@pytest.mark.slow
def test_a_test_may_say_what_it_allows(project: pytest.Pytester) -> None:
    write_tests(
        project,
        """
        @pytest.fixture
        def asked(shardctl_fleet):
            with shardctl_fleet.session() as session:
                app.all_cities(session)
                yield session

        @pytest.mark.shardctl_scatter
        def test_any(asked):
            app.all_cities(asked)

        @pytest.mark.shardctl_scatter(max=1)
        def test_one(asked):
            app.all_cities(asked)

        @pytest.mark.shardctl_scatter(0)
        def test_none(asked):
            app.all_cities(asked)

        @pytest.mark.shardctl_scatter(most=0)
        def test_misspelt():
            pass
        """,
    )
    result = project.runpytest_subprocess("--shardctl-max-scatter=0")
    result.assert_outcomes(passed=2, failed=2)
    assert "write `@pytest.mark.shardctl_scatter` or `@pytest.mark.shardctl_scatter(max=3)`" in result.stdout.str()
    assert "1 execution scattered over shards; this test allows 0" in result.stdout.str()
    assert "failed: " not in result.stdout.str()  # the run's own threshold
    result = project.runpytest_subprocess("--shardctl-scatter")
    assert reported(result)[-1] == "6 executions scattered, 6 of them in tests that allow it"


@pytest.mark.slow
def test_workers_of_xdist_are_added_up(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    write_tests(project, "".join(SCATTERS.replace("test_scatters", f"test_{number}") for number in range(4)))
    result = project.runpytest_subprocess("-n", "2", "--shardctl-max-scatter=7")
    assert result.ret == 1, result.stdout.str()
    assert reported(result)[0].endswith(": 8 times to 2 shards: east, west")
    assert "and 3 more" in reported(result)[2]
    assert "failed: 8 executions scattered, and at most 7 may" in result.stdout.str()


@pytest.mark.slow
def test_a_worker_that_dies_makes_the_report_incomplete(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    write_tests(project, "import os\ndef test_dies():\n    os._exit(9)\n")
    result = project.runpytest_subprocess("-n", "1", "--shardctl-max-scatter=0")
    assert result.ret == 1
    assert "incomplete: gw0 ended without saying what scattered" in result.stdout.str()


def test_what_a_statement_loads_further_is_a_statement_of_its_own(project: pytest.Pytester) -> None:
    write_tests(
        project,
        """
        from sqlalchemy.orm import selectinload

        def test_it():
            shards, options = app.make()
            options["execute_chooser"] = lambda context: ["east"] if not context.is_relationship_load else ["west"]
            for engine in shards.values():
                app.Base.metadata.create_all(engine)
            with app.sessionmaker(class_=app.ShardedSession, **options)() as session:
                session.add(City(side="E"))
                session.commit()
                session.scalars(select(City).options(selectinload(City.streets))).all()
            for engine in shards.values():
                engine.dispose()
        """,
    )
    result = project.runpytest_subprocess("--shardctl-scatter")
    assert result.ret == 0, result.stdout.str()
    assert reported(result) == ["nothing scattered"]


def test_watching_ends_with_the_run(pytester: pytest.Pytester) -> None:
    from sqlalchemy.orm import ORMExecuteState

    original = ORMExecuteState.invoke_statement
    pytester.makepyfile(
        """
        from sqlalchemy.orm import ORMExecuteState

        def test_watched():
            assert hasattr(ORMExecuteState.invoke_statement, "__wrapped__")
        """
    )
    pytester.runpytest_inprocess("--shardctl-scatter").assert_outcomes(passed=1)
    assert ORMExecuteState.invoke_statement is original


def test_fixtures_are_listed_with_what_they_give(project: pytest.Pytester) -> None:
    project.makepyfile(test_it="")
    result = project.runpytest_subprocess("--fixtures")
    result.stdout.fnmatch_lines(["shardctl_fleet*", "*fresh fleet of the project's shard map*"])


def test_no_warning_where_shardctl_is_imported_before_its_plugin(pytestconfig: pytest.Config) -> None:
    assert "shardctl" in sys.modules
    AssertionRewritingHook(pytestconfig).mark_rewrite("shardctl")  # as for each package with a plugin
    with pytest.raises(pytest.PytestAssertRewriteWarning):
        AssertionRewritingHook(pytestconfig).mark_rewrite("sqlalchemy")
