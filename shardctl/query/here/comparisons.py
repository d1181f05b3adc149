"""Columns, literals, comparisons and logic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlglot import exp

from shardctl.query.here.kinds import (
    BOOL,
    NULL,
    UNKNOWN,
    Kind,
    not_listed,
)
from shardctl.query.here.scopes import Scope
from shardctl.query.here.values import (
    Value,
    as_text,
    comparable,
    met,
    number,
    quoted_text,
    typed_literal,
)
from shardctl.query.here.writer import OF_TWO, Writer, Writers
from shardctl.query.parse import shown

_COMPARISONS = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_BOOLEANS = (*_COMPARISONS, exp.Is, exp.Like, exp.In, exp.Between, exp.Not, exp.And, exp.Or, exp.Exists, exp.Escape)


def _negated(node: exp.Expression, sql: str) -> Value:
    return Value(f"(NOT {sql})" if node.args.get("negate") else sql, BOOL)


def _column(writer: Writer, node: Any, scope: Scope) -> Value:
    return scope.resolve(node)


def _literal(writer: Writer, node: Any, scope: Scope) -> Value:
    if node.is_string:
        writer.use("a literal of", "text")
        if writer.engine == "mysql" and "\\" in node.this:
            raise not_listed("a text with a backslash")
        return Value(quoted_text(node.this), UNKNOWN, literal=node.this)
    found = number(node.this, writer.engine)
    writer.use("a literal of", found.kind, node)
    return found


def _null(writer: Writer, node: Any, scope: Scope) -> Value:
    writer.use("a literal of", "null")
    return Value("NULL", NULL)


def _boolean(writer: Writer, node: Any, scope: Scope) -> Value:
    writer.use("a literal of", "bool", node)
    return Value("true" if node.this else "false", BOOL)


def _paren(writer: Writer, node: Any, scope: Scope) -> Value:
    found = writer.value(node.this, scope)
    return replace(found, sql=f"({found.sql})")


def _check_flat(node: Any) -> None:
    """Refuse what engines and parsers may read in another order: a comparison of a comparison without brackets."""
    if any(isinstance(side, _BOOLEANS) for side in node.iter_expressions() if side is not node.args.get("query")):
        raise not_listed(f"`{shown(node)}` without brackets")


def _comparison(writer: Writer, node: Any, scope: Scope) -> Value:
    _check_flat(node)
    return writer.compared(
        _COMPARISONS[type(node)], writer.value(node.left, scope), writer.value(node.right, scope), node
    )


def _connector(writer: Writer, node: Any, scope: Scope) -> Value:
    writer.use("and, or, not", "bool" if writer.engine == "postgresql" else "int8")
    word = "AND" if isinstance(node, exp.And) else "OR"
    return Value(f"({writer.condition(node.left, scope)} {word} {writer.condition(node.right, scope)})", BOOL)


def _not(writer: Writer, node: Any, scope: Scope) -> Value:
    writer.use("and, or, not", "bool" if writer.engine == "postgresql" else "int8")
    return Value(f"(NOT {writer.condition(node.this, scope)})", BOOL)


def _is(writer: Writer, node: Any, scope: Scope) -> Value:
    _check_flat(node)
    negated = "NOT " if node.args.get("negate") else ""
    left = writer.settled(node.this, scope)
    if isinstance(node.expression, exp.Null):
        writer.use("is null", left.kind, node)
        return Value(f"({left.sql} IS {negated}NULL)", BOOL)
    if isinstance(node.expression, exp.Boolean) and left.kind.name == "bool":
        writer.use("is true", "bool", node)
        return Value(f"({left.sql} IS {negated}{'TRUE' if node.expression.this else 'FALSE'})", BOOL)
    raise not_listed(f"`{shown(node)}`")


def _distinct_from(writer: Writer, node: Any, scope: Scope) -> Value:
    _check_flat(node)
    left, right = met(writer.value(node.left, scope), writer.value(node.right, scope), writer.engine)
    writer.use("is distinct from", left.kind, node)
    word = "IS DISTINCT FROM" if isinstance(node, exp.NullSafeNEQ) else "IS NOT DISTINCT FROM"
    return Value(f"({left.sql} {word} {right.sql})", BOOL)


def _like(writer: Writer, node: Any, scope: Scope, *, escape: str = "\\") -> Value:
    _check_flat(node)
    left = as_text(writer.settled(node.this, scope))
    if not isinstance(node.expression, exp.Literal) or left.kind.name != "text":
        raise not_listed(f"`{shown(node)}`")
    writer.use("like", "text", node)
    pattern = typed_literal(writer.value(node.expression, scope), Kind("text", folds=left.kind.folds))
    text, listed = left.sql, pattern.sql
    if writer.engine == "mysql":
        comparable(left, writer.demands, "mysql", is_order=False)
        if left.kind.folds:
            text, listed = f"upper({text})", f"upper({listed})"
    return _negated(node, f"({text} LIKE {listed} ESCAPE {quoted_text(escape)})")


def _escape(writer: Writer, node: Any, scope: Scope) -> Value:
    mark = node.expression
    if not isinstance(node.this, exp.Like) or not isinstance(mark, exp.Literal) or len(mark.this) != 1:
        raise not_listed(f"`{shown(node)}`")
    return _like(writer, node.this, scope, escape=mark.this)


def _in(writer: Writer, node: Any, scope: Scope) -> Value:
    left = writer.value(node.this, scope)
    query = node.args.get("query")
    if query is None:
        if not node.expressions:
            raise not_listed(f"`{shown(node)}`")
        tests = [writer.compared("=", left, writer.value(entry, scope), node).sql for entry in node.expressions]
        return _negated(node, f"({' OR '.join(tests)})")
    sql, outputs = writer.subquery(query, scope)
    if len(outputs) != 1:
        raise not_listed(f"`{shown(node)}`")
    inner = replace(outputs[0], sql="i.c0")
    one, other = met(left, inner, writer.engine)
    writer.use("=", one.kind, node)
    sides = [comparable(side, writer.demands, writer.engine, is_order=False) for side in (one, other)]
    return _negated(node, f"({sides[0]} IN (SELECT {sides[1]} FROM ({sql}) AS i))")


def _between(writer: Writer, node: Any, scope: Scope) -> Value:
    _check_flat(node)
    value, low, high = (writer.value(node.args[name], scope) for name in ("this", "low", "high"))
    tests = writer.compared(">=", value, low, node).sql, writer.compared("<=", value, high, node).sql
    return _negated(node, f"({tests[0]} AND {tests[1]})")


def _exists(writer: Writer, node: Any, scope: Scope) -> Value:
    writer.use("exists", "any")
    sql, _ = writer.subquery(node.this, scope)
    return Value(f"EXISTS ({sql})", BOOL)


def _scalar(writer: Writer, node: Any, scope: Scope) -> Value:
    sql, outputs = writer.subquery(node, scope)
    if len(outputs) != 1:
        raise not_listed(f"`{shown(node)}`")
    writer.use("a scalar subquery of", outputs[0].kind, node)
    return replace(outputs[0], sql=f"({sql})", is_column=False, literal=None)


COMPARISONS: Writers = {
    exp.Column: (_column, frozenset({"db", "table", "this"})),
    exp.Literal: (_literal, frozenset({"is_string", "this"})),
    exp.Null: (_null, OF_TWO),
    exp.Boolean: (_boolean, OF_TWO),
    exp.Paren: (_paren, OF_TWO),
    exp.EQ: (_comparison, OF_TWO),
    exp.NEQ: (_comparison, OF_TWO),
    exp.LT: (_comparison, OF_TWO),
    exp.LTE: (_comparison, OF_TWO),
    exp.GT: (_comparison, OF_TWO),
    exp.GTE: (_comparison, OF_TWO),
    exp.And: (_connector, OF_TWO),
    exp.Or: (_connector, OF_TWO),
    exp.Not: (_not, OF_TWO),
    exp.Is: (_is, frozenset({"expression", "negate", "this"})),
    exp.NullSafeEQ: (_distinct_from, OF_TWO),
    exp.NullSafeNEQ: (_distinct_from, OF_TWO),
    exp.Like: (_like, frozenset({"expression", "negate", "this"})),
    exp.Escape: (_escape, OF_TWO),
    exp.In: (_in, frozenset({"expressions", "negate", "query", "this"})),
    exp.Between: (_between, frozenset({"high", "low", "negate", "this"})),
    exp.Exists: (_exists, OF_TWO),
    exp.Subquery: (_scalar, frozenset({"this"})),
}
