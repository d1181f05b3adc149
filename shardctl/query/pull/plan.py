"""Statement -> the scans that bring its tables to one place, where it runs as it was written.

Pure: the tables' shapes are given, and the plan is what `explain` prints and what runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from shardctl.fleet.quoting import quoted_name
from shardctl.query.gatherers.shapes import ColumnShape, TableShape
from shardctl.query.parse import Statement
from shardctl.query.pull.checks import check_gatherable, names_in, reads_all_columns
from shardctl.query.pull.keys import KeyCheck
from shardctl.query.pull.mentions import Mentions
from shardctl.query.pull.needs import ALIAS, Keys, Need, Reduction
from shardctl.query.pull.rounding import check_rounding
from shardctl.query.pull.sources import Sources, aliases
from shardctl.query.refusals import REFUSALS
from shardctl.query.sharding import KeyedTable
from shardctl.query.ties import Ties


@dataclass(frozen=True, slots=True)
class TableScan:
    """What is pulled of one table, and from where."""

    table: TableShape
    """With the columns that are pulled."""
    shard_ids: tuple[str, ...]
    needs: tuple[Need, ...]
    """A row is pulled if one of these needs it."""
    engine: str
    source: str
    """The table that is read: the copy may have another name."""
    indexed: tuple[str, ...] = ()
    """Columns that the statement compares with other columns."""
    has_all_columns: bool = False
    marks: tuple[ColumnShape, ...] = ()
    """What the shards calculate for each row, beside the table's columns."""
    is_distinct: bool = False
    """Whether rows that are equal are of no use more than once."""
    identity: tuple[str, ...] = ()
    """The columns whose values name one row, as far as is known."""
    may_count: bool = False
    """Whether rows that are equal may come as one, with their number: equal values are alike in every way."""
    is_counted: bool = False
    """Whether they do."""
    is_unique: bool = False
    """Whether its rows must differ from one another: they are the keys of a table."""

    def sql(self, keys: Keys | None = None, *, limit: int | None = None) -> str:
        """Return the SELECT for a shard.

        Args:
            keys: The values that reductions leave.
            limit: Rows at most.
        """
        listed = ", ".join(
            f"{column.read_as} AS {self._name(column)}" if column.read_as else self._name(column)
            for column in (*self.table.columns, *self.marks)
        )
        counted = ", count(*)" * self.is_counted
        table = f"{quoted_name(self.source, self.engine)} AS {ALIAS}"
        text = f"SELECT {'DISTINCT ' * self.is_distinct}{listed}{counted} FROM {table}"
        wanted = self._condition(keys or {})
        if wanted:
            text += f" WHERE {wanted}"
        if self.is_counted:
            columns = (*self.table.columns, *self.marks)
            numbers = ", ".join(str(i) for i, column in enumerate(columns, 1) if not column.is_constant)
            text += f" GROUP BY {numbers}"
        return text if limit is None else f"{text} LIMIT {limit}"

    def estimate_sql(self) -> str:
        """Return a SELECT of about as many rows, of which an engine's estimate can be trusted: without subqueries."""
        return replace(self, needs=tuple(Need(need.filters) for need in self.needs), is_distinct=False).sql()

    def groups_sql(self) -> str | None:
        """Return likewise a SELECT of about as many groups of equal rows, if they may come as one."""
        counted = self.counted()
        return None if counted is None else counted.estimate_sql()

    def counted(self) -> TableScan | None:
        """Return the scan with equal rows as one; None if these need not be alike, or are not known to be."""
        columns = (*self.table.columns, *self.marks)
        may_be = self.may_count and not all(column.is_constant for column in columns)
        return replace(self, is_counted=True) if may_be else None

    def total_sql(self) -> str | None:
        """Return a SELECT of all of the table's rows; None if `estimate_sql` is of these."""
        is_filtered = all(need.filters for need in self.needs)
        return f"SELECT * FROM {quoted_name(self.source, self.engine)}" if is_filtered else None

    def _condition(self, keys: Keys) -> str:
        parts = list(dict.fromkeys(need.sql(keys, self.engine) for need in self.needs))
        if not all(parts):
            return ""
        return parts[0] if len(parts) == 1 else " OR ".join(f"({part})" for part in parts)

    def _name(self, column: ColumnShape) -> str:
        return quoted_name(column.name, self.engine)

    def explain(self) -> list[str]:
        """Return lines of text."""
        lines = [f"{self.table.name} from {', '.join(self.shard_ids)}: {self.sql()}"]
        if self.is_unique:
            return [f"{lines[0]}, which must be unique"]
        reductions = dict.fromkeys(entry for need in self.needs for entry in need.reductions)
        lines += [f"  where {_reached(entry)}" for entry in reductions]
        lines += [
            f"  where {', '.join(f'`{column}`' for column in semijoin.columns)} meets a row of {semijoin.table}"
            f" whose {_reached(entry)}"
            for semijoin in dict.fromkeys(entry for need in self.needs for entry in need.semijoins)
            for entry in semijoin.reductions
        ]
        if self.counted() is not None:
            lines.append("  equal rows once, with their number, if few differ")
        return lines


