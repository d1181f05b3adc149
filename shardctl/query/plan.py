"""Statement -> QueryPlan: which shards are asked, what each is sent, and how the answers become one.

Pure: a plan is decided before any connection is opened, and `explain` prints the very object that runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlglot import exp

from shardctl.errors import QueryRefused
from shardctl.query.aggregates import plan_merge
from shardctl.query.clauses import Clauses, cut
from shardctl.query.colocation import Colocation
from shardctl.query.joins import check_sources, needs_one_shard_only
from shardctl.query.local import outermost_queries
from shardctl.query.merge import EngineMerge, RowMerge, merge_steps, row_steps
from shardctl.query.parameters import is_bound
from shardctl.query.parse import Statement, refuse, shown
from shardctl.query.pruning import Pruned
from shardctl.query.pull.checks import check_system_columns, functions
from shardctl.query.pull.plan import TableScan
from shardctl.query.pull.sources import table_key
from shardctl.query.refusals import REFUSALS
from shardctl.query.rewrite import check_placeholders
from shardctl.query.rows import called_functions, groups, is_by_shard, plan_rows, windows
from shardctl.query.scope import needs_columns
from shardctl.query.ties import Ties

if TYPE_CHECKING:
    from shardctl.query.gatherers import TableShape
    from shardctl.query.here.translate import Here

_WELL_KNOWN = frozenset(
    """
    abs avg cast ceil ceiling char_length coalesce concat count date day extract floor ifnull in instr length lower
    ltrim max min mod month nullif replace round rtrim strftime substr substring sum trim upper year and or not exists
    values any all filter distinct like is between on when then else case by as interval where select from
    over partition row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value
    """.split()
)
"""Functions that are known to look at one row or at a window, and words before a bracket that are no functions."""


_ESCAPED_QUOTE = re.compile(r"\be'(?:[^'\\]|\\[^']|'')*\\'", re.IGNORECASE)


class Route(StrEnum):
    """Where a statement goes."""

    DIRECT = "direct"
    """One shard has the whole answer and gets the statement as it is."""
    SCATTER = "scatter"
    """Every shard gets a statement of its own, and the answers are merged."""
    GATHER = "gather"
    """The rows that the statement needs are brought to one place, and it runs there as it is."""


@dataclass(frozen=True, slots=True)
class Gathering:
    """What is brought to one place, and what runs there."""

    sql: str
    scans: tuple[TableScan, ...]
    settings: tuple[tuple[str, str], ...]
    """Of the shards, which the place takes over."""
    functions: tuple[str, ...]
    """What the statement calls: each shard says which of it is its own."""
    words: frozenset[str]
    """Every word of the statement, in lower case."""
    here: Here | None = None
    """What runs in DuckDB; None: the statement itself runs in the fleet's own engine."""
    place: str = ""
    """Where, in words."""
    seen: tuple[tuple[str, TableShape], ...] = ()
    """The tables as they were when this was planned, each with the shard that was looked at."""


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """What will be done for one statement."""

    route: Route
    engine: str
    shard_ids: tuple[str, ...]
    """The shards that are asked."""
    shard_sql: str
    reason: str
    source: str = ""
    """The FROM clause, for questions about an expression's collation."""
    merge: RowMerge | EngineMerge | None = None
    functions: tuple[str, ...] = ()
    """Functions that must turn out to look at one row before the answer can be trusted."""
    tables: tuple[str, ...] = ()
    """The tables that each shard reads: they must not turn out to be views."""
    assumed: tuple[tuple[str, str, bool], ...] = ()
    """Tables, columns, and whether each shard must turn out to have them: what names without a table mean by."""
    gathering: Gathering | None = None
    pruned: Pruned | None = None
    """Why shards are left out; None: none is."""
    others: tuple[QueryPlan, ...] = ()
    """The same for the shards of other engines, in their words."""

    def for_engine(self, engine: str) -> QueryPlan:
        """Return the plan as an engine's shards carry it out."""
        return next((plan for plan in self.others if plan.engine == engine), self)

    @property
    def is_by_key(self) -> bool:
        """Whether the statement runs as it is on the one shard that its sharding key leaves."""
        return self.route is Route.DIRECT and self.pruned is not None

    def explain(self) -> str:
        """Return the plan as text: what each shard is sent, and how the answers are merged."""
        asked = ", ".join(self.shard_ids)
        which = f"shards: {asked}" if self.pruned is None else f"asked: {asked} ({self.pruned.reason})"
        lines = [f"{self.route}: {self.reason}", which]
        if self.gathering is not None:
            lines += ["pull:", *(f"  {line}" for scan in self.gathering.scans for line in scan.explain())]
            lines.append(f"then, over these rows, gathered {self.gathering.place}:")
            return "\n".join([*lines, *(f"  {line}" for line in self.shard_sql.splitlines())])
        lines.append("each shard:")
        lines += [f"  {line}" for line in self.shard_sql.splitlines()]
        if isinstance(self.merge, RowMerge):
            lines += ["merge:", f"  {row_steps(self.merge)}"]
        elif isinstance(self.merge, EngineMerge):
            lines += ["merge:", *(f"  {line}" for line in merge_steps(self.merge))]
        return "\n".join(lines)


