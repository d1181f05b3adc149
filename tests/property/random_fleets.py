"""Random tables, rules and rows, put on shards where the rules place them, and all of them in one database."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.orm import foreign, registry, relationship

from shardctl.fleet.engines import open_shards
from shardctl.fleet.fleet import Fleet
from shardctl.fleet.live_shard import LiveShard
from shardctl.fleet.models import collect
from shardctl.query.orm.session import MergingSession
from shardctl.topology.buckets import BUCKETS
from shardctl.topology.model import FollowingTable, ReferenceTable, Shard, ShardedTable, ShardMap, TableRule
from shardctl.topology.strategies import Hash, Lookup, Range, Strategy
from tests.fixtures.engines import Databases
from tests.property.drawing import Choices

VALUES: dict[str, list[Any]] = {
    "int": [1, 2, 3, 4, 5, 6, 7, 0, -1],
    "big": [1, 2, 3, 4, 5, 6, 7, 0, 2**40],
    "txt": ["a", "b", "A", "c", "1", "2", "", "B", "ä"],
    "day": [datetime.date(2024, month, 1) for month in range(1, 9)],
    "dec": [Decimal("1.50"), Decimal(2), Decimal("-0.25"), Decimal(3), Decimal("1.10")],
    "flt": [0.5, 2.0, -1.25, 3.0, 1e6],
    "bool": [True, False],
}
"""Few values of each kind, so that rows meet, tie and repeat."""
TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "int": sa.Integer(),
    "big": sa.BigInteger(),
    "txt": sa.String(12),
    "day": sa.Date(),
    "dec": sa.Numeric(8, 2),
    "flt": sa.Float(53),
    "bool": sa.Boolean(),
}
KINDS = {"v": "int", "w": "int", "g": "big", "t": "txt", "u": "txt", "d": "day", "n": "dec", "f": "flt", "b": "bool"}
"""The columns beside keys: one name is of one kind in every table, so that a name may mean several tables' columns."""
NAMES = ("alpha", "beta", "gamma", "delta", "eps")


@dataclass(frozen=True, repr=False)
class RandomTable:
    """A table, and where its rows are."""

    name: str
    kinds: dict[str, str]
    """The kind of each column; the first is the primary key."""
    nullable: frozenset[str]
    key: tuple[str, ...] = ()
    """The columns that the strategy places a row by; none of a reference table, or where the parent has them."""
    strategy: Strategy | None = None
    parent: RandomTable | None = None
    ties: tuple[tuple[str, str], ...] = ()
    """Its own columns, and the parent's, by which it follows it."""
    indexed: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        listed = ", ".join(f"{n} {k}{'' if n in self.nullable else '!'}" for n, k in self.kinds.items())
        rule = f"follows {self.parent.name} by {self.ties}" if self.parent else f"{self.strategy_text()} of {self.key}"
        return f"{self.name}({listed}) {rule}"

    def strategy_text(self) -> str:
        if isinstance(self.strategy, Hash):
            return f"hash over {', '.join(self.strategy.shard_ids)} #{hash(self.strategy.buckets) % 1000}"
        return "copy" if self.strategy is None else repr(self.strategy)


