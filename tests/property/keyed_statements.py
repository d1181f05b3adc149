# ruff: noqa: E501
"""Random statements with conditions on sharding keys: constants of mixed types, joins, subqueries, equalities."""

from __future__ import annotations

from hypothesis import strategies as st

NUMBERS = ["{n}", "{n}", "'{n}'", "{n}.0", "-{n}", "{n} + 0", "({n})", "NULL", "{n}.5"]
OPERATORS = ["=", "=", "=", "<", "<=", ">", ">=", "<>"]
TEXTS = [
    "'Asia'",
    "'asia'",
    "'ASIA '",
    "'Ásia'",
    "'Europe'",
    "'europe'",
    "'jena'",
    "'iena'",
    "'Jena'",
    "'Mars'",
    "NULL",
    "'As' || 'ia'",
]
DAYS = ["'2024-02-29'", "'2024-03-01'", "'2024-06-01'", "'2024-12-01'", "'2023-01-01'", "'2025-01-01'"]
TYPED_DAYS = [f"DATE {day}" for day in DAYS]
"""Not known to SQLite."""
OTHERS = {
    "accounts": ["{a}tier > 2", "{a}name = 'x'", "{a}tier IS NULL"],
    "items": ["{a}cost > 5", "{a}cost IN (1, 2, 3)"],
    "shops": ["{a}size > 3", "{a}size IS NULL"],
    "sales": ["{a}amount = 2", "{a}id < 30"],
    "visits": ["{a}count > 4", "{a}id % 2 = 0"],
    "seats": ["{a}taken = 1", "{a}code LIKE 's1%'"],
}
KEYS = {
    "accounts": "id",
    "items": "account_id",
    "shops": "region",
    "sales": "shop_id",
    "visits": "day",
    "seats": "seat_no",
}
VALUES = {"accounts": "tier", "items": "cost", "shops": "size", "sales": "amount", "visits": "count", "seats": "taken"}
TIES = {
    ("accounts", "items"): ["{y}account_id = {x}id", "{x}id = {y}account_id", "{y}account_id = {x}id AND {y}cost > {x}tier", "{y}id = {x}id"],
    ("shops", "sales"): ["{y}shop_id = {x}id", "{y}shop_id = {x}id AND {x}size > 1", "{y}id = {x}id"],
    ("accounts", "accounts"): ["{x}id = {y}id", "{x}id = {y}tier", "{x}tier = {y}tier AND {x}id = {y}id"],
    ("accounts", "shops"): ["{x}id = {y}id", "{x}name = {y}region"],
    ("items", "items"): ["{x}account_id = {y}account_id", "{x}account_id = {y}cost"],
    ("items", "sales"): ["{x}account_id = {y}shop_id"],
    ("shops", "shops"): ["{x}region = {y}region", "{x}id = {y}size"],
    ("visits", "visits"): ["{x}day = {y}day"],
    ("seats", "seats"): ["{x}seat_no = {y}seat_no AND {x}code = {y}code", "{x}seat_no = {y}taken"],
}  # fmt: skip


@st.composite
def numbers(draw: st.DrawFn, engine: str) -> str:
    # MariaDB rounds the fraction where the column has an index, and not where it has none: there it is no oracle.
    forms = NUMBERS if engine != "mysql" else [form for form in NUMBERS if not form.endswith(".5")]
    return draw(st.sampled_from(forms)).format(n=draw(st.integers(0, 12)))


def constants(table: str, engine: str) -> st.SearchStrategy[str]:
    if table == "shops":
        # Where `||` is OR, text is no condition.
        return st.sampled_from(TEXTS if engine != "mysql" else [text for text in TEXTS if "||" not in text])
    if table == "visits":
        return st.sampled_from(DAYS if engine == "sqlite" else DAYS + TYPED_DAYS)
    return numbers(engine)


@st.composite
def on_key(draw: st.DrawFn, engine: str, table: str, alias: str) -> str:
    column, value = alias + KEYS[table], constants(table, engine)
    form = draw(st.integers(0, 9))
    if table == "seats" and form < 5:
        code = draw(st.sampled_from(["'s1'", "'s9'", "'S9'", "'s10'", "NULL"]))
        return f"{column} = {draw(value)} AND {alias}code = {code}"
    if form < 5:
        return f"{column} {draw(st.sampled_from(OPERATORS))} {draw(value)}"
    if form == 5:
        return f"{draw(value)} {draw(st.sampled_from(OPERATORS))} {column}"
    if form == 6:
        return f"{column} {draw(st.sampled_from(['', 'NOT ']))}IN ({', '.join(draw(st.lists(value, min_size=1, max_size=3)))})"
    if form == 7:
        return f"{column} {draw(st.sampled_from(['', 'NOT ']))}BETWEEN {draw(value)} AND {draw(value)}"
    if form == 8:
        return f"{column} IS {draw(st.sampled_from(['', 'NOT ']))}NULL"
    return f"NOT ({column} = {draw(value)})"