def plan_query(
    statement: Statement,
    shard_ids: Sequence[str],
    *,
    colocation: Colocation | None = None,
    ties: Ties | None = None,
    input_columns: frozenset[str] | None = None,
    engines: frozenset[str] = frozenset(),
    pruned: Pruned | None = None,
) -> QueryPlan:
    """Plan a statement.

    Args:
        statement: As `parse` returns it, with class names resolved.
        shard_ids: The shards that were chosen, at least one.
        colocation: Which tables may be joined on each shard; None: not known, so none.
        ties: Which of the statement's rows live together.
        input_columns: The columns of the statement's tables in lower case, where `columns_sql` gives a statement.
        engines: The engines of the chosen shards, if there are several.
        pruned: Why other shards are left out.

    Raises:
        QueryRefused: The merged answer would not be, or may not be, what one database would give.
    """
    ids = tuple(shard_ids)
    if len(ids) == 1 and pruned is None:
        return QueryPlan(Route.DIRECT, statement.engine, ids, statement.sql, "one shard was chosen")
    if needs_one_shard_only(statement, colocation):
        what = "only reference tables are read" if statement.tables else "no table is read"
        called = functions(statement, {})
        return QueryPlan(Route.DIRECT, statement.engine, ids[:1], statement.sql, what, functions=called)
    clauses = cut(statement)
    check_placeholders(statement)
    known = [colocation.columns(statement.fold(table.this)) for table in statement.tables] if colocation else []
    check_system_columns(statement, frozenset().union(*known))
    _check_sqlite_quotes(statement)
    _check_escaped_quotes(statement)
    by_shard = is_by_shard(clauses, ties)
    puts_together = clauses.distinct or groups(clauses)
    is_rows = by_shard or not puts_together
    places = [item.node for item in (*clauses.items, *clauses.order)] if is_rows else []
    tables = check_sources(statement, clauses.select, colocation, ties, places)
    _check_expressions(clauses, may_have_windows=by_shard)
    reason = "its rows are on several shards" if tables == 1 else "joined on each shard: the rows live together"
    shard_sql, merge = plan_rows(clauses) if is_rows else plan_merge(clauses, input_columns)
    if by_shard and (puts_together or windows(clauses)):
        reason = "rows that are put together have one sharding key: they are on one shard"
    if len(engines) > 1:
        _check_mixed(clauses, merge, engines)
    return QueryPlan(
        route=Route.SCATTER,
        engine=statement.engine,
        shard_ids=ids,
        shard_sql=shard_sql,
        reason=reason,
        source=clauses.source + (clauses.grouping if is_rows and statement.engine == "postgresql" else ""),
        merge=merge,
        functions=_unknown_functions(called_functions(clauses, is_by_shard=by_shard), merge),
        tables=tuple(dict.fromkeys(table_key(statement, table) for table in statement.tables)),
        assumed=_assumed(clauses, ties),
        pruned=pruned,
    )


