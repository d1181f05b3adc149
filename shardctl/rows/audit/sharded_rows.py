"""One table's rows by the sharding keys that they are placed by: their own, or those of what they follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    UniqueConstraint,
    bindparam,
    case,
    func,
    inspect,
    literal_column,
    or_,
    select,
)
from sqlalchemy.orm import aliased
from sqlalchemy.types import NullType

from shardctl.fleet import LiveShard
from shardctl.fleet.rules import Follow, Sharded
from shardctl.rows.audit.chunks import Cursor, next_chunk
from shardctl.rows.audit.finding import SAMPLES, Scope
from shardctl.rows.audit.keys import Key, Value, engine_of, exact, is_plain, plain_type, raw
from shardctl.rows.audit.reading import rows_of, table_of
from shardctl.rows.identities import Target

BESIDE = 0
"""How a row stands whose parents are beside it, to the last one; above: it names none, or its parent, and so on."""
PARENT_ELSEWHERE = -1
"""How a row stands whose parent, or a parent's, is on another shard, or nowhere."""


class Group(NamedTuple):
    """Rows of one shard that have one sharding key."""

    key: tuple[Any, ...]
    size: int
    stored: tuple[Any, ...]
    """The sharding key as the driver gives it, or the primary key."""
    standing: int = BESIDE


@dataclass(frozen=True, slots=True)
class Part:
    """What one read of a shard gave."""

    groups: Sequence[Group]
    rows: int
    last: Value | None
    """The last key; None: there are no more rows."""
    within: Sequence[ColumnElement[bool]] = ()
    """The rows that were read."""
    is_by_row: bool = False
    """Whether each group is one row, whose primary key is `stored`."""


