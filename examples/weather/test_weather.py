"""Tests as a project has them: a fresh fleet for each, and a limit on what may ask more than one shard."""

import pytest
from sqlalchemy import func, inspect, select

from examples.weather.models import Report, WeatherLocation


@pytest.fixture
def session(shardctl_fleet):
    with shardctl_fleet.session() as session:
        for continent, city, temperature in (("Asia", "Tokyo", 80.0), ("Europe", "London", 60.5)):
            location = WeatherLocation(continent, city)
            location.reports.append(Report(temperature))
            session.add(location)
        session.commit()
        yield session


@pytest.mark.shardctl_scatter(max=0)
def test_reports_are_loaded_from_the_shard_of_their_location(session):
    tokyo = session.scalars(select(WeatherLocation).where(WeatherLocation.continent == "Asia")).one()
    assert [inspect(report).identity_token for report in tokyo.reports] == ["asia"]


def test_the_hottest_city_of_all(session):
    hottest = select(WeatherLocation.city).join(Report).order_by(Report.temperature.desc()).limit(1)
    assert session.scalar(hottest) == "Tokyo"


def test_mean_temperature(session):
    assert session.scalar(select(func.avg(Report.temperature))) == 70.25