def columns_sql(statement: Statement) -> str | None:
    """Return a statement that shows the input columns, if planning needs to know them."""
    if not isinstance(statement.tree, exp.Select) or not statement.tables:
        return None
    try:
        clauses = cut(statement)
        return f"SELECT * {clauses.source} LIMIT 0" if needs_columns(clauses) else None
    except QueryRefused:  # planning says what is wrong
        return None


def _check_expressions(clauses: Clauses, *, may_have_windows: bool) -> None:
    for item in (*clauses.items, *clauses.order):
        if not may_have_windows and item.node.find(exp.Window):
            refuse(
                "a window function would see one shard's rows only",
                item.whole,
                hint="choose one shard with `--shard`",
            )
    for node in clauses.select.find_all(exp.Parameter, exp.SessionParameter, exp.Placeholder):
        _check_parameter(node)
    for token in clauses.statement.tokens:
        if token.kind == "COLON_EQ":
            refuse("a variable that is assigned would count on each shard by itself", token.text)


def _check_parameter(node: exp.Expression) -> None:
    """Let a value pass that each shard is sent: in WHERE. Elsewhere the merged answer would need it too."""
    if not isinstance(node, exp.Placeholder) or not node.name:
        refuse("variables and parameters have no value here", shown(node))
    if not is_bound(node.name):
        refuse("this parameter has no value", shown(node), hint=f"give it one: `--param {node.name}=…`")
    if node.find_ancestor(exp.Where) is None:
        refuse("over several shards, a parameter can be in WHERE only", shown(node), hint="write the value out")


def _check_sqlite_quotes(statement: Statement) -> None:
    """Refuse what SQLite would take for a string if there is no such column: a moved output must not become one."""
    if statement.engine != "sqlite" or not isinstance(statement.tree, exp.Select):
        return
    outputs = {item.alias.lower() for item in statement.tree.expressions if isinstance(item, exp.Alias)}
    where = statement.tree.args.get("where")
    if where is None:
        return
    for column in where.find_all(exp.Column):
        if column.this.args.get("quoted") and column.name.lower() in outputs and not column.table:
            refuse(f'"{column.name}" in WHERE may be a column, an output or a string', shown(where))


def _check_escaped_quotes(statement: Statement) -> None:
    """Refuse what parsers disagree on: a string that ends elsewhere than the server thinks would be cut in two."""
    found = _ESCAPED_QUOTE.search(statement.sql) if statement.engine == "postgresql" else None
    if found is not None:
        refuse("a quote after a backslash cannot be read safely", found[0], hint="write it as two quotes")


def _assumed(clauses: Clauses, ties: Ties | None) -> tuple[tuple[str, str, bool], ...]:
    has_subqueries = any(True for _ in outermost_queries(clauses.select))
    return tuple(sorted(ties.sources.assumed)) if ties is not None and has_subqueries else ()


def _check_mixed(clauses: Clauses, merge: RowMerge | EngineMerge, engines: frozenset[str]) -> None:
    names = " and ".join(sorted(engines))
    if isinstance(merge, RowMerge) and not merge.keys:
        return
    if isinstance(merge, EngineMerge) and merge.counts_only:
        return
    part = (clauses.order or clauses.group or clauses.items)[0].whole
    REFUSALS["engines"].refuse(part, names)


def _unknown_functions(names: Sequence[str], merge: RowMerge | EngineMerge) -> tuple[str, ...]:
    known = set(_WELL_KNOWN)
    if isinstance(merge, EngineMerge):
        known.update(aggregate.kind for aggregate in merge.aggregates)
    return tuple(dict.fromkeys(name for name in names if name not in known and name.isidentifier()))
