"""Aggregates and window functions, with the types that the fleet's engine gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlglot import exp

from shardctl.query.here.kinds import FLOAT8, INT4, INT8, MAX_DIGITS, Kind, as_numeric, not_listed, numeric
from shardctl.query.here.ordering import order_keys
from shardctl.query.here.quotients import quotient
from shardctl.query.here.scopes import Scope
from shardctl.query.here.values import Value, comparable, groupable, quoted_text
from shardctl.query.here.writer import Writer, check_parts
from shardctl.query.parse import shown

_AGGREGATES: Mapping[type, str] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Avg: "avg",
    exp.Min: "min",
    exp.Max: "max",
    exp.LogicalAnd: "bool_and",
    exp.LogicalOr: "bool_or",
    exp.GroupConcat: "string_agg",
}
_NUMBERING = {
    "RowNumber": "row_number",
    "Rank": "rank",
    "DenseRank": "dense_rank",
    "PercentRank": "percent_rank",
    "CumeDist": "cume_dist",
    "Ntile": "ntile",
}
_NEIGHBOURS = {"Lag": "lag", "Lead": "lead", "FirstValue": "first_value", "LastValue": "last_value"}


def write_aggregate(writer: Writer, node: Any, scope: Scope) -> Value | None:
    """Write an aggregate or a window function; None if a node is neither."""
    if isinstance(node, exp.Window):
        return _window(writer, node, scope)
    return _aggregate(writer, node, scope, "")


def _aggregate(writer: Writer, node: Any, scope: Scope, over: str) -> Value | None:
    if isinstance(node, exp.Filter):
        if writer.engine != "postgresql" or type(node.this) not in _AGGREGATES:
            raise not_listed(f"`{shown(node)}`")
        writer.use("filter", "any", node)
        condition = _of_this_select(writer, node.expression.this, scope, is_condition=True)
        return _call(writer, node.this, scope, f" FILTER (WHERE {condition}){over}")
    return _call(writer, node, scope, over) if type(node) in _AGGREGATES else None


def _call(writer: Writer, node: Any, scope: Scope, suffix: str) -> Value:
    check_parts(node, frozenset({"this", "expressions", "big_int", "separator"}))
    name = _AGGREGATES[type(node)]
    if name == "string_agg":
        return _joined(writer, node, scope, suffix)
    inner = node.this
    if name == "count" and (isinstance(inner, exp.Star) or (inner is None and not node.expressions)):
        return Value(f"count(*){suffix}", INT8)
    is_distinct = isinstance(inner, exp.Distinct)
    if is_distinct:
        if len(inner.expressions) != 1 or inner.args.get("on"):
            raise not_listed(f"`{shown(node)}`")
        inner = inner.expressions[0]
    if inner is None or node.args.get("expressions"):
        raise not_listed(f"`{shown(node)}`")
    value = writer.settle(_of_this_select(writer, inner, scope))
    if name in ("min", "max"):
        return _least(writer, name, value, node, suffix)
    writer.use(f"{name} distinct" if is_distinct else name, value.kind, node)
    if name == "count":
        sql = f"DISTINCT {groupable(value, writer.demands, writer.engine)}" if is_distinct else value.sql
        return Value(f"count({sql}){suffix}", INT8)
    if name in ("bool_and", "bool_or"):
        return Value(f"{name}({value.sql}){suffix}", value.kind)
    total = _total(writer.engine, value, f"{'DISTINCT ' if is_distinct else ''}{value.sql}", suffix)
    return total if name == "sum" else quotient(total, Value(f"count({value.sql}){suffix}", INT8))


def _total(engine: str, value: Value, listed: str, suffix: str) -> Value:
    if engine == "postgresql" and value.kind.name in ("int2", "int4"):
        kind = INT8
    else:
        kind = numeric(MAX_DIGITS, as_numeric(value.kind).scale)
    return Value(f"CAST(sum({listed}){suffix} AS {kind.sql})", kind)


def _least(writer: Writer, name: str, value: Value, node: Any, suffix: str) -> Value:
    writer.use(name, value.kind, node)
    key = comparable(value, writer.demands, writer.engine, is_order=True)
    if key == value.sql:
        return replace(value, sql=f"{name}({key}){suffix}", literal=None)
    unique = groupable(value, writer.demands, writer.engine)
    return replace(value, sql=f"arg_{name}({unique}, {key}){suffix}", literal=None)


def _joined(writer: Writer, node: Any, scope: Scope, suffix: str) -> Value:
    """Write `string_agg(text, ',' ORDER BY …)`."""
    inner, separator = node.this, node.args.get("separator")
    if writer.engine != "postgresql" or suffix.endswith(")") or not isinstance(inner, exp.Order):
        raise not_listed(f"`{shown(node)}`")
    if not isinstance(separator, exp.Literal) or isinstance(inner.this, exp.Distinct):
        raise not_listed(f"`{shown(node)}`")
    value = writer.settle(_of_this_select(writer, inner.this, scope))
    writer.use("string_agg", value.kind, node)
    keys = [_of_this_select(writer, entry.this, scope) for entry in inner.expressions]
    order = order_keys(writer, inner.expressions, keys)
    mark = quoted_text(separator.this)
    return Value(
        f"string_agg({value.sql}, {mark} ORDER BY {order}){suffix}", Kind("text", is_ordered=value.kind.is_ordered)
    )


def _of_this_select(writer: Writer, node: Any, scope: Scope, *, is_condition: bool = False) -> Any:
    """Write what an aggregate is given; one over another SELECT's columns would belong to that one."""
    before, scope.is_local = scope.is_local, []
    try:
        found = writer.condition(node, scope) if is_condition else writer.value(node, scope)
        if scope.is_local and not all(scope.is_local):
            raise not_listed(f"an aggregate over `{shown(node)}`")
    finally:
        scope.is_local = before + scope.is_local
    return found


