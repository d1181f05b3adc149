"""The shards' answers -> one answer: appended, merged by sort keys, or merged in the fleet's own engine.

Right or refused: shards must agree on columns, types and collations, and each shard's rows must come in the order in
which they are merged.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from itertools import islice

from shardctl.errors import QueryRefused
from shardctl.query.engines import ENGINES, Engine, Relation, Row, ValueType
from shardctl.query.merge import SHARD_COLUMN, EngineMerge, RowMerge, limit_sql, merge_sql
from shardctl.query.plan import QueryPlan
from shardctl.query.ranking import rank_values
from shardctl.query.scan import ShardRows

_BYTE_ORDER = {"sqlite": "BINARY", "postgresql": '"C"', "mysql": "utf8mb4_bin"}


def gather(plan: QueryPlan, answers: Sequence[ShardRows], *, with_shard: bool) -> tuple[tuple[str, ...], list[Row]]:
    """Merge the answers of a plan's shards.

    Returns:
        The columns' names, and the rows.

    Raises:
        QueryRefused: The shards do not agree on what has to be compared.
    """
    check_columns(answers)
    if isinstance(plan.merge, EngineMerge):
        return _merge_in_engine(plan.merge, plan, answers, with_shard=with_shard)
    merge = plan.merge if isinstance(plan.merge, RowMerge) else RowMerge()
    visible = len(answers[0].names) - merge.hidden
    names = answers[0].names[:visible]
    if with_shard:
        names = ("shard", *names)
    merged = _sorted_rows(merge, answers) if merge.keys else _appended(answers)
    stop = None if merge.limit is None else merge.offset + merge.limit
    rows = []
    for shard_id, row in islice(merged, merge.offset, stop):
        rows.append((shard_id, *row[:visible]) if with_shard else row[:visible])
    return names, rows


def _appended(answers: Sequence[ShardRows]) -> list[tuple[str, Row]]:
    return [(answer.shard.shard_id, row) for answer in answers for row in answer.rows]


def check_columns(answers: Sequence[ShardRows]) -> None:
    """Refuse shards that answer with different columns."""
    first = answers[0]
    for other in answers[1:]:
        if [name.lower() for name in other.names] != [name.lower() for name in first.names]:
            raise QueryRefused(
                f"shards `{first.shard.shard_id}` and `{other.shard.shard_id}` answer with different columns",
                facts=[f"{answer.shard.shard_id}: {', '.join(answer.names)}" for answer in (first, other)],
                hint="name the columns, or migrate the shards to one revision",
            )


def _sorted_rows(merge: RowMerge, answers: Sequence[ShardRows]) -> list[tuple[str, Row]]:
    engine = ENGINES[answers[0].shard.backend.name]
    columns: list[list[list[int]]] = []
    for i, key in enumerate(merge.keys):
        types = one_type(answers, key.column, key.sql)
        collation = _one_collation(answers, i, key.sql)
        values = [[row[key.column] for row in answer.rows] for answer in answers]
        ranks = rank_values(engine, answers[0].shard, values, types, collation, key.sql)
        nulls_first = key.nulls_first if key.nulls_first is not None else engine.nulls_low != key.desc
        columns.append([_positions(found, desc=key.desc, nulls_first=nulls_first) for found in ranks])
    streams = []
    for index, answer in enumerate(answers):
        keys = list(zip(*(column[index] for column in columns), strict=True))
        _check_order(keys, answer, merge)
        streams.append([(key, index, row) for key, row in zip(keys, answer.rows, strict=True)])
    merged = heapq.merge(*streams, key=lambda entry: entry[:2])
    return [(answers[index].shard.shard_id, row) for _, index, row in merged]


def _positions(ranks: Sequence[int | None], *, desc: bool, nulls_first: bool) -> list[int]:
    null = -(2**62) if nulls_first else 2**62
    return [null if rank is None else -rank if desc else rank for rank in ranks]


def _check_order(keys: Sequence[tuple[int, ...]], answer: ShardRows, merge: RowMerge) -> None:
    """Refuse if the shard's own engine ordered its rows in another way than they are merged in."""
    if any(keys[i] > keys[i + 1] for i in range(len(keys) - 1)):
        listed = ", ".join(key.sql for key in merge.keys)
        raise QueryRefused(
            f"shard `{answer.shard.shard_id}` orders by `{listed}` in a way that cannot be repeated here",
            hint="name the order of text with COLLATE",
        )


