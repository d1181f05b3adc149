"""What is explained is what runs; to explain runs nothing; and what is counted is what came."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text

from shardctl.cli.asking import Asking
from shardctl.cli.footer import footer
from shardctl.cli.options import RowFormat
from shardctl.errors import QueryRefused
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import run_query
from shardctl.query.asked import noting
from shardctl.query.explain import analyze, explain, explained, look
from tests.engines.query_data import both, rows
from tests.fixtures.engines import Databases, server_url

LOCATIONS = 60
STATEMENTS = [
    "SELECT city FROM weather_locations",
    "SELECT id FROM weather_locations ORDER BY id DESC LIMIT 5",
    "SELECT country, count(*), max(height) FROM weather_locations GROUP BY country",
    "SELECT name FROM countries",
    "SELECT id, rank() OVER (ORDER BY height, id) FROM weather_locations",
    "SELECT l.id, r.rain FROM weather_locations l JOIN reports r ON r.rain = l.height WHERE l.id < 30",
]


Made = tuple[str, Fleet, LiveShard]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """An engine, shards of it, and one database with all rows; made once, because the statements only read."""
    databases = Databases(request.param, tmp_path_factory.mktemp("explained"))
    if databases.engine != "sqlite":
        server_url(databases.engine)
    with both(databases, rows()) as (fleet, one):
        yield databases.engine, fleet, one
    databases.drop_all()


def shards_of(fleet: Fleet) -> list[LiveShard]:
    return list(fleet.shards.values())


@contextmanager
def statements(fleet: Fleet) -> Iterator[list[tuple[str, str]]]:
    """Collect each shard's statements, as they are sent meanwhile."""
    found: list[tuple[str, str]] = []

    def listener(shard_id: str) -> Any:
        return lambda connection, cursor, statement, *rest: found.append((shard_id, statement))

    listeners = [(shard.engine, listener(shard_id)) for shard_id, shard in fleet.shards.items()]
    for engine, listen in listeners:
        event.listen(engine, "before_cursor_execute", listen)
    kept = {shard_id: shard.kept for shard_id, shard in fleet.shards.items()}
    for shard in fleet.shards.values():
        shard.kept = None  # on connections that are kept, the driver alone sees what is sent
    yield found
    for shard_id, shard in fleet.shards.items():
        shard.kept = kept[shard_id]
    for engine, listen in listeners:
        event.remove(engine, "before_cursor_execute", listen)


def test_what_is_explained_is_the_plan_that_runs(made: Made) -> None:
    _, fleet, _ = made
    for sql in STATEMENTS:
        found = explain(fleet, sql, shards=shards_of(fleet))
        ran = run_query(fleet, sql, shards=shards_of(fleet)).plan
        assert found == explained(ran, shards_of(fleet), found.why if ran.pruned is None else ""), sql
        if ran.gathering is None:
            assert [(sent.shard_ids, sent.sql) for sent in found.sent] == [(ran.shard_ids, ran.shard_sql)]
        else:
            scans = [(scan.table.name, scan.shard_ids, scan.sql()) for scan in ran.gathering.scans]
            assert [(sent.table, sent.shard_ids, sent.sql) for sent in found.sent] == scans


def test_what_is_explained_is_not_run(made: Made) -> None:
    _, fleet, _ = made
    for sql in STATEMENTS:
        with statements(fleet) as met:
            found = explain(fleet, sql, shards=shards_of(fleet))
            look(fleet, found, shards_of(fleet), timeout_s=None, with_plans=True)
        own = {sent.sql for sent in found.sent} | {sql}
        assert met
        assert [entry for entry in met if entry[1] in own] == [], sql
    with statements(fleet) as met:
        run_query(fleet, STATEMENTS[0], shards=shards_of(fleet))
    assert [entry for entry in met if entry[1] == STATEMENTS[0]]  # so would a run be seen


