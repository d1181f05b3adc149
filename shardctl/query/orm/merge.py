"""The shards' results -> one result, as a Plan says."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import Connection, CursorResult, IteratorResult, Result
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import CompileError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import ColumnClause, Label, literal_column

from shardctl.errors import QueryRefused
from shardctl.query.engines import ENGINES, Engine, Relation, ValueType
from shardctl.query.merge import limit_sql
from shardctl.query.orm.collations import agreed, collation_of
from shardctl.query.orm.groups import Groups
from shardctl.query.orm.parts import OrderKey, refuse, shown
from shardctl.query.orm.plan import HIDDEN, Rows
from shardctl.query.ranking import rank_values

if TYPE_CHECKING:
    from shardctl.fleet import LiveShard

Look = Callable[[CursorResult[Any], Connection], "Seen"]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """What merging has to know of a database's own result."""

    types: tuple[ValueType, ...]
    """Of the columns that are compared."""
    collations: tuple[str | None, ...]
    database_collation: str | None
    connection: Connection
    rows: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """A connection, in the place of the shard that an engine's own merging connects to."""

    connection: Connection

    @contextmanager
    def connect(self, *, read_only: bool = True) -> Iterator[Connection]:
        yield self.connection

    def read(self, run: Callable[[Connection], T]) -> T:
        return run(self.connection)


def engine_of(connection: Connection) -> Engine:
    return ENGINES["mysql" if connection.dialect.name == "mariadb" else connection.dialect.name]


def look_at_keys(plan: Rows, statement: Any) -> Look:
    """Return what looks at the sort keys of a result."""

    def look(result: CursorResult[Any], connection: Connection) -> Seen:
        engine = engine_of(connection)
        names = list(result.keys()) if result.cursor is None else [entry[0] for entry in result.cursor.description]
        places = [
            next(place for place, name in enumerate(names) if name.endswith(f"{HIDDEN}{i}"))
            for i in range(len(plan.keys))
        ]
        types = engine.types(result)
        own = [types[place] for place in places]
        return _seen(connection, statement, own, [key.expression for key in plan.keys], keeps_groups=True)

    return look


def look_at_parts(plan: Groups, statement: Any) -> Look:
    """Return what looks at a result of partial aggregates, and takes its rows."""

    def look(result: CursorResult[Any], connection: Connection) -> Seen:
        types = engine_of(connection).types(result)
        rows = result.cursor_strategy.fetchall(result, cast("Any", result.cursor))
        expressions = [column if i in plan.compared else None for i, column in enumerate(plan.columns)]
        seen = _seen(connection, statement, types, expressions)
        return Seen(seen.types, seen.collations, seen.database_collation, connection, [tuple(row) for row in rows])

    return look


def _seen(
    connection: Connection,
    statement: Any,
    types: Sequence[ValueType],
    expressions: Sequence[Any],
    *,
    keeps_groups: bool = False,
) -> Seen:
    collations = tuple(
        collation_of(
            connection, statement, expression if keeps_groups else _probe(expression), keeps_groups=keeps_groups
        )
        if type_.is_text and expression is not None
        else None
        for type_, expression in zip(types, expressions, strict=True)
    )
    database = engine_of(connection).database_collation().ask(connection) if any(collations) else None
    return Seen(tuple(types), collations, database, connection)


def _probe(expression: Any) -> Any:
    """Return what a value's collation comes from: an aggregate's from what it is of."""
    clauses = list(getattr(getattr(expression, "func", expression), "clauses", ()))
    name = getattr(expression, "name", "")
    return clauses[0] if name in {"min", "max"} and len(clauses) == 1 else expression


