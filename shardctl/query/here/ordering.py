"""ORDER BY, positions and LIMIT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlglot import exp

from shardctl.query.here.kinds import NotListed, not_listed
from shardctl.query.here.scopes import Output
from shardctl.query.here.values import Value, comparable
from shardctl.query.here.writer import Writer, check_parts
from shardctl.query.parse import shown


def order_keys(writer: Writer, ordered: Sequence[Any], values: Sequence[Value]) -> str:
    """Write what rows are ordered by, with where NULLs go."""
    keys = []
    for entry, value in zip(ordered, values, strict=True):
        check_parts(entry, frozenset({"this", "desc", "nulls_first"}))
        writer.use("order by", value.kind, entry)
        key = comparable(value, writer.demands, writer.engine, is_order=True)
        direction = "DESC" if entry.args.get("desc") else "ASC"
        keys.append(f"{key} {direction} NULLS {'FIRST' if entry.args.get('nulls_first') else 'LAST'}")
    return ", ".join(keys)


def position(items: Sequence[Any], entry: Any) -> int:
    """Return which output a number in GROUP BY or ORDER BY means, from 0."""
    if entry.is_string or not str(entry.this).isdigit() or not 1 <= int(entry.this) <= len(items):
        raise NotListed(f"`{shown(entry)}` is no position")
    return int(entry.this) - 1


def output_at(items: Sequence[Any], entry: Any) -> Any:
    """Return the output that a number means, or what is written for it."""
    found = items[position(items, entry)]
    return found if isinstance(found, Output) else found.unalias()


def limit(node: Any) -> str:
    """Write LIMIT and OFFSET."""
    text = ""
    for name, kind in (("limit", exp.Limit), ("offset", exp.Offset)):
        clause = node.args.get(name)
        if clause is None:
            continue
        number = clause.expression if type(clause) is kind else None
        rest = [value for key, value in clause.args.items() if key not in ("expression", "this") and value]
        if not isinstance(number, exp.Literal) or number.is_string or rest or not str(number.this).isdigit():
            raise not_listed(f"`{shown(clause)}`")
        text += f" {name.upper()} {int(number.this)}"
    return text