@st.composite
def plain(draw: st.DrawFn, engine: str, table: str, alias: str) -> str:
    """Draw what is surely understood."""
    column = alias + KEYS[table]
    if table == "shops":
        values = ["'Asia'", "'asia'", "'Europe'", "'iena'"]
    elif table == "visits":
        return f"{column} {draw(st.sampled_from(['<', '>=']))} {draw(st.sampled_from(DAYS))}"
    else:
        values = [str(number) for number in range(1, 13)]
    if table == "seats":
        number = draw(st.integers(1, 40))
        return f"{column} = {number % 8} AND {alias}code = 's{number}'"
    listed = draw(st.lists(st.sampled_from(values), min_size=1, max_size=2))
    return f"{column} = {listed[0]}" if len(listed) == 1 else f"{column} IN ({', '.join(listed)})"


@st.composite
def conditions(draw: st.DrawFn, engine: str, *mentions: tuple[str, str]) -> str:
    """Draw conditions on keys and others, joined by AND and OR."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        table, alias = draw(st.sampled_from(mentions))
        others = st.sampled_from(OTHERS[table]).map(lambda text, alias=alias: text.format(a=alias))
        keys = on_key(engine, table, alias)
        parts.append(f"({draw(plain(engine, table, alias) | keys | keys | others)})")
    text = parts[0]
    for part in parts[1:]:
        text = f"({text}{draw(st.sampled_from([' AND ', ' AND ', ' OR ']))}{part})"
    if draw(st.booleans()):
        table, alias = draw(st.sampled_from(mentions))
        text = f"{draw(plain(engine, table, alias))} AND {text}"
    return text


@st.composite
def single(draw: st.DrawFn, engine: str) -> str:
    table = draw(st.sampled_from(sorted(KEYS)))
    value = VALUES[table]
    where = draw(conditions(engine, (table, "")))
    listed = draw(
        st.sampled_from(
            [
                "*",
                f"count(*) AS n, sum({value}) AS s, max({KEYS[table]}) AS m",
                f"{KEYS[table]}, {value}",
                f"{KEYS[table]}, rank() OVER (ORDER BY {value}, {KEYS[table]}) AS place",
                f"DISTINCT {value}",
            ]
        )
    )
    if draw(st.integers(0, 4)) == 0:
        return f"SELECT {value}, count(*) FROM {table} WHERE {where} GROUP BY {value}"
    if draw(st.integers(0, 4)) == 0:
        other = draw(conditions(engine, (table, "")))
        word = draw(st.sampled_from(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]))
        return f"SELECT {value} FROM {table} WHERE {where} {word} SELECT {value} FROM {table} WHERE {other}"
    if draw(st.integers(0, 4)) == 0:
        return f"WITH w AS (SELECT * FROM {table} WHERE {where}) SELECT count(*), max({value}) FROM w"
    return f"SELECT {listed} FROM {table} WHERE {where}"


@st.composite
def joined(draw: st.DrawFn, engine: str) -> str:
    first, second = draw(st.sampled_from(sorted(TIES)))
    if draw(st.booleans()):
        tie = draw(st.sampled_from(TIES[first, second])).format(x="p.", y="q.")
    else:
        first, second = second, first
        tie = draw(st.sampled_from(TIES[second, first])).format(x="q.", y="p.")
    mentions = (first, "p."), (second, "q.")
    where = draw(conditions(engine, *mentions))
    form = draw(st.integers(0, 6))
    if form == 0:
        inner = draw(conditions(engine, (second, "q.")))
        word = draw(st.sampled_from(["EXISTS", "NOT EXISTS"]))
        outer = draw(conditions(engine, (first, "p.")))
        return f"SELECT count(*), max(p.{VALUES[first]}) FROM {first} p WHERE {outer} AND {word} (SELECT 1 FROM {second} q WHERE {tie} AND {inner})"
    if form == 1:
        outer = draw(conditions(engine, (first, "p.")))
        return f"SELECT p.{KEYS[first]}, (SELECT sum(q.{VALUES[second]}) FROM {second} q WHERE {tie}) AS total FROM {first} p WHERE {outer}"
    if form == 2:
        inner = draw(conditions(engine, (second, "q.")))
        number = "id" if first not in ("seats", "visits") else VALUES[first]
        return f"SELECT count(*) FROM {first} p WHERE p.{number} {draw(st.sampled_from(['', 'NOT ']))}IN (SELECT q.{VALUES[second]} FROM {second} q WHERE {inner})"
    kind = draw(st.sampled_from(["JOIN", "JOIN", "LEFT JOIN"]))
    on = tie if draw(st.booleans()) else f"{tie} AND {draw(conditions(engine, *mentions))}"
    third = draw(st.sampled_from(["", "", f" JOIN countries c ON c.id = p.{VALUES[first]}"]))
    listed = draw(st.sampled_from([f"p.{KEYS[first]}, q.{VALUES[second]}", f"count(*), sum(q.{VALUES[second]})"]))
    filtered = f" WHERE {where}" if draw(st.integers(0, 3)) else ""
    return f"SELECT {listed} FROM {first} p {kind} {second} q ON {on}{third}{filtered}"


def keyed_statements(engine: str) -> st.SearchStrategy[str]:
    return single(engine) | joined(engine)
