"""Reading across shards: one statement, one answer."""

from shardctl.query.names import class_statement
from shardctl.query.overview import count_rows
from shardctl.query.run import QueryResult, models_of, plan_for, run_query

__all__ = ["QueryResult", "class_statement", "count_rows", "models_of", "plan_for", "run_query"]