def _window(writer: Writer, node: Any, scope: Scope) -> Value:
    check_parts(node, frozenset({"this", "partition_by", "order", "spec", "over"}))
    if node.args.get("over") not in ("OVER", None):
        raise not_listed(f"`{shown(node)}`")
    parts = []
    partition = [writer.settled(entry, scope) for entry in node.args.get("partition_by") or []]
    if partition:
        for value in partition:
            writer.use("group by", value.kind, node)
        listed = ", ".join(groupable(value, writer.demands, writer.engine) for value in partition)
        parts.append(f"PARTITION BY {listed}")
    order = node.args.get("order")
    if order is not None:
        values = [writer.settled(entry.this, scope) for entry in order.expressions]
        if any(isinstance(entry.this, exp.Literal) for entry in order.expressions):
            raise not_listed(f"`{shown(order)}`")
        parts.append(f"ORDER BY {order_keys(writer, order.expressions, values)}")
    if node.args.get("spec") is not None:
        parts.append(_frame(node.args["spec"]))
    over = f" OVER ({' '.join(parts)})"
    found = _aggregate(writer, node.this, scope, over)
    return found if found is not None else _numbered(writer, node.this, scope, over)


def _numbered(writer: Writer, node: Any, scope: Scope, over: str) -> Value:
    word = type(node).__name__
    name = node.name.lower() if isinstance(node, exp.Anonymous) else _NUMBERING.get(word, "")
    if name in _NUMBERING.values():
        given = [entry for entry in node.iter_expressions() if isinstance(entry, exp.Expression)]
        writer.use(name, "any", node)
        if name == "ntile" and len(given) == 1 and isinstance(given[0], exp.Literal) and int(given[0].this) > 0:
            kind = INT4 if writer.engine == "postgresql" else INT8
            return Value(f"CAST(ntile({int(given[0].this)}){over} AS {kind.sql})", kind)
        if given or name == "ntile":
            raise not_listed(f"`{shown(node)}`")
        return Value(f"{name}(){over}", FLOAT8 if name in ("percent_rank", "cume_dist") else INT8)
    if word not in _NEIGHBOURS:
        raise not_listed(f"`{shown(node)}`")
    check_parts(node, frozenset({"this", "offset"}))
    value = writer.settled(node.this, scope)
    name = _NEIGHBOURS[word]
    writer.use(name, value.kind, node)
    offset = node.args.get("offset")
    if offset is not None and not (isinstance(offset, exp.Literal) and not offset.is_string):
        raise not_listed(f"`{shown(node)}`")
    listed = value.sql if offset is None else f"{value.sql}, {int(offset.this)}"
    return replace(value, sql=f"{name}({listed}){over}", is_column=False, literal=None)


def _frame(spec: Any) -> str:
    kind = str(spec.args.get("kind") or "").upper()
    check_parts(spec, frozenset({"kind", "start", "start_side", "end", "end_side"}))
    if kind not in ("ROWS", "RANGE"):
        raise not_listed(f"`{shown(spec)}`")
    bounds = []
    for side in ("start", "end"):
        bound, direction = spec.args.get(side), str(spec.args.get(f"{side}_side") or "").upper()
        if bound is None:
            continue
        if isinstance(bound, exp.Literal) and kind == "ROWS" and not bound.is_string:
            bounds.append(f"{int(bound.this)} {direction}")
        elif isinstance(bound, str) and bound.upper() in ("UNBOUNDED", "CURRENT ROW"):
            bounds.append(f"{bound.upper()} {direction}".strip())
        else:
            raise not_listed(f"`{shown(spec)}`")
    return f"{kind} BETWEEN {' AND '.join(bounds)}" if len(bounds) == 2 else f"{kind} {bounds[0]}"
