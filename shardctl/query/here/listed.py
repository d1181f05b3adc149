"""The list: what DuckDB answers like the fleet's engine, with the types of values for which it does.

A test runs every entry in DuckDB and in the engine itself; an entry that no case runs fails it.
"""

from __future__ import annotations

from collections.abc import Mapping

_COMPARED = "bool int2 int4 int8 numeric float8 text bpchar date timestamp timestamptz uuid bytea"
_ORDERED = "bool int2 int4 int8 numeric float8 text date timestamp timestamptz uuid bytea"
_GROUPED = "bool int2 int4 int8 numeric text bpchar date timestamp timestamptz uuid bytea"
_EXACT = "int2 int4 int8 numeric"
_ANY_VALUE = "bool int2 int4 int8 numeric float8 text date timestamp timestamptz uuid bytea"
_MY_COMPARED = "int8 uint8 numeric float8 text date timestamp"
_MY_GROUPED = "int8 uint8 numeric text date timestamp"
_MY_EXACT = "int8 numeric"

LISTED: Mapping[str, Mapping[str, str]] = {
    "postgresql": {
        "a column of": _ANY_VALUE + " bpchar",
        "a literal of": "int4 int8 numeric text bool date timestamp null",
        "=": _COMPARED + " quotient",
        "<": _ORDERED + " quotient",
        "is distinct from": _COMPARED,
        "is null": _ANY_VALUE + " bpchar",
        "is true": "bool",
        "and, or, not": "bool",
        "like": "text",
        "+": _EXACT,
        "-": _EXACT,
        "*": _EXACT + " quotient",
        "/": "int2 int4 int8 numeric",
        "%": "int2 int4 int8",
        "unary -": _EXACT + " float8",
        "||": "text",
        "case": _ANY_VALUE,
        "coalesce": _ANY_VALUE,
        "nullif": "int4 int8 numeric text date",
        "greatest": "int4 int8 numeric date timestamp",
        "least": "int4 int8 numeric date timestamp",
        "abs": "int4 int8 numeric",
        "length": "text",
        "substring": "text",
        "year": "date timestamp",
        "month": "date timestamp",
        "day": "date timestamp",
        "cast to int8": "int2 int4 numeric",
        "cast to int4": "int2 int8 numeric bool",
        "cast to numeric": "int4 int8 numeric",
        "cast to text": "int4 int8 text",
        "cast to date": "timestamp",
        "cast to timestamp": "date",
        "order by": _ORDERED,
        "group by": _GROUPED,
        "distinct": _GROUPED,
        "union": _GROUPED,
        "union all": _ANY_VALUE + " bpchar",
        "intersect": _GROUPED,
        "except": _GROUPED,
        "count": _ANY_VALUE + " bpchar",
        "count distinct": _GROUPED,
        "sum": _EXACT,
        "sum distinct": "int4 int8 numeric",
        "avg": _EXACT,
        "min": "int2 int4 int8 numeric float8 text date timestamp timestamptz",
        "max": "int2 int4 int8 numeric float8 text date timestamp timestamptz",
        "bool_and": "bool",
        "bool_or": "bool",
        "string_agg": "text",
        "filter": "any",
        "row_number": "any",
        "rank": "any",
        "dense_rank": "any",
        "percent_rank": "any",
        "cume_dist": "any",
        "ntile": "any",
        "lag": _ANY_VALUE,
        "lead": _ANY_VALUE,
        "first_value": _ANY_VALUE,
        "last_value": _ANY_VALUE,
        "a scalar subquery of": _ANY_VALUE + " quotient",
        "exists": "any",
        "distinct on": "bool int2 int4 int8 numeric text date timestamp timestamptz uuid bytea",
    },
    "mysql": {
        "a column of": _MY_COMPARED + " bytea",
        "a literal of": "int8 numeric text date null",
        "=": _MY_COMPARED + " quotient",
        "<": _MY_COMPARED + " quotient",
        "is null": _MY_COMPARED + " bytea",
        "and, or, not": "int8",
        "like": "text",
        "+": _MY_EXACT,
        "-": _MY_EXACT,
        "*": _MY_EXACT + " quotient",
        "/": _MY_EXACT,
        "%": "int8",
        "unary -": _MY_EXACT,
        "case": "int8 numeric text date",
        "coalesce": "int8 numeric text date",
        "length": "text",
        "substring": "text",
        "year": "date timestamp",
        "month": "date timestamp",
        "day": "date timestamp",
        "order by": _MY_COMPARED,
        "group by": _MY_GROUPED,
        "distinct": _MY_GROUPED,
        "union": _MY_GROUPED,
        "union all": _MY_GROUPED,
        "intersect": "int8 numeric date",
        "except": "int8 numeric date",
        "count": _MY_COMPARED + " bytea",
        "count distinct": _MY_GROUPED,
        "sum": _MY_EXACT,
        "sum distinct": _MY_EXACT,
        "avg": _MY_EXACT,
        "min": _MY_COMPARED,
        "max": _MY_COMPARED,
        "row_number": "any",
        "rank": "any",
        "dense_rank": "any",
        "ntile": "any",
        "lag": _MY_COMPARED,
        "lead": _MY_COMPARED,
        "first_value": _MY_COMPARED,
        "last_value": _MY_COMPARED,
        "a scalar subquery of": _MY_COMPARED + " quotient",
        "exists": "any",
    },
}


def entries(engine: str) -> frozenset[str]:
    """Return every entry for an engine, such as `sum numeric`."""
    return frozenset(f"{what} {kind}" for what, kinds in LISTED[engine].items() for kind in kinds.split())
