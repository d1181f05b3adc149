"""Functions of one row, CASE and casts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlglot import exp

from shardctl.query.here.kinds import (
    DATE,
    INT4,
    INT8,
    NULL,
    TIMESTAMP,
    Kind,
    not_listed,
    numeric,
)
from shardctl.query.here.scopes import Scope
from shardctl.query.here.values import (
    Value,
    as_text,
    cast,
    date_literal,
    timestamp_literal,
)
from shardctl.query.here.writer import OF_TWO, Writer, Writers, united
from shardctl.query.parse import shown

_DATE_PARTS = {"YEAR": "year", "MONTH": "month", "DAY": "day"}
_CASTS = {
    "BIGINT": "int8",
    "INT": "int4",
    "DECIMAL": "numeric",
    "TEXT": "text",
    "VARCHAR": "text",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
}


def _concat(writer: Writer, node: Any, scope: Scope) -> Value:
    sides = [as_text(writer.settled(side, scope)) for side in (node.left, node.right)]
    if any(isinstance(side, exp.Binary) and not isinstance(side, exp.DPipe) for side in (node.left, node.right)):
        raise not_listed(f"`{shown(node)}` without brackets")
    if any(side.kind.name != "text" for side in sides):
        raise not_listed(f"`{shown(node)}`")
    writer.use("||", "text", node)
    return Value(
        f"({sides[0].sql} || {sides[1].sql})", Kind("text", is_ordered=all(side.kind.is_ordered for side in sides))
    )


def _case(writer: Writer, node: Any, scope: Scope) -> Value:
    operand = None if node.this is None else writer.value(node.this, scope)
    tests = []
    for branch in node.args["ifs"]:
        if operand is None:
            tests.append(writer.condition(branch.this, scope))
        else:
            tests.append(writer.compared("=", operand, writer.value(branch.this, scope), node).sql)
    results = [writer.value(branch.args["true"], scope) for branch in node.args["ifs"]]
    default = node.args.get("default")
    results.append(Value("NULL", NULL) if default is None else writer.value(default, scope))
    results = united(writer, results)
    writer.use("case", results[0].kind, node)
    arms = " ".join(f"WHEN {test} THEN {result.sql}" for test, result in zip(tests, results, strict=False))
    return replace(results[0], sql=f"(CASE {arms} ELSE {results[-1].sql} END)")


def _coalesce(writer: Writer, node: Any, scope: Scope) -> Value:
    values = united(writer, [writer.value(entry, scope) for entry in (node.this, *node.expressions)])
    writer.use("coalesce", values[0].kind, node)
    return replace(values[0], sql=f"coalesce({', '.join(value.sql for value in values)})")


def _extreme(writer: Writer, node: Any, scope: Scope) -> Value:
    name = "greatest" if isinstance(node, exp.Greatest) else "least"
    values = united(writer, [writer.value(entry, scope) for entry in (node.this, *node.expressions)])
    writer.use(name, values[0].kind, node)
    return replace(values[0], sql=f"{name}({', '.join(value.sql for value in values)})")


def _nullif(writer: Writer, node: Any, scope: Scope) -> Value:
    first = writer.settled(node.this, scope)
    writer.use("nullif", first.kind, node)
    test = writer.compared("=", first, writer.value(node.expression, scope), node).sql
    return replace(first, sql=f"(CASE WHEN {test} THEN NULL ELSE {first.sql} END)", is_column=False)


def _abs(writer: Writer, node: Any, scope: Scope) -> Value:
    found = writer.value(node.this, scope)
    writer.use("abs", found.kind, node)
    return Value(f"CAST(abs({found.sql}) AS {found.kind.sql})", found.kind)


def _length(writer: Writer, node: Any, scope: Scope) -> Value:
    found = as_text(writer.settled(node.this, scope))
    if found.kind.name != "text":
        raise not_listed(f"`{shown(node)}`")
    writer.use("length", "text", node)
    kind = INT4 if writer.engine == "postgresql" else INT8
    return Value(f"CAST(length({found.sql}) AS {kind.sql})", kind)


def _substring(writer: Writer, node: Any, scope: Scope) -> Value:
    found = as_text(writer.settled(node.this, scope))
    bounds = [node.args.get("start"), node.args.get("length")]
    if found.kind.name != "text" or not all(isinstance(bound, exp.Literal) and not bound.is_string for bound in bounds):
        raise not_listed(f"`{shown(node)}`")
    start, length = (int(bound.this) for bound in bounds)
    if start < 1:
        raise not_listed(f"`{shown(node)}`")
    writer.use("substring", "text", node)
    return replace(found, sql=f"substr({found.sql}, {start}, {length})", is_column=False, literal=None)


def _date_part(writer: Writer, node: Any, scope: Scope) -> Value:
    part = node.this.name.upper() if isinstance(node, exp.Extract) else type(node).__name__.upper()
    inner = node.expression if isinstance(node, exp.Extract) else node.this
    inner = inner.this if isinstance(inner, exp.TsOrDsToDate) else inner
    found = writer.value(inner, scope)
    if part not in _DATE_PARTS:
        raise not_listed(f"`{shown(node)}`")
    writer.use(_DATE_PARTS[part], found.kind, node)
    kind = numeric(10, 0) if writer.engine == "postgresql" else INT8
    return Value(f"CAST(date_part('{_DATE_PARTS[part]}', {found.sql}) AS {kind.sql})", kind)


def _cast(writer: Writer, node: Any, scope: Scope) -> Value:
    target = node.to
    word = target.this.value if isinstance(target, exp.DataType) else ""
    if isinstance(node.this, exp.Literal) and node.this.is_string and word in ("DATE", "TIMESTAMP"):
        if target.expressions:
            raise not_listed(f"`{shown(node)}`")
        found = date_literal(node.this.this) if word == "DATE" else timestamp_literal(node.this.this)
        writer.use("a literal of", found.kind, node)
        return found
    name = _CASTS.get(word)
    found = writer.settled(node.this, scope)
    if name is None or writer.engine == "mysql" or not _is_cast_like(found.kind, name):
        raise not_listed(f"`{shown(node)}`")
    kind = _target(name, target, node)
    writer.use(f"cast to {name}", found.kind, node)
    return replace(cast(found, kind), is_column=False, literal=None)


def _is_cast_like(kind: Kind, name: str) -> bool:
    return kind.name != "quotient" and kind.name != "bpchar" and bool(name)


def _target(name: str, target: Any, node: Any) -> Kind:
    sizes = [entry.this for entry in target.expressions]
    if name == "numeric":
        if not 1 <= len(sizes) <= 2 or not all(isinstance(size, exp.Literal) for size in sizes):
            raise not_listed(f"`{shown(node)}`")
        digits, scale = int(sizes[0].this), int(sizes[1].this) if len(sizes) == 2 else 0
        if digits > 38:
            raise not_listed(f"`{shown(node)}`")
        return numeric(digits, scale)
    if sizes:
        raise not_listed(f"`{shown(node)}`")
    return {"int8": INT8, "int4": INT4, "date": DATE, "timestamp": TIMESTAMP}.get(name, Kind("text"))


FUNCTIONS: Writers = {
    exp.DPipe: (_concat, frozenset({"expression", "safe", "this"})),
    exp.Case: (_case, frozenset({"default", "ifs", "this"})),
    exp.Coalesce: (_coalesce, frozenset({"expressions", "this"})),
    exp.Greatest: (_extreme, frozenset({"expressions", "ignore_nulls", "this"})),
    exp.Least: (_extreme, frozenset({"expressions", "ignore_nulls", "this"})),
    exp.Nullif: (_nullif, OF_TWO),
    exp.Abs: (_abs, OF_TWO),
    exp.Length: (_length, OF_TWO),
    exp.Substring: (_substring, frozenset({"length", "start", "this"})),
    exp.Extract: (_date_part, OF_TWO),
    exp.Year: (_date_part, OF_TWO),
    exp.Month: (_date_part, OF_TWO),
    exp.Day: (_date_part, OF_TWO),
    exp.Cast: (_cast, frozenset({"this", "to"})),
}
