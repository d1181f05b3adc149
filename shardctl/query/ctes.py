"""Common table expressions: which names in FROM mean one, and which a table.

`WITH orders AS (SELECT * FROM orders) …` reads a table inside and the expression outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp

Fold = Callable[[exp.Identifier | None], str]


def is_table(table: exp.Table, engine: str, fold: Fold) -> bool:
    """Whether a source is a table of the database, or may be one: neither a function nor surely a WITH's name."""
    name = table.this
    if not isinstance(name, exp.Identifier):
        return False
    if table.args.get("db") is not None:
        return True
    wanted = fold(name)
    child: Any = table
    node: Any = table.parent
    inside: exp.CTE | None = None
    while node is not None:
        if isinstance(node, exp.CTE):
            inside = node
        elif isinstance(node, exp.With):
            if wanted in _visible(node, inside, engine, fold):
                return False
        else:
            clause = node.args.get("with_") or node.args.get("with")
            if clause is not None and clause is not child and wanted in _visible(clause, None, engine, fold):
                return False
        child, node = node, node.parent
    return True


def _visible(clause: exp.With, inside: exp.CTE | None, engine: str, fold: Fold) -> set[str]:
    """Return the names that a WITH gives: in what follows it, or in one of its own expressions."""
    named = [fold(cte.args["alias"].this) for cte in clause.expressions]
    position = next((i for i, cte in enumerate(clause.expressions) if cte is inside), None)
    if position is None:
        return set(named)
    sees_itself = bool(clause.args.get("recursive")) or engine == "sqlite"
    return set(named[: position + 1] if sees_itself else named[:position])