def test_engines_say_what_they_expect(made: Made) -> None:
    engine, fleet, _ = made
    if engine == "postgresql":
        for shard in shards_of(fleet):
            with shard.bind.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text("ANALYZE weather_locations"))
    found = explain(fleet, STATEMENTS[0], shards=shards_of(fleet))
    looks = look(fleet, found, shards_of(fleet), timeout_s=None, with_plans=True)
    assert set(looks) == {(0, shard_id) for shard_id in fleet.shards}
    assert all(shown.plan and shown.problem is None for shown in looks.values())
    assert all("weather_locations" in " ".join(shown.plan) for shown in looks.values())
    returned = [shown.returned for shown in looks.values() if shown.returned is not None]
    read = [shown.read for shown in looks.values() if shown.read is not None]
    assert (len(returned), len(read)) == {"sqlite": (0, 0), "postgresql": (3, 0), "mysql": (0, 3)}[engine]
    if engine == "postgresql":
        assert sum(returned) == LOCATIONS
    assert all(count > 0 for count in read)


def test_a_shard_without_an_estimate_is_no_error(made: Made) -> None:
    _, fleet, _ = made
    found = explain(fleet, STATEMENTS[0], shards=shards_of(fleet))
    with fleet.shards["europe"].connect(read_only=False) as connection:
        connection.exec_driver_sql("ALTER TABLE weather_locations RENAME TO elsewhere")
        connection.commit()
        looks = look(fleet, found, shards_of(fleet), timeout_s=None, with_plans=True)
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO weather_locations")
        connection.commit()
    assert "weather_locations" in str(looks[0, "europe"].problem)
    assert looks[0, "asia"].problem is None
    assert looks[0, "asia"].plan


def test_rows_and_bytes_are_counted_as_they_come(made: Made) -> None:
    engine, fleet, one = made
    for sql in STATEMENTS:
        found, result, asked = analyze(
            fleet, sql, shards=shards_of(fleet), max_rows_pulled=10_000, memory_limit="500MB"
        )
        assert sorted(map(str, result.rows)) == sorted(map(str, run_query(fleet, sql, shards=[one]).rows)), sql
        for sent in found.sent:
            if any(remark.startswith("where") for remark in sent.remarks):
                continue  # fewer, by the keys that came before
            for shard_id in sent.shard_ids:
                own = run_query(fleet, sent.sql, shards=[fleet.shards[shard_id]]).rows
                assert asked.rows[shard_id, sent.table] == len(own), (sql, shard_id)
        assert set(asked.seconds) >= set(found.shard_ids)
        if engine == "sqlite" or sys.platform != "linux":
            assert asked.all_received is None
        else:
            assert asked.all_received is not None
            assert set(asked.received) == set(found.shard_ids)


def test_bytes_are_those_of_the_rows(made: Made) -> None:
    engine, fleet, _ = made
    if engine == "sqlite" or sys.platform != "linux":
        pytest.skip("SQLite receives nothing, and other systems do not count")
    asia = fleet.shards["asia"]
    sizes = []
    for length in (1_000, 1_000_000):
        with noting() as asked:
            run_query(fleet, f"SELECT repeat('x', {length}) AS filled", shards=[asia])
        sizes.append(asked.received["asia"])
    assert 1_000 < sizes[0] < 100_000  # type: ignore[operator]
    assert 0 <= sizes[1] - sizes[0] - 999_000 < 20_000  # type: ignore[operator]


def test_a_query_says_the_bytes_where_they_are_known(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    engine, fleet, _ = made
    asking = Asking(fleet, shards_of(fleet), 30.0, RowFormat.JSON)
    for sql in (STATEMENTS[2], STATEMENTS[4]):
        with noting() as asked:
            result = run_query(fleet, sql, shards=shards_of(fleet))
        line = footer(result, len(result.rows), 1.0, asked, 10)
        asking.answer(sql)
        found = json.loads(capsys.readouterr().out)
        is_known = engine != "sqlite" and sys.platform == "linux"
        assert (found.get("bytes_received", 0) > 100) is is_known
        assert (" received, 10 bytes printed" in line) is is_known


def test_what_is_refused_to_run_is_refused_to_explain(made: Made) -> None:
    _, fleet, _ = made
    for sql in ("SELECT id FROM weather_locations FOR UPDATE", "DELETE FROM weather_locations"):
        with pytest.raises(QueryRefused) as ran:
            run_query(fleet, sql, shards=shards_of(fleet))
        with pytest.raises(QueryRefused) as shown:
            explain(fleet, sql, shards=shards_of(fleet))
        assert (shown.value.message, shown.value.facts) == (ran.value.message, ran.value.facts)
