"""What cannot be gathered: what each database would answer from what it has besides its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlglot import exp

from shardctl.query.calls import calls
from shardctl.query.gatherers.shapes import TableShape
from shardctl.query.parameters import is_bound
from shardctl.query.parse import Statement, shown
from shardctl.query.refusals import REFUSALS

_SYSTEM_COLUMNS = {
    "sqlite": frozenset({"rowid", "oid", "_rowid_"}),
    "postgresql": frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"}),
    "mysql": frozenset({"_rowid"}),
}
_REGISTERED = frozenset({"regclass", "regproc", "regprocedure", "regoper", "regtype", "regnamespace", "regrole"})
_WORDS = frozenset(
    """
    like glob regexp match current_user session_user user current_catalog current_schema current_role system_user
    """.split()
)
"""What calls a function without brackets."""
_OF_TABLE = {"this", "alias", "joins"}


def check_gatherable(statement: Statement, shapes: Mapping[str, TableShape], *, is_known: bool = True) -> None:
    """Refuse a statement whose answer depends on more than its tables' rows.

    Args:
        statement: The statement.
        shapes: Its tables.
        is_known: Whether these are known already: what may be a column is let pass otherwise.

    Raises:
        QueryRefused: As the list of refusals has it.
    """
    for table in statement.tables:
        if table.args.get("db") is not None:
            REFUSALS["schema"].refuse(shown(table))
        if any(value for name, value in table.args.items() if name not in _OF_TABLE):
            REFUSALS["modifier"].refuse(shown(table))
    for sample in statement.tree.find_all(exp.TableSample):
        REFUSALS["modifier"].refuse(shown(sample))
    for found in statement.tree.find_all(exp.Parameter, exp.SessionParameter, exp.Placeholder):
        if not isinstance(found, exp.Placeholder) or not is_bound(str(found.name)):
            REFUSALS["variable"].refuse(shown(found))
    _check_words(statement, shapes, is_known=is_known)
    if is_known:
        check_system_columns(statement, {column.name.lower() for shape in shapes.values() for column in shape.columns})


def check_system_columns(statement: Statement, columns: Collection[str]) -> None:
    """Refuse a row's place on its shard, unless it is the name of a column."""
    for token in statement.tokens:
        word = token.text.lower()
        if token.kind != "STRING" and word not in columns and word in _SYSTEM_COLUMNS[statement.engine]:
            REFUSALS["system column"].refuse(token.text)


def _check_words(statement: Statement, shapes: Mapping[str, TableShape], *, is_known: bool) -> None:
    columns = {column.name.lower() for shape in shapes.values() for column in shape.columns}
    for token in statement.tokens:
        word = token.text.lower()
        if token.kind in {"COLON_EQ", "PARAMETER", "SESSION_PARAMETER"} or (token.kind == "PLACEHOLDER"):
            REFUSALS["variable"].refuse(token.text)
        if token.kind == "STRING" or word in columns or not is_known:
            continue
        if statement.engine == "postgresql" and word in _REGISTERED:
            REFUSALS["catalogue"].refuse(token.text)


def functions(statement: Statement, shapes: Mapping[str, TableShape]) -> tuple[str, ...]:
    """Return what a statement calls, in lower case; shards say which of it is theirs alone."""
    columns = {column.name.lower() for shape in shapes.values() for column in shape.columns}
    words = (_word(token) for token in statement.tokens if token.kind not in {"STRING", "IDENTIFIER"})
    return tuple(
        dict.fromkeys([*calls(statement.tokens), *(word for word in words if word in _WORDS and word not in columns)])
    )


def names_in(statement: Statement) -> frozenset[str]:
    """Return every word of a statement in lower case: a column that is not among them is not read by its name."""
    return frozenset(_word(token) for token in statement.tokens)


def reads_all_columns(statement: Statement, aliases: Iterable[str]) -> bool:
    """Whether a statement may read columns that it does not name."""
    if any(not token.text.isascii() for token in statement.tokens if token.kind != "STRING"):
        return True
    if any(_is_star(star) for star in statement.tree.find_all(exp.Star)):
        return True
    if any(str(join.args.get("method") or "").upper() == "NATURAL" for join in statement.tree.find_all(exp.Join)):
        return True
    if any(alias.args.get("columns") for alias in statement.tree.find_all(exp.TableAlias) if _is_of_table(alias)):
        return True
    named = set(aliases)  # of a table: the whole row
    return any(
        column.args.get("table") is None and statement.fold(column.this) in named
        for column in statement.tree.find_all(exp.Column)
        if isinstance(column.this, exp.Identifier)
    )


def _is_star(star: exp.Star) -> bool:
    """Whether a star means columns: not so in `count(*)`, nor in `EXISTS (SELECT * …)`."""
    parent = star.parent
    if isinstance(parent, exp.Count):
        return False
    return not (isinstance(parent, exp.Select) and isinstance(parent.parent, exp.Exists))


def _is_of_table(alias: exp.TableAlias) -> bool:
    return isinstance(alias.parent, exp.Table)


def _word(token: Any) -> str:
    return str(token.text).lower()
