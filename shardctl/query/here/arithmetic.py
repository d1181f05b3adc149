"""Arithmetic of exact numbers: what does not fit fails in DuckDB."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlglot import exp

from shardctl.query.here.kinds import (
    INT8,
    as_numeric,
    not_listed,
    numeric,
)
from shardctl.query.here.quotients import quotient
from shardctl.query.here.scopes import Scope
from shardctl.query.here.values import (
    Value,
    cast,
    literal_factor,
    widest,
)
from shardctl.query.here.writer import OF_TWO, Writer, Writers
from shardctl.query.parse import shown


def _arithmetic(writer: Writer, node: Any, scope: Scope) -> Value:
    """Write `+`, `-` and `*` of exact numbers; what does not fit fails in DuckDB."""
    operator = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}[type(node)]
    left, right = writer.value(node.left, scope), writer.value(node.right, scope)
    if operator == "*" and "quotient" in (left.kind.name, right.kind.name):
        writer.use("*", "quotient", node)
        divided, other = (left, right) if left.kind.name == "quotient" else (right, left)
        factor = divided.kind.factor * literal_factor(other)
        return replace(divided, kind=replace(divided.kind, factor=factor))
    _check_numbers(node, left, right)
    kind = widest(left.kind, right.kind)
    if writer.engine == "mysql" and kind.is_integer:
        kind = INT8
    writer.use(operator, kind, node)
    if kind.is_integer:
        return Value(f"({cast(left, kind).sql} {operator} {cast(right, kind).sql})", kind)
    one, other_kind = as_numeric(left.kind), as_numeric(right.kind)
    if operator == "*":
        kind = numeric(one.digits + other_kind.digits, one.scale + other_kind.scale)
        # DuckDB gives a product no more digits than the wider of its operands has room for.
        sides = [cast(left, numeric(kind.digits, one.scale)).sql, cast(right, other_kind).sql]
    else:
        kind = numeric(kind.digits + 1, kind.scale)
        sides = [cast(left, kind).sql, cast(right, kind).sql]
    return Value(f"CAST({sides[0]} {operator} {sides[1]} AS {kind.sql})", kind)


def _check_numbers(node: exp.Expression, left: Value, right: Value) -> None:
    """Refuse what is not exact, and MySQL's unsigned numbers, which have no differences below zero."""
    if not (left.kind.is_exact and right.kind.is_exact) or "uint8" in (left.kind.name, right.kind.name):
        raise not_listed(f"`{shown(node)}`")


def _division(writer: Writer, node: Any, scope: Scope) -> Value:
    left, right = writer.value(node.left, scope), writer.value(node.right, scope)
    _check_numbers(node, left, right)
    kind = widest(left.kind, right.kind)
    writer.use("/", kind, node)
    if writer.engine == "postgresql":
        if kind.is_integer:  # cut off towards zero, and an error where it is by zero
            return Value(f"({cast(left, kind).sql} // {cast(right, kind).sql})", kind)
        checked = f"CASE WHEN {right.sql} = 0 THEN error('division by zero') ELSE {right.sql} END"
        return quotient(left, replace(right, sql=checked))
    return quotient(left, right)


def _modulo(writer: Writer, node: Any, scope: Scope) -> Value:
    left, right = writer.value(node.left, scope), writer.value(node.right, scope)
    _check_numbers(node, left, right)
    if "numeric" in (left.kind.name, right.kind.name):
        raise not_listed(f"`{shown(node)}`")
    kind = widest(left.kind, right.kind) if writer.engine == "postgresql" else INT8
    writer.use("%", kind, node)
    divisor = cast(right, kind).sql
    if writer.engine == "mysql":
        divisor = f"nullif({divisor}, 0)"
    return Value(f"({cast(left, kind).sql} % {divisor})", kind)


def _negative(writer: Writer, node: Any, scope: Scope) -> Value:
    found = writer.value(node.this, scope)
    writer.use("unary -", found.kind, node)
    literal = None if found.literal is None else f"-{found.literal}".replace("--", "")
    return Value(f"(- {found.sql})", found.kind, literal=literal)


ARITHMETIC: Writers = {
    exp.Add: (_arithmetic, OF_TWO),
    exp.Sub: (_arithmetic, OF_TWO),
    exp.Mul: (_arithmetic, OF_TWO),
    exp.Div: (_division, frozenset({"expression", "safe", "this", "typed"})),
    exp.Mod: (_modulo, OF_TWO),
    exp.Neg: (_negative, OF_TWO),
}
