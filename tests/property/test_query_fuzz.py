"""Random statements over random tables, rules and rows: the answer of one database, or a refusal."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from shardctl.errors import QueryRefused, ShardctlError, ShardError
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.query import run_query
from shardctl.query.engines.values import run_as_written
from tests.engines.test_query import plain
from tests.fixtures.engines import Databases, server_url
from tests.property import random_fleets
from tests.property.random_fleets import RandomSchema, random_fleet, schemas
from tests.property.random_statements import Drawn, random_statements

_SEED = os.environ.get("SHARDCTL_TEST_SEED", "1")
SEED = random.SystemRandom().randrange(1, 2**31) if _SEED == "random" else int(_SEED)
"""The same statements in every run, so that a change is judged by itself; `make fuzz` draws others."""
SCALE = float(os.environ.get("SHARDCTL_TEST_SCALE", "1"))
"""How many times as many statements."""
_PLAINLY = "semijoin=off,materialization=off,derived_merge=off,in_to_exists=on"
QUIETLY: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "report_multiple_bugs": False,
    "print_blob": False,
}


class Oracle:
    """One database with all rows, asked past shardctl.

    Args:
        one: The database.
    """

    def __init__(self, one: LiveShard) -> None:
        self.one = one

    def answer(self, sql: str, *, plainly: bool = False) -> tuple[list[str], list[tuple[Any, ...]]] | None:
        """Return columns and rows, for MariaDB also without its rewriting; None if it does not understand them."""
        try:
            with self.one.connect(read_only=True) as connection:
                if plainly:
                    connection.exec_driver_sql(f"SET SESSION optimizer_switch = '{_PLAINLY}'")
                result = run_as_written(connection, sql)
                return list(result.keys()), [tuple(row) for row in result]
        except ShardctlError:
            return None

    def contradicts_itself(self, sql: str) -> bool:
        """Whether the answer is another one by another way to it, which is the database's own fault.

        MariaDB 10.11: a window function over a WITH of one row, which IN finds, has none.
        """
        if self.one.backend.name != "mysql":
            return False
        answers = [self.answer(sql), self.answer(sql, plainly=True)]
        rows = [None if found is None else Counter(normal(found[1], fold=True)) for found in answers]
        return rows[0] != rows[1]


def compare(fleet: Fleet, oracle: Oracle, drawn: Drawn, *, everywhere: bool = False) -> str:
    """Return how a statement was answered, or why it was refused; fail if the answer is wrong."""
    try:
        return compare_once(fleet, oracle, drawn, everywhere=everywhere)
    except AssertionError:
        if oracle.contradicts_itself(drawn.unlimited or drawn.sql):
            return "one database contradicts itself"
        raise


def compare_once(fleet: Fleet, oracle: Oracle, drawn: Drawn, *, everywhere: bool) -> str:
    expected = oracle.answer(drawn.sql)
    try:
        found = run_query(fleet, drawn.sql, shards=list(fleet.shards.values()), everywhere=everywhere)
    except QueryRefused as refusal:
        reason = re.sub(r"`[^`]*`", "…", refusal.message)
        return f"refused: {reason}" if expected is not None else "failed on one database too"
    except ShardError as error:
        if expected is not None:
            raise AssertionError(f"one database answers: {drawn.sql}\n{error}\n{error.facts}") from error
        return "failed on one database too"
    assert expected is not None, ("one database fails", drawn.sql, found.plan.explain())
    assert list(found.columns) == expected[0], drawn.sql
    fold = oracle.one.backend.name == "mysql"
    rows, others = normal(found.rows, fold=fold), normal(expected[1], fold=fold)
    told = f"{drawn.sql}\n{found.plan.explain()}\nfound {rows}\nnot   {others}"
    if drawn.unlimited:
        every = oracle.answer(drawn.unlimited)
        assert every is not None
        assert not Counter(rows) - Counter(normal(every[1], fold=fold)), told
        assert [sort_key(row, drawn) for row in rows] == [sort_key(row, drawn) for row in others], told
    elif drawn.order is None:
        assert Counter(rows) == Counter(others), told
    elif drawn.is_total:
        assert rows == others, told
    else:
        assert Counter(rows) == Counter(others), told
        assert [sort_key(row, drawn) for row in rows] == [sort_key(row, drawn) for row in others], told
    return str(found.plan.route)


def normal(found: list[Any], *, fold: bool) -> list[tuple[Any, ...]]:
    return [tuple(plain(as_number(value), fold=fold) for value in row) for row in found]


def as_number(value: Any) -> Any:
    """Let 2 and 2.00 be equal: of a column of both, PostgreSQL shows either, and DuckDB all with two decimals."""
    return value.normalize() + 0 if isinstance(value, Decimal) and value.is_finite() else value


def sort_key(row: tuple[Any, ...], drawn: Drawn) -> tuple[Any, ...]:
    return tuple(row[number] for number in drawn.order or ())


def run_fleets(engine: str, folder: Path, fleets: int, statements: int, *, part: int = 0) -> Counter[str]:
    """Draw fleets, others for each part, and on each of them statements; return how these were answered."""
    counts: Counter[str] = Counter()
    databases = Databases(engine, folder)
    made = 0

    @seed(SEED + part)
    @settings(max_examples=max(1, round(fleets * SCALE)), phases=[Phase.generate], **QUIETLY)
    @given(schema=schemas(engine))
    def on_fleets(schema: RandomSchema) -> None:
        nonlocal made
        made += 1
        with random_fleet(databases, schema, f"f{made}") as (fleet, one), pytest.MonkeyPatch.context() as patch:
            if schema.place == "database":
                patch.setattr("shardctl.query.pull.prepare.is_installed", lambda: False)
            on_one_fleet(schema, fleet, one, statements, counts)

    try:
        on_fleets()
    finally:
        databases.drop_all()
    return counts


def on_one_fleet(schema: RandomSchema, fleet: Fleet, one: LiveShard, statements: int, counts: Counter[str]) -> None:
    oracle = Oracle(one)
    seen: set[str] = set()

    @seed(schema.statements_seed)
    @settings(max_examples=statements, phases=[Phase.generate, Phase.shrink], **QUIETLY)
    @given(drawn=random_statements(schema))
    def on_statements(drawn: Drawn) -> None:
        if drawn.sql in seen:
            return
        try:
            counts[compare(fleet, oracle, drawn, everywhere=schema.is_everywhere)] += 1
        except AssertionError as error:
            raise AssertionError(f"SHARDCTL_TEST_SEED={SEED}\n{schema}\n{error}") from None
        seen.add(drawn.sql)

    on_statements()


def check(engine: str, counts: Counter[str]) -> None:
    """Print how statements were answered, and why others were refused: not too many may be."""
    refused = {what: count for what, count in counts.items() if what.startswith("refused")}
    matched = sum(counts[route] for route in ("direct", "scatter", "gather"))
    listed = ", ".join(f"{count} {what}" for what, count in counts.most_common())
    print(f"\n{engine}: {matched} matched, {sum(refused.values())} refused, 0 wrong of {counts.total()}: {listed}")
    print(f"SHARDCTL_TEST_SEED={SEED}")
    assert counts["failed on one database too"] * 10 < counts.total(), counts
    assert counts["one database contradicts itself"] * 100 < counts.total(), counts


@pytest.mark.parametrize("part", range(2))
def test_random_statements_on_random_sqlite_shards(tmp_path: Path, part: int) -> None:
    check("sqlite", run_fleets("sqlite", tmp_path, 10, 15, part=part))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "fleets", "part"),
    [*(("sqlite", 30, part) for part in range(4)), ("postgresql", 12, 0), ("mysql", 11, 0)],
)
def test_many_random_statements_on_random_shards(tmp_path: Path, engine: str, fleets: int, part: int) -> None:
    """10,010 of them."""
    if engine != "sqlite":
        server_url(engine)  # skips without one
    check(engine, run_fleets(engine, tmp_path, fleets, 70, part=part))


@pytest.mark.slow
def test_rows_on_wrong_shards_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would not notice rows that are elsewhere than the planner thinks, would notice no wrong plan either."""
    homes = random_fleets._home

    def elsewhere(source: random.Random, schema: RandomSchema, *others: Any) -> str | None:
        return None if homes(source, schema, *others) is None else source.choice(schema.shard_ids)

    monkeypatch.setattr(random_fleets, "_home", elsewhere)
    with pytest.raises(AssertionError, match=r"(?s)\n +found \[.*\n +not "):
        run_fleets("sqlite", tmp_path, 20, 40)