@dataclass(frozen=True, repr=False)
class RandomSchema:
    """Tables, shards, and how many rows to make."""

    engine: str
    shard_ids: tuple[str, ...]
    tables: tuple[RandomTable, ...]
    most_rows: int
    seed: int
    """Of the rows."""
    place: str
    """Where rows meet: `duckdb`, `database`, or either."""
    is_everywhere: bool = False
    """Whether rows are on any shard of their table, and every one is asked."""
    statements_seed: int = 0

    def __repr__(self) -> str:
        which = "any shard has any row" if self.is_everywhere else "placed"
        lines = [f"{self.engine}, {len(self.shard_ids)} shards, up to {self.most_rows} rows, {self.place}, {which}"]
        return "\n".join([*lines, *map(str, self.tables)])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show Hypothesis the text too, instead of 1024 buckets a table."""
        printer.text(str(self))


@st.composite
def schemas(draw: st.DrawFn, engine: str) -> RandomSchema:
    """Draw two to five tables: one at least is sharded, and others follow it, share its strategy, or are copies."""
    choices = Choices(draw)
    shard_ids = ("a", "b", "c", "d")[: choices.number(2, 4)]
    tables: list[RandomTable] = []
    for name in NAMES[: choices.number(2, 5)]:
        form = choices.pick(["sharded", "follows", "same", "same", "other", "reference"]) if tables else "sharded"
        tables.append(_table(choices, engine, name, form, tables, shard_ids))
    return RandomSchema(
        engine,
        shard_ids,
        tuple(tables),
        most_rows=choices.pick([12, 25, 25, 25, 5, 1]),
        seed=choices.number(0, 2**16),
        place=choices.pick(["either", "duckdb", "database"]) if engine != "sqlite" else "here",
        is_everywhere=choices.one_in(6),
        statements_seed=choices.number(0, 2**30),
    )


def _table(
    choices: Choices, engine: str, name: str, form: str, before: list[RandomTable], shard_ids: tuple[str, ...]
) -> RandomTable:
    kinds = {"id": "int"}
    sharded = [table for table in before if table.strategy is not None]
    parents = [table for table in before if table.strategy is not None or table.parent is not None]
    key: tuple[str, ...] = ()
    strategy: Strategy | None = None
    parent: RandomTable | None = None
    ties: tuple[tuple[str, str], ...] = ()
    if form == "follows":
        parent = choices.pick(parents)
        kinds["p"] = choices.pick([parent.kinds["id"], "big"])
        ties = (("p", "id"),)
        if parent.key and parent.key != ("id",) and not choices.one_in(3):
            kinds |= {column: parent.kinds[column] for column in parent.key if column != "id"}
            ties += tuple((column, column) for column in parent.key if column != "id")
    elif form == "same" and sharded:
        model = choices.pick(sharded)
        strategy, key = model.strategy, model.key
        kinds |= {column: model.kinds[column] for column in key if column != "id"}
        if len(key) == 1 and choices.one_in(4):
            key = ("k",) if key == ("id",) else key  # the values of one table's id are another one's `k`
            kinds["k"] = model.kinds[model.key[0]]
        if kinds.get("k") == "int" and isinstance(strategy, Hash) and choices.one_in(3):
            kinds["k"] = choices.pick(["big", "txt"])
        elif kinds.get("k") == "int" and choices.one_in(3):
            kinds["k"] = "big"
    elif form != "reference":
        strategy, key, more = _strategy(choices, engine, shard_ids)
        kinds |= more
    for column in choices.some([column for column in KINDS if column not in kinds], 2, 5):
        kinds[column] = KINDS[column]
    nullable = frozenset(column for column in kinds if column != "id" and not choices.one_in(3))
    indexed = frozenset(column for column in kinds if column != "id" and choices.one_in(4))
    return RandomTable(name, kinds, nullable, key, strategy, parent, ties, indexed)


def _strategy(
    choices: Choices, engine: str, shard_ids: tuple[str, ...]
) -> tuple[Strategy, tuple[str, ...], dict[str, str]]:
    form = choices.pick(["hash k", "hash id", "hash txt", "hash pair", "range int", "range day", "lookup", "hash k"])
    if form.startswith("hash"):
        # One of the shards may have no bucket, or two tables differ in a few buckets only.
        used = shard_ids if not choices.one_in(4) else shard_ids[1:]
        strategy = Hash(tuple(used[(bucket * 7 + 3) % len(used)] for bucket in range(BUCKETS)))
        if choices.one_in(4):
            strategy = Hash((*strategy.buckets[: BUCKETS // 2], *(used[0] for _ in range(BUCKETS // 2))))
        kinds: dict[str, dict[str, str]] = {
            "hash k": {"k": "int"},
            "hash id": {},
            "hash txt": {"k": "txt"},
            "hash pair": {"k": "int", "j": "txt"},
        }
        return strategy, tuple(kinds[form]) or ("id",), kinds[form]
    if form == "lookup":
        listed = {value: choices.pick(shard_ids) for value in VALUES["txt"]}
        return Lookup(listed), ("k",), {"k": "txt"}
    kind = form.removeprefix("range ")
    values = sorted(VALUES[kind])
    bounds = sorted(choices.some(values[1:], 1, len(shard_ids) - 1))
    return Range(tuple(bounds), tuple(shard_ids[: len(bounds) + 1])), ("k",), {"k": kind}


def placed_rows(schema: RandomSchema) -> dict[str, list[tuple[dict[str, Any], str | None]]]:
    """Make every table's rows, each with its shard; None: on every shard."""
    source = random.Random(schema.seed)
    found: dict[str, list[tuple[dict[str, Any], str | None]]] = {}
    for table in schema.tables:
        rows: list[tuple[dict[str, Any], str | None]] = []
        twin: dict[str, Any] | None = None
        for i in range(1, source.randrange(schema.most_rows + 1) + source.randrange(2) + 1):
            row = {name: _value(source, table, name, kind) for name, kind in table.kinds.items()}
            if twin is not None and source.random() < 0.2:
                row = dict(twin)  # but for its id
            row["id"] = i
            above = source.choice(found[table.parent.name]) if table.parent and found[table.parent.name] else None
            if above is not None and source.random() < 0.85:
                row |= {own: above[0][other] for own, other in table.ties}
                row |= {
                    own: source.choice(VALUES[table.kinds[own]])
                    for own, _ in table.ties
                    if row[own] is None and own not in table.nullable
                }
            rows.append((row, _home(source, schema, table, row, found)))
            twin = row
        found[table.name] = rows
    return found


def _value(source: random.Random, table: RandomTable, name: str, kind: str) -> Any:
    if name in table.nullable and source.random() < 0.15:
        return None
    return source.choice(VALUES[kind])


