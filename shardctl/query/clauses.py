"""A SELECT's clauses and their items, each as a piece of the text with its tree.

Every piece is parsed by itself and compared with the whole statement's tree: text and tree cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlglot import exp

from shardctl.query.parse import Statement, Tokens, refuse, shown

_CLAUSES = {
    "SELECT": "select",
    "FROM": "from",
    "WHERE": "where",
    "GROUP_BY": "group",
    "HAVING": "having",
    "ORDER_BY": "order",
    "LIMIT": "limit",
    "OFFSET": "offset",
    "FETCH": "limit",
}
_OPEN = {"L_PAREN", "L_BRACKET", "L_BRACE"}
_CLOSE = {"R_PAREN", "R_BRACKET", "R_BRACE"}
_UNDERSTOOD = {"expressions", "from", "joins", "where", "group", "having", "order", "limit", "offset", "distinct"}
_CALLED = {
    "with": "a common table expression (WITH)",
    "windows": "a WINDOW clause",
    "qualify": "QUALIFY",
    "laterals": "a LATERAL table",
    "operation_modifiers": "a modifier after SELECT",
}


@dataclass(frozen=True)
class Item:
    """One entry of a select list, of GROUP BY or of ORDER BY."""

    tokens: Tokens
    """Of the expression alone."""
    text: str
    node: exp.Expression
    whole: str
    """With the alias, or with the direction."""
    alias: str | None = None
    tail: str = ""
    """`DESC NULLS LAST`, as written."""
    desc: bool = False
    nulls_first: bool | None = None

    @property
    def is_star(self) -> bool:
        node = self.node
        return isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star))

    @property
    def ordinal(self) -> int | None:
        """The number, if the item is one: it means an entry of the select list."""
        node = self.node
        return int(node.this) if isinstance(node, exp.Literal) and node.is_int else None


@dataclass(frozen=True)
class Clauses:
    """A SELECT over tables, cut up."""

    statement: Statement
    select: exp.Select
    items: tuple[Item, ...]
    group: tuple[Item, ...]
    order: tuple[Item, ...]
    source: str
    """From FROM to before WHERE, as written."""
    where: str
    """With the word WHERE, or nothing."""
    having: Tokens
    distinct: bool
    limit: int | None
    offset: int

    @property
    def body(self) -> str:
        """FROM and WHERE."""
        return f"{self.source} {self.where}".strip()

    @property
    def grouping(self) -> str:
        """GROUP BY and HAVING, with a blank in front; or nothing."""
        group = f" GROUP BY {', '.join(item.whole for item in self.group)}" if self.group else ""
        return group + (f" HAVING {self.statement.slice(self.having)}" if self.having else "")


def cut(statement: Statement) -> Clauses:
    """Cut a SELECT into its clauses.

    Raises:
        QueryRefused: It has a clause that cannot be answered over several shards.
    """
    select = statement.tree
    if not isinstance(select, exp.Select) or statement.tokens[0].kind == "L_PAREN":
        refuse(f"{_kind(select)} cannot be answered over several shards yet", hint="choose one shard with `--shard`")
    for name, value in select.args.items():
        if value and name.rstrip("_") not in _UNDERSTOOD:
            plain = name.rstrip("_")
            refuse(f"{_CALLED.get(plain, plain.upper())} cannot be answered over several shards yet", shown(value))
    sections = _sections(statement)
    distinct = select.args.get("distinct")
    if distinct is not None and distinct.args.get("on") is not None:
        refuse("DISTINCT ON cannot be answered over several shards yet", shown(distinct))
    listed = sections["select"]
    if distinct is not None or (listed and listed[0].kind in {"DISTINCT", "ALL"}):
        listed = listed[1:]
    source = sections["from"]
    return Clauses(
        statement=statement,
        select=select,
        items=tuple(_items(statement, listed, select.expressions)),
        group=tuple(_group(statement, select, sections.get("group", ()))),
        order=tuple(_order(statement, select, sections.get("order", ()))),
        source=f"FROM {statement.slice(source)}",
        where=f"WHERE {statement.slice(sections['where'])}" if "where" in sections else "",
        having=sections.get("having", ()),
        distinct=distinct is not None,
        limit=_limit(select),
        offset=_number(select.args.get("offset"), "OFFSET") or 0,
    )


def split(tokens: Tokens) -> list[Tokens]:
    """Split tokens at the commas that are in no bracket."""
    parts: list[list[Any]] = [[]]
    for token, depth in _depths(tokens):
        if depth == 0 and token.kind == "COMMA":
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(part) for part in parts]


def _depths(tokens: Tokens) -> Iterable[tuple[Any, int]]:
    depth = 0
    for token in tokens:
        if token.kind in _CLOSE:
            depth -= 1
        yield token, depth
        if token.kind in _OPEN:
            depth += 1


def _sections(statement: Statement) -> dict[str, Tokens]:
    starts: list[tuple[int, str]] = []
    tokens = statement.tokens
    for i, (token, depth) in enumerate(_depths(tokens)):
        clause = _CLAUSES.get(token.kind) if depth == 0 else None
        if clause is None or (clause == "from" and i and tokens[i - 1].kind == "DISTINCT"):  # IS DISTINCT FROM
            continue
        starts.append((i, clause))
    names = [name for _, name in starts]
    if len(set(names)) != len(names) or names[:1] != ["select"] or "from" not in names:
        refuse("the statement's clauses cannot be told apart", hint="choose one shard with `--shard`")
    starts.append((len(tokens), "end"))
    return {name: tokens[i + 1 : end] for (i, name), (end, _) in pairwise(starts)}


def _items(statement: Statement, tokens: Tokens, nodes: list[Any]) -> Iterable[Item]:
    parts = split(tokens)
    if len(parts) != len(nodes):
        refuse("the select list cannot be read safely", statement.slice(tokens))
    for part, node in zip(parts, nodes, strict=True):
        bare, alias = part, None
        if isinstance(node, exp.Alias):
            alias = statement.fold(node.args["alias"])
            bare = part[:-2] if part[-2].kind == "ALIAS" else part[:-1]
        yield _item(statement, bare, node.unalias(), statement.slice(part), alias)


def _item(statement: Statement, tokens: Tokens, node: Any, whole: str, alias: str | None = None) -> Item:
    text = statement.slice(tokens)
    if not tokens or statement.expression(text) != node:
        refuse("a part of the statement cannot be read safely", whole)
    return Item(tokens, text, node, whole, alias)


def _group(statement: Statement, select: exp.Select, tokens: Tokens) -> Iterable[Item]:
    group = select.args.get("group")
    if group is None:
        return
    others = any(value for name, value in group.args.items() if name != "expressions")
    if others or group.find(exp.Rollup, exp.Cube, exp.GroupingSets):
        refuse("ROLLUP, CUBE, GROUPING SETS and GROUP BY ALL cannot be answered over several shards yet", shown(group))
    parts = split(tokens)
    if len(parts) != len(group.expressions):
        refuse("GROUP BY cannot be read safely", statement.slice(tokens))
    for part, node in zip(parts, group.expressions, strict=True):
        yield _item(statement, part, node, statement.slice(part))


def _order(statement: Statement, select: exp.Select, tokens: Tokens) -> Iterable[Item]:
    order = select.args.get("order")
    if order is None:
        return
    parts = split(tokens)
    if len(parts) != len(order.expressions):
        refuse("ORDER BY cannot be read safely", statement.slice(tokens))
    for part, node in zip(parts, order.expressions, strict=True):
        if not isinstance(node, exp.Ordered) or node.args.get("with_fill"):
            refuse("ORDER BY cannot be read safely", statement.slice(part))
        bare, desc, nulls_first = _direction(part)
        if desc != bool(node.args.get("desc")):
            refuse("ORDER BY cannot be read safely", statement.slice(part))
        item = _item(statement, bare, node.this, statement.slice(part))
        tail = statement.slice(part[len(bare) :])
        yield Item(item.tokens, item.text, item.node, item.whole, None, tail, desc, nulls_first)


def _direction(part: Tokens) -> tuple[Tokens, bool, bool | None]:
    words = [token.text.upper() for token in part]
    nulls_first: bool | None = None
    if len(words) > 2 and words[-2] == "NULLS" and words[-1] in {"FIRST", "LAST"}:
        nulls_first = words[-1] == "FIRST"
        part, words = part[:-2], words[:-2]
    if len(part) > 1 and part[-1].kind in {"ASC", "DESC"}:
        return part[:-1], part[-1].kind == "DESC", nulls_first
    return part, False, nulls_first


def _limit(select: exp.Select) -> int | None:
    limit = select.args.get("limit")
    if isinstance(limit, exp.Fetch):
        options = limit.args.get("limit_options")
        ties = (options.args.get("with_ties") or options.args.get("percent")) if options is not None else None
        if ties or limit.args.get("with_ties") or limit.args.get("percent"):
            refuse("FETCH … WITH TIES and PERCENT cannot be answered over several shards yet", shown(limit))
        count = limit.args.get("count")
        return 1 if count is None else _literal(count, "FETCH")
    if limit is not None and limit.args.get("offset") is not None:
        refuse("LIMIT cannot be read safely", shown(limit), hint="write `LIMIT count OFFSET start`")
    return _number(limit, "LIMIT")


def _number(clause: exp.Expression | None, name: str) -> int | None:
    return None if clause is None else _literal(clause.expression, name)


def _literal(node: exp.Expression, name: str) -> int:
    if not isinstance(node, exp.Literal) or not node.is_int:
        refuse(f"{name} over several shards must be a number, written out", shown(node))
    return int(node.this)


def _kind(tree: exp.Expression) -> str:
    if isinstance(tree, exp.SetOperation):
        return "a set operation (UNION, INTERSECT, EXCEPT)"
    return "VALUES" if isinstance(tree, exp.Values) else "a statement in parentheses"
