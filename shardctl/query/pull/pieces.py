"""Conditions in the text: each conjunct of a WHERE or ON, found again as the tokens that it was written in.

What a shard is sent stays a piece of the user's text; the tree only says which piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlglot import exp

from shardctl.errors import QueryRefused
from shardctl.query.parse import Statement, Tokens

_OPEN = {"L_PAREN", "L_BRACKET", "L_BRACE", "CASE"}
_CLOSE = {"R_PAREN", "R_BRACKET", "R_BRACE", "END"}
_ENDS = set(
    """
    GROUP_BY HAVING ORDER_BY LIMIT OFFSET FETCH WINDOW QUALIFY UNION EXCEPT INTERSECT WHERE ON JOIN LEFT RIGHT FULL
    INNER OUTER CROSS NATURAL STRAIGHT_JOIN COMMA SEMICOLON FOR USING
    """.split()
)


def conjuncts(condition: Any) -> Iterable[exp.Expression]:
    """Yield the conditions that must all be true for this one to be."""
    if condition is None or condition.find(exp.Xor):  # engines disagree on what binds tighter than XOR
        return
    if isinstance(condition, exp.Paren):
        yield from conjuncts(condition.this)
    elif isinstance(condition, exp.And):
        yield from conjuncts(condition.left)
        yield from conjuncts(condition.right)
    else:
        yield condition
        if isinstance(condition, exp.Or):
            branches = [list(conjuncts(branch)) for branch in disjuncts(condition)]
            yield from (part for part in branches[0] if all(part in branch for branch in branches[1:]))


def disjuncts(condition: Any) -> Iterable[exp.Expression]:
    """Yield the conditions of which one must be true for this one to be."""
    if isinstance(condition, exp.Paren):
        yield from disjuncts(condition.this)
    elif isinstance(condition, exp.Or):
        yield from disjuncts(condition.left)
        yield from disjuncts(condition.right)
    else:
        yield condition


def conjunct_pieces(statement: Statement) -> dict[exp.Expression, Tokens]:
    """Return the conditions that AND and OR join in every WHERE and ON of a statement, with the tokens of each."""
    found: dict[exp.Expression, Tokens] = {}
    tokens = statement.tokens
    for i, token in enumerate(tokens):
        if token.kind in {"WHERE", "ON"}:
            for piece in _split(_clause(tokens[i + 1 :])):
                node = _read(statement, piece)
                if node is not None:
                    found.setdefault(node, piece)
    return found


def renamed(statement: Statement, piece: Tokens, fold: Callable[[Any], str], alias: str, name: str) -> str:
    """Return a piece's text with another qualifier in the place of a table's alias."""
    text, position = "", piece[0].start
    for token, following in zip(piece, [*piece[1:], None], strict=True):
        if following is not None and following.kind == "DOT" and fold(token) == alias:
            text += statement.sql[position : token.start] + name
            position = token.end + 1
    return text + statement.sql[position : piece[-1].end + 1]


def _clause(tokens: Tokens) -> Tokens:
    depth = 0
    for i, token in enumerate(tokens):
        if token.kind in _CLOSE:
            depth -= 1
        if depth < 0 or (depth == 0 and token.kind in _ENDS):
            return tokens[:i]
        if token.kind in _OPEN:
            depth += 1
    return tokens


def _split(tokens: Tokens) -> Iterable[Tokens]:
    """Yield what OR joins, and what AND joins in each of these, inside brackets around all of it too."""
    if tokens:
        yield tokens
    for branch in _operands(tokens, "OR"):
        for part in _operands(branch, "AND"):
            if len(part) > 2 and part[0].kind == "L_PAREN" and len(_clause(part[1:])) == len(part) - 2:
                yield from _split(part[1:-1])
            if part:
                yield part


def _operands(tokens: Tokens, operator: str) -> list[Tokens]:
    parts: list[list[Any]] = [[]]
    depth = between = 0
    for token in tokens:
        depth -= token.kind in _CLOSE
        if depth == 0 and token.kind == operator and not (between and operator == "AND"):
            parts.append([])
            continue
        if depth == 0 and token.kind in {"BETWEEN", "AND"}:
            between = max(between + (1 if token.kind == "BETWEEN" else -1), 0)
        depth += token.kind in _OPEN
        parts[-1].append(token)
    return [tuple(part) for part in parts]


def _read(statement: Statement, piece: Tokens) -> exp.Expression | None:
    try:
        node = statement.expression(statement.slice(piece))
    except QueryRefused:  # not a condition by itself
        return None
    return node if isinstance(node, exp.Expression) and not isinstance(node, exp.Alias) else None
