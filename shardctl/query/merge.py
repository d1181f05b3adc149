"""How the shards' answers become one: the part of a plan that describes merging."""

from __future__ import annotations

from dataclasses import dataclass

SHARD_COLUMN = "__shard"


@dataclass(frozen=True, slots=True)
class SortKey:
    """One entry of ORDER BY, as a column of what the shards return."""

    column: int
    """Counted from the end if negative: the hidden columns are the last ones."""
    desc: bool
    nulls_first: bool | None
    """None: as the engine does."""
    sql: str
    probe: str | None
    """The expression whose collation the values have; None if it is not known, as for a column of `*`."""


@dataclass(frozen=True, slots=True)
class RowMerge:
    """Rows of all shards, one after another or merged by their sort keys."""

    keys: tuple[SortKey, ...] = ()
    hidden: int = 0
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class PartialColumn:
    """One column of what each shard computes; `__c<n>` in the merged relation."""

    sql: str
    """What the shard computes."""
    is_compared: bool
    """Whether its values are compared when they are merged, so that a text's collation matters."""
    probe: str | None = None
    """The expression whose collation the values have."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate of the statement; `__a<n>` in the merging SELECT."""

    kind: str
    columns: tuple[int, ...]
    """Of the partial columns: one, or for `avg` the sum and the count."""
    is_distinct: bool = False


@dataclass(frozen=True, slots=True)
class EngineMerge:
    """Partial results of the shards -> one result, by a SELECT in the fleet's own engine."""

    columns: tuple[PartialColumn, ...]
    keys: tuple[int, ...]
    """The columns that are grouped by."""
    aggregates: tuple[Aggregate, ...]
    outputs: tuple[str, ...]
    distinct: bool
    having: str | None
    order: tuple[str, ...]
    limit: int | None
    offset: int
    names_sql: str
    """A statement with the columns' names, and no rows."""
    counts_only: bool
    """Whether all that is merged is numbers of rows, which every engine counts alike."""


def merge_sql(merge: EngineMerge, *, shard_column: bool = False) -> str:
    """Return the SELECT over the merged relation, its aggregates still named `__a<n>` and its keys `__k<n>`."""
    outputs = [f"{output} AS __o{i}" for i, output in enumerate(merge.outputs)]
    keys = [f"__k{column}" for column in merge.keys]
    if shard_column:
        outputs.insert(0, "__shard AS __oshard")
        keys.insert(0, "__shard")
    sql = f"SELECT {'DISTINCT ' if merge.distinct else ''}{', '.join(outputs)} FROM __p"
    if keys:
        sql += f" GROUP BY {', '.join(keys)}"
    if merge.having:
        sql += f" HAVING {merge.having}"
    if merge.order:
        sql += f" ORDER BY {', '.join(merge.order)}"
    return sql


def limit_sql(engine: str, limit: int | None, offset: int) -> str:
    """Return LIMIT and OFFSET as this engine writes them."""
    if limit is None and not offset:
        return ""
    if limit is None:
        endless = {"sqlite": "-1", "postgresql": "ALL"}.get(engine, str(2**64 - 1))
        return f" LIMIT {endless} OFFSET {offset}"
    return f" LIMIT {limit}" + (f" OFFSET {offset}" if offset else "")


def row_steps(merge: RowMerge) -> str:
    if merge.keys:
        text = "sort by " + ", ".join(key.sql + (" DESC" if key.desc else "") for key in merge.keys)
    else:
        text = "append"
    if merge.limit is not None:
        text += f", take {merge.limit}"
    if merge.offset:
        text += f" after the first {merge.offset}"
    return text


def merge_steps(merge: EngineMerge) -> list[str]:
    steps = [f"__c{i} = {column.sql}" for i, column in enumerate(merge.columns)]
    for i, aggregate in enumerate(merge.aggregates):
        inner = ", ".join(f"__c{column}" for column in aggregate.columns)
        steps.append(f"__a{i} = {aggregate.kind} of {'distinct ' if aggregate.is_distinct else ''}{inner}")
    steps.append(merge_sql(merge))
    return steps