def merged_rows(plan: Rows, results: Sequence[Result[Any]], seen: Sequence[Seen], shard_ids: Sequence[Any]) -> Any:
    """Merge the sessions' results of rows."""
    first = results[0]
    unique = getattr(first, "_unique_filter_state", None) is not None
    if not plan.keys and plan.limit is None and not plan.offset:
        return first.merge(*results[1:])
    streams: list[Iterable[Any]] = [result._raw_row_iterator() for result in results]
    if unique:  # an eager join repeats a row for each of its collection's
        streams = [_once(stream) for stream in streams]
    rows = _sorted(plan, streams, seen, shard_ids) if plan.keys else chain.from_iterable(streams)
    stop = None if plan.limit is None else plan.offset + plan.limit
    scalars = first._source_supports_scalars
    merged: IteratorResult[Any] = IteratorResult(
        first._metadata, islice(rows, plan.offset, stop), _source_supports_scalars=scalars
    )
    merged._unique_filter_state = first._unique_filter_state
    merged._attributes = merged._attributes.union(first._attributes)
    return merged.columns(*range(len(first._metadata._keys) - len(plan.keys))) if plan.keys else merged


def _once(rows: Iterable[Any]) -> Iterator[Any]:
    seen = set()
    for row in rows:
        key = tuple(_identity(value) for value in row) if isinstance(row, tuple) else _identity(row)
        if key not in seen:
            seen.add(key)
            yield row


def _identity(value: Any) -> Any:
    if hasattr(value, "_sa_instance_state"):
        return id(value)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _sorted(plan: Rows, streams: Sequence[Iterable[Any]], seen: Sequence[Seen], shard_ids: Sequence[Any]) -> Any:
    rows = [list(stream) for stream in streams]
    engine = _one_engine(seen, plan.keys[0])
    columns = []
    for i, key in enumerate(plan.keys):
        values = [[row[i - len(plan.keys)] for row in own] for own in rows]
        columns.append(_positions(engine, key, i, values, seen, shard_ids))
    keyed = []
    for number, own in enumerate(rows):
        keys = list(zip(*(column[number] for column in columns), strict=True))
        if any(keys[i] > keys[i + 1] for i in range(len(keys) - 1)):
            refuse(
                f"`{shard_ids[number]}` orders in a way that cannot be repeated here",
                plan.keys[0].expression,
                hint="name the order of text with `collate()`",
            )
        keyed.append([(key, number, row) for key, row in zip(keys, own, strict=True)])
    return (row for _, _, row in heapq.merge(*keyed, key=lambda entry: entry[:2]))


def _positions(
    engine: Engine, key: OrderKey, number: int, values: list[list[Any]], seen: Sequence[Seen], names: Sequence[Any]
) -> list[list[int]]:
    what = shown(key.expression)
    type_ = agreed([own.types[number] for own in seen], names, what, "declare a sort key")
    if not type_.is_known:
        refuse(f"values of {type_.name} cannot be compared", key.expression, hint="cast it to text or to a number")
    collation = _collation(number, seen, names, what)
    place = cast("LiveShard", _Place(seen[0].connection))  # ranking needs no more of a shard than its connection
    ranks = rank_values(engine, place, values, type_, collation, what)
    nulls_first = key.nulls_first if key.nulls_first is not None else engine.nulls_low != key.desc
    null = -(2**62) if nulls_first else 2**62
    return [[null if rank is None else -rank if key.desc else rank for rank in own] for own in ranks]


def _collation(number: int, seen: Sequence[Seen], names: Sequence[Any], what: str) -> str | None:
    """Return the collation that all shards with rows compare by."""
    found = [
        None if own.collations[number] is None else (own.collations[number], own.database_collation) for own in seen
    ]
    both = agreed(found, names, what, "compare text")
    return None if both is None else both[0]


def _one_engine(seen: Sequence[Seen], part: Any) -> Engine:
    engines = [engine_of(own.connection) for own in seen]
    names = sorted({engine.name for engine in engines})
    if len(names) > 1:
        part = part.expression if isinstance(part, OrderKey) else part
        refuse(f"{' and '.join(names)} compare and calculate differently", part)
    return engines[0]


