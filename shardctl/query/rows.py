"""Statements of which each row of the answer is made on one shard: of one row, or of rows that live together.

The shards' rows are then one after another the answer, or merged by ORDER BY.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlglot import exp

from shardctl.query.calls import aggregates_in, calls, closing, mergeable_calls
from shardctl.query.clauses import Clauses, Item
from shardctl.query.merge import RowMerge, SortKey
from shardctl.query.parse import Tokens, refuse
from shardctl.query.scope import check_nested_aliases, order_position
from shardctl.query.ties import Ties

AGGREGATES = frozenset(
    """
    array_agg bit_and bit_or bit_xor corr covar_pop covar_samp group_concat json_agg json_arrayagg json_group_array
    json_group_object json_object_agg json_objectagg jsonb_agg jsonb_object_agg max min mode percentile_cont
    percentile_disc std stddev stddev_pop stddev_samp string_agg var_pop var_samp variance
    """.split()
)
"""Built-in functions of many rows, which a shard answers for rows that are all its own."""


def groups(clauses: Clauses) -> bool:
    """Whether a statement makes one row of several, outside of its subqueries and windows."""
    listed = (*clauses.items, *clauses.order)
    return bool(clauses.group) or bool(clauses.having) or any(_has_aggregates(clauses, item) for item in listed)


def windows(clauses: Clauses) -> list[exp.Window]:
    """Return the windows of a statement, outside of its subqueries."""
    found = [window for item in (*clauses.items, *clauses.order) for window in item.node.find_all(exp.Window)]
    return [window for window in found if window.find_ancestor(exp.Select) is clauses.select]


def is_by_shard(clauses: Clauses, ties: Ties | None) -> bool:
    """Whether all rows that meet in a group, a window or a DISTINCT have one sharding key, and so live together."""
    if ties is None or not ties.sources.is_whole(clauses.select):
        return False
    sets = [list(window.args.get("partition_by") or []) for window in windows(clauses)]
    if groups(clauses):
        sets.append(_group_columns(clauses))
    if clauses.distinct:
        sets.append([item.node for item in clauses.items])
    return all(ties.is_by_shard(columns, clauses.select) for columns in sets)


def _group_columns(clauses: Clauses) -> list[exp.Expression]:
    """Return what a statement groups by, but for what may be the name of an output."""
    outputs = {item.alias for item in clauses.items if item.alias}
    return [
        item.node
        for item in clauses.group
        if isinstance(item.node, exp.Column)
        and (item.node.args.get("table") is not None or clauses.statement.fold(item.node.this) not in outputs)
    ]


def _has_aggregates(clauses: Clauses, item: Item) -> bool:
    inside = set(subquery_tokens(item.tokens))
    following = [token.kind for token in item.tokens[1:]] + [""]
    for start, end in mergeable_calls(clauses.statement, item.tokens):
        if start not in inside and following[end - 1] != "OVER":
            return True
    return any(
        found.find_ancestor(exp.Select) is clauses.select and not _is_of_window(found)
        for found in aggregates_in(clauses.statement, item.node)
    )


def subquery_tokens(tokens: Tokens) -> Iterator[int]:
    """Yield the positions of the tokens that are in a subquery."""
    end = -1
    for i, token in enumerate(tokens[:-1]):
        if i > end and token.kind == "L_PAREN" and tokens[i + 1].kind in {"SELECT", "WITH", "VALUES"}:
            end = closing(tokens, i)
        if i < end:
            yield i


def called_functions(clauses: Clauses, *, is_by_shard: bool) -> list[str]:
    """Return what a statement calls, but for aggregates that see all of their rows on one shard."""
    tokens = clauses.statement.tokens
    inside = set(subquery_tokens(tokens))
    outer = list(calls([token for i, token in enumerate(tokens) if i not in inside]))
    inner = [name for name in calls([token for i, token in enumerate(tokens) if i in inside]) if name not in AGGREGATES]
    if is_by_shard and clauses.group:
        outer = [name for name in outer if name not in AGGREGATES]
    return [*outer, *inner]


def _is_of_window(function: Any) -> bool:
    node = function
    while isinstance(node.parent, exp.Filter | exp.IgnoreNulls | exp.RespectNulls) and node.parent.this is node:
        node = node.parent
    return isinstance(node.parent, exp.Window) and node.parent.this is node


def plan_rows(clauses: Clauses) -> tuple[str, RowMerge]:
    """Return the statement for every shard, and how their rows are merged."""
    listed = [item.whole for item in clauses.items]
    hidden: list[str] = []
    keys: list[tuple[Item, int | None]] = [(item, _position(clauses, item)) for item in clauses.order]
    for item, position in keys:
        if position is None:
            check_nested_aliases(clauses, item)
            hidden.append(f"{_expression(clauses, item)} AS __s{len(hidden)}")
    sort_keys: list[SortKey] = []
    taken = 0
    for item, position in keys:
        column = position if position is not None else taken - len(hidden)
        taken += position is None
        sort_keys.append(
            SortKey(column, item.desc, item.nulls_first, item.text, _expression(clauses, item, for_probe=True))
        )
    if clauses.distinct and hidden:
        refuse("DISTINCT rows in an order that is not among their columns cannot be merged", clauses.order[0].whole)
    sql = f"SELECT {'DISTINCT ' * clauses.distinct}{', '.join(listed + hidden)} {clauses.body}{clauses.grouping}"
    if clauses.order:
        sql += f" ORDER BY {', '.join(item.whole for item in clauses.order)}"
    if clauses.limit is not None:
        sql += f" LIMIT {clauses.limit + clauses.offset}"
    return sql, RowMerge(tuple(sort_keys), len(hidden), clauses.limit, clauses.offset)


def _position(clauses: Clauses, item: Item) -> int | None:
    """Return which visible column a sort key is, if that can be known: `*` hides how many there are before it."""
    if item.node.find(exp.Rand) or any(name in {"random", "rand"} for name in calls(item.tokens)):
        refuse("a random order differs between the shards", item.whole)
    position = order_position(clauses, item)
    if position is None and clauses.distinct and isinstance(item.node, exp.Column):
        return next((i for i, entry in enumerate(clauses.items) if entry.node == item.node), None)
    if item.ordinal is not None or position is None:
        return position
    return None if any(entry.is_star for entry in clauses.items) else position


def _expression(clauses: Clauses, item: Item, *, for_probe: bool = False) -> str:
    """Return the expression that an entry of ORDER BY sorts by."""
    position = order_position(clauses, item)
    if position is None:
        return item.text
    starred = any(entry.is_star for entry in clauses.items)
    if item.ordinal is not None and starred:
        return "" if for_probe else item.text
    return clauses.items[position].text
