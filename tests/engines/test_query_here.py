"""DuckDB as the place where rows meet: for all that it is trusted with, the answers are the engine's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.fleet.models import collect
from shardctl.query import plan_for, run_query
from shardctl.query.here.listed import entries
from shardctl.query.here.place import is_installed
from shardctl.topology.buckets import spread_buckets
from shardctl.topology.model import ShardedTable
from shardctl.topology.strategies import Hash
from tests.engines.here_cases import FOLDED, MIXED, VALUES, all_cases
from tests.engines.query_data import SHARDS, both, rows
from tests.fixtures.engines import Databases, server_url

pytestmark = pytest.mark.skipif(not is_installed(), reason="duckdb is not installed")
ENGINES = ["postgresql", "mysql"]
ROWS = 12
WINDOW = "SELECT id, row_number() OVER (ORDER BY id) FROM weather_locations"


def shards_of(fleet: Fleet) -> list[LiveShard]:
    return list(fleet.shards.values())


@contextmanager
def typed(databases: Databases) -> Iterator[tuple[Fleet, LiveShard]]:
    """A table of every type, over three shards and in one database."""
    kinds = dict(VALUES[databases.engine])
    columns = [(f"{kind}_{i}", *kinds[kind]) for kind in kinds for i in (1, 2, 3)]
    if databases.engine == "mysql":
        columns.append(("folded", *FOLDED))
    listed = ", ".join(f"{name} {declared}" for name, declared, _ in columns)
    with both(databases, {}, has_place=False) as (fleet, one):
        placed = ShardedTable("typed", Hash(spread_buckets(SHARDS)), ("id",))
        metadata = MetaData()
        Table("typed", metadata, Column("id", Integer, primary_key=True))
        shard_map = replace(fleet.shard_map, tables={"typed": placed})
        fleet = Fleet(shard_map, fleet.shards, collect([], [metadata]))
        for shard in (*shards_of(fleet), one):
            with shard.engine.begin() as connection:
                connection.exec_driver_sql(f"CREATE TABLE typed (id integer, {listed})")
                for i in range(ROWS):
                    # The columns of one type turn at different speeds, so that their values meet each other.
                    values = [own[i * (1, 5, 1)[n % 3] // (1, 1, 2)[n % 3] % 6] for n, (*_, own) in enumerate(columns)]
                    if shard is one or placed.strategy.place((i + 1,)) == shard.shard_id:
                        connection.exec_driver_sql(
                            f"INSERT INTO typed VALUES ({i + 1}, {', '.join(values)})",
                            execution_options={"no_parameters": True},
                        )
        yield fleet, one


@pytest.fixture(scope="module", params=ENGINES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server_url(request.param)
    databases = Databases(request.param, tmp_path_factory.mktemp("here"))
    with typed(databases) as found:
        yield databases.engine, *found
    databases.drop_all()


def same(fleet: Fleet, one: LiveShard, sql: str, used: set[str]) -> bool:
    """Compare an answer with the engine's, value by value, with their types and, of numbers, their digits.

    Where the engine fails, an error is as good: False.
    """
    plan = plan_for(fleet, sql, shards=shards_of(fleet))
    assert plan.gathering is not None, sql
    assert plan.gathering.here is not None, sql
    try:
        expected = run_query(fleet, sql, shards=[one])
    except ShardError:
        with pytest.raises((QueryRefused, ShardError)):
            run_query(fleet, sql, shards=shards_of(fleet))
        return False
    found = run_query(fleet, sql, shards=shards_of(fleet))
    assert found.columns == expected.columns, sql
    if "ORDER BY" in sql.rpartition(")")[2]:
        assert list(map(repr, found.rows)) == list(map(repr, expected.rows)), sql
    assert sorted(map(repr, found.rows)) == sorted(map(repr, expected.rows)), sql
    used |= plan.gathering.here.used
    return True


def of_row(sql: str, number: int) -> str:
    """Return a statement over one row, or none; by a condition that leaves no shard out."""
    return sql.replace("FROM typed)", f"FROM typed WHERE id + 0 = {number})")


@pytest.mark.slow
def test_every_entry_of_the_list_has_a_case_that_passes(made: Any) -> None:
    engine, fleet, one = made
    proven: set[str] = set()
    for i, (_, sql) in enumerate(all_cases(engine)):
        if i % 5 == 0:  # without a row
            same(fleet, one, of_row(sql, 0), set())
        if not same(fleet, one, sql, proven):  # one value may fail for all
            for number in range(1, ROWS + 1):
                same(fleet, one, of_row(sql, number), proven)
    assert proven == entries(engine)


def test_types_that_meet_compare_as_in_the_engine(made: Any) -> None:
    engine, fleet, one = made
    for sql in MIXED[engine]:
        same(fleet, one, sql.format(x="(SELECT * FROM typed) AS y"), set())


@contextmanager
def placeless(databases: Databases, count: int = 30) -> Iterator[tuple[Fleet, LiveShard]]:
    with both(databases, rows(count=count), has_place=False) as found:
        yield found


@pytest.mark.parametrize("databases", ENGINES, indirect=True)
def test_rows_are_gathered_here_without_a_database_for_it(databases: Databases) -> None:
    with placeless(databases) as (fleet, one):
        found = run_query(fleet, WINDOW, shards=shards_of(fleet))
        assert "gathered in DuckDB here:" in found.plan.explain()
        assert found.rows_pulled == 30
        assert sorted(found.rows) == sorted(run_query(fleet, WINDOW, shards=[one]).rows)


@pytest.mark.parametrize("databases", ENGINES, indirect=True)
def test_shards_say_what_concerns_one_table_and_only_needed_columns_travel(databases: Databases) -> None:
    """A condition under any collation is the shards' own; here is only whether it was true."""
    sql = (
        "SELECT a.id, b.id FROM weather_locations a JOIN weather_locations b ON a.id <> b.height"
        " WHERE a.city LIKE 't%' AND (b.city = 'Osaka' OR b.country > 'J')"
    )
    with placeless(databases) as (fleet, one):
        plan = plan_for(fleet, WINDOW + " WHERE city > 'm'", shards=shards_of(fleet))
        assert plan.gathering is not None
        assert [column.name for column in plan.gathering.scans[0].table.columns] == ["id"]
        for text in (sql, WINDOW + " WHERE city > 'm'"):
            found = run_query(fleet, text, shards=shards_of(fleet))
            assert sorted(found.rows) == sorted(run_query(fleet, text, shards=[one]).rows)


