"""Names in GROUP BY and ORDER BY: a column of a table, or an output of the statement."""

from __future__ import annotations

from sqlglot import exp

from shardctl.query.clauses import Clauses, Item
from shardctl.query.parse import refuse


def needs_columns(clauses: Clauses) -> bool:
    """Whether GROUP BY has a name that may be a column's or an output's."""
    return any(alias_item(clauses, item) is not None for item in clauses.group)


def alias_item(clauses: Clauses, item: Item) -> Item | None:
    """Return the output that a bare name may mean, unless it is the column of that name itself."""
    node = item.node
    if not isinstance(node, exp.Column) or node.args.get("table") is not None:
        return None
    name = clauses.statement.fold(node.this)
    found = [entry for entry in clauses.items if entry.alias == name]
    if len(found) > 1:
        refuse(f"`{name}` names several columns of the result", item.whole)
    if not found or (isinstance(found[0].node, exp.Column) and clauses.statement.fold(found[0].node.this) == name):
        return None
    return found[0]


def check_nested_aliases(clauses: Clauses, item: Item) -> None:
    """Refuse an output's name inside an expression: engines differ on what it means there."""
    for column in item.node.find_all(exp.Column):
        if column.args.get("table") is not None:
            continue
        name = clauses.statement.fold(column.this)
        for output in clauses.items:
            is_itself = isinstance(output.node, exp.Column) and clauses.statement.fold(output.node.this) == name
            if output.alias == name and not is_itself:
                refuse(
                    f"`{name}` inside an expression may mean a column or an output of this statement",
                    item.whole,
                    hint="write the expression out",
                )


def order_position(clauses: Clauses, item: Item) -> int | None:
    """Return the output that an entry of ORDER BY names by its number or its alias, or is equal to."""
    if item.ordinal is not None:
        if not 1 <= item.ordinal <= len(clauses.items) and not any(entry.is_star for entry in clauses.items):
            refuse(f"ORDER BY {item.ordinal} is not in the select list", item.whole)
        return item.ordinal - 1
    node = item.node
    if isinstance(node, exp.Column) and node.args.get("table") is None:
        name = clauses.statement.fold(node.this)
        found = [i for i, entry in enumerate(clauses.items) if entry.alias == name]
        if len(found) > 1:
            refuse(f"`{name}` names several columns of the result", item.whole)
        if found:
            return found[0]
    return None
