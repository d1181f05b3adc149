# ruff: noqa: E501
"""Random statements that need rows of several shards in one place: as sets of rows, each has one right answer."""

from __future__ import annotations

from hypothesis import strategies as st

NUMBERS = ["id", "height", "area", "ratio", "height + 1", "id % 5", "coalesce(height, 0)", "-area"]
TEXTS = ["city", "country", "upper(country)", "coalesce(city, 'none')"]
OTHERS = ["founded", "seen", "capital", "raw"]
ON_LOCATIONS = [
    "{w}height > 0",
    "{w}city LIKE '%a%'",
    "{w}city IS NOT NULL",
    "{w}id % 2 = 0",
    "{w}area BETWEEN 0 AND 300.5 AND {w}id > 3",
    "{w}country IN ('JP', 'FR')",
    "NOT ({w}height < 5 OR {w}country = 'NZ')",
    "{w}founded > '1902-06-01'",
    "({w}height = 5 OR {w}height IS NULL)",
    "{w}id < 30",
    "{w}id = 7",
    "{w}id IN (3, '8', 12)",
]
ON_REPORTS = [
    "{r}rain > 3",
    "{r}rain IS NULL",
    "{r}temperature < 0",
    "{r}id % 3 = 1",
    "{r}rain IN (1, 2, 3)",
    "{r}location_id < 20",
    "{r}location_id = 7",
    "{r}location_id IN (3, 8)",
]
TIES = [
    "{r}location_id = {w}id",
    "{r}id = {w}id",
    "{r}rain = {w}height",
    "{r}location_id = {w}id AND {r}rain > {w}height",
    "{r}rain = {w}id % 9",
    "{r}id > {w}id AND {r}rain = 2",
]
AGGREGATES = ["count(*)", "count({})", "sum({})", "min({})", "max({})", "avg({})", "count(DISTINCT {})"]


def locations(prefix: str = "") -> st.SearchStrategy[str]:
    return st.sampled_from(ON_LOCATIONS).map(lambda text: text.format(w=prefix))


def reports(prefix: str = "") -> st.SearchStrategy[str]:
    return st.sampled_from(ON_REPORTS).map(lambda text: text.format(r=prefix))


def ties(report: str, location: str) -> st.SearchStrategy[str]:
    return st.sampled_from(TIES).map(lambda text: text.format(r=report, w=location))


