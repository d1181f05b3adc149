"""Class names in statements: what a class name means, and a whole statement from a class name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sqlglot import exp

from shardctl.errors import ConfigError, QueryRefused, UnknownName, UnreadableStatement
from shardctl.fleet.quoting import quoted_name
from shardctl.query.parse import Statement, parse, refuse

if TYPE_CHECKING:
    from shardctl.fleet.models import Models


_PLAIN = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")


def quoted(name: str, engine: str, *, is_mixed: bool = False) -> str:
    """Return a name, with its schema if it has one, as an identifier of this engine.

    Args:
        name: The name.
        engine: The engine that decides how a name is quoted.
        is_mixed: Whether other engines read it too: they agree on plain names only, as they are.
    """
    if is_mixed and _PLAIN.fullmatch(name):
        return name
    return ".".join(quoted_name(part, engine) for part in name.split("."))


def class_tables(models: Models | None) -> dict[str, str]:
    """Return class name -> table name, for classes that have a table of their own."""
    if models is None:
        return {}
    tables: dict[str, str] = {}
    for name, mapper in models.mappers.items():
        key = getattr(mapper.local_table, "key", None)
        if isinstance(key, str) and not mapper.single:
            tables[name] = key
    return tables


def resolve_classes(statement: Statement, tables: Mapping[str, str], *, is_mixed: bool = False) -> Statement:
    """Put table names in the place of class names; the rest of the text stays as it is.

    Args:
        statement: The statement.
        tables: Class name (exact, with its case) -> table name.
        is_mixed: As for `quoted`.
    """
    spans: list[tuple[int, int, str]] = []
    offset = statement.offset
    for table in statement.tables:
        if table.db or tables.get(table.name, table.name) == table.name:
            continue
        name = quoted(tables[table.name], statement.engine, is_mixed=is_mixed)
        spans.append(_span(table.this, offset, name))
        if not table.alias:
            spans.extend(
                _span(column.args["table"], offset, name)
                for column in statement.tree.find_all(exp.Column)
                if column.args.get("table") is not None and column.table == table.name
            )
    if not spans:
        return statement
    text = statement.sql
    for start, end, name in sorted(set(spans), reverse=True):
        text = text[:start] + name + text[end:]
    return parse(text, statement.engine)


def _span(identifier: exp.Expression, offset: int, name: str) -> tuple[int, int, str]:
    meta = identifier.meta
    return meta["start"] - offset, meta["end"] + 1 - offset, name


def class_statement(
    models: Models | None,
    name: str,
    engine: str,
    *,
    where: str | None = None,
    order_by: str | None = None,
    limit: int | None = None,
    is_mixed: bool = False,
) -> str:
    """Return a SELECT of a class's mapped columns, or of a table's.

    Args:
        models: The application's models; None if there are none.
        name: A class or table.
        engine: The engine that will run it.
        where: One boolean expression.
        order_by: What follows ORDER BY.
        limit: Rows at most.
        is_mixed: As for `quoted`.

    Raises:
        UnknownName: There is no such class or table.
        QueryRefused: `where` or `order_by` is more than its clause.
    """
    table, columns = _table_and_columns(models, name)
    names = (quoted(column.replace(".", "\0"), engine, is_mixed=is_mixed).replace("\0", ".") for column in columns)
    listed = ", ".join(names) or "*"
    # Each on lines of its own: a comment in it must not swallow what follows.
    sql = f"SELECT {listed}\nFROM {quoted(table, engine, is_mixed=is_mixed)}"
    expected = {"expressions", "from"}
    if where is not None:
        _check_fragment(where, engine, "--where")
        sql += f"\nWHERE ({where}\n)"
        expected.add("where")
    if order_by is not None:
        _check_fragment(order_by, engine, "--order-by")
        sql += f"\nORDER BY {order_by}\n"
        expected.add("order")
    if limit is not None:
        sql += f"\nLIMIT {limit:d}"
        expected.add("limit")
    tree = parse(sql, engine).tree
    found = {key.rstrip("_") for key, value in tree.args.items() if value}
    if not isinstance(tree, exp.Select) or found != expected:
        refuse(
            "`--where` takes one condition and `--order-by` a list of columns",
            where or order_by,
            kind=UnreadableStatement,
        )
    if where is not None and not isinstance(tree.args["where"].this, exp.Paren):
        refuse("`--where` takes one condition", where, kind=UnreadableStatement)
    return sql


def _check_fragment(text: str, engine: str, option: str) -> None:
    """Refuse a text that closes a bracket that it did not open, or ends the statement."""
    depth = 0
    clause = "WHERE" if option == "--where" else "ORDER BY"
    try:
        tokens = parse(f"SELECT 1 {clause}\n{text}\n", engine).tokens
    except QueryRefused:
        refuse(f"`{option}` cannot be read", text, kind=UnreadableStatement)
    for token in tokens:
        depth += {"L_PAREN": 1, "R_PAREN": -1}.get(token.kind, 0)
        if depth < 0 or token.kind == "SEMICOLON":
            refuse(f"`{option}` is more than one expression", text, kind=UnreadableStatement)
    if depth:
        refuse(f"`{option}` has an open bracket", text, kind=UnreadableStatement)


def _table_and_columns(models: Models | None, name: str) -> tuple[str, Iterable[str]]:
    if models is None:
        raise ConfigError(
            f"`{name}` is not a statement, and without models it is no class either",
            hint='write a SELECT, or name the models in the shard map: `models = "module:Base"`',
        )
    try:
        found = models.find(name)
    except UnknownName as error:
        raise UnknownName(
            f"`{name}` is neither a statement nor a mapped class nor a table",
            name=name,
            known=[*models.mappers, *models.tables],
        ) from error
    mapper_table = getattr(found, "local_table", None)
    if getattr(found, "single", False):
        refuse(f"`{name}` shares its table with its base class", hint="query the base class, with a condition")
    table = found if mapper_table is None else mapper_table
    return str(table.key), [column.name for column in table.columns]  # type: ignore[union-attr]