def merged_groups(plan: Groups, seen: Sequence[Seen], shard_ids: Sequence[Any]) -> Any:
    """Merge partial aggregates in the shards' own engine, on the first shard's connection."""
    engine = _one_engine(seen, plan.columns[0])
    types, collations = [], []
    for number, column in enumerate(plan.columns):
        type_ = agreed([own.types[number] for own in seen], shard_ids, shown(column), "declare a column")
        if not type_.is_known:
            refuse(f"values of {type_.name} cannot be put together", column, hint="cast it to text or to a number")
        types.append(type_)
        collations.append(_collation(number, seen, shard_ids, shown(column)))
    names = tuple(f"__c{i}" for i in range(len(types)))
    relation = Relation(names, tuple(types), tuple(collations), [row for own in seen for row in own.rows])
    connection = seen[0].connection
    place = cast("LiveShard", _Place(connection))
    rows = engine.evaluate(place, relation, _merging_sql(plan, engine, types, connection))
    return _typed(plan, rows, connection)


def _merging_sql(plan: Groups, engine: Engine, types: Sequence[ValueType], connection: Connection) -> str:
    aggregates = []
    for aggregate in plan.aggregates:
        names = [f"__c{column}" for column in aggregate.columns]
        if aggregate.is_distinct:
            aggregates.append(f"{aggregate.kind}(DISTINCT {names[0]})")
        else:
            aggregates.append(engine.aggregate(aggregate.kind, names, [types[c] for c in aggregate.columns]))

    def filled(element: Any, **_: Any) -> Any:
        if isinstance(element, ColumnClause) and element.table is None and element.name.startswith("__a"):
            return literal_column(aggregates[int(element.name[3:])], element.type)
        return None

    dialect = _literal_dialect(connection)

    def text(expression: Any) -> str:
        plain = expression.element if isinstance(expression, Label) else expression
        done = visitors.replacement_traverse(plain, {}, filled)
        try:
            return str(done.self_group().compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        except CompileError as error:
            raise QueryRefused("an expression around aggregates cannot be merged", facts=[str(error)]) from error

    outputs = [f"{text(output)} AS __o{i}" for i, output in enumerate(plan.outputs)]
    sql = f"SELECT {', '.join(outputs)} FROM __p"
    if plan.keys:
        sql += f" GROUP BY {', '.join(dict.fromkeys(f'__c{number}' for _, number in plan.keys))}"
    if plan.having:
        sql += f" HAVING {' AND '.join(text(clause) for clause in plan.having)}"
    if plan.order:
        sql += f" ORDER BY {', '.join(f'{text(key.expression)} {_direction(key, engine)}' for key in plan.order)}"
    return sql + limit_sql(engine.name, plan.limit, plan.offset)


def _direction(key: OrderKey, engine: Engine) -> str:
    nulls = ""
    if key.nulls_first is not None:
        if engine.name == "mysql":
            refuse("MySQL has no NULLS FIRST", key.expression)
        nulls = " NULLS FIRST" if key.nulls_first else " NULLS LAST"
    return ("DESC" if key.desc else "ASC") + nulls


def _literal_dialect(connection: Connection) -> Any:
    """Return a dialect that writes values into SQL, and leaves `%` alone."""
    dialect = copy.copy(connection.dialect)
    dialect.paramstyle, dialect.positional = "named", False
    dialect.identifier_preparer = dialect.preparer(dialect)
    return dialect


_CODES = {"Decimal": 1700, "float": 701, "int": 20}
"""PostgreSQL's object ids, by which its types tell what a driver makes of a number."""


def _typed(plan: Groups, rows: Iterable[Sequence[Any]], connection: Connection) -> Any:
    """Make the driver's values what the statement's types make of them."""
    dialect = connection.dialect
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in plan.outputs]
    for column, output in zip(columns, plan.outputs, strict=True):
        kind = next((type(value).__name__ for value in column if value is not None), "Decimal")
        processor = output.type.dialect_impl(dialect).result_processor(dialect, _CODES.get(kind))
        if processor is not None:
            column[:] = map(processor, column)
    return IteratorResult(SimpleResultMetaData(plan.names), iter(list(zip(*columns, strict=True))))
