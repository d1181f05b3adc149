"""Values of a sort key -> integers in the same order, equal for equal values; None stays None.

Numbers, dates and bytes have one order everywhere. The order of text is its collation's, which only the engine knows:
the engine ranks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused
from shardctl.query.engines import Engine, Relation, ValueType

if TYPE_CHECKING:
    from shardctl.fleet import LiveShard

_RANK = "SELECT __c0, dense_rank() OVER (ORDER BY __c1) FROM __p ORDER BY __c0"
_INDEX_TYPES = {"postgresql": ValueType("bigint"), "mysql": ValueType("BIGINT")}


def rank_values(
    engine: Engine,
    shard: LiveShard,
    columns: Sequence[Sequence[Any]],
    value_type: ValueType,
    collation: str | None,
    what: str,
) -> list[list[int | None]]:
    """Return the ranks of the values, from 0.

    Args:
        engine: The engine that the values came from.
        shard: A shard that can be asked to rank text.
        columns: Values, as one list for each shard.
        value_type: Their type.
        collation: Of text: the collation that decides.
        what: The expression, for messages.
    """
    distinct = {_plain(value): None for values in columns for value in values if value is not None}
    texts = [value for value in distinct if isinstance(value, str)]
    others = [value for value in distinct if not isinstance(value, str)]
    ranks: dict[Any, int] = {}
    try:
        numbers = sorted((value for value in others if not isinstance(value, bytes)), key=_with_nan_last)
    except TypeError as error:
        raise QueryRefused("values of different types cannot be ordered", facts=[f"in: {what}"]) from error
    _append(ranks, numbers)
    if value_type.is_text or engine.name == "sqlite":
        text_ranks = _rank_texts(engine, shard, texts, value_type, collation)
        start = len(ranks)
        ranks.update({text: start + rank for text, rank in text_ranks.items()})
    elif texts:
        raise QueryRefused(f"values of {value_type.name} cannot be ordered here", facts=[f"in: {what}", texts[0]])
    start = len(distinct)
    ranks.update({value: start + i for i, value in enumerate(sorted(v for v in others if isinstance(v, bytes)))})
    return [[None if value is None else ranks[_plain(value)] for value in values] for values in columns]


def _append(ranks: dict[Any, int], ordered: Iterable[Any]) -> None:
    ranks.update({value: i for i, value in enumerate(ordered)})


class _NotANumber:
    """Equal to itself, unlike a NaN, and above every number, as PostgreSQL has it."""


_NOT_A_NUMBER = _NotANumber()


def _plain(value: Any) -> Any:
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return _NOT_A_NUMBER if value != value else value


def _with_nan_last(value: Any) -> tuple[bool, Any]:
    return (True, 0) if value is _NOT_A_NUMBER else (False, value)


def _rank_texts(
    engine: Engine, shard: LiveShard, texts: list[str], value_type: ValueType, collation: str | None
) -> dict[str, int]:
    if len(texts) < 2:  # one is in order
        return dict.fromkeys(texts, 0)
    if engine.name == "sqlite" and collation == "BINARY":  # UTF-8 bytes and code points have one order
        return {text: rank for rank, text in enumerate(sorted(texts))}
    relation = Relation(
        names=("__c0", "__c1"),
        types=(_INDEX_TYPES.get(engine.name, value_type), value_type),
        collations=(None, collation),
        rows=list(enumerate(texts)),
    )
    return {texts[index]: int(rank) - 1 for index, rank in engine.evaluate(shard, relation, _RANK)}
