"""Rows of one table on many shards, by the values of some of its columns, in as few statements as they fit in.

Shards that are schemas of one database are asked in one statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Executable,
    Integer,
    MetaData,
    Select,
    SmallInteger,
    String,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    inspect,
    literal_column,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.sql import visitors

from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.fleet.survey import Place, survey
from shardctl.rows.identities import Identity
from shardctl.rows.source import Question, Source
from shardctl.rows.spellings import Answered, Resolver, Tell

KEYS_AT_ONCE = 1_000
"""Values in one IN list at the most."""
TERMS_AT_ONCE = 20_000
"""Values in all IN lists of one statement."""
PARAMETERS_AT_ONCE = {"sqlite": 900}
"""Of one statement, where the limit is lower: SQLite's was 999 once."""
PLAIN = (Integer, BigInteger, SmallInteger, String, Text)
"""Types of keys that are the same in an array."""
BRANCHES_AT_ONCE = 200
"""SELECTs in one statement: SQLite takes 500."""

Values = tuple[Any, ...]


@dataclass(slots=True)
class Reader:
    """Asks shards for rows.

    Args:
        fleet: The fleet.
        timeout_s: Seconds for one connection; None: those of the shard map.
    """

    fleet: Fleet
    timeout_s: float | None = None
    _copies: dict[tuple[Table, str], Table] = field(default_factory=dict)
    _has: dict[tuple[str, Table], bool] = field(default_factory=dict)
    """Which shards have a table that does not belong on them."""

    def by_keys(
        self, question: Question, shards: Iterable[LiveShard], keys: Mapping[str, Sequence[Identity]]
    ) -> list[Outcome[list[Answered]]]:
        """Ask each shard for the rows of its keys, each in the order of the question's columns.

        Shards with one and the same list are asked for it together. A shard without the table, where it does not
        belong, has no row.
        """

        def read(connection: Connection, places: Sequence[Place]) -> dict[str, list[Answered]]:
            return _Reading(self, connection, question, places, keys).read()

        wanted = [shard for shard in shards if keys.get(shard.shard_id)]
        return list(survey(self.fleet, wanted, read, timeout_s=self.timeout_s))

    def where(
        self, question: Question, shards: Iterable[LiveShard], conditions: Mapping[Column[Any], Any], limit: int
    ) -> list[Outcome[list[Values]]]:
        """Ask each shard for rows in which columns have these values, `limit` of each shard at the most."""
        clauses = [column == value for column, value in conditions.items()]

        def read(connection: Connection, places: Sequence[Place]) -> dict[str, list[Values]]:
            found: dict[str, list[Values]] = {place.shard.shard_id: [] for place in places}
            having = self.having(connection, places, question.source)
            branches = [
                select(self.at(place, question.select(*clauses)).limit(limit).subquery(f"s{index}"))
                for index, place in enumerate(having)
            ]
            for index, row in _execute(connection, _union(branches), {}) if branches else ():
                found[having[index].shard.shard_id].append(row[: len(question.columns)])
            return found

        return list(survey(self.fleet, shards, read, timeout_s=self.timeout_s))

    def having(self, connection: Connection, places: Sequence[Place], source: Source) -> list[Place]:
        """Return the places that have the tables; a shard on which they belong must have them."""
        expected = self.fleet.shard_ids(source.target)
        return [
            place
            for place in places
            if place.shard.shard_id in expected
            or all(self._has_table(connection, place, table) for table in source.tables)
        ]

    def _has_table(self, connection: Connection, place: Place, table: Table) -> bool:
        key = (place.shard.shard_id, table)
        if key not in self._has:
            self._has[key] = inspect(connection).has_table(table.name, schema=table.schema or place.schema)
        return self._has[key]

    def at(self, place: Place, statement: Select[Any]) -> Select[Any]:
        """Return a statement that names the tables of one place."""
        schema = place.schema
        if schema is None:
            return statement

        def replace(element: Any, **_: Any) -> Any:
            if isinstance(element, Table) and element.schema is None:
                return self._copy(element, schema)
            table = element.table if isinstance(element, Column) else None
            if isinstance(table, Table) and table.schema is None:
                return self._copy(table, schema).c[element.key]
            return None

        moved: Any = visitors.replacement_traverse(statement, {}, replace)
        return moved  # type: ignore[no-any-return]

    def _copy(self, table: Table, schema: str) -> Table:
        """Return a table of a schema; always the same, for SQLAlchemy's cache of compiled statements."""
        if (table, schema) not in self._copies:
            columns: list[Any] = [Column(column.name, column.type, key=column.key) for column in table.columns]
            self._copies[table, schema] = Table(table.name, MetaData(), *columns, schema=schema)
        return self._copies[table, schema]