@pytest.mark.parametrize("databases", ENGINES, indirect=True)
def test_what_duckdb_does_not_know_goes_to_the_database_that_is_named(databases: Databases) -> None:
    sql = "SELECT id, stddev(height) OVER (ORDER BY id) FROM weather_locations"
    with both(databases, rows(count=9)) as (fleet, one):
        found = run_query(fleet, sql, shards=shards_of(fleet))
        assert "gathered on database `" in found.plan.explain()
        assert sorted(found.rows) == sorted(run_query(fleet, sql, shards=[one]).rows)


@pytest.mark.parametrize("databases", ENGINES, indirect=True)
def test_columns_of_one_name_and_a_limit_are_described_too(databases: Databases) -> None:
    of_pairs = "FROM weather_locations a JOIN weather_locations b ON a.height = b.height ORDER BY a.id, b.id LIMIT 4"
    with placeless(databases) as (fleet, one):
        for sql in (
            f"SELECT a.id, b.id, rank() OVER (ORDER BY a.id) {of_pairs}",
            f"WITH x AS ({WINDOW}) SELECT * FROM x ORDER BY id LIMIT 2 OFFSET 1",
            f"{WINDOW} ORDER BY (SELECT min(id) FROM weather_locations LIMIT 1), id LIMIT 3",
        ):
            found, expected = run_query(fleet, sql, shards=shards_of(fleet)), run_query(fleet, sql, shards=[one])
            assert (found.columns, found.rows) == (expected.columns, expected.rows)


def test_text_that_bytes_do_not_order_is_refused_or_goes_on(mysql: Databases) -> None:
    """Words that differ by case or accents only: DuckDB says so once it has seen them."""
    sql = "SELECT city, count(*) OVER (PARTITION BY city) FROM weather_locations"
    with placeless(mysql) as (fleet, one):
        with pytest.raises(QueryRefused) as caught:
            run_query(fleet, sql, shards=shards_of(fleet))
        assert "`weather_locations.city` has text that is not known to compare in DuckDB" in str(caught.value.facts)
        with one.engine.begin() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM weather_locations").scalar() == 30


