"""Applications with choosers of their own, on every engine: databases, and schemas that one engine translates to."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, make_url, text

import shardctl
from examples.weather.models import Report, WeatherLocation
from shardctl.errors import ShardError, ShardUnreachable
from shardctl.fleet import Fleet
from shardctl.query import run_query
from shardctl.rows.locate import locate
from shardctl.schema.create import init, plan_init
from shardctl.schema.needs import survey_needs

APP = """
from sqlalchemy import create_engine
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import sessionmaker

from examples.weather.models import Base, Report, WeatherLocation

{engines}

def shard_of(mapper, instance, clause=None):
    location = instance if isinstance(instance, WeatherLocation) else instance.location
    return location.continent.lower()

def of_parent(context):
    return [context.lazy_loaded_from.identity_token] if context.lazy_loaded_from else list(shards)

def by_identity(mapper, primary_key, *, lazy_loaded_from=None, **kw):
    return [lazy_loaded_from.identity_token] if lazy_loaded_from else list(shards)

Session = sessionmaker(
    class_=ShardedSession, shards=shards,
    shard_chooser=shard_of, identity_chooser=by_identity, execute_chooser=of_parent,
)
"""
TRANSLATED = """
engine = create_engine({url!r}, pool_size=2, max_overflow=0)
shards = {{
    name: engine.execution_options(schema_translate_map={{None: schema}}) for name, schema in {schemas!r}.items()
}}
"""
SEPARATE = "shards = {{name: create_engine(url) for name, url in {urls!r}.items()}}"

Opener = Callable[[str], Fleet]


@pytest.fixture
def open_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    """Opens an application whose module is written for the purpose."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    opened: list[Fleet] = []

    def open_(engines: str) -> Fleet:
        (tmp_path / "weather_app.py").write_text(APP.format(engines=engines))
        opened.append(shardctl.open(app="weather_app:Session"))
        return opened[-1]

    yield open_
    for fleet in opened:
        fleet.close()
        for shard in fleet.shards.values():
            shard.bind.dispose()
    sys.modules.pop("weather_app", None)


def needed(fleet: Fleet) -> dict[str, tuple[str, ...]]:
    return {o.shard_id: o.result.missing for o in survey_needs(fleet, fleet.shards.values(), plan_init(fleet, None))}


def created(fleet: Fleet) -> dict[str, tuple[str, ...]]:
    outcomes = init(fleet, fleet.shards.values(), plan_init(fleet, None))
    return {outcome.shard_id: outcome.result.created for outcome in outcomes}


def fill(fleet: Fleet) -> None:
    with fleet.sessionmaker()() as session:
        for continent, city in (("Asia", "Tokyo"), ("Europe", "London"), ("Europe", "Dublin")):
            location = WeatherLocation(continent, city)
            location.reports.append(Report(len(city)))
            session.add(location)
        session.commit()


def cities(fleet: Fleet, shard_id: str) -> list[str]:
    with fleet.shard(shard_id).connect() as connection:
        return list(connection.execute(text("select city from weather_locations order by city")).scalars())


def check_rows(fleet: Fleet) -> None:
    """Check that SQL text, the command's query and `locate` each see a shard's own rows."""
    assert {shard_id: cities(fleet, shard_id) for shard_id in fleet.shards} == {
        "asia": ["Tokyo"],
        "europe": ["Dublin", "London"],
    }
    for shard in fleet.shards.values():
        with shard.connect() as connection:
            assert set(inspect(connection).get_table_names()) == {"weather_locations", "weather_reports"}
    result = run_query(fleet, "select city from weather_locations order by city", shards=list(fleet.shards.values()))
    assert [row[0] for row in result.rows] == ["Dublin", "London", "Tokyo"]
    keys: dict[str, Any] = {"identities": [(1,), (2,)], "related": ["location"]}
    search = locate(fleet, fleet.models.find("Report"), list(fleet.shards.values()), **keys)
    assert [(row.shard_id, row.verdict, dict(row.related["location"].counts)) for row in search.found] == [
        ("asia", "ok", {"asia": 1}),
        ("europe", "ok", {"europe": 1}),
        ("europe", "ok", {"europe": 1}),
    ]
    table = fleet.models.tables["weather_locations"]
    search = locate(fleet, table, list(fleet.shards.values()), identities=[(1,), (2,), (3,)])
    assert [(row.primary_key, row.shard_id) for row in search.found] == [
        ((1,), "asia"),
        ((1,), "europe"),
        ((2,), "europe"),
    ]
    assert search.missing == [(3,)]
    with pytest.raises(ShardError, match=r"(?i)read.?only"), fleet.shard("asia").connect() as connection:
        connection.execute(text("delete from weather_reports"))


