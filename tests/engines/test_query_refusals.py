"""Every reason on the list of refusals: its example is refused for it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from shardctl.errors import QueryRefused
from shardctl.fleet.engines import open_shards
from shardctl.fleet.fleet import Fleet
from shardctl.query import run_query
from shardctl.query.explain import explain
from shardctl.query.refusals import REFUSALS
from shardctl.topology.model import Shard, ShardMap
from tests.engines.query_data import TABLES, both, rows
from tests.fixtures.cli import REPOSITORY
from tests.fixtures.engines import Databases

PREPARED = {
    "view": "CREATE VIEW cities AS SELECT city FROM weather_locations",
    "type": "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE people (id integer, mood mood)",
    "placement": "CREATE TABLE readings (temperature integer)",
}
"""What the example of a reason needs on every shard."""


def execute(fleet: Fleet, statements: str, *shard_ids: str) -> None:
    for shard_id in shard_ids or fleet.shards:
        with fleet.shards[shard_id].engine.begin() as connection:
            for statement in statements.split("; "):
                connection.execute(text(statement))


def mixed_fleet(folder: Path, postgresql: Databases) -> Fleet:
    sqlite = Databases("sqlite", folder)
    shards = {"file": Shard("file", sqlite.create("file")), "server": Shard("server", postgresql.create("server"))}
    shard_map = ShardMap(shards=shards)
    fleet = Fleet(shard_map, open_shards(shard_map))
    execute(fleet, "CREATE TABLE words (word text)")
    return fleet


def prepare(key: str, fleet: Fleet) -> None:
    execute(fleet, PREPARED.get(key, "SELECT 1"))
    if key == "shapes":
        execute(fleet, "CREATE TABLE uneven (id integer)", "asia", "europe")
        execute(fleet, "CREATE TABLE uneven (id text)", "oceania")
    if key == "keys":
        places = replace(TABLES["WeatherLocation"], key=("country",))
        fleet.shard_map = replace(fleet.shard_map, tables=TABLES | {"WeatherLocation": places})
        execute(fleet, "INSERT INTO weather_locations (id) VALUES (1000)", "asia", "europe")
    if key == "settings":
        name = fleet.shards["europe"].engine.url.database
        execute(fleet, f"ALTER DATABASE {name} SET DateStyle TO 'SQL, DMY'", "europe")


@pytest.mark.parametrize("key", REFUSALS)
def test_the_example_of_a_refusal_is_refused_for_it(key: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    refusal = REFUSALS[key]
    if refusal.engine == "mixed":
        fleet = mixed_fleet(tmp_path, request.getfixturevalue("postgresql"))
        with pytest.raises(QueryRefused, match="compare, order and calculate differently"):
            run_query(fleet, refusal.example, shards=list(fleet.shards.values()))
        return
    databases = Databases("sqlite", tmp_path) if refusal.engine == "sqlite" else request.getfixturevalue(refusal.engine)
    with both(databases, rows(count=9), has_place=key != "place") as (fleet, _):
        prepare(key, fleet)
        options: dict[str, Any] = {
            "with_shard": key == "shard column",
            "max_rows_pulled": 5 if key == "rows" else 1000,
            "dialect": "duckdb" if key == "dialect" else None,
        }
        shards = list(fleet.shards.values())
        if key == "twice" and shards[0].engine.dialect.is_mariadb:  # type: ignore[attr-defined]
            assert run_query(fleet, refusal.example, shards=shards).rows
            return
        with pytest.raises(QueryRefused) as caught:
            run_query(fleet, refusal.example, shards=shards, **options)
        expected = "a window function" if key == "place" else re.escape(refusal.reason).replace(r"\{\}", ".*")
        assert re.match(expected, caught.value.message)
        assert caught.value.hint


def test_shards_of_several_engines_get_the_statement_in_their_own_words(
    tmp_path: Path, postgresql: Databases, mysql: Databases
) -> None:
    made = {"file": Databases("sqlite", tmp_path), "elephant": postgresql, "dolphin": mysql}
    shard_map = ShardMap(shards={name: Shard(name, databases.create(name)) for name, databases in made.items()})
    fleet = Fleet(shard_map, open_shards(shard_map))
    execute(fleet, "CREATE TABLE words (word varchar(20))")
    for name in fleet.shards:
        execute(fleet, f"INSERT INTO words VALUES ('{name}')", name)
    shards = list(fleet.shards.values())
    sql = """SELECT "word" || '!' AS "a word" FROM "words" WHERE word <> 'x'"""
    found = run_query(fleet, sql, shards=shards, dialect="sqlite")
    assert found.columns == ("a word",)
    assert sorted(found.rows) == [("dolphin!",), ("elephant!",), ("file!",)]
    sent = {
        shard_id: sent.sql
        for sent in explain(fleet, sql, shards=shards, dialect="sqlite").sent
        for shard_id in sent.shard_ids
    }
    assert sent == {
        "file": sql,
        "elephant": sql,
        "dolphin": "SELECT CONCAT(`word`, '!') AS `a word` FROM `words` WHERE word <> 'x'",
    }
    assert run_query(fleet, "SELECT count([word]) FROM [words]", shards=shards, dialect="tsql").rows == [(3,)]
    with pytest.raises(QueryRefused, match="compare, order and calculate differently"):
        run_query(fleet, "SELECT [word] FROM [words] ORDER BY 1", shards=shards, dialect="tsql")


def as_markdown() -> str:
    lines = (f"| {refusal.what} | `{refusal.example}` |\n" for refusal in REFUSALS.values())
    return "| refused | for example |\n| --- | --- |\n" + "".join(lines)


def test_the_readme_has_the_list_of_refusals() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert as_markdown() in readme, as_markdown()


def test_every_reason_is_used() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "shardctl/query").rglob("*.py"))
    assert [key for key in REFUSALS if not re.search(rf"REFUSALS\[[\"']{key}[\"']\]", source)] == []


def test_without_a_place_the_hint_says_how_to_name_one(postgresql: Databases) -> None:
    with both(postgresql, rows(count=3), has_place=False) as (fleet, _):
        sql = "SELECT id, stddev(height) OVER (ORDER BY id) FROM weather_locations"
        with pytest.raises(QueryRefused) as caught:
            run_query(fleet, sql, shards=list(fleet.shards.values()))
        assert 'name a database to gather rows in: `gather = "postgresql://…"`' in str(caught.value.hint)
        fleet.shard_map = replace(fleet.shard_map, gather="mysql://root@127.0.0.1/x")
        with pytest.raises(QueryRefused) as caught:
            run_query(fleet, sql, shards=list(fleet.shards.values()))
        assert "names no postgresql database" in str(caught.value.hint)
