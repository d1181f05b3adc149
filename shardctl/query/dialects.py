"""A statement in one dialect of SQL -> the same in another: only what is known to mean the same in both.

A fleet's own dialect needs none of this: its text reaches the shards as it was written.
"""

from __future__ import annotations

from sqlglot import exp, parse
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, SqlglotError

from shardctl.errors import ConfigError, QueryRefused, UnreadableStatement, nearest_name
from shardctl.query.parse import DIALECTS
from shardctl.query.refusals import REFUSALS

_ALIKE = (
    exp.Select,
    exp.From,
    exp.Join,
    exp.Where,
    exp.Group,
    exp.Having,
    exp.Order,
    exp.Ordered,
    exp.Limit,
    exp.Offset,
    exp.Fetch,
    exp.Distinct,
    exp.Table,
    exp.TableAlias,
    exp.Alias,
    exp.Column,
    exp.Identifier,
    exp.Star,
    exp.Literal,
    exp.Boolean,
    exp.Null,
    exp.Placeholder,
    exp.Paren,
    exp.Tuple,
    exp.And,
    exp.Or,
    exp.Not,
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.In,
    exp.Between,
    exp.Is,
    exp.Exists,
    exp.Subquery,
    exp.Neg,
    exp.Add,
    exp.Sub,
    exp.Mul,
    exp.Case,
    exp.If,
    exp.Coalesce,
    exp.Nullif,
    exp.DPipe,
    exp.Count,
    exp.Sum,
    exp.Min,
    exp.Max,
)
"""What every dialect has, perhaps in other words, with one meaning; not so division, LIKE, casts and dates."""


def check_dialect(name: str) -> str:
    """Return a dialect as sqlglot calls it: an engine's, or any that it reads.

    Raises:
        ConfigError: There is none of this name.
    """
    found = DIALECTS.get(name.lower(), name.lower())
    known = [entry for entry in Dialect.classes if entry]
    if found not in known:
        nearest = nearest_name(name, [*known, *DIALECTS])
        hint = f"did you mean `{nearest}`?" if nearest else f"sqlglot reads {', '.join(known)}"
        raise ConfigError(f"there is no dialect `{name}`", hint=hint)
    return found


def rewritten(sql: str, dialect: str, engine: str) -> str:
    """Return a statement as an engine writes it.

    Args:
        sql: The statement.
        dialect: Its dialect, as sqlglot calls it.
        engine: `sqlite`, `postgresql` or `mysql`.

    Raises:
        QueryRefused: It cannot be read, or has what is not known to mean the same there.
    """
    if dialect == DIALECTS[engine]:
        return sql
    try:
        trees = [tree for tree in parse(sql, read=dialect) if tree is not None]
    except SqlglotError as error:
        raise UnreadableStatement(
            f"the statement cannot be read as `{dialect}`", facts=[str(error).splitlines()[0]]
        ) from error
    if len(trees) != 1:
        REFUSALS["several"].refuse(None, str(len(trees)))
    for node in trees[0].walk():
        if not isinstance(node, _ALIKE) or (isinstance(node, exp.Literal) and "\\" in str(node.this)):
            REFUSALS["dialect"].refuse(node.sql(dialect), dialect, engine)
    try:
        return trees[0].sql(DIALECTS[engine], unsupported_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise QueryRefused(f"the statement cannot be written for {engine}", facts=[str(error)]) from error
