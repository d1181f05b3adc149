"""SQL text that a session sends to several shards: only rows that need no merging."""

from __future__ import annotations

import re
from typing import Any

from sqlglot import ErrorLevel, exp, parse
from sqlglot.errors import SqlglotError

from shardctl.query.orm.parts import NAME_ONE_SHARD, refuse

_READING = re.compile(r"\s*\(*\s*(select|with|values|table)\b", re.IGNORECASE)
_DIALECTS = {"postgresql": "postgres", "mariadb": "mysql"}
_ROWS_ONLY = {
    "order": "ORDER BY",
    "limit": "LIMIT",
    "offset": "OFFSET",
    "distinct": "DISTINCT",
    "group": "GROUP BY",
    "having": "HAVING",
    "joins": "a join",
    "laterals": "LATERAL",
}


def reads(text: str) -> bool:
    """Say whether SQL text is a query."""
    return _READING.match(text) is not None


def check_text(text: str, dialect: str) -> None:
    """Refuse SQL text whose rows, one shard's after another's, would not be one database's.

    Raises:
        QueryRefused: The part that would have to be merged is in the facts.
    """
    hint = f"write it with `select()`, or {NAME_ONE_SHARD}"
    try:
        trees = parse(re.sub(r"(?<!:):(\w+)", r"NULL", text), read=_DIALECTS.get(dialect, dialect))
    except SqlglotError:
        refuse("this SQL text cannot be read", text, hint=hint)
    tree: Any = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Select):
        refuse("only the rows of one SELECT can be put one after another", text, hint=hint)
    for name, word in _ROWS_ONLY.items():
        if tree.args.get(name):
            refuse(f"{word} in SQL text cannot be merged", text, hint=hint)
    found = next(
        (
            node
            for node in tree.walk()
            if isinstance(node, exp.AggFunc | exp.Window | exp.Anonymous | exp.With)
            or (isinstance(node, exp.Query) and node is not tree)
        ),
        None,
    )
    if found is not None:
        refuse("this part of SQL text cannot be merged", found.sql(unsupported_level=ErrorLevel.IGNORE), hint=hint)
