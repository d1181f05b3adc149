"""Joins and subqueries: which of them every shard can answer from its own rows alone.

A join of two sharded tables is local if one follows the other and the join ties exactly the columns by which it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sqlglot import exp

from shardctl.query.colocation import Colocation
from shardctl.query.local import is_local, outermost_queries
from shardctl.query.parse import Statement, args_of, refuse, shown
from shardctl.query.ties import Ties

Column = tuple[str, str]
"""Alias of the source, name of the column."""


@dataclass
class _Source:
    alias: str
    table: str
    is_reference: bool
    node: exp.Expression
    ties: list[tuple[Column, Column]] = field(default_factory=list)
    """Equalities that hold where this source's rows are joined."""


def needs_one_shard_only(statement: Statement, colocation: Colocation | None) -> bool:
    """Whether any one shard alone has the whole answer: no table, or reference tables only."""
    return all(_is_reference(statement, table, colocation) for table in statement.tables)


def check_sources(
    statement: Statement,
    select: exp.Select,
    colocation: Colocation | None,
    ties: Ties | None = None,
    places: Sequence[exp.Expression] = (),
) -> int:
    """Return how many tables a SELECT reads, if each shard can join them by itself.

    Args:
        statement: The statement.
        select: Its tree.
        colocation: What the rules say of tables.
        ties: What the rules say of sharding keys.
        places: Where subqueries may be, beside WHERE.

    Raises:
        QueryRefused: A join needs rows of several shards, or a source is no table.
    """
    _check_subqueries(statement, select, colocation, ties, places)
    origin = args_of(select, "from")
    joins: list[exp.Join] = select.args.get("joins") or []
    sources = [_source(statement, origin.this, colocation)]
    where = select.args.get("where")
    for join in joins:
        sources.append(_joined(statement, join, sources, colocation))
    inner = [tie for source in sources if source.node.args.get("side") != "LEFT" for tie in source.ties]
    inner += _equalities(statement, where.this, sources, colocation) if where is not None else []
    sharded = [source for source in sources if not source.is_reference]
    known = sharded[:1]
    waiting = sharded[1:]
    while waiting:
        found = next((source for source in waiting if _is_tied(source, known, inner, colocation)), None)
        found = found or next((source for source in waiting if _has_key(source, known, select, ties)), None)
        if found is None:
            _refuse_join(waiting[0], known, colocation)
        known.append(found)
        waiting.remove(found)
    return len(sources)


def _is_reference(statement: Statement, table: exp.Table, colocation: Colocation | None) -> bool:
    return colocation is not None and not table.db and colocation.is_reference(statement.fold(table.this))


def _source(statement: Statement, node: exp.Expression, colocation: Colocation | None) -> _Source:
    if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
        refuse("a source that is not a table cannot be read over several shards yet", shown(node))
    for name, value in node.args.items():
        if value and name not in {"this", "db", "catalog", "alias"}:
            refuse("a table with more than a name and an alias cannot be read over several shards yet", shown(node))
    alias = node.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        refuse("renamed columns of a table cannot be read over several shards yet", shown(node))
    name = statement.fold(alias.this) if alias is not None and alias.this is not None else statement.fold(node.this)
    return _Source(name, statement.fold(node.this), _is_reference(statement, node, colocation), node)


def _joined(statement: Statement, join: exp.Join, before: list[_Source], colocation: Colocation | None) -> _Source:
    words = {str(join.args.get(name) or "").upper() for name in ("method", "side", "kind", "match_condition")} - {""}
    text = shown(join).lstrip(", ")
    if words - {"LEFT", "OUTER", "INNER", "CROSS"}:
        refuse(f"{' '.join(sorted(words))} JOIN cannot be answered over several shards yet", text)
    if join.args.get("using"):
        refuse("JOIN … USING cannot be checked over several shards", text, hint="write the condition with ON")
    source = _source(statement, join.this, colocation)
    if colocation is None:
        refuse(
            "a join over several shards needs to know which tables live together",
            text,
            hint="name the models and the tables' placement in the shard map",
        )
    condition = join.args.get("on")
    seen = [*before, source]
    source.ties = _equalities(statement, condition, seen, colocation) if condition is not None else []
    source.node = join
    if "LEFT" in words:
        join.set("side", "LEFT")
        if not source.is_reference and all(other.is_reference for other in before):
            refuse("a LEFT JOIN from a reference table would find its rows unmatched on every other shard", text)
    return source