def test_a_statement_that_takes_too_long_is_interrupted(postgresql: Databases) -> None:
    names = "abcdef"
    sources = ", ".join(f"weather_locations {name}" for name in names)
    sql = f"SELECT sum((a.id * b.id + c.id * d.id + e.id * f.id) % 7) FROM {sources}"
    with placeless(postgresql, 60) as (fleet, _):
        with pytest.raises(ShardError) as failed:
            run_query(fleet, sql, shards=shards_of(fleet), timeout_s=3)
        assert failed.value.facts == ("no answer within 3 s; DuckDB was interrupted",)


@pytest.mark.parametrize(("kind", "value"), [("integer NOT NULL", "n"), ("integer", "nullif(n % 2, 0)")])
def test_equal_rows_travel_once_with_their_number(postgresql: Databases, kind: str, value: str) -> None:
    """Where the server expects few that differ: in a column that is only counted, by whether it is NULL."""
    sql = (
        "SELECT c.id, count(v.number), count(*) FROM cities c LEFT JOIN visits v ON v.city = c.id"
        " AND v.day > '2024-01-01' GROUP BY c.id ORDER BY c.id"
    )
    metadata = MetaData()
    Table("cities", metadata, Column("id", Integer, primary_key=True))
    Table("visits", metadata, Column("number", Integer, primary_key=True))
    placed = Hash(spread_buckets(SHARDS))
    rules = {"cities": ShardedTable("cities", placed, ("id",)), "visits": ShardedTable("visits", placed, ("number",))}
    with both(postgresql, {}, has_place=False) as (fleet, one):
        fleet = Fleet(replace(fleet.shard_map, tables=rules), fleet.shards, collect([], [metadata]))
        shards = shards_of(fleet)
        for shard, parts in [(one, range(len(shards))), *((shard, [i]) for i, shard in enumerate(shards))]:
            with shard.engine.begin() as connection:
                connection.exec_driver_sql(f"CREATE TABLE visits (number {kind}, city integer, day date)")
                connection.exec_driver_sql("CREATE TABLE cities (id integer)")
                for part in parts:
                    connection.exec_driver_sql(f"INSERT INTO cities VALUES ({part}), ({part + 10})")
                    connection.exec_driver_sql(
                        f"INSERT INTO visits SELECT {value}, n % 3 + {part}, date '2024-01-01' + n % 2"
                        " FROM generate_series(1, 3000) AS n",
                        execution_options={"no_parameters": True},
                    )
                connection.exec_driver_sql("ANALYZE visits")

        found = run_query(fleet, sql, shards=shards)

        assert found.rows == run_query(fleet, sql, shards=[one]).rows
        assert any(row[1] > 400 for row in found.rows)
        assert found.rows_pulled < 100


def test_duckdb_reads_no_file_takes_no_setting_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shardctl.query.here.kinds import INT8
    from shardctl.query.here.place import opened
    from shardctl.query.here.translate import Here

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    here = Here("SELECT sum(a.range) FROM range(3) a", (INT8,), (), (), (), frozenset())
    with opened(here, (), "postgresql", {}, "100MB") as place:
        assert len(list(tmp_path.iterdir())) == 1
        for sql in (
            f"SELECT * FROM read_csv('{__file__}')",
            f"COPY (SELECT 1) TO '{tmp_path}/x.csv'",
            "SET threads = 9",
        ):
            with pytest.raises(QueryRefused, match=r"Permission|configuration"):
                place.rows(sql)
        # More than fits: what is left over goes to the directory.
        assert place.rows("SELECT count(*) FROM (SELECT DISTINCT hash(range) FROM range(4000000))") == [(4000000,)]
    assert list(tmp_path.iterdir()) == []


def test_a_memory_limit_that_is_none_is_refused(postgresql: Databases) -> None:
    with placeless(postgresql, 3) as (fleet, _), pytest.raises(QueryRefused, match="DuckDB does not start"):
        run_query(fleet, WINDOW, shards=shards_of(fleet), memory_limit="a lot")


def test_without_the_package_the_hint_names_the_extra(postgresql: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardctl.query.pull.prepare.is_installed", lambda: False)
    with placeless(postgresql, 3) as (fleet, _), pytest.raises(QueryRefused) as caught:
        run_query(fleet, WINDOW, shards=shards_of(fleet))
    assert "install `shardctl[duckdb]`" in str(caught.value.hint)