@dataclass(slots=True)
class _Reading:
    """The reading of some places on one connection."""

    reader: Reader
    connection: Connection
    question: Question
    places: Sequence[Place]
    keys: Mapping[str, Sequence[Identity]]
    statements: dict[tuple[tuple[str, str], ...], Executable] = field(default_factory=dict)

    def read(self) -> dict[str, list[Answered]]:
        found: dict[str, list[Answered]] = {place.shard.shard_id: [] for place in self.places}
        places = self.reader.having(self.connection, self.places, self.question.source)
        dialect = self.connection.dialect
        for slices in self._slices(places, dialect):
            rows = self._by_lists(slices)
            for place, asked in slices:
                own = rows[place.shard.shard_id]
                resolver = Resolver(asked, self.question.by, dialect, self._teller(place))
                found[place.shard.shard_id] += resolver.resolve(own)
        return found

    def _slices(self, places: Sequence[Place], dialect: Dialect) -> Iterator[list[tuple[Place, Sequence[Identity]]]]:
        """Yield what goes into one statement: keys for each place; one and the same list stays one."""
        lists = {id(keys): keys for place in places if (keys := self.keys[place.shard.shard_id])}
        if not lists:
            return
        width = len(self.question.by)
        parameters = PARAMETERS_AT_ONCE.get(dialect.name, TERMS_AT_ONCE)
        terms = len(lists) if _is_array(self.question.by, dialect) else len(places)
        size = min(KEYS_AT_ONCE, parameters // (len(lists) * width), TERMS_AT_ONCE // (terms * width))
        size = max(1, size)
        for start in range(0, max(map(len, lists.values())), size):
            parts = {name: keys[start : start + size] for name, keys in lists.items()}
            own = [(place, parts[id(self.keys[place.shard.shard_id])]) for place in places]
            yield [(place, part) for place, part in own if part]

    def _by_lists(self, slices: Sequence[tuple[Place, Sequence[Identity]]]) -> dict[str, list[tuple[Any, ...]]]:
        names: dict[int, str] = {}
        parameters: dict[str, Any] = {}
        for _, asked in slices:
            if id(asked) not in names:
                name = names[id(asked)] = f"keys{len(names)}"
                parameters[name] = [key[0] for key in asked] if len(self.question.by) == 1 else list(asked)
        statement = self._statement([(place, names[id(asked)]) for place, asked in slices])
        rows: dict[str, list[tuple[Any, ...]]] = {place.shard.shard_id: [] for place, _ in slices}
        for index, row in _execute(self.connection, statement, parameters):
            rows[slices[index][0].shard.shard_id].append(row)
        return rows

    def _statement(self, parts: Sequence[tuple[Place, str]]) -> Executable:
        """Return what asks each place for the keys of a parameter; the next keys are asked for by the same."""
        known = tuple((place.shard.shard_id, name) for place, name in parts)
        if known not in self.statements:
            by, dialect = self.question.by, self.connection.dialect
            branches = [
                self.reader.at(place, self.question.select(_in_list(by, name, dialect))) for place, name in parts
            ]
            self.statements[known] = _union(branches)
        return self.statements[known]

    def _teller(self, place: Place) -> Tell:
        """Return what asks the database for the rows of each key, one by one."""

        def tell(keys: Sequence[Identity]) -> Iterator[tuple[Identity, tuple[Any, ...]]]:
            for start in range(0, len(keys), BRANCHES_AT_ONCE):
                part = keys[start : start + BRANCHES_AT_ONCE]
                parameters = {f"k{i}_{j}": value for i, key in enumerate(part) for j, value in enumerate(key)}
                branches = [
                    self.reader.at(place, self.question.select(_equal(self.question.by, f"k{index}")))
                    for index in range(len(part))
                ]
                for index, row in _execute(self.connection, _union(branches), parameters):
                    yield part[index], row

        return tell


def _in_list(columns: Sequence[ColumnElement[Any]], name: str, dialect: Dialect) -> ColumnElement[bool]:
    """Return the condition that a row has a key of a parameter, which branches of one statement can share.

    To PostgreSQL plain keys are sent as one array: text with all keys for each of many schemas takes long to read.
    """
    left: Any = columns[0] if len(columns) == 1 else tuple_(*columns)
    condition: ColumnElement[bool] = left.in_(bindparam(name, expanding=True, type_=left.type))
    if _is_array(columns, dialect):
        condition = left == any_(bindparam(name, type_=ARRAY(left.type)))
    return condition


def _is_array(columns: Sequence[ColumnElement[Any]], dialect: Dialect) -> bool:
    return dialect.name == "postgresql" and len(columns) == 1 and type(columns[0].type) in PLAIN


def _equal(columns: Sequence[ColumnElement[Any]], name: str) -> ColumnElement[bool]:
    return and_(*(column == bindparam(f"{name}_{index}", type_=column.type) for index, column in enumerate(columns)))


def _union(branches: Sequence[Select[Any]]) -> Executable:
    """Return SELECTs as one statement, whose last column is the number of the branch that a row is of."""
    numbered = [branch.add_columns(literal_column(str(number)).label("n")) for number, branch in enumerate(branches)]
    return union_all(*numbered) if len(numbered) > 1 else numbered[0]


def _execute(
    connection: Connection, statement: Executable, parameters: Mapping[str, Any]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Yield rows, each with the number of its branch."""
    for row in connection.execute(statement, parameters):
        yield row[-1], tuple(row[:-1])
