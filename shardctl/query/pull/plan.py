"""Statement -> the scans that bring its tables to one place, where it runs as it was written.

Pure: the tables' shapes are given, and the plan is what `explain` prints and what runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from shardctl.fleet.quoting import quoted_name
from shardctl.query.gatherers.shapes import ColumnShape, TableShape
from shardctl.query.parse import Statement
from shardctl.query.pull.checks import check_gatherable, names_in, reads_all_columns
from shardctl.query.pull.conditions import ALIAS, Conditions, Reduction
from shardctl.query.pull.keys import KeyCheck
from shardctl.query.pull.sources import Sources, aliases
from shardctl.query.refusals import REFUSALS
from shardctl.query.sharding import KeyedTable


@dataclass(frozen=True, slots=True)
class Need:
    """What one mention of a table needs of its rows."""

    filters: tuple[str, ...]
    reductions: tuple[Reduction, ...]


@dataclass(frozen=True, slots=True)
class TableScan:
    """What is pulled of one table, and from where."""

    table: TableShape
    """With the columns that are pulled."""
    shard_ids: tuple[str, ...]
    needs: tuple[Need, ...]
    """A row is pulled if one of these needs it."""
    engine: str
    indexed: tuple[str, ...] = ()
    """Columns that the statement compares with other columns."""
    has_all_columns: bool = False
    source: str = ""
    """The table that is read, where the copy has another name."""
    marks: tuple[ColumnShape, ...] = ()
    """What the shards calculate for each row, beside the table's columns."""
    is_unique: bool = False
    """Whether its rows must differ from one another: they are the keys of a table."""

    def sql(self, keys: Mapping[Reduction, str] | None = None, *, limit: int | None = None) -> str:
        """Return the SELECT for a shard.

        Args:
            keys: The values that a reduction leaves, as a list of SQL.
            limit: Rows at most.
        """
        listed = ", ".join(
            f"{column.read_as} AS {self._name(column)}" if column.read_as else self._name(column)
            for column in (*self.table.columns, *self.marks)
        )
        text = f"SELECT {listed} FROM {quoted_name(self.source or self.table.name, self.engine)} AS {ALIAS}"
        wanted = self._condition(keys or {})
        if wanted:
            text += f" WHERE {wanted}"
        return text if limit is None else f"{text} LIMIT {limit}"

    def _condition(self, keys: Mapping[Reduction, str]) -> str:
        parts = []
        for need in self.needs:
            found = [f"({text})" for text in need.filters]
            found += [
                f"{ALIAS}.{quoted_name(reduction.column, self.engine)} IN ({keys[reduction]})"
                for reduction in need.reductions
                if reduction in keys
            ]
            if not found:
                return ""
            parts.append(" AND ".join(found))
        unique = list(dict.fromkeys(parts))
        return unique[0] if len(unique) == 1 else " OR ".join(f"({part})" for part in unique)

    def _name(self, column: ColumnShape) -> str:
        return quoted_name(column.name, self.engine)

    def explain(self) -> list[str]:
        """Return lines of text."""
        lines = [f"{self.table.name} from {', '.join(self.shard_ids)}: {self.sql()}"]
        if self.is_unique:
            return [f"{lines[0]}, which must be unique"]
        reductions = dict.fromkeys(entry for need in self.needs for entry in need.reductions)
        lines += [
            f"  where `{entry.column}` is in {entry.table}.{entry.other_column}, if few are" for entry in reductions
        ]
        return lines


def plan_scans(
    statement: Statement,
    shapes: Mapping[str, TableShape],
    holders: Mapping[str, Sequence[str]],
    tables: Mapping[str, KeyedTable] | None = None,
) -> tuple[TableScan, ...]:
    """Plan what to pull.

    Args:
        statement: The statement, with class names resolved.
        shapes: The tables, by `table_key`.
        holders: The shards to read each table from.
        tables: What the shard map says of them, where it does.

    Raises:
        QueryRefused: The answer depends on more than the tables' rows.
    """
    check_gatherable(statement, shapes)
    sources = Sources(statement, shapes)
    conditions = Conditions(statement, sources)
    reads_all = reads_all_columns(statement, aliases(sources.all))
    words = names_in(statement)
    groups = statement.tree.find(exp.Group) is not None
    scans = []
    for key, shape in shapes.items():
        grouped_by = _whole_key(shape, (tables or {}).get(key), holders[key]) if groups else ()
        columns = shape.columns if reads_all else _columns(shape, words | {name.lower() for name in grouped_by})
        for column in columns:
            if column.declared.startswith("!"):
                REFUSALS["type"].refuse(None, f"{shape.name}.{column.name}", column.declared[1:])
        mentions = [source for source in sources.all if source.table == key]
        needs = tuple(
            dict.fromkeys(
                Need(conditions.filters(source), _integers(shapes, shape, conditions.reductions(source)))
                for source in mentions
            )
        )
        scans.append(
            TableScan(
                table=replace(shape, columns=columns, primary_key=grouped_by),
                shard_ids=tuple(holders[key]),
                needs=needs or (Need((), ()),),
                engine=statement.engine,
                indexed=tuple(dict.fromkeys(column for source in mentions for column in conditions.compared(source))),
                has_all_columns=reads_all,
            )
        )
    return tuple(scans)


def plan_key_scan(check: KeyCheck, shape: TableShape, engine: str) -> TableScan:
    """Plan to pull a table's keys, so that they can be seen to be unique."""
    columns = tuple(column for column in shape.columns if column.name in check.columns)
    copy = TableShape(f"__keys_{check.table}_{'_'.join(check.columns)}"[:60], columns)
    return TableScan(copy, check.shard_ids, (Need((), ()),), engine, source=shape.name, is_unique=True)


def _whole_key(shape: TableShape, table: KeyedTable | None, shard_ids: Sequence[str]) -> tuple[str, ...]:
    """Return a table's primary key, if the rules say that no two shards have one of its values."""
    key = None if table is None else table.key
    is_unique = table is not None and (table.is_reference or len(shard_ids) == 1)
    if key is not None:
        is_unique = is_unique or set(key.columns) <= set(shape.primary_key)
    return shape.primary_key if is_unique else ()


def _columns(shape: TableShape, words: frozenset[str]) -> tuple[ColumnShape, ...]:
    found = tuple(
        column
        for column in shape.columns
        if column.name.lower() in words or not column.name.isascii() or set(column.name) & set("\"`[]'\\")
    )
    return found or shape.columns[:1]


def _integers(
    shapes: Mapping[str, TableShape], shape: TableShape, reductions: tuple[Reduction, ...]
) -> tuple[Reduction, ...]:
    """Keep the reductions by integers, whose lists mean the same everywhere."""

    def is_integer(table: TableShape, name: str) -> bool:
        column = table.column(name)
        return column is not None and column.is_integer

    return tuple(
        entry
        for entry in reductions
        if is_integer(shape, entry.column) and is_integer(shapes[entry.table], entry.other_column)
    )
