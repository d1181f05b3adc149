"""Servers that refuse a login: the message names the shard and the server's reason, never the password."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from tests.fixtures.cli import PASSWORD, Workspace
from tests.fixtures.engines import Databases, server_url

RIGHT = "correct-horse"


@pytest.fixture
def user() -> Iterator[str]:
    """A user of the MySQL or MariaDB server who needs a password, dropped afterwards."""
    name = f"u_{uuid.uuid4().hex[:10]}"
    server = create_engine(server_url("mysql"), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    accounts = [f"'{name}'@'{host}'" for host in ("127.0.0.1", "localhost", "%")]
    with server.connect() as connection:
        for account in accounts:
            connection.execute(text(f"create user {account} identified by '{RIGHT}'"))
            connection.execute(text(f"grant select on *.* to {account}"))
    yield name
    with server.connect() as connection:
        for account in accounts:
            connection.execute(text(f"drop user {account}"))


def test_a_wrong_password(workspace: Workspace, mysql: Databases, user: str) -> None:
    url = server_url("mysql")
    database = make_url(mysql.create("asia")).database
    workspace.environ |= {"RIGHT": RIGHT, "WRONG": PASSWORD}
    place = f"{url.host}:{url.port or 3306}/{database}"
    workspace.write(
        "shardctl.toml",
        f'models = "models:Base"\n[shards.right]\nurl = "mysql://{user}:${{RIGHT}}@{place}"\n'
        f'[shards.wrong]\nurl = "mysql://{user}:${{WRONG}}@{place}2"\n',
    )
    ended = workspace.shardctl("shards --format json")
    assert ended.code == 1
    assert f"wrong: cannot connect to mysql://{user}:***@{place}2: Access denied for user '{user}'@" in ended.stderr
    assert RIGHT not in ended.stdout + ended.stderr
    assert [row["reachable"] for row in json.loads(ended.stdout)["rows"]] == ["yes", "no"]


def test_no_permission_to_create(workspace: Workspace, mysql: Databases, user: str) -> None:
    url = server_url("mysql")
    database = make_url(mysql.url("europe")).database
    workspace.environ["RIGHT"] = RIGHT
    workspace.copy_weather()
    workspace.write(
        "shardctl.toml",
        'models = "examples.weather.models:Base"\n[shards.europe]\n'
        f'url = "mysql://{user}:${{RIGHT}}@{url.host}:{url.port or 3306}/{database}"\n',
    )
    ended = workspace.shardctl("init --yes")
    assert ended.code == 3
    assert "error: initialised 0 of 1 shards\n  europe: " in ended.stderr
    assert "denied" in ended.stderr
    assert RIGHT not in ended.stdout + ended.stderr


def test_a_database_that_is_not_there(workspace: Workspace, postgresql: Databases) -> None:
    workspace.write("shardctl.toml", f'[shards.asia]\nurl = "{postgresql.url("nothing")}"\n')
    ended = workspace.shardctl("shards")
    assert ended.code == 1
    assert 'nothing" does not exist' in ended.stderr
    assert "\n\nhint: `shardctl init` creates it\n" in ended.stderr


def test_a_mysql_database_that_is_not_there(workspace: Workspace, mysql: Databases) -> None:
    workspace.write("shardctl.toml", f'[shards.asia]\nurl = "{mysql.url("nothing")}"\n')
    ended = workspace.shardctl("shards")
    assert ended.code == 1
    assert "Unknown database" in ended.stderr
    assert "\n\nhint: `shardctl init` creates it\n" in ended.stderr


def test_a_login_that_may_not_create_tables(workspace: Workspace, postgresql: Databases) -> None:
    url = make_url(postgresql.create("asia"))
    weak = f"weak_{uuid.uuid4().hex[:10]}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"create role {weak} login"))
        connection.execute(text(f"revoke create on schema public from {weak}, public"))
    try:
        workspace.copy_weather()
        own = url.set(username=weak).render_as_string(hide_password=False)
        workspace.write("shardctl.toml", f'migrations = "migrations"\n[shards.asia]\nurl = "{own}"\n')
        ended = workspace.shardctl("migrate --all-shards --yes")
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"drop role {weak}"))
    assert ended.code == 3
    assert "asia: note: its history is not kept: permission denied for schema public" in ended.stderr
    failed = "asia: making the version table failed: InsufficientPrivilege: permission denied for schema public"
    assert f"  {failed}\n    the shard is at no revision\n" in ended.stderr
