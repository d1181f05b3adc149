"""The weather example on one engine and four attached schemas: what SQLAlchemy's own example asserts, and more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, inspect, literal, select, text, update
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import aliased

import shardctl
from examples.weather.models import Base, Report, WeatherLocation
from shardctl.errors import NoPlacement
from shardctl.fleet import Fleet

SHARD_MAP = """
models = "examples.weather.models:Base"

[shards.north_america]
url = "sqlite://"
schema = "schema_1"
attach = "schema_1.db"

[shards.asia]
url = "sqlite://"
schema = "schema_2"
attach = "schema_2.db"

[shards.europe]
url = "sqlite://"
schema = "schema_3"
attach = "schema_3.db"

[shards.south_america]
url = "sqlite://"
schema = "schema_4"
attach = "schema_4.db"

[tables.WeatherLocation]
strategy = "lookup"
key = "continent"
shards = { "North America" = "north_america", Asia = "asia", Europe = "europe", "South America" = "south_america" }

[tables.Report]
strategy = "follow"
parent = "location"
"""

Factory = Callable[[], ShardedSession]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    file = tmp_path / "shardctl.toml"
    file.write_text(SHARD_MAP)
    with shardctl.open(file) as opened:
        for shard in opened.shards.values():
            Base.metadata.create_all(shard.bind)
        yield opened


@pytest.fixture
def session(fleet: Fleet) -> Iterator[ShardedSession]:
    tokyo = WeatherLocation("Asia", "Tokyo")
    new_york = WeatherLocation("North America", "New York")
    toronto = WeatherLocation("North America", "Toronto")
    quito = WeatherLocation("South America", "Quito")
    others = [WeatherLocation("Europe", "London"), WeatherLocation("Europe", "Dublin")]
    others.append(WeatherLocation("South America", "Brasilia"))
    tokyo.reports.append(Report(80.0))
    new_york.reports.append(Report(75))
    quito.reports.append(Report(85))
    with fleet.sessionmaker()() as opened:
        opened.add_all([tokyo, new_york, toronto, *others, quito])
        opened.commit()
        yield opened


def sent_to(fleet: Fleet, session: ShardedSession, statement: object) -> set[str]:
    """Return the shards that a statement is sent to."""
    asked: set[str] = set()
    chooser = session.execute_chooser

    def listening(context: object) -> object:
        chosen = chooser(context)
        asked.update(chosen)
        return chosen

    session.execute_chooser = listening
    session.execute(statement)
    session.execute_chooser = chooser
    return asked


def test_rows_are_stored_in_the_schema_of_their_continent(fleet, session):
    stored = {}
    for shard_id, shard in fleet.shards.items():
        with shard.connect() as connection:
            stored[shard_id] = set(connection.execute(text("select city from weather_locations")).scalars())

    assert stored == {
        "north_america": {"New York", "Toronto"},
        "asia": {"Tokyo"},
        "europe": {"London", "Dublin"},
        "south_america": {"Brasilia", "Quito"},
    }


def test_children_are_stored_with_their_parents(fleet, session):
    counts = {}
    for shard_id, shard in fleet.shards.items():
        with shard.connect() as connection:
            counts[shard_id] = connection.execute(text("select count(*) from weather_reports")).scalar()

    assert counts == {"north_america": 1, "asia": 1, "europe": 0, "south_america": 1}


def test_get_with_an_identity_token(session):
    tokyo = session.get(WeatherLocation, 1, identity_token="asia")

    assert tokyo.city == "Tokyo"
    assert tokyo.reports[0].temperature == 80.0


def test_select_across_shards(fleet, session):
    statement = select(WeatherLocation).filter(WeatherLocation.continent.in_(["Europe", "Asia"]))

    assert {location.city for location in session.execute(statement).scalars()} == {"Tokyo", "London", "Dublin"}
    assert sent_to(fleet, session, statement) == {"asia", "europe"}


def test_set_shard_id_limits_a_statement(session):
    statement = (
        select(WeatherLocation).filter(WeatherLocation.city.startswith("T")).options(set_shard_id("north_america"))
    )

    assert {location.city for location in session.execute(statement).scalars()} == {"Toronto"}


def test_bind_arguments_limit_a_statement(session):
    found = session.scalars(select(WeatherLocation.city), bind_arguments={"shard_id": "south_america"})

    assert set(found) == {"Brasilia", "Quito"}


def test_identity_keys_carry_the_shard(session):
    new_york = session.scalars(select(Report).options(set_shard_id("north_america"))).one()
    tokyo = session.scalars(select(Report).options(set_shard_id("asia"))).one()

    assert inspect(new_york).identity_key == (Report, (1,), "north_america")
    assert inspect(tokyo).identity_key == (Report, (1,), "asia")
    assert inspect(tokyo).identity_token == "asia"
    assert new_york is not tokyo


def test_lazy_loads_stay_on_the_parents_shard(session):
    session.expunge_all()
    reports = session.scalars(select(Report)).all()

    assert {report.location.city for report in reports} == {"Tokyo", "New York", "Quito"}
    assert all(inspect(r.location).identity_token == inspect(r).identity_token for r in reports)


def test_lazy_load_does_not_take_another_shards_parent_from_memory(session):
    session.expunge_all()
    london = session.get(WeatherLocation, 1, identity_token="europe")  # the same primary key as Tokyo
    report = session.scalars(select(Report).options(set_shard_id("asia", propagate_to_loaders=False))).one()

    assert report.location.city == "Tokyo"
    assert report.location is not london


def test_legacy_query(session):
    query = session.query(WeatherLocation)

    assert query.set_shard("asia").one().city == "Tokyo"
    with pytest.warns(DeprecationWarning, match=r"Query\.get"):
        assert query.set_shard("europe").get(2).city == "Dublin"
    assert query.filter_by(continent="Asia").count() == 1


def test_connections_and_binds_by_shard(fleet, session):
    connection = session.connection(bind_arguments={"shard_id": "asia"})

    assert connection.execute(select(WeatherLocation.city)).scalars().all() == ["Tokyo"]
    assert session.get_bind(shard_id="asia") is fleet.shards["asia"].bind
    session.bind_shard("asia", fleet.shards["europe"].bind)
    assert session.get_bind(shard_id="asia") is fleet.shards["europe"].bind


def test_every_pooled_connection_has_the_schemas(fleet, session):
    bind = fleet.shards["asia"].bind
    with bind.connect() as one, bind.connect() as two, bind.connect() as three:
        cities = [c.execute(select(WeatherLocation.city)).scalar() for c in (one, two, three)]

    assert cities == ["Tokyo", "Tokyo", "Tokyo"]


@pytest.mark.parametrize(
    ("condition", "shards"),
    [
        (WeatherLocation.continent == "Asia", {"asia"}),
        (literal("Asia") == WeatherLocation.continent, {"asia"}),
        ((WeatherLocation.continent == "Asia") | (WeatherLocation.continent == "Europe"), {"asia", "europe"}),
        ((WeatherLocation.continent == "Asia") & (WeatherLocation.city == "Tokyo"), {"asia"}),
        ((WeatherLocation.continent == "Asia") | (WeatherLocation.city == "London"), None),
        (WeatherLocation.continent != "Asia", None),
        (~(WeatherLocation.continent == "Asia"), None),
        (WeatherLocation.continent.not_in(["Asia"]), None),
        (WeatherLocation.continent.like("A%"), None),
        (func.lower(WeatherLocation.continent) == "asia", None),
        (WeatherLocation.continent == "Atlantis", None),
        (WeatherLocation.continent.is_(None), None),
        (WeatherLocation.continent == WeatherLocation.city, None),
        (WeatherLocation.city == "Tokyo", None),
    ],
)
def test_pruning(fleet, session, condition, shards):
    assert sent_to(fleet, session, select(WeatherLocation).where(condition)) == (shards or set(fleet.shards))


def test_pruning_reads_executed_parameters_aliases_and_joins(fleet, session):
    other = aliased(WeatherLocation)

    assert sent_to(fleet, session, select(other.city).where(other.continent == "Asia")) == {"asia"}
    joined = select(Report).join(Report.location).where(WeatherLocation.continent == "Europe")
    assert sent_to(fleet, session, joined) == {"europe"}
    assert sent_to(fleet, session, select(Report).where(Report.temperature > 1)) == set(fleet.shards)


def test_contradiction_gives_no_rows_not_an_error(session):
    both = select(WeatherLocation).where(WeatherLocation.continent == "Asia", WeatherLocation.continent == "Europe")

    assert session.scalars(both).all() == []


def test_update_and_delete_are_pruned(fleet, session):
    where = WeatherLocation.continent == "Asia"

    assert sent_to(fleet, session, update(WeatherLocation).where(where).values(city="Edo")) == {"asia"}
    assert sent_to(fleet, session, delete(Report).where(Report.temperature > 84)) == set(fleet.shards)
    assert session.scalars(select(WeatherLocation.city).where(where)).all() == ["Edo"]
    assert sorted(session.scalars(select(Report.temperature))) == [75, 80]


def test_insert_statement_goes_to_the_shard_of_its_rows(fleet, session):
    session.execute(insert(WeatherLocation).values(continent="Asia", city="Kyoto"))
    table = WeatherLocation.__table__
    session.execute(insert(table), [{"continent": "Asia", "city": "Osaka"}])
    session.execute(insert(WeatherLocation).values([{"continent": "Asia", "city": "Nara"}]))
    two_shards = [{"continent": "Asia", "city": "A"}, {"continent": "Europe", "city": "B"}]
    with pytest.raises(NoPlacement, match="asia and europe"):
        session.execute(insert(table), two_shards)
    with pytest.raises(NoPlacement, match="asia and europe"):
        session.execute(insert(WeatherLocation).values(two_shards))
    with pytest.raises(NoPlacement, match="bulk INSERT"):
        session.execute(insert(WeatherLocation), two_shards)

    cities = session.scalars(select(WeatherLocation.city), bind_arguments={"shard_id": "asia"}).all()
    assert sorted(cities) == ["Kyoto", "Nara", "Osaka", "Tokyo"]


def test_child_with_a_foreign_key_only_finds_its_parents_shard(session):
    dublin = session.scalars(select(WeatherLocation).where(WeatherLocation.city == "Dublin")).one()
    report = Report(12.5)
    report.location_id = dublin.id
    session.add(report)
    with pytest.raises(NoPlacement, match="on north_america and on europe and on south_america"):
        session.flush()
    session.rollback()

    new = WeatherLocation("Asia", "Seoul")
    new.id = 500
    session.add(new)
    session.flush()
    report = Report(1.5)
    report.location_id = 500
    session.add(report)
    session.commit()
    assert inspect(report).identity_token == "asia"


def test_unplaceable_objects_say_why(session):
    session.add(WeatherLocation("Atlantis", "Poseidonis"))
    with pytest.raises(NoPlacement, match="no shard for `Atlantis`"):
        session.flush()
    session.rollback()
    session.add(WeatherLocation(None, "Nowhere"))
    with pytest.raises(NoPlacement, match=r"WeatherLocation\.continent is not set"):
        session.flush()
    session.rollback()
    session.add(Report(5))
    with pytest.raises(NoPlacement, match=r"Report\.location is not set"):
        session.flush()


def test_session_options_are_passed_on(fleet):
    with fleet.sessionmaker(expire_on_commit=False)() as session:
        assert session.expire_on_commit is False


def test_a_statement_seen_before_is_routed_by_its_new_values(fleet, session):
    def asked(continent):
        return sent_to(fleet, session, select(WeatherLocation).where(WeatherLocation.continent == continent))

    assert [asked(name) for name in ("Asia", "Europe", "Asia")] == [{"asia"}, {"europe"}, {"asia"}]
    inner = [select(WeatherLocation).where(WeatherLocation.continent == name).subquery() for name in ("Asia", "Europe")]
    assert [sent_to(fleet, session, select(source.c.city)) for source in inner] == [{"asia"}, {"europe"}]
