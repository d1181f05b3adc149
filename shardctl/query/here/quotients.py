"""Divisions: DuckDB keeps what is divided and by what, exactly; the last step is done as the engine does it.

PostgreSQL: `select_div_scale` of numeric.c. MySQL and MariaDB: `do_div_mod` of decimal.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import Any

from shardctl.query.here.kinds import Kind, as_numeric
from shardctl.query.here.values import Value

_EXACT = Context(prec=400)
_GROUP = 4
"""PostgreSQL calculates with groups of four digits, MySQL with groups of nine."""
_MYSQL_GROUP, _MYSQL_INCREMENT = 9, 4


def quotient(top: Value, bottom: Value) -> Value:
    """Return a division of two exact numbers, to be done later."""
    kind = Kind("quotient", scale=as_numeric(top.kind).scale, divisor_scale=as_numeric(bottom.kind).scale)
    return Value(f"struct_pack(n := {_wide(top)}, d := {_wide(bottom)})", kind)


def compared_sql(quotient: Value, operator: str, other: Value, engine: str) -> str:
    """Return a comparison of a quotient with an exact number, that fails where the last digit would decide."""
    scale, factor = quotient.kind.scale, f"CAST('{quotient.kind.factor}' AS {_literal_type(quotient.kind.factor)})"
    right = "v.x * abs(v.q.d)"
    left = f"v.q.n * sign(v.q.d) * {factor}"
    apart = f"abs(CAST({left} - {right} AS DOUBLE))"
    if engine == "postgresql":
        close = f"abs(CAST({left} AS DOUBLE)) * 1e-13"
    else:
        most = max(1.0, float(abs(quotient.kind.factor)))
        close = f"abs(CAST(v.q.d AS DOUBLE)) * {most!r} * 1e-{scale + _MYSQL_INCREMENT - 1}"
    test = (
        f"CASE WHEN v.q IS NULL OR v.q.n IS NULL OR v.q.d IS NULL OR v.x IS NULL THEN NULL"
        f" WHEN {left} <> {right} AND {apart} < {close} THEN error('two numbers differ by less than is calculated')"
        f" ELSE {left} {operator} {right} END"
    )
    return f"list_transform([struct_pack(q := {quotient.sql}, x := {_wide(other)})], lambda v: {test})[1]"


def finished(value: Mapping[str, Any] | None, kind: Kind, engine: str) -> Decimal | None:
    """Do a division as the engine does it."""
    if value is None or value["n"] is None or value["d"] is None:
        return None
    top = Decimal(value["n"]).quantize(Decimal(1).scaleb(-kind.scale), context=_EXACT)
    bottom = Decimal(value["d"])
    if engine == "mysql":
        return _mysql(top, bottom, kind)
    found = postgresql_division(top, kind.scale, bottom, kind.divisor_scale)
    return _EXACT.multiply(found, kind.factor) if kind.factor != 1 else found


def postgresql_division(top: Decimal, scale: int, bottom: Decimal, divisor_scale: int) -> Decimal:
    """Return a quotient with as many decimals as PostgreSQL gives it."""
    weight, first = _leading(top)
    other_weight, other_first = _leading(bottom)
    quotient_weight = weight - other_weight - (first <= other_first)
    decimals = max(16 - quotient_weight * _GROUP, scale, divisor_scale, 0)
    return _rounded(top, bottom, decimals)


def mysql_scale(kind: Kind) -> int:
    """Return how many decimals MySQL shows of a quotient."""
    return kind.scale + _MYSQL_INCREMENT + max(-int(kind.factor.as_tuple().exponent), 0)


def _leading(number: Decimal) -> tuple[int, int]:
    """Return the exponent of the first group of four digits, and that group."""
    if not number:
        return 0, 0
    exponent = number.adjusted() // _GROUP
    return exponent, int(_EXACT.scaleb(abs(number), -exponent * _GROUP))


def _rounded(top: Decimal, bottom: Decimal, decimals: int) -> Decimal:
    return _unsigned_zero(_EXACT.divide(top, bottom).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP, _EXACT))


def _unsigned_zero(number: Decimal) -> Decimal:
    return number if number else abs(number)


def _mysql(top: Decimal, bottom: Decimal, kind: Kind) -> Decimal | None:
    if not bottom:
        return None
    groups = [-(-scale // _MYSQL_GROUP) * _MYSQL_GROUP for scale in (kind.scale, kind.divisor_scale)]
    more = max(_MYSQL_INCREMENT - (groups[0] - kind.scale + groups[1] - kind.divisor_scale), 0)
    kept = -(-(sum(groups) + more) // _MYSQL_GROUP) * _MYSQL_GROUP
    found = _EXACT.divide(top, bottom).quantize(Decimal(1).scaleb(-kept), ROUND_DOWN, _EXACT)
    found = _EXACT.multiply(found, kind.factor)
    return _unsigned_zero(found.quantize(Decimal(1).scaleb(-mysql_scale(kind)), ROUND_HALF_UP, _EXACT))


def _wide(value: Value) -> str:
    scale = as_numeric(value.kind).scale
    return f"CAST({value.sql} AS DECIMAL(38,{scale}))"


def _literal_type(factor: Decimal) -> str:
    return f"DECIMAL(18,{max(-int(factor.as_tuple().exponent), 0)})"
