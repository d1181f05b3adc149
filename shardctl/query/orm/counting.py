"""The number of rows of a statement that has to be merged itself, as `Query.count()` asks with LIMIT or DISTINCT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData

from shardctl.query.orm.plan import Count


def count_rows(plan: Count, execute: Callable[[Any], Any]) -> Any:
    """Return a result with the number of rows that the inner statement gives once it is merged."""
    total = sum(1 for _ in execute(plan.source)._raw_row_iterator())
    names = list(plan.statement.subquery().c.keys())
    return IteratorResult(SimpleResultMetaData(names), iter([(total,)]))
