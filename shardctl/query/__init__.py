"""Reading across shards: one statement, one answer."""

from shardctl.query.holders import online
from shardctl.query.names import class_statement
from shardctl.query.overview import count_rows
from shardctl.query.run import QueryResult, QueryRows, models_of, plan_for, run_query, stream_query

__all__ = [
    "QueryResult",
    "QueryRows",
    "class_statement",
    "count_rows",
    "models_of",
    "online",
    "plan_for",
    "run_query",
    "stream_query",
]