def _home(
    source: random.Random, schema: RandomSchema, table: RandomTable, row: dict[str, Any], found: dict[str, Any]
) -> str | None:
    """Return a row's shard; a row that no rule places may be on any."""
    if schema.is_everywhere and (table.strategy is not None or table.parent is not None):
        return source.choice(_shard_ids(table))
    if table.strategy is not None:
        key = tuple(row[column] for column in table.key)
        return table.strategy.place(key) if None not in key else source.choice(table.strategy.shard_ids)
    if table.parent is None:
        return None
    for parent, home in found[table.parent.name]:
        if all(_is_equal(schema.engine, row[own], parent[other]) for own, other in table.ties):
            return str(home)
    key_at = carried(table)
    if key_at is not None and all(row[column] is not None for column in key_at[1]):
        return key_at[0].place(tuple(row[column] for column in key_at[1]))
    return source.choice(_shard_ids(table))


def _shard_ids(table: RandomTable) -> tuple[str, ...]:
    """Return the shards that a table is on: no other one is asked for its rows."""
    while table.strategy is None and table.parent is not None:
        table = table.parent
    assert table.strategy is not None
    return table.strategy.shard_ids


def _is_equal(engine: str, one: Any, other: Any) -> bool:
    if engine == "mysql" and isinstance(one, str) and isinstance(other, str):
        one, other = (text.casefold().replace("ä", "a") for text in (one, other))
    return one is not None and bool(one == other)


def carried(table: RandomTable) -> tuple[Strategy, tuple[str, ...]] | None:
    """Return the strategy by which a table's rows are placed, and the columns in which each row has the key."""
    if table.strategy is not None:
        return table.strategy, table.key
    above = carried(table.parent) if table.parent is not None else None
    own = {other: column for column, other in table.ties}
    if above is None or not all(column in own for column in above[1]):
        return None
    return above[0], tuple(own[column] for column in above[1])


def _mapped(schema: RandomSchema) -> tuple[registry, dict[str, type], dict[str, TableRule]]:
    mapping = registry(metadata=sa.MetaData())
    classes: dict[str, type] = {}
    rules: dict[str, TableRule] = {}
    for table in schema.tables:
        columns = [
            sa.Column(
                name,
                TYPES[kind],
                primary_key=name == "id",
                autoincrement=False,
                nullable=name in table.nullable,
                index=name in table.indexed,
            )
            for name, kind in table.kinds.items()
        ]
        own = sa.Table(table.name, mapping.metadata, *columns)
        classes[table.name] = made = type(table.name.title(), (), {})
        properties = {}
        if table.parent is not None:
            other = mapping.metadata.tables[table.parent.name]
            ties = [foreign(own.c[mine]) == other.c[theirs] for mine, theirs in table.ties]
            properties["above"] = relationship(classes[table.parent.name], primaryjoin=sa.and_(*ties), viewonly=True)
        mapping.map_imperatively(made, own, properties=properties)
        rules[made.__name__] = (
            ShardedTable(made.__name__, table.strategy, table.key)
            if table.strategy is not None
            else FollowingTable(made.__name__, "above")
            if table.parent is not None
            else ReferenceTable(made.__name__, schema.shard_ids)
        )
    return mapping, classes, rules


@contextmanager
def random_fleet(databases: Databases, schema: RandomSchema, name: str) -> Iterator[tuple[Fleet, LiveShard]]:
    """Put a schema's rows over its shards, and in one database; give the fleet, and the one database as a shard."""
    mapping, _classes, rules = _mapped(schema)  # the registry itself does not keep the classes

    def create(what: str) -> str:
        url = databases.create(f"{name}_{what}")
        # PyMySQL reads every certificate of the machine for each connection, whether it is encrypted or not.
        return f"{url}?ssl_disabled=true" if databases.engine == "mysql" else url

    shards = {shard_id: Shard(shard_id, create(shard_id)) for shard_id in schema.shard_ids}
    gather = create("gather") if schema.place in ("either", "database") else None
    shard_map = ShardMap(shards=shards, tables=rules, gather=gather)
    live = open_shards(shard_map)
    one = open_shards(ShardMap(shards={"one": Shard("one", create("one"))}))["one"]
    rows = placed_rows(schema)
    for shard in (*live.values(), one):
        engine = sa.create_engine(shard.engine.url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            if databases.engine == "sqlite":
                connection.exec_driver_sql("PRAGMA synchronous = OFF")  # of files that nobody needs tomorrow
            mapping.metadata.create_all(connection)
            for table in mapping.metadata.tables.values():
                own = [row for row, home in rows[table.name] if shard is one or home in (None, shard.shard_id)]
                if own:
                    connection.execute(table.insert(), own)
        engine.dispose()
    try:
        yield Fleet(shard_map, live, collect([mapping]), session_class=lambda: MergingSession), one
    finally:
        for shard in (*live.values(), one):
            shard.bind.dispose()
            shard.engine.dispose()
        mapping.dispose()
