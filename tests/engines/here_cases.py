# ruff: noqa: E501
"""Cases for every entry of the list of what DuckDB answers like the fleet's engine, and the values they run on."""

from __future__ import annotations

from shardctl.query.here.listed import LISTED

# Of each type three columns: the second and third are other values of the same rows. NULLs, ties, signs, extremes.
VALUES: dict[str, dict[str, tuple[str, list[str]]]] = {
    "postgresql": {
        "bool": ("boolean", ["true", "false", "NULL", "true", "false", "NULL"]),
        "int2": ("smallint", ["0", "-7", "NULL", "32767", "-32768", "3"]),
        "int4": ("integer", ["0", "-7", "NULL", "2147483647", "-2147483648", "3"]),
        "int8": ("bigint", ["0", "-7", "NULL", "9223372036854775807", "-9223372036854775808", "3"]),
        "numeric": ("numeric(12,3)", ["0", "-7.125", "NULL", "999999999.999", "-999999999.999", "2.5"]),
        "float8": ("double precision", ["0", "-0.1", "NULL", "1e308", "'NaN'", "2.5"]),
        "text": ('text COLLATE "C"', ["''", "'a'", "NULL", "'B'", "'é%_x '", "'a'"]),
        "bpchar": ("char(4)", ["''", "'a'", "NULL", "'B'", "'é'", "'a '"]),
        "date": ("date", ["'2024-02-29'", "'1999-12-31'", "NULL", "'0001-01-01'", "'9999-12-31'", "'2024-02-29'"]),
        "timestamp": (
            "timestamp",
            ["'2024-02-29'", "'1999-12-31 23:59:59.999999'", "NULL", "'0001-01-01'", "'9999-12-31'", "'2024-02-29 00:00:00.1'"],
        ),
        "timestamptz": (
            "timestamptz",
            ["'2024-03-31 01:30+00'", "'1999-12-31 23:59:59.999999+05'", "NULL", "'2024-10-27 00:30+00'", "'1970-01-01+00'", "'2024-10-27 01:30+00'"],
        ),
        "uuid": ("uuid", [*(f"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1{i}'" for i in (1, 2)), "NULL", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'00000000-0000-0000-0000-000000000000'", "'7fffffff-ffff-ffff-ffff-ffffffffffff'"]),
        "bytea": ("bytea", [r"'\x'", r"'\x00'", "NULL", r"'\xff00'", r"'\x61'", r"'\x7f'"]),
    },
    "mysql": {
        "int8": ("bigint", ["0", "-7", "NULL", "9223372036854775807", "-9223372036854775808", "3"]),
        "uint8": ("bigint unsigned", ["0", "7", "NULL", "18446744073709551615", "9223372036854775808", "3"]),
        "numeric": ("decimal(12,3)", ["0", "-7.125", "NULL", "999999999.999", "-999999999.999", "2.5"]),
        "float8": ("double", ["0", "-0.1", "NULL", "1e308", "-1e-300", "2.5"]),
        "text": ("varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", ["''", "'a'", "NULL", "'B'", "'é%_x'", "'a'"]),
        "date": ("date", ["'2024-02-29'", "'1999-12-31'", "NULL", "'1000-01-01'", "'9999-12-31'", "'2024-02-29'"]),
        "timestamp": (
            "datetime(6)",
            ["'2024-02-29'", "'1999-12-31 23:59:59.999999'", "NULL", "'1000-01-01'", "'9999-12-31'", "'2024-02-29 00:00:00.1'"],
        ),
        "bytea": ("varbinary(9)", ["x''", "x'00'", "NULL", "x'ff00'", "x'61'", "x'7f'"]),
    },
}  # fmt: skip
FOLDED = (
    "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    ["''", "'a'", "NULL", "'B1'", "'x_%!'", "'a'"],
)
"""Another column of MySQL's, `folded`: ASCII of one case for each word."""

_LITERALS = {
    "int4": "7, -2147483647, 1 + 1",
    "int8": "3000000000, 9223372036854775807, 5",
    "numeric": "0.10, 12345678901.5, .5",
    "text": "'it''s', '', 'é%'",
    "bool": "true, false",
    "date": "DATE '2024-02-29', id",
    "timestamp": "TIMESTAMP '2024-02-29 12:30:00.5', id",
    "null": "coalesce(NULL, id), CASE WHEN id > 3 THEN NULL ELSE id END, id IN (3, NULL)",
}
_ON_KIND: dict[str, list[str]] = {
    "a column of": ["{a}, {b}"],
    "=": ["{a} = {b}, {a} <> {b}, {a} IN ({b}, {c}), {a} NOT IN ({b}, {c})"],
    "<": ["{a} < {b}, {a} <= {b}, {a} > {b}, {a} >= {b}, {a} BETWEEN {b} AND {c}"],
    "is distinct from": ["{a} IS DISTINCT FROM {b}, {a} IS NOT DISTINCT FROM {b}"],
    "is null": ["{a} IS NULL, {a} IS NOT NULL"],
    "is true": ["{a} IS TRUE, {a} IS FALSE, {a} IS NOT TRUE"],
    "and, or, not": ["({p} AND {q}) , ({p} OR {q}), (NOT {p})"],
    "like": ["{a} LIKE '%', {a} LIKE '_', {a} LIKE 'a%', {a} NOT LIKE '%x%', {a} LIKE '%!_%' ESCAPE '!'"],
    "+": ["{a} + {b}", "{a} + 1", "{a} + 0.25"],
    "-": ["{a} - {b}", "{a} - 1", "0.25 - {a}"],
    "*": ["{a} * {b}", "{a} * 2", "{a} * 0.25"],
    "/": ["{a} / {b}", "{a} / 7", "7 / {b}", "{a} / 0.3", "{a} / {b} * 2", "{a} / 4 > 1", "{a} / 4 <= {b}"],
    "%": ["{a} % {b}", "{a} % 3", "{a} % -3"],
    "unary -": ["- {a}"],
    "||": ["{a} || {b}, 'x' || {a}, {a} || ''"],
    "case": [
        "CASE WHEN {a} IS NULL THEN {b} ELSE {a} END, CASE WHEN id > 3 THEN {a} END",
        "CASE id WHEN 1 THEN {a} WHEN 2 THEN {b} END",
    ],
    "coalesce": ["coalesce({a}, {b}), coalesce({a}, {b}, {c})"],
    "nullif": ["nullif({a}, {b})"],
    "greatest": ["greatest({a}, {b}, {c})"],
    "least": ["least({a}, {b}, {c})"],
    "abs": ["abs({a})"],
    "length": ["char_length({a})"],
    "substring": ["substring({a}, 1, 2), substr({a}, 2, 1), substring({a}, 9, 1)"],
    "year": ["extract(year FROM {a})"],
    "month": ["extract(month FROM {a})"],
    "day": ["extract(day FROM {a})"],
    "cast to int8": ["CAST({a} AS bigint)"],
    "cast to int4": ["CAST({a} AS integer)"],
    "cast to numeric": ["CAST({a} AS numeric(12,2))", "CAST({a} AS numeric(20,1))"],
    "cast to text": ["CAST({a} AS text)"],
    "cast to date": ["CAST({a} AS date)"],
    "cast to timestamp": ["CAST({a} AS timestamp)"],
    "sum": ["sum({a}) OVER (PARTITION BY id)", "sum({a}) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)"],
    "lag": ["lag({a}) OVER (ORDER BY id), lag({a}, 2) OVER (ORDER BY id)"],
    "lead": ["lead({a}) OVER (ORDER BY id DESC)"],
    "first_value": ["first_value({a}) OVER (ORDER BY id)"],
    "last_value": ["last_value({a}) OVER (ORDER BY id), last_value({a}) OVER (PARTITION BY id)"],
    "row_number": ["row_number() OVER (ORDER BY id DESC)"],
    "rank": ["rank() OVER (ORDER BY {k})"],
    "dense_rank": ["dense_rank() OVER (ORDER BY {k} DESC)"],
    "percent_rank": ["percent_rank() OVER (ORDER BY {k})"],
    "cume_dist": ["cume_dist() OVER (ORDER BY {k})"],
    "ntile": ["ntile(4) OVER (ORDER BY id)"],
}  # fmt: skip
_OF_GROUPS: dict[str, list[str]] = {
    "order by": [
        "SELECT id, {a} FROM {x} ORDER BY {a}, id",
        "SELECT id, {a} FROM {x} ORDER BY {a} DESC, id DESC LIMIT 7 OFFSET 2",
        "SELECT id, rank() OVER (ORDER BY {a}), dense_rank() OVER (ORDER BY {b} DESC) FROM {x} ORDER BY id",
    ],
    "group by": [
        "SELECT {a}, count(*) FROM {x} GROUP BY {a}",
        "SELECT id, count(*) OVER (PARTITION BY {a}) FROM {x}",
        "SELECT {a} AS k, count({b}) FROM {x} GROUP BY 1 HAVING count(*) > 1",
    ],
    "distinct": ["SELECT DISTINCT {a} FROM {x}", "SELECT DISTINCT {a}, {b} FROM {x}"],
    "distinct on": ["SELECT DISTINCT ON ({a}) {a}, id FROM {x} ORDER BY {a}, id"],
    "union": ["SELECT {a} FROM {x} UNION SELECT {b} FROM {x}"],
    "union all": ["SELECT {a} FROM {x} UNION ALL SELECT {b} FROM {x}"],
    "intersect": ["SELECT {a} FROM {x} INTERSECT SELECT {b} FROM {x}"],
    "except": ["SELECT {a} FROM {x} EXCEPT SELECT {b} FROM {x}"],
    "count": ["SELECT count({a}), count(*), count(1) FROM {x}", "SELECT id, count({a}) FROM {x} GROUP BY id"],
    "count distinct": ["SELECT count(DISTINCT {a}) FROM {x}", "SELECT id % 3, count(DISTINCT {a}) FROM {x} GROUP BY id % 3"],
    "sum": ["SELECT id % 5, sum({a}) FROM {x} GROUP BY id % 5", "SELECT sum({a}) FROM {x}"],
    "sum distinct": ["SELECT id % 5, sum(DISTINCT {a}) FROM {x} GROUP BY id % 5"],
    "avg": [
        "SELECT id % 5, avg({a}), avg({a}) > 1, avg({a}) <= min({b}) FROM {x} GROUP BY id % 5",
        "SELECT avg({a}) FROM {x}",
        "SELECT id, avg({a}) OVER (ORDER BY id) FROM {x}",
    ],
    "min": ["SELECT min({a}) FROM {x}", "SELECT id % 3, min({a}) FROM {x} GROUP BY id % 3", "SELECT id, min({a}) OVER (ORDER BY id) FROM {x}"],
    "max": ["SELECT max({a}) FROM {x}", "SELECT id % 3, max({a}) FROM {x} GROUP BY id % 3", "SELECT id, max({a}) OVER (ORDER BY id) FROM {x}"],
    "bool_and": ["SELECT bool_and({a}) FROM {x}", "SELECT id % 3, bool_and({a}) FROM {x} GROUP BY id % 3"],
    "bool_or": ["SELECT bool_or({a}) FROM {x}", "SELECT id % 3, bool_or({a}) FROM {x} GROUP BY id % 3"],
    "string_agg": ["SELECT string_agg({a}, '-' ORDER BY id) FROM {x}", "SELECT id % 3, string_agg({a}, '' ORDER BY id DESC) FROM {x} GROUP BY id % 3"],
    "filter": ["SELECT count(*) FILTER (WHERE id > 3), sum(id) FILTER (WHERE id < 0) FROM {x}"],
    "a scalar subquery of": ["SELECT id, (SELECT max({a}) FROM {x} WHERE y.id < 4) FROM {x} AS o"],
    "exists": ["SELECT id FROM {x} AS o WHERE EXISTS (SELECT 1 FROM {x} AS i WHERE i.id = o.id + 1)"],
}  # fmt: skip
_TABLE = "(SELECT * FROM typed) AS y"


def cases(engine: str, what: str, kind: str) -> list[str]:
    """Return statements that need an entry of the list."""
    a, b, c = (f"{kind}_{i}" for i in (1, 2, 3))
    if kind == "quotient":
        return _quotients(what)
    if what == "a literal of":
        return [f"SELECT id, {_LITERALS[kind]}, row_number() OVER (ORDER BY id) FROM {_TABLE}"]
    if what == "a scalar subquery of":
        own = f"(SELECT {a} FROM typed AS i WHERE i.id <= o.id AND i.id >= o.id)"
        return [
            f"SELECT id, {own} FROM typed AS o",
            f"SELECT id, (SELECT {a} FROM typed AS i WHERE i.id = 2) FROM typed AS o",
        ]
    if what == "exists":
        return ["SELECT id FROM typed AS o WHERE EXISTS (SELECT 1 FROM typed AS i WHERE i.id = o.id + 1)"]
    key = "int8_1"
    p, q = ("bool_1", "bool_2") if engine == "postgresql" else ("int8_1 > 0", "int8_2")
    names = {"a": a, "b": b, "c": c, "k": key, "p": p, "q": q, "x": _TABLE}
    found = [f"SELECT id, {text.format(**names)} FROM {_TABLE}" for text in _ON_KIND.get(what, [])]
    if what in ("+", "-", "*", "/") and kind == "numeric":
        found += [text.replace(f"{kind}_2", "int8_2") for text in found]
    return found + [text.format(**names) for text in _OF_GROUPS.get(what, [])]


def _quotients(what: str) -> list[str]:
    average = f"SELECT id % 5, {{}} FROM {_TABLE} GROUP BY id % 5"
    if what == "*":
        return [average.format("avg(numeric_1) * 0.2, 3 * avg(int8_1)")]
    if what == "a scalar subquery of":
        return ["SELECT id, (SELECT avg(i.numeric_1) FROM typed AS i WHERE i.id <= o.id) FROM typed AS o"]
    operators = ["=", "<>"] if what == "=" else ["<", "<=", ">", ">="]
    listed = ", ".join(
        f"avg(numeric_1) {operator} min(numeric_2), min(int8_1) {operator} avg(int8_2)" for operator in operators
    )
    return [average.format(listed)]


def all_cases(engine: str) -> list[tuple[str, str]]:
    """Return every entry of the list with each of its statements."""
    return [
        (f"{what} {kind}", sql)
        for what, kinds in LISTED[engine].items()
        for kind in kinds.split()
        for sql in cases(engine, what, kind)
    ]


MIXED = {
    "postgresql": [
        "SELECT id, int2_1 = int8_2, int4_1 < numeric_2, numeric_1 >= float8_2, int8_1 + int2_2 FROM {x}",
        "SELECT id, date_1 < timestamp_2, timestamp_1 = date_2, text_1 = bpchar_2, bpchar_1 || 'x', char_length(bpchar_1) FROM {x}",
        "SELECT id, date_1 >= '1999-12-31', timestamp_1 < '2024-02-29 00:00:00', text_1 < 'a', bpchar_1 = 'a' FROM {x}",
        "SELECT id, coalesce(int2_1, int8_2), CASE WHEN bool_1 THEN CAST(int4_1 AS numeric(20,3)) ELSE numeric_2 END FROM {x}",
        "SELECT int2_1 FROM {x} UNION SELECT int8_2 FROM {x}",
        "SELECT count(*) FROM typed a JOIN typed b ON a.numeric_1 = b.int4_2",
        "SELECT a.id, b.id FROM typed a LEFT JOIN typed b ON a.text_1 = b.text_2 AND b.id > 3 WHERE b.id IS NULL OR a.id < 9",
        "SELECT a.id, b.id FROM typed a FULL JOIN typed b ON a.int4_1 = b.int4_2 AND a.id > 9",
        "SELECT id FROM typed WHERE id NOT IN (SELECT int4_1 FROM typed)",
        "SELECT id FROM typed WHERE text_1 IN (SELECT text_2 FROM typed WHERE id > 3)",
    ],
    "mysql": [
        "SELECT id, int8_1 = uint8_2, int8_1 < numeric_2, numeric_1 >= float8_2, date_1 < timestamp_2 FROM {x}",
        "SELECT id, folded = 'A', folded < 'b1', folded LIKE 'B%', folded IN ('X_%!', 'a') FROM {x}",
        "SELECT folded, count(*), min(folded), max(folded) FROM {x} GROUP BY folded ORDER BY folded DESC",
        "SELECT DISTINCT folded FROM {x} ORDER BY 1",
        "SELECT id, rank() OVER (ORDER BY folded), substring(folded, 1, 1) FROM {x}",
        "SELECT count(*) FROM typed a JOIN typed b ON a.folded = b.folded AND a.id > b.int8_1",
        "SELECT id, date_1 >= '1999-12-31', timestamp_1 < '2024-02-29 00:00:00', text_1 < 'a' FROM {x}",
        "SELECT a.id, b.id FROM typed a LEFT JOIN typed b ON a.text_1 = b.text_2 AND b.id > 3 WHERE b.id IS NULL OR a.id < 9",
        "SELECT id FROM typed WHERE id NOT IN (SELECT int8_1 FROM typed)",
        "SELECT id, year(date_1), month(timestamp_1), day(date_2) FROM {x}",
    ],
}  # fmt: skip
