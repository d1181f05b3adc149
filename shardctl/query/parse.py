"""SQL text -> Statement: one read-only statement, its tree for decisions and its tokens for cutting.

What is sent to a database is always a piece of the text as it was written, never SQL generated from the tree: a parser
that misreads an operator may then cost a refusal, but not a wrong row.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from sqlglot import exp, parse_one
from sqlglot import parse as parse_all
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, SqlglotError

from shardctl.errors import QueryRefused, UnreadableStatement
from shardctl.query.ctes import is_table
from shardctl.query.refusals import REFUSALS

DIALECTS = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql"}
"""shardctl's name of an engine -> sqlglot's."""

_READING = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
_WRITING = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.Command, exp.Into)

Tokens = Sequence[Any]


def refuse(
    reason: str, part: str | None = None, *, hint: str | None = None, kind: type[QueryRefused] = QueryRefused
) -> NoReturn:
    """Raise QueryRefused with the part of the statement that caused it."""
    raise kind(reason, facts=[f"in: {' '.join(part.split())}"] if part else [], hint=hint)


@dataclass(frozen=True)
class Statement:
    """One statement that only reads."""

    sql: str
    """The text, without a closing semicolon."""
    engine: str
    tree: exp.Expression
    tokens: Tokens
    offset: int = 0
    """Where the statement began in the text that was parsed: positions in the tree count from there."""

    @cached_property
    def tables(self) -> tuple[exp.Table, ...]:
        """Every table that is named anywhere, but for common table expressions and functions."""
        return tuple(table for table in self.tree.find_all(exp.Table) if is_table(table, self.engine, self.fold))

    @cached_property
    def cte_names(self) -> frozenset[str]:
        """The names that a WITH gives anywhere in the statement."""
        return frozenset(cte.alias for cte in self.tree.find_all(exp.CTE))

    def slice(self, tokens: Tokens) -> str:
        """Return the text from the first of these tokens to the last."""
        return self.sql[tokens[0].start : tokens[-1].end + 1] if tokens else ""

    def fold(self, identifier: exp.Identifier | None) -> str:
        """Return the name that an identifier means, so that equal names compare equal."""
        if identifier is None:
            return ""
        if self.engine == "postgresql" and identifier.args.get("quoted"):
            return str(identifier.this)
        return str(identifier.this).lower()

    def expression(self, text: str) -> Any:
        """Parse a piece of a select list."""
        return _quietly(lambda: parse_one(f"SELECT {text}", read=DIALECTS[self.engine])).expressions[0]


def parse(sql: str, engine: str) -> Statement:
    """Read one statement.

    Args:
        sql: The text.
        engine: `sqlite`, `postgresql` or `mysql`: the engine that will run it.

    Raises:
        QueryRefused: It is not SQL, not one statement, or not one that only reads.
    """
    dialect = Dialect.get_or_raise(DIALECTS[engine])
    trees = [tree for tree in _quietly(lambda: parse_all(sql, read=dialect)) if tree is not None]
    if not trees:
        hint = 'for example `shardctl query "SELECT count(*) FROM orders"`'
        refuse("there is no statement", hint=hint, kind=UnreadableStatement)
    if len(trees) > 1:
        REFUSALS["several"].refuse(None, str(len(trees)))
    tree = trees[0]
    tokens = _quietly(lambda: dialect.tokenize(sql))
    _check_comments(engine, sql, tokens)
    while tokens and tokens[-1].token_type.name == "SEMICOLON":
        tokens = tokens[:-1]
    statement = Statement(sql[tokens[0].start : tokens[-1].end + 1], engine, tree, _moved(tokens), tokens[0].start)
    _check_reads(statement)
    return statement


def shown(node: Any) -> str:
    """Return a tree, or a list of them, as text for a message."""
    if isinstance(node, list):
        return ", ".join(shown(entry) for entry in node)[:80]
    return str(node.sql(unsupported_level=ErrorLevel.IGNORE))[:80] if hasattr(node, "sql") else str(node)


def args_of(node: exp.Expression, name: str) -> Any:
    """Return an argument whose name sqlglot has at some time given an underscore: `from`, `with`."""
    return node.args.get(f"{name}_") or node.args.get(name)


def clauses_of(node: exp.Expression) -> set[str]:
    """Return the names of the arguments that a node has, as `args_of` takes them."""
    return {name.rstrip("_") for name, value in node.args.items() if value}


def _moved(tokens: Any) -> Tokens:
    return tuple(_Token(token, tokens[0].start) for token in tokens)


class _Token:
    """A token whose position counts from the statement's first character."""

    __slots__ = ("end", "kind", "start", "text")

    def __init__(self, token: Any, offset: int) -> None:
        self.kind: str = token.token_type.name
        self.text: str = token.text
        self.start: int = token.start - offset
        self.end: int = token.end - offset


def _quietly(read: Any) -> Any:
    logger = logging.getLogger("sqlglot")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        return read()
    except SqlglotError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UnreadableStatement("the statement cannot be read", facts=_plain(lines[:2])) from error
    except RecursionError as error:
        raise UnreadableStatement("the statement cannot be read: it is nested too deeply") from error
    finally:
        logger.setLevel(level)


def _plain(lines: list[str]) -> list[str]:
    """Take sqlglot's underlining and class names out of its messages."""
    plain = (re.sub(r"\x1b\[\d+m", "", line).strip() for line in lines)
    return [
        re.sub(r"Required keyword: '\w+' missing for <class '[^']*'>", "Something is missing", line) for line in plain
    ]


def _check_reads(statement: Statement) -> None:
    tree = statement.tree
    first = statement.tokens[0].text.upper()
    if not isinstance(tree, _READING):
        REFUSALS["write"].refuse(None, f"this is {_article(first)} `{first}` statement")
    for node in tree.walk():
        if isinstance(node, _WRITING):
            REFUSALS["write"].refuse(shown(node), f"a part of this statement is `{node.key.upper()}`")
        if isinstance(node, exp.Lock):
            REFUSALS["lock"].refuse(shown(node))


def _article(word: str) -> str:
    return "an" if word[:1] in "AEIOU" else "a"


def _check_comments(engine: str, sql: str, tokens: Tokens) -> None:
    """Refuse what MySQL runs although it looks like a comment."""
    if engine != "mysql":
        return
    ends = [0, *(token.end + 1 for token in tokens)]
    starts = [*(token.start for token in tokens), len(sql)]
    for end, start in zip(ends, starts, strict=True):
        gap = sql[end:start]
        if "/*!" in gap or "/*M!" in gap:
            refuse("MySQL would run what is in this comment", gap.strip()[:80], hint="leave out `/*! … */`")
