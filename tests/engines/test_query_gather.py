# ruff: noqa: E501
"""Gathering: rows arrive as they were, the place is not written to, and what fails is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import plan_for, run_query
from shardctl.query.pull.places import gathering_place
from tests.engines.query_data import TABLES, both, reports, rows
from tests.fixtures.engines import Databases

WINDOW = "SELECT id, row_number() OVER (ORDER BY id) FROM weather_locations"

TYPED: dict[str, list[tuple[str, str]]] = {
    "sqlite": [
        ("integer", "9223372036854775807"), ("real", "0.1"), ("real", "1e308"), ("numeric", "'12.50'"), ("text", "7"),
        ("blob", "x'00ff'"), ("", "'007'"), ("integer", "'not a number'"), ("varchar(9) collate nocase", "'ß'"),
        ("decimal(10,2)", "1.10"), ("date", "'2024-02-30'"), ("boolean", "true"), ("real", "9e999"), ("text", "'a\n\"b'"),
    ],
    "postgresql": [
        ("numeric(30,12)", "'123456789012345678.123456789012'"), ("numeric", "'NaN'"), ("double precision", "'-Infinity'"),
        ("real", "0.1"), ("timestamptz", "'2024-03-31 02:30:00.123456+02'"), ("timestamp", "'infinity'"),
        ("date", "'0044-03-15 BC'"), ("interval", "'1 year 2 months -3 days 04:05:06.7'"), ("timetz", "'12:00+05:30'"),
        ("jsonb", "'{\"a\": [1, 2.50, null]}'"), ("json", "'{\"a\":1, \"a\":2}'"), ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
        ("bytea", "'\\x00ff'"), ("text[]", "'{a,\"b,c\",NULL}'"), ("integer[][]", "'{{1,2},{3,4}}'"), ("inet", "'10.0.0.1/8'"),
        ("int4range", "'[1,5)'"), ("char(5)", "'ab'"), ("varchar(4)", "'é\n'"), ("bit(3)", "B'101'"), ("money", "12.34"),
        ("tsvector", "'a fat cat'"), ("point", "'(1,2)'"), ("boolean", "true"), ("smallint", "-32768"), ('text collate "C"', "'x'"),
    ],
    "mysql": [
        ("decimal(65,30)", "12345678901234567890123456789012345.123456789012345678901234567890"), ("double", "1e300/3"),
        ("float", "0.1"), ("float", "16777217"), ("bigint unsigned", "18446744073709551615"), ("datetime(6)", "'2024-03-31 02:30:00.123456'"),
        ("time(3)", "'-838:59:58.999'"), ("year", "2024"), ("enum('b','a')", "'a'"), ("set('x','y')", "'x,y'"), ("bit(9)", "b'100000001'"),
        ("varbinary(5)", "x'00ff27'"), ("blob", "x'5c2725'"), ("json", "'{\"a\": [1, 2.50, null]}'"), ("char(5)", "'ab '"),
        ("varchar(9) character set latin1", "'é'"), ("text collate utf8mb4_bin", "'a\\\\''%s😀'"), ("timestamp(2) null", "'2024-03-31 02:30:00.12'"),
        ("int(7) unsigned zerofill", "42"), ("tinyint(1)", "1"), ("date", "'1000-01-01'"),
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_duckdb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardctl.query.pull.prepare.is_installed", lambda: False)


def shards_of(fleet: Fleet) -> list[LiveShard]:
    return list(fleet.shards.values())


def place_of(fleet: Fleet) -> LiveShard:
    place = gathering_place(fleet, shards_of(fleet)[0].backend.name)
    assert place is not None
    return place


def test_values_of_every_type_arrive_as_they_were(databases: Databases) -> None:
    """Seen as text and by their types, in the place and in one database."""
    kinds = TYPED[databases.engine]
    named = ", ".join(f"c{i} {kind}" for i, (kind, _) in enumerate(kinds))
    listed = ", ".join(value for _, value in kinds)
    nulls = ", ".join("NULL" for _ in kinds)
    seen = {"sqlite": "quote({0}), typeof({0})", "postgresql": "{0}::text, pg_typeof({0})::text", "mysql": "hex({0})"}
    shown = ", ".join(seen[databases.engine].format(f"c{i}") for i in range(len(kinds)))
    with both(databases, {}) as (fleet, one):
        for shard in (*shards_of(fleet), one):
            with shard.engine.begin() as connection:
                for statement in (
                    f"CREATE TABLE typed (id integer, {named})",
                    f"INSERT INTO typed VALUES (1, {listed})",
                    f"INSERT INTO typed VALUES (2, {nulls})",
                ):
                    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        sql = f"SELECT id, {shown} FROM (SELECT DISTINCT x.* FROM (SELECT * FROM typed) x) y ORDER BY id"
        if databases.engine == "postgresql":  # json and point cannot be compared
            sql = f"SELECT id, {shown} FROM (SELECT * FROM typed LIMIT 1000) y ORDER BY id"
        expected = run_query(fleet, sql, shards=[one]).rows
        found = run_query(fleet, sql, shards=shards_of(fleet))
        assert found.plan.route == "gather"
        assert found.rows_pulled == 6
        assert sorted(set(found.rows), key=repr) == sorted(expected, key=repr)
        if databases.engine == "postgresql":  # Python has no date before the year 1
            return
        plain = "SELECT x.* FROM (SELECT * FROM typed) x WHERE x.id = 1"
        assert run_query(fleet, plain, shards=shards_of(fleet)).rows[0] == run_query(fleet, plain, shards=[one]).rows[0]


def test_only_needed_columns_rows_and_shards_are_read(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, one):
        sql = (
            "SELECT c.name, (SELECT count(*) FROM reports r WHERE r.rain = w.id) AS n"
            " FROM weather_locations w JOIN countries c ON c.code = w.country WHERE w.height = 2000"
        )
        plan = plan_for(fleet, sql, shards=shards_of(fleet))
        assert plan.gathering is not None
        columns = {scan.table.name: [column.name for column in scan.table.columns] for scan in plan.gathering.scans}
        assert columns == {
            "weather_locations": ["id", "country", "height"],
            "countries": ["code", "name"],
            "reports": ["id", "rain"],
        }
        assert {scan.table.name: scan.shard_ids for scan in plan.gathering.scans}["countries"] == ("asia",)
        found = run_query(fleet, sql, shards=shards_of(fleet))
        tall = run_query(fleet, "SELECT id FROM weather_locations WHERE height = 2000", shards=[one]).rows
        beside = sum(
            run_query(fleet, f"SELECT count(*) FROM reports WHERE rain = {row[0]}", shards=[one]).rows[0][0]
            for row in tall
        )
        assert found.rows_pulled == len(tall) + beside + 3
        assert sorted(found.rows) == sorted(run_query(fleet, sql, shards=[one]).rows)


@pytest.mark.parametrize(
    "condition",
    [
        "NOT EXISTS (SELECT 1 FROM reports r WHERE r.location_id = w.id)",
        "w.id NOT IN (SELECT r.location_id FROM reports r WHERE r.location_id = w.id)",
        "(SELECT count(*) FROM reports r WHERE r.location_id = w.id) = 0",
    ],
)
def test_rows_that_no_condition_leaves_out_still_find_what_contradicts_them(
    databases: Databases, condition: str
) -> None:
    """All locations are brought, for the WITH; of reports, also those that make the condition false for some."""
    sql = (
        "WITH named AS (SELECT city, count(*) AS total FROM weather_locations GROUP BY city)"
        f" SELECT w.id FROM weather_locations w JOIN named ON named.city = w.city WHERE w.height = 5 AND {condition}"
    )
    with both(databases, rows()) as (fleet, one):
        found = run_query(fleet, sql, shards=shards_of(fleet))
        assert found.plan.route == "gather"
        expected = run_query(fleet, sql, shards=[one]).rows
        assert 0 < len(expected) < len(run_query(fleet, sql.split(" AND ")[0], shards=[one]).rows)
        assert sorted(found.rows) == sorted(expected)


def test_a_remembered_plan_is_made_anew_where_a_table_has_changed(databases: Databases) -> None:
    sql = "SELECT r.*, row_number() OVER (ORDER BY r.id) AS n FROM reports r ORDER BY n"
    with both(databases, rows()) as (fleet, one):
        before = run_query(fleet, sql, shards=shards_of(fleet))
        assert run_query(fleet, sql, shards=shards_of(fleet)).plan is before.plan
        for shard in (*shards_of(fleet), one):
            with shard.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE reports ADD COLUMN mood integer DEFAULT 5")

        found = run_query(fleet, sql, shards=shards_of(fleet))

        assert found.columns == (*before.columns[:-1], "mood", "n")
        assert found.rows == run_query(fleet, sql, shards=[one]).rows
        assert run_query(fleet, sql, shards=shards_of(fleet)).plan is found.plan


def test_nothing_is_left_out_where_shards_cannot_be_at_work_together(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, one):
        fleet.shard_map = replace(fleet.shard_map, connections_per_server=1)
        sql = "SELECT w.id FROM weather_locations w, reports r WHERE r.id = w.id AND w.height = 2000 AND r.rain > 3"
        found = run_query(fleet, sql, shards=shards_of(fleet))
        assert sorted(found.rows) == sorted(run_query(fleet, sql, shards=[one]).rows)


@pytest.mark.parametrize("databases", ["postgresql", "mysql"], indirect=True)
def test_the_place_keeps_nothing_and_its_own_tables_are_not_read(databases: Databases) -> None:
    with both(databases, rows(count=9)) as (fleet, _):
        place = create_engine(place_of(fleet).engine.url)
        with place.begin() as connection:
            connection.execute(text("CREATE TABLE stray (id integer)"))
            connection.execute(text("INSERT INTO stray VALUES (1)"))
        assert len(run_query(fleet, WINDOW, shards=shards_of(fleet)).rows) == 9
        with place.connect() as connection:
            listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = {}"
            schema = "'public'" if databases.engine == "postgresql" else "database()"
            assert connection.execute(text(listed.format(schema))).all() == [("stray",)]
        with pytest.raises((ShardError, QueryRefused)):
            run_query(fleet, "SELECT count(*) OVER () FROM stray", shards=shards_of(fleet))
        place.dispose()


def test_rows_above_the_limit_are_refused_with_the_flag(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, _):
        shards = shards_of(fleet)
        assert run_query(fleet, WINDOW, shards=shards, max_rows_pulled=60).rows_pulled == 60
        for most in (59, 7, 0):
            with pytest.raises(QueryRefused, match=f"more than {most} rows would have to be pulled") as caught:
                run_query(fleet, WINDOW, shards=shards, max_rows_pulled=most)
            assert "--max-rows-pulled" in str(caught.value.hint)


def test_a_shard_that_fails_is_the_one_that_is_named(databases: Databases) -> None:
    with both(databases, rows(count=9)) as (fleet, _):
        with fleet.shards["europe"].engine.begin() as connection:
            connection.execute(text("ALTER TABLE reports DROP COLUMN rain"))
        with pytest.raises(QueryRefused, match="`reports` is not the same table on `asia` and `europe`") as caught:
            run_query(fleet, "SELECT max(rain) OVER () FROM reports", shards=shards_of(fleet))
        assert caught.value.facts[0].startswith("not on `europe`: rain")
        with fleet.shards["asia"].engine.begin() as connection:
            connection.execute(text("DROP TABLE reports"))
        with pytest.raises(ShardError) as failed:
            run_query(fleet, "SELECT max(id) OVER () FROM reports", shards=shards_of(fleet))
        assert failed.value.message == "the query failed on `asia`"
        assert failed.value.facts == ("there is no table `reports`",)


def test_a_statement_that_is_wrong_is_refused_before_rows_are_pulled(databases: Databases) -> None:
    sql = "SELECT nothing, count(*) OVER () FROM weather_locations"
    with both(databases, rows(count=9)) as (fleet, _), pytest.raises(ShardError, match="is not understood") as failed:
        run_query(fleet, sql, shards=shards_of(fleet))
    assert "nothing" in failed.value.message


def test_a_statement_that_takes_too_long_is_cancelled_where_it_runs(databases: Databases) -> None:
    names = "abcdef"
    sources = ", ".join(f"weather_locations {name}" for name in names)
    sql = f"SELECT count(*) FROM {sources} WHERE {' + '.join(f'{name}.id' for name in names)} > 1000000000"
    with both(databases, rows()) as (fleet, _), pytest.raises(ShardError, match="failed on `gather`") as failed:
        run_query(fleet, sql, shards=shards_of(fleet), timeout_s=3)
    assert failed.value.facts == ("gather: no answer within 3 s; its statement was cancelled",)


def test_a_table_that_lies_elsewhere_is_joined_all_the_same(tmp_path: Any) -> None:
    """Countries are on two shards only, and rows that need them on the third as well."""
    with both(Databases("sqlite", tmp_path), rows()) as (fleet, one):
        country = replace(TABLES["Country"], shard_ids=("europe", "oceania"))
        fleet.shard_map = replace(fleet.shard_map, tables=TABLES | {"Country": country})
        sql = "SELECT w.id, c.name FROM weather_locations w JOIN countries c ON c.code = w.country"
        found = run_query(fleet, sql, shards=shards_of(fleet))
        assert found.plan.route == "gather"
        assert sorted(found.rows) == sorted(run_query(fleet, sql, shards=[one]).rows)


def test_keys_that_each_shard_gives_by_itself_are_not_compared_across_shards(databases: Databases) -> None:
    sql = "SELECT w.id, rank() OVER (ORDER BY r.id) FROM weather_locations w JOIN reports r ON r.location_id = w.id"
    siblings = "SELECT count(*) FROM reports a JOIN reports b ON a.location_id = b.location_id"
    with both(databases, rows()) as (fleet, one):
        places = replace(TABLES["WeatherLocation"], key=("country",))
        fleet.shard_map = replace(fleet.shard_map, tables=TABLES | {"WeatherLocation": places})
        for statement in (sql, siblings):
            found = run_query(fleet, statement, shards=shards_of(fleet))
            assert sorted(found.rows) == sorted(run_query(fleet, statement, shards=[one]).rows)
            assert "__keys_weather_locations_id from asia, europe, oceania" in found.plan.explain()
        for shard_id in ("asia", "europe"):
            with fleet.shards[shard_id].engine.begin() as connection:
                connection.execute(text("INSERT INTO weather_locations (id) VALUES (1000)"))
        for statement in (sql, siblings):
            with pytest.raises(QueryRefused, match=r"`weather_locations\.id` has the value 1000 on 2 shards"):
                run_query(fleet, statement, shards=shards_of(fleet))
        assert run_query(fleet, WINDOW, shards=shards_of(fleet)).rows_pulled == 62
        merged = "SELECT w.id FROM weather_locations w JOIN reports r ON r.location_id = w.id"
        assert run_query(fleet, merged, shards=shards_of(fleet)).rows_pulled == 0


def test_a_name_of_with_may_be_a_tables_too(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, one):
        sql = "WITH reports AS (SELECT * FROM reports WHERE rain > 2) SELECT count(*) FROM reports"
        if databases.engine == "sqlite":
            for shards in ([one], shards_of(fleet)):
                with pytest.raises(ShardError) as failed:
                    run_query(fleet, sql, shards=shards)
                assert "circular reference" in failed.value.facts[0]
        else:
            assert run_query(fleet, sql, shards=shards_of(fleet)).rows == run_query(fleet, sql, shards=[one]).rows


def test_rows_expected_of_two_indexes_at_once_are_read(mysql: Databases) -> None:
    """MariaDB shows them as `60 (20%)`."""
    sql = "SELECT id, row_number() OVER (ORDER BY id) FROM reports WHERE location_id IN (1, 2) AND rain IN (1, 2)"
    entries = [{"id": i, "location_id": i % 10, "temperature": None, "rain": i % 100} for i in range(6000)]
    with both(mysql, {reports: entries}) as (fleet, one):
        for shard in (*shards_of(fleet), one):
            with shard.engine.begin() as connection:
                connection.execute(text("CREATE INDEX by_location ON reports (location_id)"))
                connection.execute(text("CREATE INDEX by_rain ON reports (rain)"))
                connection.execute(text("ANALYZE TABLE reports"))
        with one.connect() as connection:
            shown = connection.execute(text(f"EXPLAIN {sql}")).mappings().one()["rows"]
            assert "%" in str(shown) or not connection.dialect.is_mariadb

        assert run_query(fleet, sql, shards=shards_of(fleet)).rows == run_query(fleet, sql, shards=[one]).rows


def test_a_view_is_not_taken_for_a_table(databases: Databases) -> None:
    with both(databases, rows(count=9)) as (fleet, _):
        for shard in shards_of(fleet):
            with shard.engine.begin() as connection:
                connection.execute(text("CREATE VIEW counted AS SELECT count(*) AS n FROM weather_locations"))
        for sql in ("SELECT n FROM counted", "SELECT n, count(*) OVER () FROM counted"):
            with pytest.raises(QueryRefused, match="`counted` is a view"):
                run_query(fleet, sql, shards=shards_of(fleet))


def test_functions_of_the_application_are_refused(postgresql: Databases) -> None:
    with both(postgresql, rows(count=9)) as (fleet, _):
        for shard in shards_of(fleet):
            with shard.engine.begin() as connection:
                for name, kind in (("places", "stable"), ("twice", "immutable")):
                    body = "SELECT count(*) FROM weather_locations" if name == "places" else "SELECT 2 * 21"
                    sql = f"CREATE FUNCTION {name}() RETURNS bigint LANGUAGE sql {kind} AS '{body}'"
                    connection.execute(text(sql))
        for sql in (
            "SELECT places()",
            "SELECT places(), id FROM weather_locations",
            "SELECT twice(), id, count(*) OVER () FROM weather_locations",
            "SELECT current_user",
        ):
            with pytest.raises(QueryRefused, match=r"`\w+` (is a function that each shard|looks at more than one row)"):
                run_query(fleet, sql, shards=shards_of(fleet))
        assert len(run_query(fleet, "SELECT twice(), id FROM weather_locations", shards=shards_of(fleet)).rows) == 9


def test_an_answer_that_depends_on_an_index_is_not_gathered(mysql: Databases) -> None:
    """MariaDB finds 5 for 4.5 in an index, and in the same table without it nothing."""
    sql = "SELECT id, height FROM weather_locations WHERE height = 4.5"
    with both(mysql, rows(1, 40)) as (fleet, one):
        assert not run_query(fleet, sql, shards=[one]).rows
        for shard in (*shards_of(fleet), one):
            with shard.engine.begin() as connection:
                connection.exec_driver_sql("CREATE INDEX by_height ON weather_locations (height)")
        found = run_query(fleet, sql, shards=[one]).rows
        assert {row[1] for row in found} == ({5} if one.engine.dialect.is_mariadb else set())  # type: ignore[attr-defined]
        assert sorted(run_query(fleet, sql, shards=shards_of(fleet)).rows) == sorted(found)
        with pytest.raises(QueryRefused, match="`height` is an integer"):
            run_query(fleet, f"SELECT id, max(height) OVER () FROM ({sql}) found", shards=shards_of(fleet))
