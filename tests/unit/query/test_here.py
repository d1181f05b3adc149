"""The list of what DuckDB is trusted with: each entry has a case that needs it, and what is not listed is refused."""

from __future__ import annotations

import pytest

from shardctl.query.gatherers import ColumnShape, TableShape
from shardctl.query.here.kinds import NotListed
from shardctl.query.here.listed import entries
from shardctl.query.here.translate import Here, translate
from shardctl.query.parse import parse
from shardctl.query.pull.plan import plan_scans
from tests.engines.here_cases import VALUES, all_cases

SETTINGS = {
    "postgresql": {
        "standard_conforming_strings": "on",
        "transform_null_equals": "off",
        "DateStyle": "ISO, MDY",
        "database encoding": "6",
        "database datcollate": "en_US.UTF-8",
        "database datlocprovider": "c",
    },
    "mysql": {"sql_mode": "STRICT_TRANS_TABLES"},
}
DECLARED = {"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone"}
DECLARED |= {"bpchar": "character(4)", "text": 'text COLLATE pg_catalog."C"'}


def here(engine: str, sql: str, *, has_others: bool = True, **settings: str) -> Here:
    def declared(kind: str) -> str:
        return DECLARED.get(kind, VALUES[engine][kind][0]) if engine == "postgresql" else VALUES[engine][kind][0]

    columns = [ColumnShape(f"{kind}_{i}", declared(kind)) for kind in VALUES[engine] for i in (1, 2, 3)]
    if engine == "postgresql" and has_others:
        columns += [ColumnShape("name", "text"), ColumnShape("any_number", "numeric")]
        columns += [ColumnShape("doc", "jsonb"), ColumnShape("tags", "text[]")]
    elif has_others:
        columns += [ColumnShape("name", "varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci NULL")]
    identity = ColumnShape("id", "integer" if engine == "postgresql" else "int(11) NOT NULL", is_integer=True)
    shapes = {"typed": TableShape("typed", (identity, *columns))}
    statement = parse(sql, engine)
    scans = plan_scans(statement, shapes, {"typed": ["one"]}).scans
    return translate(statement, shapes, scans, SETTINGS[engine] | settings)[0]


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_every_entry_of_the_list_has_cases_that_need_it(engine: str) -> None:
    needed = {entry for entry, sql in all_cases(engine) if entry in here(engine, sql, has_others=False).used}
    assert needed == entries(engine)


REFUSED = {
    "postgresql": [
        ("SELECT stddev(id) OVER () FROM typed", "STDDEV"),
        ("SELECT sum(float8_1) OVER () FROM typed", "`sum` of float8"),
        ("SELECT id FROM typed ORDER BY name", "the order of text under this collation"),
        ("SELECT min(name) FROM typed", "`min`|the order of text"),
        ("SELECT id FROM typed WHERE name < id::text", "the order of text"),
        ("SELECT any_number FROM typed", "the type `numeric`"),
        ("SELECT doc FROM typed", "the type `jsonb`"),
        ("SELECT tags FROM typed", r"the type `text\[\]`"),
        ("SELECT timestamptz_1 < '2024-01-01' FROM typed", "as a timestamptz"),
        ("SELECT upper(name) FROM typed", "UPPER"),
        ("SELECT float8_1 + 1 FROM typed", r"float8_1 \+ 1"),
        ("SELECT int4_1 = int4_2 = bool_1 FROM typed", "without brackets"),
        ("SELECT date_1 + 1 FROM typed", r"date_1 \+ 1"),
        ("SELECT sum(x) FROM (SELECT avg(id) AS x FROM typed) y", "`sum` of quotient"),
        ("SELECT (SELECT max(o.id) FROM typed i) FROM typed o", "an aggregate over"),
        ("WITH RECURSIVE t AS (SELECT 1 AS n UNION SELECT n + 1 FROM t) SELECT n, id FROM t, typed", "RECURSIVE"),
        ("SELECT E'a' || name FROM typed", "not known"),
        ("SELECT count(*) FROM typed GROUP BY ROLLUP (id)", "GROUP BY ROLLUP|not known"),
        ("SELECT count(*) OVER w FROM typed WINDOW w AS (ORDER BY id)", "not known"),
    ],
    "mysql": [
        ("SELECT count(*) FROM typed GROUP BY name", "text under this collation"),
        ("SELECT name = 'a' FROM typed", "text under this collation"),
        ("SELECT !id FROM typed", "`!`"),
        ("SELECT id DIV 2 FROM typed", "id / 2"),
        (r"SELECT text_1 = 'a\n' FROM typed", "not known"),
        ("SELECT uint8_1 - 1 FROM typed", "uint8_1 - 1"),
        ("SELECT sum(float8_1) FROM typed", "`sum` of float8"),
        ("SELECT std(id) FROM typed", "STD"),
    ],
}


@pytest.mark.parametrize(
    ("engine", "sql", "reason"), [(engine, *case) for engine in REFUSED for case in REFUSED[engine]]
)
def test_what_is_not_on_the_list_is_refused_by_its_name(engine: str, sql: str, reason: str) -> None:
    with pytest.raises(NotListed, match=reason):
        here(engine, sql)


@pytest.mark.parametrize(
    ("engine", "setting"),
    [("postgresql", {"DateStyle": "German, DMY"}), ("mysql", {"sql_mode": "PIPES_AS_CONCAT"})],
)
def test_settings_that_change_what_sql_means_are_refused(engine: str, setting: dict[str, str]) -> None:
    with pytest.raises(NotListed):
        here(engine, "SELECT id FROM typed", **setting)


def test_no_text_of_the_user_reaches_duckdb() -> None:
    sql = 'SELECT id AS "x; DROP", \'it\'\'s\' AS s FROM typed AS "t""t" WHERE id > 3 -- ,'
    assert here("postgresql", sql).sql == ("SELECT s0.\"id\" AS c0, 'it''s' AS c1 FROM \"typed\" AS s0 WHERE true")
