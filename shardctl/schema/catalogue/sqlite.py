"""What SQLite's pragmas say of a file, in four statements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from shardctl.schema.catalogue import Objects, SchemaObject
from shardctl.schema.catalogue.sqlite_ddl import TableText, normalised, read_table_text

_MASTER = r"""
SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\'
"""
_COLUMNS = r"""
SELECT m.name, c.name, c.type, c."notnull", c.dflt_value, c.pk
FROM sqlite_master m JOIN pragma_table_xinfo(m.name) c
WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY m.name, c.pk
"""
_UNIQUES = """
SELECT m.name, l.name, c.name
FROM sqlite_master m JOIN pragma_index_list(m.name) l JOIN pragma_index_xinfo(l.name) c
WHERE m.type = 'table' AND l.origin = 'u' AND c."key" = 1 ORDER BY m.name, l.name, c.seqno
"""
_FOREIGN_KEYS = """
SELECT m.name, f.id, f."table", f."from", f."to", f.on_update, f.on_delete
FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table' ORDER BY m.name, f.id, f.seq
"""
_HEAD = re.compile(r"create (?:unique )?(?:temp |temporary )?\w+ (?:if not exists )?\S+ ")


class SQLite:
    """The catalogue of SQLite."""

    def own_schema(self, connection: Connection) -> str:
        return "main"

    def read(self, connection: Connection, schemas: Sequence[str]) -> Mapping[str, Objects]:
        def rows(statement: str) -> Iterable[Any]:
            return connection.exec_driver_sql(statement)

        objects: Objects = {}
        texts: dict[str, TableText] = {}
        for type_, name, table, sql in rows(_MASTER):
            if type_ == "table":
                texts[name] = read_table_text(sql or "")
                objects[SchemaObject("table", name, "")] = texts[name].options
            else:
                objects[_object(type_, name, table)] = (
                    index_definition(sql or "") if type_ == "index" else normalised(sql or "")
                )
        _add_columns(objects, texts, rows(_COLUMNS))
        _add_uniques(objects, texts, rows(_UNIQUES))
        _add_foreign_keys(objects, texts, rows(_FOREIGN_KEYS))
        for table, text in texts.items():
            for name, condition in text.checks:
                objects[SchemaObject("check", table, name or f"({condition})")] = f"({condition})"
        return dict.fromkeys(schemas, objects)


def _object(type_: str, name: str, table: str) -> SchemaObject:
    return SchemaObject(type_, "" if type_ == "view" else table, name)


def index_definition(sql: str) -> str:
    """Return what a CREATE INDEX says, without the name of the index."""
    text = normalised(sql)
    is_unique = text.startswith("create unique")
    return ("unique " if is_unique else "") + _HEAD.sub("", text, count=1).removeprefix("on ")


def _add_columns(objects: Objects, texts: Mapping[str, TableText], rows: Iterable[Any]) -> None:
    keys: dict[str, list[str]] = {}
    for table, column, type_, is_required, default, position in rows:
        text = texts[table]
        type_ = re.sub(r" ?generated always$", "", normalised(type_))
        collation, generated = text.collations.get(column.casefold()), text.generated.get(column.casefold())
        words = [type_]
        words += [f"collate {collation}"] if collation else []
        words += ["not null"] if is_required else []
        words += [f"default {_expression(default)}"] if default is not None else []
        words += [f"generated always as {generated}"] if generated else []
        objects[SchemaObject("column", table, column)] = " ".join(word for word in words if word)
        if position:
            keys.setdefault(table, []).append(column)
    for table, columns in keys.items():
        autoincrement = " autoincrement" if texts[table].is_autoincrement else ""
        objects[SchemaObject("primary key", table, "")] = f"PRIMARY KEY ({', '.join(columns)}){autoincrement}"


def _expression(default: str) -> str:
    """Return a default without the parentheses that only some versions of SQLite keep."""
    text = normalised(default)
    return text[1:-1].strip() if re.fullmatch(r"\([^()]*\)", text) else text


def _add_uniques(objects: Objects, texts: Mapping[str, TableText], rows: Iterable[Any]) -> None:
    columns: dict[tuple[str, str], list[str]] = {}
    for table, index, column in rows:
        columns.setdefault((table, index), []).append(column)
    for (table, _), names in columns.items():
        listed = f"({', '.join(names)})"
        name = _by_columns(texts[table].uniques, names)
        objects[SchemaObject("unique", table, name or listed)] = f"UNIQUE {listed}"


def _add_foreign_keys(objects: Objects, texts: Mapping[str, TableText], rows: Iterable[Any]) -> None:
    pairs: dict[tuple[str, int, str, str, str], list[tuple[str, str | None]]] = {}
    for table, number, target, near, far, on_update, on_delete in rows:
        pairs.setdefault((table, number, target, on_update, on_delete), []).append((near, far))
    for (table, _, target, on_update, on_delete), columns in pairs.items():
        listed = ", ".join(near for near, _ in columns)
        far = ", ".join(name for _, name in columns if name)
        name, deferred = _by_columns(texts[table].foreign_keys, [near for near, _ in columns]) or ("", "")
        words = [f"FOREIGN KEY ({listed}) REFERENCES {target}" + (f"({far})" if far else "")]
        words += [f"ON UPDATE {on_update}"] if on_update != "NO ACTION" else []
        words += [f"ON DELETE {on_delete}"] if on_delete != "NO ACTION" else []
        words += [deferred] if deferred else []
        objects[SchemaObject("foreign key", table, name or f"({listed})")] = " ".join(words)


def _by_columns(entries: Mapping[tuple[str, ...], Any], columns: Sequence[str]) -> Any:
    """Return the entry for these columns, whose names SQLite compares without regard to case."""
    wanted = [column.casefold() for column in columns]
    return next((entry for key, entry in entries.items() if [name.casefold() for name in key] == wanted), None)


SQLITE = SQLite()
