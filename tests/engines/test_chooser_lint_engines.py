"""`choosers lint` on every engine, by a login that may only read, and on databases that live in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

import shardctl
from examples.weather.models import Base, Report, WeatherLocation
from shardctl.fleet import Fleet
from shardctl.rows.choosers.lint import Wish, lint_choosers
from shardctl.rows.choosers.report import Report as LintReport
from shardctl.rows.choosers.stored import read_samples
from tests.fixtures.engines import Databases

APP = """
from sqlalchemy import SingletonThreadPool, create_engine
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import sessionmaker
from examples.weather.models import Base, Report, WeatherLocation

{engines}

def place(mapper, instance, clause=None):
    {extra}
    return (instance if isinstance(instance, WeatherLocation) else instance.location).continent.lower()

def everywhere(*args, **kw):
    return list(shards)

Session = sessionmaker(
    class_=ShardedSession, shards=shards, shard_chooser=place, identity_chooser=everywhere, execute_chooser=everywhere
)
"""
READER = "shardctl_reader"
WRITES = "shards['asia'].connect().exec_driver_sql(\"delete from weather_reports\")"


@pytest.fixture(autouse=True)
def fresh_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("reading_app", None)


def open_app(engines: str, extra: str = "pass") -> Fleet:
    Path("reading_app.py").write_text(APP.format(engines=engines, extra=extra))
    return shardctl.open(app="reading_app:Session")


def fill(url: str, continent: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for number in range(3):
            connection.execute(WeatherLocation.__table__.insert(), {"continent": continent, "city": f"{number}"})
            connection.execute(Report.__table__.insert(), {"location_id": number + 1, "temperature": 7.0})


@contextmanager
def reading_only(databases: Databases, url: str) -> Iterator[str]:
    """Give a URL for a login that may only read, if the engine knows logins; SQLite's file is opened read-only."""
    made = make_url(url)
    if databases.engine == "sqlite":
        yield f"sqlite:///file:{made.database}?mode=ro&uri=true"
        return
    reader = f"{READER}_{made.database}"[-32:]
    statements = {
        "postgresql": [f"create role {reader} login", f"grant select on all tables in schema public to {reader}"],
        "mysql": [f"create user {reader}", f"grant select on {made.database}.* to {reader}"],
    }
    undo = {"postgresql": [f"drop owned by {reader}", f"drop role {reader}"], "mysql": [f"drop user {reader}"]}
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements[databases.engine]:
            connection.execute(text(statement))
    try:
        yield made.set(username=reader, password=None).render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            for statement in undo[databases.engine]:
                connection.execute(text(statement))


def lint(fleet: Fleet) -> LintReport:
    mappers = list(fleet.models.mappers.values())
    outcomes = read_samples(fleet, mappers, list(fleet.shards.values()), limit=10, timeout_s=30)
    report = lint_choosers(fleet, mappers, [outcome.result for outcome in outcomes], Wish(samples=10))
    for shard in fleet.shards.values():
        shard.bind.dispose()
    return report


def test_a_login_that_may_only_read(databases: Databases) -> None:
    urls = {name: databases.create(name) for name in ("asia", "europe")}
    for name, url in urls.items():
        fill(url, name.title())
    with reading_only(databases, urls["asia"]) as asia, reading_only(databases, urls["europe"]) as europe:
        engines = (
            f"shards = {{name: create_engine(url) for name, url in { ({'asia': asia, 'europe': europe})!r}.items()}}"
        )
        report = lint(open_app(engines))
    assert report.findings == []
    assert report.notes == []
    assert report.stored == 12


def test_a_chooser_that_writes_is_kept_from_it(databases: Databases) -> None:
    urls = {name: databases.create(name) for name in ("asia", "europe")}
    for name, url in urls.items():
        fill(url, name.title())
    report = lint(open_app(f"shards = {{name: create_engine(url) for name, url in {urls!r}.items()}}", WRITES))
    assert {(entry.rule.code, entry.class_name) for entry in report.findings} == {
        ("C106", "Report"),
        ("C106", "WeatherLocation"),
    }
    assert "delete from weather_reports" in report.findings[0].example
    with create_engine(urls["asia"], poolclass=NullPool).connect() as connection:
        assert connection.scalar(text("select count(*) from weather_reports")) == 3


def test_schemas_of_one_database_are_each_read(postgresql: Databases) -> None:
    url = postgresql.create("weather")
    engine = create_engine(url, poolclass=NullPool)
    for name in ("asia", "europe"):
        with engine.begin() as connection:
            connection.execute(text(f"create schema {name}"))
            connection = connection.execution_options(schema_translate_map={None: name})
            Base.metadata.create_all(connection)
            connection.execute(WeatherLocation.__table__.insert(), {"continent": name.title(), "city": name})
    report = lint(
        open_app(
            f"engine = create_engine({url!r})\n"
            "shards = {n: engine.execution_options(schema_translate_map={None: n}) for n in ('asia', 'europe')}"
        )
    )
    assert report.findings == []
    assert report.stored == 2


def test_a_statement_on_an_engine_that_is_an_option_of_another_is_counted_once(tmp_path: Path) -> None:
    for name in ("asia", "europe"):
        fill(f"sqlite:///{tmp_path / name}.db", name.title())
    engines = (
        "shards = {n: create_engine(f'sqlite:///{n}.db').execution_options(tenant=n) for n in ('asia', 'europe')}\n"
    )
    reads = "c = shards['asia'].connect(); c.exec_driver_sql('select 1'); c.close()"
    report = lint(open_app(engines, reads))
    assert {entry.what for entry in report.findings} == {"sends 1 SELECT"}


def test_databases_in_memory(tmp_path: Path) -> None:
    report = lint(
        open_app(
            """
shards = {name: create_engine("sqlite://", poolclass=SingletonThreadPool) for name in ("asia", "europe")}
for name, engine in shards.items():
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(WeatherLocation.__table__.insert(), {"continent": name.title(), "city": name})
"""
        )
    )
    assert report.findings == []
    assert report.stored == 2