def _equalities(
    statement: Statement, condition: exp.Expression, sources: list[_Source], colocation: Colocation | None
) -> list[tuple[Column, Column]]:
    def column(node: exp.Column) -> Column:
        alias, name = statement.fold(node.args.get("table")), statement.fold(node.this)
        return alias or _owner(name, sources, colocation), name

    return [
        (column(part.left), column(part.right))
        for part in _conjuncts(condition)
        if isinstance(part, exp.EQ) and isinstance(part.left, exp.Column) and isinstance(part.right, exp.Column)
    ]


def _conjuncts(condition: Any) -> Iterable[exp.Expression]:
    if isinstance(condition, exp.Paren):
        yield from _conjuncts(condition.this)
    elif isinstance(condition, exp.And):
        yield from _conjuncts(condition.left)
        yield from _conjuncts(condition.right)
    else:
        yield condition


def _owner(name: str, sources: list[_Source], colocation: Colocation | None) -> str:
    """Return the alias of the only source that has a column of this name; empty if that is not sure."""
    if colocation is None:
        return ""
    columns = [(source.alias, colocation.columns(source.table)) for source in sources]
    owners = [alias for alias, known in columns if name.lower() in known]
    return owners[0] if len(owners) == 1 and all(known for _, known in columns) else ""


def _is_tied(
    source: _Source, known: list[_Source], inner: list[tuple[Column, Column]], colocation: Colocation | None
) -> bool:
    # An outer join's own condition decides which rows meet; WHERE comes too late.
    ties = source.ties if source.node.args.get("side") == "LEFT" else inner
    return any(_meet(source, other, ties, colocation) or _meet(other, source, ties, colocation) for other in known)


def _has_key(source: _Source, known: list[_Source], select: exp.Select, ties: Ties | None) -> bool:
    """Whether a source is joined by its sharding key, to the key of one that is placed alike."""
    named = {} if ties is None else {found.alias: found for found in ties.sources.of(select)}
    mine = named.get(source.alias)
    others = [named[other.alias] for other in known if other.alias in named]
    return ties is not None and mine is not None and any(ties.are_tied(mine, other) for other in others)


def _meet(child: _Source, parent: _Source, ties: list[tuple[Column, Column]], colocation: Colocation | None) -> bool:
    rule = colocation.follows(child.table) if colocation is not None else None
    if rule is None or rule[0].lower() != parent.table.lower():
        return False
    wanted = [((child.alias, own.lower()), (parent.alias, other.lower())) for own, other in rule[1]]
    lowered = {frozenset((_lower(a), _lower(b))) for a, b in ties}
    return bool(wanted) and all(frozenset(pair) in lowered for pair in wanted)


def _lower(column: Column) -> Column:
    return column[0], column[1].lower()


def _refuse_join(source: _Source, known: list[_Source], colocation: Colocation | None) -> NoReturn:
    hint = "choose one shard with `--shard`"
    for other in known:
        for child, parent in ((source, other), (other, source)):
            rule = colocation.follows(child.table) if colocation is not None else None
            if rule is not None and rule[0].lower() == parent.table.lower():
                pairs = " AND ".join(f"{child.alias}.{own} = {parent.alias}.{their}" for own, their in rule[1])
                hint = f"they live together by `{pairs}`: join them by it"
    names = ", ".join(f"`{other.table}`" for other in known)
    text = shown(source.node).lstrip(", ")
    refuse(f"`{source.table}` and {names} are joined, but nothing ties their rows to one shard", text, hint=hint)


def _check_subqueries(
    statement: Statement,
    select: exp.Select,
    colocation: Colocation | None,
    ties: Ties | None,
    places: Sequence[exp.Expression],
) -> None:
    """Let subqueries pass that each shard can answer: of reference tables, of which it has all rows, or local ones."""
    where = select.args.get("where")
    allowed = [*([where] if where is not None else []), *places]
    is_whole = ties is not None and ties.sources.is_whole(select)
    for node in outermost_queries(select):
        tables = list(node.find_all(exp.Table))
        is_allowed = any(node is inner for place in allowed for inner in place.walk())
        if is_allowed and all(_is_reference(statement, table, colocation) for table in tables):
            continue
        if is_allowed and is_whole and ties is not None and is_local(ties, node, ties.sources.of(select)):
            continue
        refuse(
            "a subquery would see one shard's rows only",
            shown(node),
            hint="choose one shard with `--shard`, or run the subquery first",
        )
