"""Statements that put rows together (GROUP BY, DISTINCT, aggregates): what each shard computes and how it is merged.

Each shard groups its own rows; the partial results become a relation in the fleet's own engine, where the statement's
select list, HAVING, ORDER BY and LIMIT run on merged aggregates: what surrounds an aggregate keeps its own meaning.
"""

from __future__ import annotations

import re

from shardctl.query.calls import aggregates_in
from shardctl.query.clauses import Clauses, Item
from shardctl.query.merge import EngineMerge
from shardctl.query.parse import Statement, refuse
from shardctl.query.rewrite import CLOCKS, Builder, check_placeholders, rewrite
from shardctl.query.rows import groups
from shardctl.query.scope import alias_item, check_nested_aliases, order_position


def plan_merge(clauses: Clauses, input_columns: frozenset[str] | None) -> tuple[str, EngineMerge]:
    """Return the statement for every shard, and the merge of their answers.

    Args:
        clauses: The statement.
        input_columns: The columns of its tables, in lower case; None if `needs_columns` says they do not matter.

    Raises:
        QueryRefused: The merged answer could be wrong.
    """
    check_placeholders(clauses.statement)
    for item in clauses.items:
        if item.is_star:
            what = "DISTINCT *" if clauses.distinct and not clauses.group else "`*` beside an aggregate or GROUP BY"
            refuse(f"{what} cannot be answered over several shards", item.whole, hint="name the columns")
    builder = Builder(clauses)
    grouped = [_group_key(clauses, item, input_columns) for item in clauses.group]
    deduplicates = clauses.distinct and not groups(clauses)
    for key in clauses.items if deduplicates else grouped:
        _check_key(clauses.statement, key)
        builder.keys.append((key, builder.column(key.text, probe=key.text)))
    outputs = tuple(rewrite(builder, item.tokens, item.node, item.whole) for item in clauses.items)
    having = _having(builder)
    order = tuple(_order_item(builder, item) for item in clauses.order)
    return _shard_sql(builder), EngineMerge(
        columns=tuple(builder.columns),
        keys=tuple(column for _, column in builder.keys),
        aggregates=tuple(builder.aggregates),
        outputs=outputs,
        distinct=clauses.distinct and not deduplicates,
        having=having,
        order=order,
        limit=clauses.limit,
        offset=clauses.offset,
        names_sql=_names_sql(clauses),
        counts_only=not builder.keys
        and not any(column.is_compared for column in builder.columns)
        and all(aggregate.kind == "count" for aggregate in builder.aggregates)
        and all(re.fullmatch(r"__a\d+", output) for output in outputs)
        and having is None,
    )


def _group_key(clauses: Clauses, item: Item, input_columns: frozenset[str] | None) -> Item:
    if item.ordinal is not None:
        if not 1 <= item.ordinal <= len(clauses.items):
            refuse(f"GROUP BY {item.ordinal} is not in the select list", item.whole)
        return clauses.items[item.ordinal - 1]
    alias = alias_item(clauses, item)
    if alias is not None:
        if input_columns is None or str(alias.alias).lower() in input_columns:
            refuse(
                f"`{alias.alias}` is both a column and an output of this statement",
                item.whole,
                hint="write the expression, or its number, in GROUP BY",
            )
        return alias
    check_nested_aliases(clauses, item)
    return item


def _check_key(statement: Statement, key: Item) -> None:
    clock = next(iter(key.node.find_all(*CLOCKS)), None)
    if clock is not None:
        refuse("each shard has a clock and a random generator of its own", key.whole, hint="group by something else")
    if aggregates_in(statement, key.node):
        refuse("an aggregate cannot be grouped by", key.whole)


def _shard_sql(builder: Builder) -> str:
    clauses = builder.clauses
    if not builder.columns:  # every output is a constant
        builder.column("count(*)")
    listed = ", ".join(f"{column.sql} AS __c{i}" for i, column in enumerate(builder.columns))
    # By their positions: a key that is a constant would be read as one.
    grouped = [str(i + 1) for i, column in enumerate(builder.columns) if column.is_compared and _is_key(builder, i)]
    return f"SELECT {listed} {clauses.body}" + (f" GROUP BY {', '.join(grouped)}" if grouped else "")


def _is_key(builder: Builder, index: int) -> bool:
    if any(column == index for _, column in builder.keys):
        return True
    return any(aggregate.is_distinct and index in aggregate.columns for aggregate in builder.aggregates)


def _names_sql(clauses: Clauses) -> str:
    """Return the statement as it is, without what needs rows: the engine then checks it, and names its columns."""
    listed = ", ".join(item.whole for item in clauses.items)
    return f"SELECT {'DISTINCT ' * clauses.distinct}{listed} {clauses.body}{clauses.grouping} LIMIT 0"


def _having(builder: Builder) -> str | None:
    clauses = builder.clauses
    if not clauses.having:
        return None
    node = clauses.select.args["having"].this
    text = clauses.statement.slice(clauses.having)
    if clauses.statement.expression(text) != node:
        refuse("HAVING cannot be read safely", text)
    check_nested_aliases(clauses, Item(clauses.having, text, node, text))
    return rewrite(builder, clauses.having, node, text)


def _order_item(builder: Builder, item: Item) -> str:
    clauses = builder.clauses
    position = order_position(clauses, item)
    if position is not None:
        return f"__o{position} {item.tail}".strip()
    check_nested_aliases(clauses, item)
    return f"{rewrite(builder, item.tokens, item.node, item.whole)} {item.tail}".strip()