@dataclass(frozen=True, slots=True)
class Pulls:
    """What is pulled, and the statement over it."""

    statement: Statement
    shapes: Mapping[str, TableShape]
    """Of its tables, by `table_key`."""
    scans: tuple[TableScan, ...]


def plan_scans(
    statement: Statement,
    shapes: Mapping[str, TableShape],
    holders: Mapping[str, Sequence[str]],
    tables: Mapping[str, KeyedTable] | None = None,
    homes: Mapping[str, Sequence[str]] | None = None,
) -> Pulls:
    """Plan what to pull.

    Args:
        statement: The statement, with class names resolved.
        shapes: The tables, by `table_key`.
        holders: The shards to read each table from.
        tables: What the shard map says of them, where it does.
        homes: The shards that have each table; None: these.

    Raises:
        QueryRefused: The answer depends on more than the tables' rows.
    """
    check_gatherable(statement, shapes)
    if statement.engine == "mysql":
        check_rounding(statement, shapes)
    sources = Sources(statement, shapes)
    mentions = Mentions(statement, shapes, Ties(sources, tables or {}), holders, homes or holders)
    copies = mentions.copies()
    reads_all = reads_all_columns(statement, aliases(sources.all))
    words = names_in(statement)
    scans = []
    for copy in copies:
        shape = shapes[copy.table]
        is_grouped = any(source.select is None or source.select.args.get("group") for source in copy.mentions)
        grouped_by = _whole_key(shape, (tables or {}).get(copy.table), holders[copy.table]) if is_grouped else ()
        columns = shape.columns if reads_all else _columns(shape, words | {name.lower() for name in grouped_by})
        for column in columns:
            if column.declared.startswith("!"):
                REFUSALS["type"].refuse(None, f"{shape.name}.{column.name}", column.declared[1:])
        scans.append(
            TableScan(
                table=replace(shape, name=copy.name, columns=columns, primary_key=grouped_by),
                shard_ids=tuple(holders[copy.table]),
                needs=copy.needs,
                engine=statement.engine,
                source=shape.name,
                indexed=mentions.compared(copy),
                has_all_columns=reads_all,
                identity=tables[copy.table].identity if tables and copy.table in tables else (),
                is_distinct=mentions.are_single(copy) and _may_have_equals(shape, columns),
            )
        )
    copied = {copy.name: replace(shapes[copy.table], name=copy.name) for copy in copies if copy.name not in shapes}
    return Pulls(mentions.renamed(copies), {**shapes, **copied}, tuple(scans))


def plan_key_scan(check: KeyCheck, shape: TableShape, engine: str) -> TableScan:
    """Plan to pull a table's keys, so that they can be seen to be unique."""
    columns = tuple(column for column in shape.columns if column.name in check.columns)
    copy = TableShape(f"__keys_{check.table}_{'_'.join(check.columns)}"[:60], columns)
    return TableScan(copy, check.shard_ids, (Need(),), engine, shape.name, is_unique=True)


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


def _reached(reduction: Reduction) -> str:
    return f"`{reduction.column}` is in {reduction.table}.{reduction.other_column}, if few are"


def _may_have_equals(shape: TableShape, columns: Sequence[ColumnShape]) -> bool:
    """Whether rows may be equal in these columns, and equal means the same to everyone: they are integers."""
    is_key = shape.primary_key and set(shape.primary_key) <= {column.name for column in columns}
    return not is_key and all(column.is_integer for column in columns)
