"""Shards must answer as one database with all of their rows would, or refuse."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from shardctl.errors import QueryRefused, ShardctlError, ShardError
from shardctl.fleet.engines import open_shards
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import QueryResult, class_statement, count_rows, run_query
from shardctl.query.plan import Route
from shardctl.topology.model import Shard, ShardMap
from tests.engines.query_data import STRATEGY, both, rows
from tests.engines.query_statements import (
    ACCEPTED,
    ACCEPTED_BY_ENGINE,
    GATHERED,
    GATHERED_BY_ENGINE,
    REFUSED,
    REFUSED_BY_ENGINE,
)
from tests.fixtures.engines import Databases

ANY_ANSWER = re.compile(
    r"group_concat\(city\)|json_arrayagg|json_group_array|json_agg\(id\)|SQL_CALC|random\(\)|OFFSET -1|"
    r"CURRENT_TIMESTAMP|LIMIT 1 \+ 1|SELECT country, city, count|time\(seen\)|HAVING id|BY id$|BY city$"
)
"""Statements with several right answers."""
REFUSED_IN_PARTS = re.compile(r"\b(group by|distinct|min\(|max\()", re.IGNORECASE)


def shards_of(fleet: Fleet) -> list[LiveShard]:
    return list(fleet.shards.values())


def plain(value: Any, *, fold: bool) -> Any:
    """Make values comparable: sums of floats differ in their last digits with the order of the rows."""
    if isinstance(value, float):
        return f"{value:.9g}"
    if fold and isinstance(value, str):  # any of several equal texts stands for their group
        return "".join(c for c in unicodedata.normalize("NFD", value.casefold()) if not unicodedata.combining(c))
    return (type(value).__name__, str(value))


def comparable(result: QueryResult, sql: str, engine: str) -> list[tuple[Any, ...]]:
    fold = engine == "mysql" and REFUSED_IN_PARTS.search(sql) is not None
    found = [tuple(plain(value, fold=fold) for value in row) for row in result.rows]
    return found if "order by" in sql.lower() else sorted(found, key=repr)


def test_shards_answer_as_one_database(databases: Databases) -> None:
    wrong: list[str] = []
    with both(databases, rows()) as (fleet, one):
        for sql in ACCEPTED + ACCEPTED_BY_ENGINE[databases.engine]:
            expected = run_query(fleet, sql, shards=[one])
            try:
                found = run_query(fleet, sql, shards=shards_of(fleet))
            except ShardctlError as error:
                wrong.append(f"{sql}\n  {error.message} {error.facts}")
                continue
            if found.columns != expected.columns:
                wrong.append(f"{sql}\n  {expected.columns}\n  {found.columns}")
            if comparable(found, sql, databases.engine) != comparable(expected, sql, databases.engine):
                wrong.append(f"{sql}\n  {expected.rows[:5]}\n  {found.rows[:5]}")
    assert not wrong, "\n".join(wrong)


def fails(fleet: Fleet, sql: str, one: LiveShard) -> bool:
    """Whether a statement is wrong on one database too."""
    try:
        run_query(fleet, sql, shards=[one])
    except ShardError:
        return True
    return False


def test_what_cannot_be_merged_says_why(databases: Databases) -> None:
    """Without a place to gather in, this is all; SQLite always has one, and the plan has the reason."""
    wrong: list[str] = []
    with both(databases, rows(count=9), has_place=False) as (fleet, one):
        for sql, reason in REFUSED + REFUSED_BY_ENGINE[databases.engine]:
            try:
                result = run_query(fleet, sql, shards=shards_of(fleet))
                if result.plan.route is not Route.GATHER or not re.search(reason, result.plan.reason):
                    wrong.append(f"{sql}: {result.plan.reason}: answered {result.rows[:3]}")
            except QueryRefused as error:
                if not re.search(f"{reason}|sqlite itself does not know this", error.message):
                    wrong.append(f"{sql}: {error.message}")
            except ShardError as error:
                if not fails(fleet, sql, one):
                    wrong.append(f"{sql}: {error.message} {error.facts}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_what_cannot_be_merged_is_gathered(databases: Databases) -> None:
    """Each statement has the answer of one database, or fails as it does there, or is refused."""
    wrong: list[str] = []
    routes: Counter[str] = Counter()
    statements = GATHERED + GATHERED_BY_ENGINE[databases.engine]
    statements += [sql for sql, _ in REFUSED + REFUSED_BY_ENGINE[databases.engine] if not ANY_ANSWER.search(sql)]
    with both(databases, rows()) as (fleet, one):
        for sql in statements:
            try:
                expected = run_query(fleet, sql, shards=[one])
            except ShardctlError:
                expected = None
            try:
                found = run_query(fleet, sql, shards=shards_of(fleet))
            except QueryRefused:
                routes["refused"] += 1
                if sql in GATHERED or sql in GATHERED_BY_ENGINE[databases.engine]:
                    raise
                continue
            except ShardError:
                routes["failed"] += 1
                if expected is not None:
                    raise
                continue
            assert expected is not None, sql
            routes[found.plan.route] += 1
            if found.columns != expected.columns:
                wrong.append(f"{sql}\n  {expected.columns}\n  {found.columns}")
            if comparable(found, sql, databases.engine) != comparable(expected, sql, databases.engine):
                wrong.append(f"{sql}\n  {expected.rows[:5]}\n  {found.rows[:5]}")
    assert not wrong, "\n".join(wrong)
    assert routes["gather"] > 60, routes


def test_one_shard_answers_any_select(databases: Databases) -> None:
    statements = [
        "WITH x AS (SELECT id FROM weather_locations) SELECT count(*) FROM x",
        "SELECT id, row_number() OVER (ORDER BY id DESC) FROM weather_locations ORDER BY 2 LIMIT 3",
        "SELECT id FROM weather_locations UNION SELECT id FROM reports ORDER BY 1",
        "SELECT w.id FROM weather_locations w JOIN reports r ON r.id = w.id ORDER BY 1;",
    ]
    with both(databases, rows()) as (fleet, one):
        for sql in statements:
            result = run_query(fleet, sql, shards=[one])
            assert result.rows
            assert result.shard_ids == ("one",)
            assert result.plan.shard_sql == sql.rstrip(";")


def test_reference_tables_are_read_once(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, _):
        result = run_query(
            fleet, "WITH c AS (SELECT code FROM Country) SELECT count(*) FROM c", shards=shards_of(fleet)
        )
        assert result.rows == [(3,)]
        assert result.shard_ids == ("asia",)


WRITES = {"sqlite": "readonly database", "postgresql": "read-only transaction", "mysql": "READ ONLY transaction"}


def test_the_database_itself_refuses_to_write(databases: Databases) -> None:
    with both(databases, rows(count=3)) as (_, one), one.connect(read_only=True) as connection:
        for statement in ("delete from countries", "create table stray (id integer)"):
            with pytest.raises(DBAPIError, match=WRITES[databases.engine]):
                connection.exec_driver_sql(statement)
            connection.rollback()


def test_the_database_refuses_writes_that_look_like_reads(postgresql: Databases) -> None:
    with both(postgresql, rows(count=3)) as (fleet, one):
        with one.engine.begin() as connection:
            connection.execute(text("create sequence s"))
        with pytest.raises(ShardError, match="failed on `one`") as caught:
            run_query(fleet, "SELECT nextval('s')", shards=[one])
        assert "read-only transaction" in caught.value.facts[0]


def test_the_shard_is_a_column_on_request(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, one):
        found = run_query(
            fleet, "SELECT id FROM weather_locations ORDER BY id LIMIT 4", shards=shards_of(fleet), with_shard=True
        )
        assert found.columns == ("shard", "id")
        assert found.rows == [(STRATEGY.place((i,)), i) for i in range(1, 5)]
        counted = run_query(
            fleet,
            "SELECT count(*) AS n, max(id) FROM weather_locations ORDER BY n, max(id)",
            shards=shards_of(fleet),
            with_shard=True,
        )
        assert counted.columns[:2] == ("shard", "n")
        placed = {name: [i for i in range(1, 61) if STRATEGY.place((i,)) == name] for name in fleet.shards}
        assert sorted(counted.rows) == sorted((name, len(ids), max(ids)) for name, ids in placed.items())
        grouped = run_query(
            fleet,
            "SELECT DISTINCT capital FROM weather_locations WHERE capital IS NOT NULL",
            shards=shards_of(fleet),
            with_shard=True,
        )
        assert len(grouped.rows) == 6
        direct = run_query(fleet, "SELECT 1 AS n", shards=[one], with_shard=True)
        assert (direct.columns, direct.rows) == (("shard", "n"), [("one", 1)])


def test_a_failing_shard_fails_the_query_by_name(databases: Databases) -> None:
    with both(databases, rows(count=9)) as (fleet, _):
        with fleet.shards["europe"].engine.begin() as connection:
            connection.execute(text("drop table reports"))
        with pytest.raises(ShardError) as caught:
            run_query(fleet, "SELECT id FROM reports", shards=shards_of(fleet))
        assert caught.value.message == "the query failed on `europe`"
        assert len(caught.value.facts) == 1
        assert caught.value.facts[0].startswith("europe: ")
        counts = count_rows(fleet, shards_of(fleet), ["reports", "countries"])
        assert counts["reports"]["europe"] is None
        assert counts["countries"] == {"asia": 3, "europe": 3, "oceania": 3}


def test_shards_with_different_columns_are_refused(databases: Databases) -> None:
    with both(databases, rows(count=9)) as (fleet, _):
        with fleet.shards["europe"].engine.begin() as connection:
            connection.execute(text("alter table countries add column extra integer"))
            connection.execute(text("alter table reports add column extra integer"))
        with pytest.raises(QueryRefused, match="`asia` and `europe` answer with different columns"):
            run_query(fleet, "SELECT * FROM reports", shards=shards_of(fleet))
        assert run_query(fleet, "SELECT id, rain FROM reports", shards=shards_of(fleet)).rows


def test_rows_above_the_limit_are_refused(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, _):
        with pytest.raises(QueryRefused, match="has more than 5 rows"):
            run_query(fleet, "SELECT id FROM reports", shards=shards_of(fleet), max_rows=5)
        assert len(run_query(fleet, "SELECT id FROM reports LIMIT 5", shards=shards_of(fleet), max_rows=5).rows) == 5


# Text is compared as its collation has it, and only the engine knows that.

COLLATED = {
    "sqlite": [
        ("create table words (id integer, word text collate nocase)", True),
        ("create table words (id integer, word text collate rtrim)", False),
        ("create table words (id integer, word text)", False),
    ],
    "postgresql": [
        ("create table words (id integer, word text)", False),
        ('create table words (id integer, word text collate "C")', False),
        ("create table words (id integer, word text collate anycase)", True),
        ("create table words (id integer, word char(5))", False),
    ],
    "mysql": [
        ("create table words (id integer, word varchar(9) collate utf8mb4_bin)", False),
        ("create table words (id integer, word varchar(9) collate utf8mb4_general_ci)", True),
        ("create table words (id integer, word varchar(9) character set latin1 collate latin1_german2_ci)", True),
        ("create table words (id integer, word text collate utf8mb4_unicode_ci)", True),
    ],
}
WORDS = ("a", "B", "A", "b", "a ", "_", "ä", "Z", "z", "", "É", "e", None)


def make_words(engine: Engine, ddl: str, words: Sequence[tuple[int, str | None]]) -> None:
    with engine.begin() as connection:
        connection.execute(text("drop table if exists words"))
        if "anycase" in ddl:
            connection.execute(
                text(
                    "create collation if not exists anycase"
                    " (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
                )
            )
        connection.execute(text(ddl))
        for number, word in words:
            connection.execute(text("insert into words values (:number, :word)"), {"number": number, "word": word})


def test_text_is_compared_by_its_own_collation(databases: Databases) -> None:
    numbered = list(enumerate(WORDS))
    with both(databases, {}) as (fleet, one):
        for ddl, merges_case in COLLATED[databases.engine]:
            make_words(one.engine, ddl, numbered)
            for i, shard in enumerate(shards_of(fleet)):
                make_words(shard.engine, ddl, numbered[i::3])
            for sql in (
                "SELECT id, word FROM words ORDER BY word, id",
                "SELECT * FROM words ORDER BY 2 DESC, 1",
                "SELECT count(DISTINCT word), count(word) FROM words",
                "SELECT count(*), min(id) FROM words GROUP BY word ORDER BY min(id)",
            ):
                expected = run_query(fleet, sql, shards=[one])
                assert run_query(fleet, sql, shards=shards_of(fleet)).rows == expected.rows, (ddl, sql)
            groups = run_query(fleet, "SELECT DISTINCT word FROM words", shards=shards_of(fleet)).rows
            lowered = [row[0].lower() for row in groups if row[0] is not None]
            assert (len(set(lowered)) == len(lowered)) is merges_case, ddl
            # Any of several equal texts may stand for the least.
            least = run_query(fleet, "SELECT min(word) FROM words WHERE word > ''", shards=shards_of(fleet)).rows
            only = run_query(fleet, "SELECT min(word) FROM words WHERE word > ''", shards=[one]).rows
            assert least[0][0].lower().strip() == only[0][0].lower().strip()


def test_shards_that_compare_text_differently_are_refused(databases: Databases) -> None:
    first, second = {
        "sqlite": ("text", "text collate nocase"),
        "postgresql": ("text", 'text collate "C"'),
        "mysql": ("varchar(9) collate utf8mb4_bin", "varchar(9) collate utf8mb4_general_ci"),
    }[databases.engine]
    with both(databases, {}) as (fleet, _):
        for shard, kind in zip(shards_of(fleet), (first, second, first), strict=True):
            make_words(shard.engine, f"create table words (id integer, word {kind})", [(1, "a"), (2, "B")])
        for sql in ("SELECT word FROM words ORDER BY word", "SELECT DISTINCT word FROM words"):
            with pytest.raises(QueryRefused, match="different collations") as caught:
                run_query(fleet, sql, shards=shards_of(fleet))
            assert len(caught.value.facts) == 2
        assert len(run_query(fleet, "SELECT word FROM words", shards=shards_of(fleet)).rows) == 6


@pytest.mark.parametrize("databases", ["postgresql", "mysql"], indirect=True)
def test_types_that_cannot_be_compared_here_are_refused(databases: Databases) -> None:
    kind = "mood" if databases.engine == "postgresql" else "enum('sad', 'happy')"
    with both(databases, {}, has_place=False) as (fleet, _):
        for shard in shards_of(fleet):
            with shard.engine.begin() as connection:
                if databases.engine == "postgresql":
                    connection.execute(text("create type mood as enum ('sad', 'happy')"))
                connection.execute(text(f"create table people (mood {kind}, age integer)"))
                connection.execute(text("insert into people values ('happy', 3), ('sad', 4)"))
        for sql in ("SELECT mood FROM people ORDER BY mood", "SELECT mood, count(*) FROM people GROUP BY mood"):
            with pytest.raises(QueryRefused, match="cannot be compared over several shards"):
                run_query(fleet, sql, shards=shards_of(fleet))
        assert len(run_query(fleet, "SELECT mood FROM people ORDER BY age", shards=shards_of(fleet)).rows) == 6


def test_shards_whose_types_differ_are_refused(postgresql: Databases) -> None:
    with both(postgresql, {}) as (fleet, _):
        for shard, kind in zip(shards_of(fleet), ("integer", "text", "integer"), strict=True):
            with shard.engine.begin() as connection:
                connection.execute(text(f"create table odd (n {kind})"))
        with pytest.raises(QueryRefused, match="`n` is integer on `asia` and text on `europe`"):
            run_query(fleet, "SELECT n FROM odd ORDER BY n", shards=shards_of(fleet))


def test_integer_sums_overflow_as_in_sqlite(tmp_path: Path) -> None:
    databases = Databases("sqlite", tmp_path)
    with both(databases, {}) as (fleet, _):
        for shard in shards_of(fleet):
            with shard.engine.begin() as connection:
                connection.execute(text("create table big (n integer)"))
                connection.execute(text("insert into big values (9000000000000000000)"))
        with pytest.raises(ShardError, match="integer overflow"):
            run_query(fleet, "SELECT sum(n) FROM big", shards=shards_of(fleet))
        assert run_query(fleet, "SELECT avg(n) FROM big", shards=shards_of(fleet)).rows == [(9e18,)]


@pytest.fixture
def mixed(tmp_path: Path, postgresql: Databases) -> Iterator[Fleet]:
    """One shard on SQLite, one on PostgreSQL."""
    sqlite = Databases("sqlite", tmp_path)
    shard_map = ShardMap(
        shards={"file": Shard("file", sqlite.create("file")), "server": Shard("server", postgresql.create("server"))}
    )
    shards = open_shards(shard_map)
    for shard in shards.values():
        with shard.engine.begin() as connection:
            connection.execute(text("create table words (id integer, word text)"))
            connection.execute(text("insert into words values (1, 'a'), (2, null), (3, 'B')"))
    yield Fleet(shard_map, shards)
    for shard in shards.values():
        shard.bind.dispose()


def test_over_mixed_engines_only_rows_and_counts_are_answered(mixed: Fleet) -> None:
    shards = shards_of(mixed)
    assert len(run_query(mixed, "SELECT id, word FROM words LIMIT 5", shards=shards).rows) == 5
    assert run_query(mixed, "SELECT count(*), count(word) FROM words", shards=shards).rows == [(6, 4)]
    by_shard = run_query(mixed, "SELECT count(*) FROM words", shards=shards, with_shard=True)
    assert by_shard.rows == [("file", 3), ("server", 3)]
    for sql in (
        "SELECT word FROM words ORDER BY word",
        "SELECT DISTINCT word FROM words",
        "SELECT sum(id) FROM words",
        "SELECT word, count(*) FROM words GROUP BY word",
    ):
        with pytest.raises(QueryRefused, match="postgresql and sqlite compare, order and calculate differently"):
            run_query(mixed, sql, shards=shards)


def test_without_models_queries_work_but_joins_are_refused(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, _):
        bare = Fleet(ShardMap(shards=fleet.shard_map.shards), fleet.shards)
        assert run_query(bare, "SELECT count(*) FROM weather_locations", shards=shards_of(bare)).rows == [(60,)]
        with pytest.raises(QueryRefused, match=r"needs to know which tables|has no placement"):
            run_query(
                bare,
                "SELECT w.id FROM weather_locations w JOIN reports r ON r.location_id = w.id",
                shards=shards_of(bare),
            )


def test_a_class_name_is_a_statement(databases: Databases) -> None:
    with both(databases, rows()) as (fleet, one):
        sql = class_statement(
            fleet.models, "WeatherLocation", databases.engine, where="height > 0 -- tall", order_by="id DESC", limit=3
        )
        found = run_query(fleet, sql, shards=shards_of(fleet))
        assert found.rows == run_query(fleet, sql, shards=[one]).rows
        assert found.columns[:3] == ("id", "city", "country")
        assert len(found.rows) == 3
