"""Function calls in the text of an expression: which are aggregates, and where they begin and end."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from shardctl.query.clauses import split
from shardctl.query.parse import Statement, Tokens, refuse

MERGEABLE = {
    "sqlite": {"count", "sum", "min", "max", "avg", "total"},
    "postgresql": {"count", "sum", "min", "max", "avg", "bool_and", "bool_or", "every"},
    "mysql": {"count", "sum", "min", "max", "avg"},
}
"""The aggregates of each engine that can be computed from partial results."""


def calls(tokens: Tokens) -> Iterable[str]:
    """Yield the names of what is called as a function, in lower case."""
    for i, token in enumerate(tokens[:-1]):
        if tokens[i + 1].kind == "L_PAREN" and (token.text[:1].isalpha() or token.text[:1] == "_"):
            yield token.text.lower()


def aggregates_in(statement: Statement, node: exp.Expression) -> list[exp.AggFunc]:
    """Return the aggregates in an expression that the parser knows as such."""
    return [
        found
        for found in node.find_all(exp.AggFunc)
        # SQLite's `max` of several values looks at one row.
        if not (statement.engine == "sqlite" and isinstance(found, exp.Max | exp.Min) and found.expressions)
    ]


def mergeable_calls(statement: Statement, tokens: Tokens) -> list[tuple[int, int]]:
    """Return where aggregates begin and end that can be merged."""
    found: list[tuple[int, int]] = []
    i = 0
    while i < len(tokens) - 1:
        token = tokens[i]
        name = token.text.lower()
        is_call = tokens[i + 1].kind == "L_PAREN" and token.kind not in {"IDENTIFIER", "STRING"}
        if is_call and name in MERGEABLE[statement.engine]:
            end = closing(tokens, i + 1)
            if not (statement.engine == "sqlite" and name in {"min", "max"} and len(split(tokens[i + 2 : end])) > 1):
                if i and tokens[i - 1].kind == "DOT":
                    refuse("a function with a schema in front cannot be merged", statement.slice(tokens))
                if end + 2 < len(tokens) and tokens[end + 1].kind == "FILTER" and tokens[end + 2].kind == "L_PAREN":
                    end = closing(tokens, end + 2)
                found.append((i, end + 1))
                i = end
        i += 1
    return found


def closing(tokens: Tokens, opening: int) -> int:
    depth = 0
    end = opening
    while end < len(tokens) - 1:
        depth += {"L_PAREN": 1, "R_PAREN": -1}.get(tokens[end].kind, 0)
        if depth == 0:
            break
        end += 1
    return end
