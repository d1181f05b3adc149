"""Subqueries that every shard can answer by itself for its own rows: all rows that they look at live with these.

Pure. What is not understood is not local.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlglot import exp

from shardctl.query.parse import clauses_of
from shardctl.query.pull.links import asker_of, is_plain
from shardctl.query.pull.pieces import conjuncts
from shardctl.query.pull.sources import Source
from shardctl.query.ties import Ties

_KNOWN = {"expressions", "from", "joins", "where", "group", "having", "order", "limit", "offset", "distinct"}


def is_local(ties: Ties, inner: exp.Expression, here: Collection[Source]) -> bool:
    """Whether a subquery sees all rows that it needs on every shard.

    Args:
        ties: Of the statement.
        inner: The subquery.
        here: The sources around it whose rows, tied to one another, are on the shard that asks.
    """
    if not isinstance(inner, exp.Select) or clauses_of(inner) - _KNOWN:
        return False
    if not ties.sources.is_whole(inner):
        return False
    own = ties.sources.of(inner)
    if not ties_all(ties, own, here) and not _is_within_key(ties, inner, own, here):
        return False
    return all(is_local(ties, query, [*here, *own]) for query in outermost_queries(inner))


def outermost_queries(node: exp.Expression) -> Iterable[exp.Expression]:
    """Yield the queries inside another one, or inside an expression, but for those that are inside of these."""
    for value in node.args.values():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, exp.Select | exp.SetOperation):
                yield child
            elif isinstance(child, exp.Expression):
                yield from outermost_queries(child)


def ties_all(ties: Ties, sources: Sequence[Source], here: Collection[Source]) -> bool:
    """Whether the rows of sources, but for those of reference tables, live with rows that are here."""
    known = list(here)
    waiting = [source for source in sources if not ties.is_reference(source) and source not in known]
    while waiting:
        found = next((source for source in waiting if any(ties.are_tied(source, other) for other in known)), None)
        if found is None:
            return False
        known.append(found)
        waiting.remove(found)
    return True


def _is_within_key(ties: Ties, inner: exp.Select, own: Sequence[Source], here: Collection[Source]) -> bool:
    """Whether `x IN (SELECT y …)` compares sharding keys that are placed alike, of rows that are here and of others."""
    parent = asker_of(inner)
    outer = None if parent is None else parent.find_ancestor(exp.Select)
    if not isinstance(parent, exp.In) or outer is None or parent.args.get("expressions"):
        return False
    if len(inner.expressions) != 1 or inner.args.get("limit") or inner.args.get("offset"):
        return False
    left, right = parent.this, inner.expressions[0].unalias()
    if not isinstance(left, exp.Column) or not isinstance(right, exp.Column) or inner.find(exp.Window):
        return False
    group = inner.args.get("group")
    if group is None and (inner.args.get("having") or inner.find(exp.AggFunc)):
        return False
    if group is not None and not (is_plain(group) and ties.is_by_shard(group.expressions, inner)):
        return False
    node, other = ties.sources.resolve(left, outer), ties.sources.resolve(right, inner)
    if node is None or other is None or other.source not in own or not other.source.is_inner:
        return False
    if ties.key(other.source) != (other,) or not ties_all(ties, own, [other.source]):
        return False
    where = outer.args.get("where")
    is_demanded = any(part is parent for part in conjuncts(None if where is None else where.this))
    if not is_demanded and not (ties.is_never_null(node) and ties.is_never_null(other)):
        return False  # whether a NULL is on this shard or on another one would make NULL or false of it
    return any(
        ties.are_placed_alike(source, other.source) and ties.key(source)[0] in ties.equal_to(node) for source in here
    )
