"""Where no database server answers, the tests bring their own; where they cannot, they skip and say why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from tests.fixtures import engines, servers

SELECT = {"postgresql": "select current_setting('data_directory')", "mysql": "select @@datadir"}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_private_server_is_started_and_stopped(engine: str) -> None:
    try:
        server = servers.start(engine)
    except servers.CannotStart as error:
        if engine in os.environ.get("SHARDCTL_REQUIRE_ENGINES", "").split(","):
            raise
        pytest.skip(str(error))
    try:
        with create_engine(server.url, poolclass=NullPool).connect() as connection:
            assert Path(connection.scalar(text(SELECT[engine]))) == server.folder / "data"
    finally:
        server.stop()
    assert servers.why_not(server.url) == "OperationalError"
    assert server.process.returncode == 0
    assert not server.folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_private_server_takes_the_place_of_the_default_one(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[servers.Server] = []
    start = servers.start

    def start_and_keep(engine: str) -> servers.Server:
        started.append(start(engine))
        return started[-1]

    monkeypatch.setenv(engines.IGNORE_DEFAULT, "1")
    monkeypatch.delenv(f"SHARDCTL_TEST_{engine.upper()}_URL", raising=False)
    monkeypatch.setattr(servers, "start", start_and_keep)
    found = engines._find_server.__wrapped__(engine)
    if not started:
        pytest.skip(str(found))
    started[0].stop()
    assert found == started[0].url
    assert found.port not in (3306, 5432)


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without servers and without server programs."""
    monkeypatch.setattr(engines, "_find_server", engines._find_server.__wrapped__)
    monkeypatch.setenv(engines.IGNORE_DEFAULT, "1")
    monkeypatch.delenv("SHARDCTL_TEST_POSTGRESQL_URL", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(servers, "_package_folders", list)
    monkeypatch.setattr(servers, "_wheel_folders", list)


@pytest.mark.usefixtures("nothing_here")
def test_a_missing_engine_is_a_skip_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARDCTL_REQUIRE_ENGINES", raising=False)
    with pytest.raises(
        pytest.skip.Exception, match=r"no program initdb or postgres \(set SHARDCTL_TEST_POSTGRESQL_URL\)"
    ):
        engines.server_url("postgresql")


@pytest.mark.usefixtures("nothing_here")
def test_a_missing_engine_that_is_required_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDCTL_REQUIRE_ENGINES", "mysql,postgresql")
    with pytest.raises(pytest.fail.Exception, match="no postgresql server"):
        engines.server_url("postgresql")


def test_a_server_that_is_named_and_does_not_answer_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_find_server", engines._find_server.__wrapped__)
    monkeypatch.setenv("SHARDCTL_TEST_POSTGRESQL_URL", "postgresql+psycopg://postgres:hunter2@127.0.0.1:9/postgres")
    monkeypatch.delenv("SHARDCTL_REQUIRE_ENGINES", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"127\.0\.0\.1:9/postgres") as caught:
        engines.server_url("postgresql")
    assert "hunter2" not in str(caught.value)