@dataclass(slots=True)
class ShardedRows:
    """Reads one table's rows on shards of any engine.

    Args:
        scope: What to look at.
        target: The class or table.
        rule: By what the rows are placed: the rule of the last one of those that are followed.
        chain: The rules by which they follow it, from child to parent.
    """

    scope: Scope
    target: Target
    rule: Sharded
    chain: Sequence[Follow] = ()
    _links: list[Any] = field(default_factory=list)
    """The aliased parents."""

    def __post_init__(self) -> None:
        self._links = [aliased(follow.parent.class_) for follow in self.chain]

    @property
    def primary_key(self) -> tuple[Column[Any], ...]:
        table = table_of(self.target)
        return tuple(column for column in table.primary_key if isinstance(column, Column))

    @property
    def sharding_key(self) -> list[ColumnElement[Any]]:
        """The columns that decide, of the row itself or of the parent at the end."""
        if not self._links:
            return list(self.rule.columns)
        return [getattr(self._links[-1], attribute) for attribute in self.rule.attributes]

    @property
    def is_unique(self) -> bool:
        """Whether each row has a sharding key of its own, so that grouping would only cost."""
        if self.chain:
            return False
        columns = set(self.rule.columns)
        table = table_of(self.target)
        unique = [set(item.columns) for item in table.constraints if isinstance(item, UniqueConstraint)]
        unique += [set(index.columns) for index in table.indexes if index.unique]
        return any(found and found <= columns for found in (set(self.primary_key), *unique))

    def read(self, shard: LiveShard, cursor: Cursor) -> Part:
        """Read the next rows."""
        engine = engine_of(shard.engine.dialect)
        where = self._since()
        with shard.connect(keep=True) as connection:
            if not self.primary_key:  # nothing to go on by
                groups = self._groups(connection, engine, where)
                return Part(groups, sum(group.size for group in groups), None, where)
            key = Key(self.primary_key, engine)
            if self.is_unique and self.scope.sample is None:
                return self._rows(connection, key, cursor, where)
            chunk = next_chunk(connection, self.scope, key, cursor, where)
            if chunk is None:
                return Part((), 0, None)
            within = [*key.between(chunk.first, chunk.last), *where]
            groups = self._groups(connection, engine, within)
        return Part(groups, sum(group.size for group in groups), chunk.last, within)

    def _since(self) -> list[ColumnElement[bool]]:
        condition = self.scope.since.get(table_of(self.target).key)
        return [] if condition is None else [condition]

    def _groups(self, connection: Connection, engine: str, where: Sequence[ColumnElement[bool]]) -> list[Group]:
        keys = self.sharding_key
        grouped = list(keys)
        grouped += [exact(key, engine) for key in keys if not is_plain(plain_type(key), engine)]
        selected = [func.count(), *keys, *[raw(key) for key in keys]]
        if self._links:
            standing = self._standing().label("standing")
            selected.append(standing)
            grouped.append(standing)
        statement = self._joined(select(*selected)).where(*where).group_by(*grouped)
        width = len(keys)
        return [
            Group(
                tuple(row[1 : 1 + width]),
                row[0],
                tuple(row[1 + width : 1 + 2 * width]),
                int(row[-1]) if self._links else BESIDE,
            )
            for row in connection.execute(statement)
        ]

    def _rows(self, connection: Connection, key: Key, cursor: Cursor, where: list[ColumnElement[bool]]) -> Part:
        parts, width = key.parts, len(self.rule.columns)
        statement = (
            select(*self.rule.columns, *parts)
            .where(*key.between(cursor.last, None), *where)
            .order_by(*parts)
            .limit(self.scope.chunk)
        )
        rows = connection.execute(statement).all()
        groups = [Group(tuple(row[:width]), 1, tuple(row[width:])) for row in rows]
        return Part(groups, len(rows), groups[-1].stored if len(rows) == self.scope.chunk else None, is_by_row=True)

    def _joined(self, statement: Select[Any]) -> Select[Any]:
        """Join the parents that are beside the rows."""
        if not self._links:
            return statement.select_from(table_of(self.target))
        child: Any = self.target.class_  # type: ignore[union-attr]
        statement = statement.select_from(child)
        for follow, parent in zip(self.chain, self._links, strict=True):
            statement = statement.outerjoin(getattr(child, follow.relationship.key).of_type(parent))
            child = parent
        return statement

    def _standing(self) -> ColumnElement[Any]:
        """Say of each row whether its parents are beside it, to the last one."""
        child: Any = self.target.class_  # type: ignore[union-attr]
        whens: list[tuple[Any, Any]] = []
        for number, (follow, parent) in enumerate(zip(self.chain, self._links, strict=True), 1):
            whens.append((or_(*[attribute.is_(None) for attribute in _links_of(child, follow)]), number))
            whens.append((_identity_of(parent)[0].is_(None), PARENT_ELSEWHERE))
            child = parent
        # Not bound: PostgreSQL takes an expression with parameters for another one where it groups.
        literals: list[tuple[Any, Any]] = [(condition, literal_column(str(value))) for condition, value in whens]
        return case(*literals, else_=literal_column(str(BESIDE)))

    def samples(self, shard: LiveShard, part: Part, group: Group) -> list[tuple[Any, ...]]:
        """Return primary keys of some rows of a group that was read."""
        if not self.primary_key:
            return []
        engine = engine_of(shard.engine.dialect)
        statement = self._joined(select(*self.primary_key)).limit(SAMPLES)
        if self._links:
            statement = statement.where(self._standing() == literal_column(str(group.standing)))
        if part.is_by_row:
            statement = statement.where(Key(self.primary_key, engine).one_of([group.stored]))
        elif group.standing == BESIDE:
            keys = zip(self.sharding_key, group.stored, strict=True)
            statement = statement.where(*part.within, *[_is(column, value, engine) for column, value in keys])
        else:
            statement = statement.where(*part.within)
        return [tuple(row) for row in rows_of(shard, statement)]


def _links_of(child: Any, follow: Follow) -> list[Any]:
    """Return the attributes that name the parent."""
    mapper = inspect(child).mapper
    locals_ = [local for local, _ in follow.relationship.local_remote_pairs or ()]
    return [getattr(child, mapper.get_property_by_column(local).key) for local in locals_]


def _identity_of(entity: Any) -> list[Any]:
    mapper = inspect(entity).mapper
    return [getattr(entity, mapper.get_property_by_column(column).key) for column in mapper.primary_key]


def _is(column: ColumnElement[Any], value: Any, engine: str) -> ColumnElement[bool]:
    """Return the condition that a column holds exactly what the driver gave."""
    if value is None:
        return column.is_(None)
    if is_plain(plain_type(column), engine):
        return raw(column) == bindparam(None, value, type_=NullType())
    given = value.encode() if engine == "mysql" and isinstance(value, str) else value
    return exact(column, engine) == bindparam(None, given, type_=NullType())