def test_separate_databases(open_app, databases):
    fleet = open_app(SEPARATE.format(urls={name: databases.url(name) for name in ("asia", "europe")}))

    place = "file" if databases.engine == "sqlite" else "database"
    assert needed(fleet) == {"asia": (place, "2 tables"), "europe": (place, "2 tables")}
    assert created(fleet) == {"asia": (place, "2 tables"), "europe": (place, "2 tables")}
    assert needed(fleet) == {"asia": (), "europe": ()}
    assert created(fleet) == {"asia": (), "europe": ()}
    fill(fleet)
    check_rows(fleet)


def test_schemas_of_one_postgresql_database(open_app, postgresql):
    url = postgresql.create("weather")
    fleet = open_app(TRANSLATED.format(url=url, schemas={"asia": "s 1", "europe": "s_2"}))

    assert {shard.shard.schema for shard in fleet.shards.values()} == {"s 1", "s_2"}
    assert needed(fleet) == {"asia": ("schema", "2 tables"), "europe": ("schema", "2 tables")}
    assert created(fleet) == {"asia": ("schema", "2 tables"), "europe": ("schema", "2 tables")}
    assert needed(fleet) == {"asia": (), "europe": ()}
    fill(fleet)
    check_rows(fleet)
    check_pool(fleet, "select current_setting('search_path')")


def test_databases_of_one_mysql_server(open_app, mysql):
    schemas = {name: str(make_url(mysql.url(name)).database) for name in ("asia", "europe")}
    url = make_url(mysql.create("main")).render_as_string(hide_password=False)
    fleet = open_app(TRANSLATED.format(url=url, schemas=schemas))

    with pytest.raises(ShardUnreachable, match=f"Unknown database '{schemas['asia']}'"):
        cities(fleet, "asia")
    assert needed(fleet) == {"asia": ("database", "2 tables"), "europe": ("database", "2 tables")}
    assert created(fleet) == {"asia": ("database", "2 tables"), "europe": ("database", "2 tables")}
    fill(fleet)
    check_rows(fleet)
    check_pool(fleet, "select database()")


def check_pool(fleet: Fleet, question: str) -> None:
    """Check that no connection of the application's pool is left in a shard's schema, or read-only, or in use."""
    bind = fleet.shard("asia").bind
    fresh = create_engine(bind.url)
    with bind.connect() as one, bind.connect() as two, fresh.connect() as new:
        usual = new.execute(text(question)).scalar()
        assert [one.execute(text(question)).scalar(), two.execute(text(question)).scalar()] == [usual, usual]
        one.execute(text("create table is_writable (id int)"))
    fresh.dispose()


def test_a_named_schema_is_translated(open_app, postgresql):
    """A map without None, for models that name a schema: where it leads to one schema, that is the shard's own."""
    engines = TRANSLATED.format(url=postgresql.create("weather"), schemas={"asia": "a", "europe": "b"})
    fleet = open_app(engines.replace("{None: schema}", '{"tenant": schema}'))

    assert {shard_id: shard.shard.schema for shard_id, shard in fleet.shards.items()} == {"asia": "a", "europe": "b"}
    with fleet.shard("asia").connect() as connection:
        assert connection.execute(text("select current_setting('search_path')")).scalar() == "a"


def test_text_is_refused_where_a_shard_has_several_schemas(open_app, postgresql):
    engines = TRANSLATED.format(url=postgresql.create("weather"), schemas={"asia": "a", "europe": "b"})
    fleet = open_app(engines.replace("{None: schema}", '{"tenant": schema, "shared": "public"}'))

    with pytest.raises(ShardError, match="leads to several schemas"):
        cities(fleet, "asia")


def test_a_server_that_does_not_answer_is_not_created(open_app):
    fleet = open_app(SEPARATE.format(urls={"asia": "postgresql+psycopg://postgres@127.0.0.1:9/asia"}))

    outcomes = list(init(fleet, fleet.shards.values(), plan_init(fleet, None)))

    assert isinstance(outcomes[0].error, ShardUnreachable)
    assert isinstance(fleet.shard("asia").bind, Engine)
