"""Statements of which one shard has every row: any SELECT that its engine knows, sent as it is."""

from __future__ import annotations

from collections.abc import Mapping

from shardctl.query.gatherers.shapes import TableShape
from shardctl.query.parse import Statement
from shardctl.query.plan import QueryPlan, Route
from shardctl.query.pruning import Pruned
from shardctl.query.pull.checks import check_gatherable, functions


def plan_direct(statement: Statement, shard_id: str, shapes: Mapping[str, TableShape], pruned: Pruned) -> QueryPlan:
    """Plan to run a statement as it is on the one shard that has every row that it needs.

    Args:
        statement: As for `plan_query`.
        shard_id: The shard.
        shapes: The statement's tables, as the models have them.
        pruned: Why other shards are left out.

    Raises:
        QueryRefused: The answer depends on more than rows.
    """
    check_gatherable(statement, shapes)
    return QueryPlan(
        route=Route.DIRECT,
        engine=statement.engine,
        shard_ids=(shard_id,),
        shard_sql=statement.sql,
        reason="one shard has every row that it needs",
        functions=functions(statement, shapes),
        tables=tuple(shapes),
        pruned=pruned,
    )
