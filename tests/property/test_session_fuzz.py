"""Random `select()`s in a session over shards: what a session on one database answers, or a refusal."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, seed, settings
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from shardctl.errors import QueryRefused
from tests.fixtures.engines import Databases, server_url
from tests.property.random_fleets import RandomSchema, random_fleet, schemas
from tests.property.random_selects import Drawn, random_selects
from tests.property.test_query_fuzz import QUIETLY, SCALE, SEED, normal

# Of products without a condition, and of Decimal on SQLite: they are drawn on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")


def values(row: Any) -> tuple[Any, ...]:
    """Return a row with an object's columns, and those of what is loaded with it, in its place."""
    found: list[Any] = []
    for value in row:
        state = inspect(value, raiseerr=False)
        if state is None:
            found.append(value)
            continue
        found += [getattr(value, column.key) for column in state.mapper.column_attrs]
        above = state.dict.get("above")
        found += [] if above is None else [getattr(above, "id")]  # noqa: B009  # of a class made here
    return tuple(found)


def answer(session: Session, drawn: Drawn) -> list[tuple[Any, ...]]:
    try:
        return [values(row) for row in session.execute(drawn.statement).all()]
    finally:
        session.rollback()
        session.expunge_all()


def compare(session: Session, one: Session, drawn: Drawn) -> str:
    """Return how a statement was answered; fail if the answer is wrong."""
    dialect = one.get_bind().dialect
    try:
        expected = answer(one, drawn)
    except SQLAlchemyError:
        return "failed on one database too"
    told = f"{drawn.statement.compile(dialect=dialect)}\n{drawn.statement.compile(dialect=dialect).params}"
    try:
        found = answer(session, drawn)
    except QueryRefused as refusal:
        return f"refused: {refusal.message}"
    except SQLAlchemyError as error:
        raise AssertionError(f"one database answers: {told}\n{error}") from error
    rows, others = (normal(listed, fold=dialect.name == "mysql") for listed in (found, expected))
    told += f"\nfound {rows}\nnot   {others}"
    assert Counter(rows) == Counter(others), told
    assert rows == others or not drawn.is_ordered, told
    return "matched"


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
        schema = replace(schema, place="here", is_everywhere=False)  # sessions find rows by the rules
        with random_fleet(databases, schema, f"f{made}") as (fleet, one), Session(one.engine) as plain:
            classes = {table.name: fleet.models.mappers[table.name.title()].class_ for table in schema.tables}

            @seed(schema.statements_seed)
            @settings(max_examples=statements, phases=[Phase.generate, Phase.shrink], **QUIETLY)
            @given(drawn=random_selects(schema, classes))
            def on_statements(drawn: Drawn) -> None:
                with fleet.session() as session:
                    try:
                        counts[compare(session, plain, drawn)] += 1
                    except AssertionError as error:
                        raise AssertionError(f"SHARDCTL_TEST_SEED={SEED} part {part}\n{schema}\n{error}") from None

            on_statements()

    try:
        on_fleets()
    finally:
        databases.drop_all()
    return counts


def check(engine: str, counts: Counter[str]) -> None:
    """Print how statements were answered: a good part of them must be."""
    refused = sum(count for what, count in counts.items() if what.startswith("refused"))
    print(f"\n{engine}: {counts['matched']} matched, {refused} refused, 0 wrong of {counts.total()}")
    print(", ".join(f"{count} {what}" for what, count in counts.most_common()))
    assert counts["matched"] * 4 > counts.total(), counts
    assert counts["failed on one database too"] * 10 < counts.total(), counts


def test_random_selects_on_random_sqlite_shards(tmp_path: Path) -> None:
    check("sqlite", run_fleets("sqlite", tmp_path, 6, 20))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "fleets", "part"),
    [*(("sqlite", 45, part) for part in range(2)), ("postgresql", 20, 0), ("mysql", 20, 0)],
)
def test_many_random_selects_on_random_shards(tmp_path: Path, engine: str, fleets: int, part: int) -> None:
    if engine != "sqlite":
        server_url(engine)  # skips without one
    check(engine, run_fleets(engine, tmp_path, fleets, 60, part=part))
