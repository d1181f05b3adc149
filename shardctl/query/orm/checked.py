"""What a session's statements read besides the rows that they are sent for.

What they read does not depend on their values, and to look at it takes long: what passed is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, CompoundSelect, Select, literal_column, select

from shardctl.errors import QueryRefused
from shardctl.fleet.placement import Placement
from shardctl.query.orm.froms import is_of_one_table
from shardctl.query.orm.parts import elements, is_subquery
from shardctl.query.orm.plan import is_rowwise
from shardctl.query.orm.sources import check_sources

_MOST = 500
"""Statements remembered: as many as SQLAlchemy's own cache of compiled ones holds."""
_passed: WeakKeyDictionary[Placement, set[Any]] = WeakKeyDictionary()


def check_once(statement: Any, placement: Placement | None, *, only: str | None = None) -> None:
    """Do what `check_sources` does; not again for a statement that differs only in its values from one that passed.

    Args:
        statement: The statement, with its values.
        placement: Where rows belong; None: not known.
        only: The shard that is asked, if it is a single one.
    """
    if placement is None:
        return
    cache_key = statement._generate_cache_key()
    passed = _passed.setdefault(placement, set())
    if cache_key is not None and cache_key.key in passed:
        return
    try:
        check_sources(statement, placement, is_rowwise)
    except QueryRefused:
        if only is None:
            raise
        check_sources(statement, placement, is_rowwise, only=only)  # for these values
        return
    if cache_key is not None:
        if len(passed) >= _MOST:
            passed.clear()
        passed.add(cache_key.key)


def check_one_shard(statement: Any, placement: Placement | None, parameters: Any, shard_id: Any) -> None:
    """Refuse a SELECT for one shard that needs rows of others too.

    Args:
        statement: The statement.
        placement: Where rows belong; None: not known.
        parameters: What it is executed with.
        shard_id: The shard that its sharding key names.
    """
    if isinstance(statement, Select | CompoundSelect) and not is_of_one_table(statement):
        bound = statement.params(parameters) if isinstance(parameters, dict) else statement
        check_once(bound, placement, only=shard_id)


def check_write(statement: Any, placement: Placement | None, choose: Callable[[], Iterable[Any]]) -> None:
    """Refuse an UPDATE or a DELETE whose subqueries need rows of other shards: it would change other rows.

    Args:
        statement: The statement.
        placement: Where rows belong; None: not known.
        choose: Says to which shards it goes.
    """
    written = (getattr(statement, "_values", None) or {}).values()
    values = [value for value in written if isinstance(value, ColumnElement)]
    where = statement._where_criteria
    if not any(is_subquery(element) for part in (*values, *where) for element in elements(part)):
        return
    read = select(*(values or [literal_column("1")])).select_from(statement.table).where(*where)
    try:
        check_sources(read, placement, is_rowwise)
    except QueryRefused:
        shard_ids = list(choose())
        if len(shard_ids) != 1:
            raise
        check_sources(read, placement, is_rowwise, only=shard_ids[0])