def one_type(answers: Sequence[ShardRows], column: int, what: str) -> ValueType:
    """Return the type that all shards have for a column, and refuse one that cannot be compared."""
    found = answers[0].types[column]
    for answer in answers:
        own = answer.types[column]
        if not own.is_known:
            raise QueryRefused(
                f"values of {own.name} cannot be compared over several shards yet",
                facts=[f"in: {what}"],
                hint="cast it to text or to a number",
            )
        if own != found:
            raise QueryRefused(
                f"`{what}` is {found.name} on `{answers[0].shard.shard_id}` and {own.name} on"
                f" `{answer.shard.shard_id}`",
                hint="cast it, or migrate the shards to one revision",
            )
    return found


def _one_collation(answers: Sequence[ShardRows], index: int, what: str) -> str | None:
    """Return the collation that all shards with rows compare by."""
    seen: dict[tuple[str, str | None], str] = {}
    for answer in answers:
        collation = answer.collations[index]
        if collation is not None:
            seen.setdefault((collation, answer.database_collation), answer.shard.shard_id)
    if len(seen) > 1:
        raise QueryRefused(
            f"the shards compare the text of `{what}` by different collations",
            facts=[f"{shard_id}: {' '.join(part for part in found if part)}" for found, shard_id in seen.items()],
            hint="name one with COLLATE",
        )
    return next(iter(seen))[0] if seen else None


def _merge_in_engine(
    merge: EngineMerge, plan: QueryPlan, answers: Sequence[ShardRows], *, with_shard: bool
) -> tuple[tuple[str, ...], list[Row]]:
    engine = ENGINES[answers[0].shard.backend.name]
    is_mixed = len({answer.shard.backend.name for answer in answers}) > 1
    if is_mixed or (merge.counts_only and not with_shard):
        return _merged_counts(merge, answers, with_shard=with_shard)
    types: list[ValueType] = []
    collations: list[str | None] = []
    for i, column in enumerate(merge.columns):
        types.append(one_type(answers, i, column.sql))
        collations.append(_one_collation(answers, i, column.sql) if column.is_compared else None)
    names = tuple(f"__c{i}" for i in range(len(types)))
    rows = [row for answer in answers for row in answer.rows]
    if with_shard:
        names, types = (SHARD_COLUMN, *names), [_shard_type(engine), *types]
        collations = [_BYTE_ORDER[engine.name], *collations]
        rows = [(answer.shard.shard_id, *row) for answer in answers for row in answer.rows]
    relation = Relation(names, tuple(types), tuple(collations), rows)
    own_types = types[1:] if with_shard else types
    sql = _filled(merge, engine, own_types, merge_sql(merge, shard_column=with_shard))
    sql += limit_sql(engine.name, merge.limit, merge.offset)
    output_names = answers[0].output_names
    return (("shard",) if with_shard else ()) + output_names, engine.evaluate(answers[0].shard, relation, sql)


def _shard_type(engine: Engine) -> ValueType:
    return ValueType({"mysql": "VARCHAR", "postgresql": "text"}.get(engine.name, "any"), is_text=True)


def _filled(merge: EngineMerge, engine: Engine, types: Sequence[ValueType], sql: str) -> str:
    """Put the engine's SQL in the place of `__a<n>`, and columns in the place of `__k<n>`."""
    merged: dict[str, str] = {f"__k{i}": f"__c{i}" for i in merge.keys}
    for i, aggregate in enumerate(merge.aggregates):
        columns = [f"__c{column}" for column in aggregate.columns]
        if aggregate.is_distinct:
            merged[f"__a{i}"] = f"{aggregate.kind}(DISTINCT {columns[0]})"
        else:
            merged[f"__a{i}"] = engine.aggregate(aggregate.kind, columns, [types[c] for c in aggregate.columns])
    return re.sub(r"__[ak]\d+\b", lambda match: merged[match[0]], sql)


def _merged_counts(
    merge: EngineMerge, answers: Sequence[ShardRows], *, with_shard: bool
) -> tuple[tuple[str, ...], list[Row]]:
    """Add up numbers of rows, here: of different engines too, and without one more question to a shard."""
    names = answers[0].output_names
    columns = [merge.aggregates[int(output[3:])].columns[0] for output in merge.outputs]
    per_shard = [(answer.shard.shard_id, *(answer.rows[0][column] for column in columns)) for answer in answers]
    if with_shard:
        return ("shard", *names), [*per_shard][merge.offset :][: merge.limit]
    total = tuple(sum(row[i + 1] for row in per_shard) for i in range(len(columns)))
    return names, [total][merge.offset :][: merge.limit]