def wheres(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Join conditions by AND, here and there by OR; or none."""
    joined = st.tuples(st.lists(st.one_of(*parts), max_size=2), st.sampled_from([" AND ", " AND ", " OR "]))
    return joined.map(lambda found: f" WHERE {found[1].join(f'({part})' for part in found[0])}" if found[0] else "")


@st.composite
def aggregates(draw: st.DrawFn, engine: str, *, prefix: str = "") -> str:
    argument = prefix + draw(st.sampled_from(["id", "height", "area"]))
    text = draw(st.sampled_from(AGGREGATES)).format(argument)
    if engine != "mysql" and "DISTINCT" not in text and draw(st.booleans()):
        text += f" FILTER (WHERE {draw(locations(prefix))})"
    return text


@st.composite
def windows(draw: st.DrawFn, engine: str) -> str:
    column = draw(st.sampled_from(["height", "area", "id"]))
    function = draw(
        st.sampled_from(
            [
                "row_number()",
                "rank()",
                "dense_rank()",
                "ntile(3)",
                f"lag({column})",
                f"sum({column})",
                f"max({column})",
                f"count({column})",
                f"first_value({column})",
            ]
        )
    )
    partition = draw(st.sampled_from(["", "PARTITION BY country ", "PARTITION BY capital, height "]))
    order = draw(st.sampled_from(["id", "height, id", "city DESC, id", "area, id DESC"]))
    frame = draw(st.sampled_from(["", " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"])) if "(" + column in function else ""
    if function.startswith("lag"):
        frame = ""
    return f"SELECT id, {function} OVER ({partition}ORDER BY {order}{frame}) FROM weather_locations{draw(wheres(locations()))}"


@st.composite
def with_queries(draw: st.DrawFn, engine: str) -> str:
    inner = f"SELECT * FROM weather_locations{draw(wheres(locations()))}"
    form = draw(st.integers(0, 3))
    if form == 0:
        return f"WITH x AS ({inner}) SELECT {draw(aggregates(engine))}, count(city) FROM x{draw(wheres(locations()))}"
    if form == 1:
        condition = draw(wheres(locations("x."), locations("w.")))
        return (
            f"WITH x AS ({inner}) SELECT w.id, x.city FROM x JOIN weather_locations w ON w.height = x.height{condition}"
        )
    if form == 2:
        return (
            f"WITH x AS ({inner}), y AS (SELECT country, {draw(aggregates(engine))} AS n FROM x GROUP BY country)"
            f" SELECT r.id, y.n FROM reports r JOIN x ON {draw(ties('r.', 'x.'))} JOIN y ON y.country = x.country"
            f"{draw(wheres(reports('r.')))}"
        )
    return (
        f"WITH weather AS ({inner}), reports AS (SELECT id, 3 AS rain FROM weather_locations)"
        " SELECT count(*), max(reports.id) FROM weather, reports WHERE reports.id = weather.id"
    )


@st.composite
def subqueries(draw: st.DrawFn, engine: str) -> str:
    inner = draw(wheres(reports("r.")))
    more = f"{inner} AND" if inner else " WHERE"
    tie = draw(ties("r.", "w."))
    condition = draw(
        st.sampled_from(
            [
                f"EXISTS (SELECT * FROM reports r{more} {tie})",
                f"NOT EXISTS (SELECT 1 FROM reports r{more} {tie})",
                f"w.id IN (SELECT r.location_id FROM reports r{inner})",
                f"w.id NOT IN (SELECT r.location_id FROM reports r{inner})",
                f"w.height > (SELECT avg(r.rain) FROM reports r{more} {tie})",
                f"w.height <= (SELECT max(r.rain) FROM reports r{inner})",
                f"(SELECT count(*) FROM reports r{more} {tie}) > 1",
                "w.area > (SELECT avg(x.area) FROM weather_locations x WHERE x.country = w.country)",
                "w.country IN (SELECT c.code FROM countries c WHERE c.name LIKE 'F%')",
            ]
        )
    )
    if " OR " in inner:
        condition = f"w.id IN (SELECT r.location_id FROM reports r{inner})"
    listed = draw(
        st.sampled_from(
            [
                "w.id, w.city",
                "count(*), sum(w.height)",
                "w.id, (SELECT sum(r.rain) FROM reports r WHERE r.location_id = w.id)",
            ]
        )
    )
    glue = draw(st.sampled_from([" AND ", " AND ", " OR "]))
    return f"SELECT {listed} FROM weather_locations w WHERE {condition}{glue}{draw(locations('w.'))}"


@st.composite
def set_operations(draw: st.DrawFn, engine: str) -> str:
    words = ["UNION", "UNION ALL", "INTERSECT", "EXCEPT"]
    column, other = draw(st.sampled_from([("id", "location_id"), ("height", "rain"), ("id, height", "id, rain")]))
    parts = [
        f"SELECT {column} FROM weather_locations{draw(wheres(locations()))}",
        f"SELECT {other} FROM reports{draw(wheres(reports()))}",
    ]
    if draw(st.booleans()):
        parts.reverse()
    text = f"{parts[0]} {draw(st.sampled_from(words))} {parts[1]}"
    return f"SELECT count(*) FROM ({text}) x" if draw(st.booleans()) else text


@st.composite
def joins(draw: st.DrawFn, engine: str) -> str:
    side = draw(st.sampled_from(["JOIN", "LEFT JOIN", "JOIN"]))
    text = f"FROM weather_locations w {side} reports r ON {draw(ties('r.', 'w.'))}"
    if draw(st.booleans()):
        text += f" AND {draw(reports('r.'))}"
    if draw(st.booleans()):
        third = draw(st.sampled_from(["countries c ON c.code = w.country", "reports c ON c.id = r.id + 1"]))
        text += f" {draw(st.sampled_from(['JOIN', 'LEFT JOIN']))} {third}"
    condition = draw(wheres(locations("w."), reports("r.")))
    listed = draw(st.sampled_from(["w.id, r.id, w.city", "count(*), sum(r.rain), max(w.area)", "w.*, r.rain"]))
    if draw(st.booleans()) and "count" in listed:
        return f"SELECT w.country, {listed} {text}{condition} GROUP BY w.country"
    return f"SELECT {listed} {text}{condition}"


@st.composite
def nested(draw: st.DrawFn, engine: str) -> str:
    key = draw(st.sampled_from(["country", "capital", "height", "founded"]))
    inner = f"SELECT {key} AS k, {draw(aggregates(engine))} AS n FROM weather_locations{draw(wheres(locations()))} GROUP BY {key}"
    having = draw(st.sampled_from(["", " HAVING count(*) > 1"]))
    return f"SELECT count(*), max(n), count(k) FROM ({inner}{having}) x"


@st.composite
def own(draw: st.DrawFn, engine: str) -> str:
    """Draw what one engine has and others lack."""
    condition = draw(wheres(locations()))
    key = draw(st.sampled_from(["country", "height", "capital"]))
    if engine == "postgresql":
        return draw(
            st.sampled_from(
                [
                    f"SELECT DISTINCT ON ({key}) {key}, id, city FROM weather_locations{condition} ORDER BY {key}, id",
                    f"SELECT {key}, percentile_cont(0.3) WITHIN GROUP (ORDER BY height) FROM weather_locations{condition} GROUP BY {key}",
                    f"SELECT percentile_disc(0.7) WITHIN GROUP (ORDER BY area), mode() WITHIN GROUP (ORDER BY height) FROM weather_locations{condition}",
                    f"SELECT {key}, string_agg(city, '-' ORDER BY id) FROM weather_locations{condition} GROUP BY {key}",
                    f"SELECT {key}, array_agg(area ORDER BY id DESC) FROM weather_locations{condition} GROUP BY {key}",
                    f"SELECT {key}, country, count(*) FROM weather_locations{condition} GROUP BY GROUPING SETS (({key}, country), ())",
                    "SELECT w.id, y.m FROM weather_locations w CROSS JOIN LATERAL (SELECT max(rain) AS m FROM reports r WHERE r.location_id = w.id) y",
                    f"SELECT stddev(height), var_pop(area), bool_or(capital) FROM weather_locations{condition}",
                    f"SELECT x FROM (SELECT id, city, area FROM weather_locations{condition}) x",
                ]
            )
        )
    if engine == "mysql":
        return draw(
            st.sampled_from(
                [
                    f"SELECT {key}, group_concat(id ORDER BY id) FROM weather_locations{condition} GROUP BY {key}",
                    f"SELECT std(height), var_samp(area), bit_or(height) FROM weather_locations{condition}",
                    f"SELECT {key}, count(*) FROM weather_locations{condition} GROUP BY {key} WITH ROLLUP",
                    f"SELECT count(DISTINCT city, country) FROM weather_locations{condition}",
                ]
            )
        )
    return draw(
        st.sampled_from(
            [
                f"SELECT group_concat(id) FROM (SELECT id FROM weather_locations{condition} ORDER BY id) x",
                f"SELECT typeof({key}), count(*) OVER (PARTITION BY {key}) FROM weather_locations{condition}",
                f"SELECT {key}, total(height), group_concat(DISTINCT capital) IS NULL FROM weather_locations{condition} GROUP BY {key}",
                f"SELECT id, city FROM weather_locations w WHERE city IN (SELECT lower(city) FROM weather_locations{condition})",
            ]
        )
    )


def gathered(engine: str) -> st.SearchStrategy[str]:
    kinds = (windows, with_queries, subqueries, set_operations, joins, nested, own)
    return st.one_of(*(kind(engine) for kind in kinds))
