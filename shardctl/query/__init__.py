"""Reading across shards: one statement, one answer."""

from shardctl.query.holders import online
from shardctl.query.names import class_statement
from shardctl.query.overview import count_rows
from shardctl.query.question import models_of
from shardctl.query.results import QueryResult, QueryRows
from shardctl.query.run import plan_for, run_query, stream_query

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
