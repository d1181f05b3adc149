"""Every command that only looks needs no more than SELECT, and writes nothing: the server would refuse it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest
from sqlalchemy import URL, NullPool, create_engine, make_url, text

import shardctl
from examples.weather.models import Report, WeatherLocation
from tests.fixtures.cli import CITIES, Workspace

pytestmark = pytest.mark.slow
SHARDS = ("north_america", "asia", "europe", "south_america")
COMMANDS = [
    "status",
    "stats",
    "stats --exact",
    "stats --keys",
    "audit",
    "audit --sample 50%",
    "locate WeatherLocation 1 --with reports --routing",
    "locate WeatherLocation --by city=Tokyo",
    "locate WeatherLocation 1 --offline",
    "locate WeatherLocation --new continent=Asia",
    "choosers lint",
    "explain 'SELECT count(*) FROM Report' --analyze --shard-plans",
    "explain 'select(Report).where(Report.temperature > 70)'",
    "query 'SELECT city FROM WeatherLocation ORDER BY city'",
    "drift",
    "shards",
    "history",
]
WRITES = 'exec "DELETE FROM weather_reports" --all-shards --write --yes'


@pytest.fixture(params=["postgresql", "mysql"])
def reading(request: pytest.FixtureRequest, weather: Workspace) -> Iterator[Workspace]:
    """The weather example on a server, filled, and a shard map whose login may only SELECT."""
    databases = request.getfixturevalue(request.param)
    role = f"{databases.prefix}_reader"
    urls = {shard_id: make_url(databases.create(shard_id)) for shard_id in SHARDS}
    rules = (weather.folder / "shardctl.toml").read_text()
    rules = 'models = "examples.weather.models:Base"\nmigrations = "migrations"\n' + rules[rules.index("[tables.") :]
    weather.write("shardctl.toml", rules + entries(urls))
    ended = weather.shardctl("migrate --all-shards --yes")
    assert ended.code == 0, ended.stderr
    fill(weather)
    try:
        grant(urls, role)
        weather.write("shardctl.toml", rules + entries({name: url.set(username=role) for name, url in urls.items()}))
        yield weather
    finally:
        revoke(urls, role)


def entries(urls: dict[str, URL]) -> str:
    lines = [f'\n[shards.{name}]\nurl = "{url.render_as_string(hide_password=False)}"\n' for name, url in urls.items()]
    return "".join(lines)


def fill(workspace: Workspace) -> None:
    with shardctl.open(workspace.folder / "shardctl.toml") as fleet, fleet.session() as session:
        for continent, city, temperature in CITIES:
            location = WeatherLocation(continent, city)
            location.reports.append(Report(temperature))
            location.reports[0].report_time = datetime.datetime(2026, 1, 2, 3, 4, 5)
            session.add(location)
        session.commit()


def run_on(url: URL, *statements: str) -> None:
    with create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def grant(urls: dict[str, URL], role: str) -> None:
    is_postgresql = urls["asia"].get_backend_name() == "postgresql"
    run_on(urls["asia"], f"create role {role} login" if is_postgresql else f"create user {role}")
    for url in urls.values():
        if is_postgresql:
            run_on(url, f"grant select on all tables in schema public to {role}")
            run_on(url, f"grant select on all sequences in schema public to {role}")
            run_on(url, f"revoke temporary on database {url.database} from public")
        else:
            run_on(url, f"grant select on {url.database}.* to {role}")


def revoke(urls: dict[str, URL], role: str) -> None:
    is_postgresql = urls["asia"].get_backend_name() == "postgresql"
    for url in urls.values() if is_postgresql else ():
        run_on(url, f"drop owned by {role}")
    run_on(urls["asia"], f"drop {'role' if is_postgresql else 'user'} if exists {role}")


def test_what_only_looks_needs_no_more_than_select(reading: Workspace) -> None:
    for command in COMMANDS:
        ended = reading.shardctl(command)
        assert ended.code == 0, (command, ended.stderr)

    ended = reading.shardctl(WRITES)
    assert ended.code == 3
    assert "denied" in ended.stderr
