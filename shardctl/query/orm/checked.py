"""Statements that have been looked at: on what they read their values have no influence, and to look takes long."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from shardctl.errors import QueryRefused
from shardctl.fleet.placement import Placement
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
