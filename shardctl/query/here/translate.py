"""A statement and the tables that it reads -> what runs in DuckDB, and what must be pulled for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlglot import exp

from shardctl.fleet.quoting import quoted_name
from shardctl.query.gatherers.shapes import CONSTANT, ColumnShape, TableShape
from shardctl.query.here.counted import is_groupable, only_counted
from shardctl.query.here.kinds import Kind, column_kind, not_listed
from shardctl.query.here.reading import read_as
from shardctl.query.here.scopes import Columns
from shardctl.query.here.statements import StatementWriter
from shardctl.query.here.values import Origin, Value
from shardctl.query.parse import Statement, args_of, shown
from shardctl.query.pull.conditions import Conditions
from shardctl.query.pull.plan import TableScan
from shardctl.query.pull.sources import Source, Sources, alias_of, table_key
from shardctl.query.ties import Ties

_MODES = {"ANSI_QUOTES", "PIPES_AS_CONCAT", "HIGH_NOT_PRECEDENCE", "NO_BACKSLASH_ESCAPES", "PAD_CHAR_TO_FULL_LENGTH"}


@dataclass(frozen=True, slots=True)
class Here:
    """What runs in DuckDB."""

    sql: str
    kinds: tuple[Kind, ...]
    """Of the answer's columns."""
    column_kinds: tuple[tuple[Origin, Kind], ...]
    """Of the pulled columns."""
    compared: tuple[Origin, ...]
    """Text that must be of printable characters, without a blank at its end, for bytes to order it."""
    grouped: tuple[Origin, ...]
    """Text that must not hold two values which differ by case only."""
    used: frozenset[str]
    """The entries of the list that it stands on."""
    names: tuple[str, ...] = ()
    """What the fleet's engine calls the answer's columns."""


def translate(
    statement: Statement, shapes: Mapping[str, TableShape], scans: Sequence[TableScan], settings: Mapping[str, str]
) -> tuple[Here, tuple[TableScan, ...]]:
    """Write a statement for DuckDB.

    Args:
        statement: The statement, with class names resolved.
        shapes: The tables, by `table_key`.
        scans: What gathering in the fleet's own engine would pull.
        settings: The shards' settings.

    Returns:
        What runs, and the scans with no more columns than that needs.

    Raises:
        NotListed: A part of the statement is not on the list.
    """
    _check_reading(statement, settings)
    for unbound in statement.tree.find_all(exp.Placeholder, exp.Parameter):
        raise not_listed(f"`{shown(unbound)}`")
    translating = _Translating(statement, shapes, scans, settings)
    writer = StatementWriter(statement, translating.table, translating.mark)
    found = writer.write()
    outputs = [output.value for output in found.outputs]
    needed = tuple(translating.needed(scan) for scan in scans)
    here = Here(
        sql=found.sql,
        kinds=tuple(value.kind for value in outputs),
        column_kinds=tuple(translating.column_kinds(needed)),
        compared=tuple(sorted(writer.writer.demands.compared)),
        grouped=tuple(sorted(writer.writer.demands.grouped)),
        used=frozenset(writer.writer.used | translating.used),
    )
    return here, needed


def _check_reading(statement: Statement, settings: Mapping[str, str]) -> None:
    """Refuse text that a setting has the engine read in another way than a parser does."""
    if statement.engine == "postgresql":
        expected = {"standard_conforming_strings": "on", "transform_null_equals": "off", "DateStyle": "ISO"}
        for name, value in expected.items():
            if not settings.get(name, "").startswith(value):
                raise not_listed(f"SQL where `{name}` is `{settings.get(name)}`")
        return
    modes = _MODES & set(settings.get("sql_mode", "").split(","))
    if modes:
        raise not_listed(f"SQL in the mode `{min(modes)}`")
    if settings.get("div_precision_increment", "4") != "4":
        raise not_listed("SQL with a `div_precision_increment` of its own")
    for token in statement.tokens:
        written = statement.sql[token.start : token.end + 1]
        if written == "!" or "\\" in written:
            raise not_listed(f"`{written}`")


