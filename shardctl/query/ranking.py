"""Values of a sort key -> integers in the same order, equal for equal values; None stays None.

Numbers, dates and bytes have one order everywhere. The order of text is its collation's, which only the engine knows:
the engine ranks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused
from shardctl.query.engines import Engine, Relation, ValueType

if TYPE_CHECKING:
    from shardctl.fleet import LiveShard

_RANK = "SELECT __c0, dense_rank() OVER (ORDER BY __c1) FROM __p ORDER BY __c0"
_DESC = (3, 2, 1, 0)
"""Numbers, NaN, text and bytes, where the greatest comes first."""
_INDEX_TYPES = {"postgresql": ValueType("bigint"), "mysql": ValueType("BIGINT")}


class SortPosition:
    """Where a value stands among others: first by what it is, then by itself."""

    __slots__ = ("desc", "kind", "value")

    def __init__(self, kind: int, value: Any, *, desc: bool) -> None:
        self.kind = kind
        self.value = value
        self.desc = desc

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SortPosition) and self.kind == other.kind and bool(self.value == other.value)

    def __lt__(self, other: SortPosition) -> bool:
        if self.kind != other.kind:
            return self.kind < other.kind
        return bool(other.value < self.value if self.desc else self.value < other.value)

    __hash__ = None  # type: ignore[assignment]


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


def sort_position(*, desc: bool, nulls_first: bool) -> Callable[[Any], SortPosition]:
    """Return what makes a value comparable by itself: a number, a date, bytes, or text in the order of code points.

    Comparing raises TypeError where two values have no order.
    """
    null = -1 if nulls_first else 4

    def position(value: Any) -> SortPosition:
        if value is None:
            return SortPosition(null, 0, desc=False)
        value = _plain(value)
        if value is _NOT_A_NUMBER:
            return SortPosition(_DESC[1] if desc else 1, 0, desc=False)
        kind = 2 if isinstance(value, str) else 3 if isinstance(value, bytes) else 0
        return SortPosition(_DESC[kind] if desc else kind, value, desc=desc)

    return position


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
