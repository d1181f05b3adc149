"""Class names in statements, and statements from class names."""

from __future__ import annotations

import pytest

from shardctl.errors import ConfigError, QueryRefused, UnknownName
from shardctl.fleet.models import collect
from shardctl.query.names import class_statement, class_tables, quoted, resolve_classes
from shardctl.query.parse import parse
from tests.engines.query_data import mapping

MODELS = collect([mapping])
TABLES = class_tables(MODELS)


def resolved(sql: str, engine: str = "sqlite") -> str:
    return resolve_classes(parse(sql, engine), TABLES).sql


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM WeatherLocation", 'SELECT * FROM "weather_locations"'),
        ("  SELECT w.id FROM WeatherLocation w ;", 'SELECT w.id FROM "weather_locations" w'),
        (
            "SELECT Report.rain, 'Report' FROM Report WHERE Report.id = 1 -- Report",
            'SELECT "reports".rain, \'Report\' FROM "reports" WHERE "reports".id = 1',
        ),
        ("SELECT * FROM weatherlocation", "SELECT * FROM weatherlocation"),
        ("SELECT * FROM other.Report", "SELECT * FROM other.Report"),
        ("WITH Report AS (SELECT 1) SELECT * FROM Report", "WITH Report AS (SELECT 1) SELECT * FROM Report"),
        ("SELECT Report FROM reports", "SELECT Report FROM reports"),
        (
            "SELECT id FROM weather_locations WHERE id IN (SELECT location_id FROM Report)",
            'SELECT id FROM weather_locations WHERE id IN (SELECT location_id FROM "reports")',
        ),
    ],
)
def test_class_names_stand_for_tables(sql: str, expected: str) -> None:
    assert resolved(sql) == expected


def test_identifiers_are_quoted_as_the_engine_does() -> None:
    assert resolved("SELECT * FROM Report", "mysql") == "SELECT * FROM `reports`"
    assert quoted('we"ird', "postgresql") == '"we""ird"'
    assert quoted("a.b", "mysql") == "`a`.`b`"
    assert quoted("a.b_1", "postgresql", is_mixed=True) == "a.b_1"
    assert quoted("Word", "postgresql", is_mixed=True) == '"Word"'


def test_a_class_is_a_statement() -> None:
    assert class_statement(MODELS, "Country", "sqlite") == 'SELECT "code", "name"\nFROM "countries"'
    assert class_statement(MODELS, "countries", "mysql", where="code = 'JP'", order_by="name DESC", limit=3) == (
        "SELECT `code`, `name`\nFROM `countries`\nWHERE (code = 'JP'\n)\nORDER BY name DESC\n\nLIMIT 3"
    )


@pytest.mark.parametrize(
    "where",
    [
        "1 = 1; DROP TABLE countries",
        "1 = 1) OR (1 = 1",
        "1 = 1) UNION SELECT * FROM (SELECT 1",
        "(1 = 1",
        "1 = 1 ORDER BY code",
        "1 = 1 LIMIT 1",
        "1 = 1 GROUP BY code",
        "1 = 1 UNION SELECT 1, 2",
        "code = 'open",
        "",
        "-- nothing",
    ],
)
def test_where_is_one_condition(where: str) -> None:
    with pytest.raises(QueryRefused):
        class_statement(MODELS, "Country", "sqlite", where=where)


@pytest.mark.parametrize("order_by", ["code; DROP TABLE x", "code LIMIT 1", "code) x", "code UNION SELECT 1"])
def test_order_by_is_a_list(order_by: str) -> None:
    with pytest.raises(QueryRefused):
        class_statement(MODELS, "Country", "sqlite", order_by=order_by)


def test_unknown_classes_name_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        class_statement(MODELS, "Contry", "sqlite")
    assert caught.value.hint == "did you mean `Country`?"
    with pytest.raises(ConfigError, match="without models"):
        class_statement(None, "Country", "sqlite")