class _Translating:
    def __init__(
        self,
        statement: Statement,
        shapes: Mapping[str, TableShape],
        scans: Sequence[TableScan],
        settings: Mapping[str, str],
    ) -> None:
        self._statement = statement
        self._shapes = shapes
        self._scans = {scan.table.name: scan for scan in scans if not scan.is_unique}
        self._settings = settings
        self._sources = Sources(statement, shapes)
        self._conditions = Conditions(statement, Ties(self._sources, {}))
        self._counted = only_counted(statement, self._sources)
        self._keys = {shape.name: key for key, shape in shapes.items()}
        self._used_columns: dict[str, set[str]] = {name: set() for name in self._scans}
        self._marks: dict[str, dict[str, str]] = {name: {} for name in self._scans}
        self.used: set[str] = set()

    def table(self, node: exp.Table, name: str) -> tuple[str, Columns]:
        """Return how a mention of a table is written, and its columns."""
        shape = self._shapes.get(table_key(self._statement, node))
        if shape is None:
            raise not_listed(f"the table `{node.name}`")
        is_exact = self._statement.engine == "postgresql"
        columns = {
            column.name if is_exact else column.name.lower(): partial(self._column, shape, column, name)
            for column in self._scans[shape.name].table.columns
        }
        return quoted(shape.name), Columns(columns)

    def _column(self, shape: TableShape, column: ColumnShape, name: str) -> Value:
        self._used_columns[shape.name].add(column.name)
        kind = column_kind(self._statement.engine, column.declared, self._settings)
        self.used.add(f"a column of {kind.name}")
        origins = frozenset([(shape.name, column.name)]) if kind.is_text else frozenset()
        return Value(f"{name}.{quoted(column.name)}", kind, origins, is_column=True)

    def mark(
        self, node: exp.Expression, select: exp.Select, joined: exp.Expression | None, names: Mapping[int, str]
    ) -> str | None:
        """Return what holds whether a condition of one table's rows alone is true; None if it is about more."""
        for source in self._sources.all:
            place = self._place(source, select) if source.select is select else None
            if place is None or not (source.is_inner or place is joined):
                continue
            text = self._conditions.whole(node, source)
            if text:
                scan = self._scans[self._shapes[source.table].name]
                if all(text in need.filters for need in scan.needs):
                    return "true"  # no other row is pulled
                mark = self._marks[scan.table.name].setdefault(text, f"__m{len(self._marks[scan.table.name])}")
                column = f"{names[id(place)]}.{quoted(mark)}"
                return column if self._statement.engine == "postgresql" else f"({column} <> 0)"
        return None

    def _place(self, source: Source, select: exp.Select) -> Any:
        clause = args_of(select, "from")
        nodes = [clause.this, *(join.this for join in select.args.get("joins") or [])]
        found = [node for node in nodes if alias_of(self._statement, node) == source.alias]
        return found[0] if len(found) == 1 else None

    def needed(self, scan: TableScan) -> TableScan:
        """Return a scan with the columns that DuckDB needs."""
        if scan.is_unique:
            return scan
        used = self._used_columns[scan.table.name]
        engine = self._statement.engine
        columns = tuple(
            replace(column, read_as=self._read_as(scan, column) or column.read_as)
            for column in scan.table.columns
            if column.name in used
        )
        boolean = "boolean" if engine == "postgresql" else "bigint"
        marks = [ColumnShape(name, boolean, read_as=f"({text})") for text, name in self._marks[scan.table.name].items()]
        if not columns and not marks:
            marks = [ColumnShape("__one", "integer" if engine == "postgresql" else "bigint", read_as="1")]
        needs = tuple(
            need.keeping(lambda entry: entry.other_column in self._used_columns.get(entry.table, ()))
            for need in scan.needs
        )
        return replace(
            scan,
            table=replace(scan.table, columns=columns),
            marks=tuple(marks),
            needs=needs,
            has_all_columns=scan.has_all_columns and len(columns) == len(scan.table.columns),
            may_count=engine == "postgresql"
            and not scan.is_distinct
            and all(is_groupable(column_kind(engine, column.declared, self._settings).name) for column in columns),
        )

    def _read_as(self, scan: TableScan, column: ColumnShape) -> str:
        """Return what a shard selects for a column whose own text would not do, or of which only a count is wanted."""
        engine = self._statement.engine
        name = quoted_name(column.name, engine)
        is_counted = (self._keys[scan.table.name], column.name) in self._counted
        if engine == "postgresql" and column.is_integer and is_counted:
            return CONSTANT if column.never_null else f"CASE WHEN {name} IS NOT NULL THEN 0 END"
        return read_as(name, column_kind(engine, column.declared, self._settings), engine)

    def column_kinds(self, scans: Sequence[TableScan]) -> list[tuple[Origin, Kind]]:
        """Return the types of all that is pulled."""
        engine = self._statement.engine
        return [
            ((scan.table.name, column.name), column_kind(engine, column.declared, self._settings))
            for scan in scans
            for column in (*scan.table.columns, *scan.marks)
        ]


def quoted(name: str) -> str:
    """Return a name as an identifier of DuckDB's."""
    return quoted_name(name, "duckdb")
