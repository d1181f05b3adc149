"""SQL as changes: recognised by its words, without a grammar, so that what is not known is left alone.

A statement is first brought into one form: without comments, each string as `''`, one space between words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from shardctl.schema.lint.changes import Change, Kind

_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)
    |(?P<dollar>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<string>[eE]?'(?:[^'\\]|''|\\.)*')
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`)
    |(?P<word>[\w$:%@]+)
    |(?P<space>\s+)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_NAME = r'(?:"[^"]+"|[\w$]+)'
_TARGET = rf"(?:(?P<schema>{_NAME})\s*\.\s*)?(?P<table>{_NAME})"
_IF = r"(?:IF (?:NOT )?EXISTS )?"
_AT_ONCE = re.compile(r"\b(?:FOREIGN KEY|REFERENCES|CHECK|UNIQUE|PRIMARY KEY|EXCLUDE)\b", re.IGNORECASE)
_SCHEMA = re.compile(
    rf"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|ONLY|REFERENCES|TRUNCATE|USING|TYPE|VIEW|SEQUENCE|FUNCTION|PROCEDURE|EXISTS"
    rf"|TRIGGER|INDEX|DOMAIN)\s+({_NAME})\s*\.\s*{_NAME}|\bINDEX\b[^(]*?\bON\s+(?:ONLY\s+)?({_NAME})\s*\.\s*{_NAME}"
    rf"|\b(?:CREATE|DROP|ALTER|IN|SET)\s+SCHEMA\s+(?:IF (?:NOT )?EXISTS )?({_NAME})",
    re.IGNORECASE,
)
_NO_TABLE = re.compile(r"\b(?:EXTRACT|TRIM|SUBSTRING|OVERLAY|POSITION)\s*\([^()]*\)|\bDISTINCT FROM\b", re.IGNORECASE)
SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_temp", "performance_schema", "sys", "temp"})


def statements(sql: str) -> list[str]:
    """Return the statements of a text, each brought into one form."""
    parts: list[str] = [""]
    for token in _TOKEN.finditer(sql):
        match token.lastgroup if token.lastgroup != "tag" else "dollar":
            case "comment" | "space":
                parts[-1] += " "
            case "string" | "dollar":
                parts[-1] += "''"
            case "quoted":
                name = token[0][1:-1]
                parts[-1] += name if re.fullmatch(r"[a-z_]\w*", name) else f'"{name}"'
            case "other" if token[0] == ";":
                parts.append("")
            case _:
                parts[-1] += token[0]
    return [" ".join(part.split()) for part in parts if part.strip()]


def changes_of_sql(sql: str, dialect: str) -> Iterator[Change]:
    """Return what each statement of a text changes."""
    for statement in statements(sql):
        schemas = named_schemas(statement, dialect)
        for change in _changes(statement):
            yield replace(change, sql=statement, schemas=schemas)


def named_schemas(statement: str, dialect: str) -> tuple[str, ...]:
    """Return the schemas that a statement names, without those of the server itself."""
    text = _NO_TABLE.sub(" ", statement)
    found = (next(filter(None, match)).strip('"') for match in _SCHEMA.findall(text))
    own = {"main"} if dialect == "sqlite" else set()
    return tuple(dict.fromkeys(name for name in found if name.lower() not in SYSTEM_SCHEMAS | own))


def _changes(statement: str) -> Iterator[Change]:
    for pattern, make in _STATEMENTS:
        found = pattern.match(statement)
        if found:
            yield from make(found, statement)
            return
    yield Change(Kind.OTHER)


def _alter_table(found: re.Match[str], statement: str) -> Iterator[Change]:
    table = _plain(found["table"])
    is_known = False
    for action in _split(statement[found.end() :]):
        for pattern, make in _ACTIONS:
            match = pattern.match(action)
            if match:
                is_known = True
                yield replace(make(match, action), table=table)
                if make is _add_column and "REFERENCES " in action.upper():
                    yield replace(_add_constraint(match, "FOREIGN KEY"), table=table)
                break
    if not is_known:
        yield Change(Kind.OTHER, table=table)


def _add_column(found: re.Match[str], action: str) -> Change:
    default = re.search(r"\bDEFAULT (.*?)(?= NOT NULL| NULL| UNIQUE| CHECK| REFERENCES|$)", action, re.IGNORECASE)
    generated = ""
    if re.search(r"\bGENERATED\b.*\bIDENTITY\b|\bAUTO_INCREMENT\b|\b(?:BIG|SMALL)?SERIAL\b", action, re.IGNORECASE):
        generated = "identity"
    elif re.search(r"\bAS ?\(", action, re.IGNORECASE):
        generated = "stored" if re.search(r"\b(?:STORED|PERSISTENT)\b", action, re.IGNORECASE) else "virtual"
    return Change(
        Kind.ADD_COLUMN,
        name=_plain(found["name"]),
        is_nullable=re.search(r"\bNOT NULL\b", action, re.IGNORECASE) is None,
        has_default=default is not None,
        default=default[1] if default else "",
        generated=generated,
        is_unique=re.search(r"\bUNIQUE\b", action, re.IGNORECASE) is not None,
    )


def _add_constraint(found: re.Match[str], action: str) -> Change:
    kind = _AT_ONCE.search(action)
    said = kind[0].lower() if kind else ""
    condition = re.search(r"\bCHECK ?\((.*)\)", action, re.IGNORECASE)
    return Change(
        Kind.ADD_CONSTRAINT,
        name=_plain(found.groupdict().get("name") or ""),
        constraint="foreign key" if said == "references" else said,
        is_validated=not re.search(r"\bNOT VALID\b|\bUSING INDEX\b", action, re.IGNORECASE),
        where=condition[1] if condition else "",
    )


def _create_index(found: re.Match[str], statement: str) -> Iterator[Change]:
    where = re.search(r"\bWHERE (.*)$", statement, re.IGNORECASE)
    yield Change(
        Kind.CREATE_INDEX,
        table=_plain(found["table"]),
        name=_plain(found["name"] or ""),
        is_unique=found["unique"] is not None,
        concurrently=found["concurrently"] is not None,
        where=where[1] if where else "",
    )


def _drop_index(found: re.Match[str], statement: str) -> Iterator[Change]:
    name, concurrently = _plain(found["table"]), found["concurrently"] is not None
    yield Change(Kind.DROP_INDEX, name=name, concurrently=concurrently)


def _of_kind(kind: Kind) -> Callable[[re.Match[str], str], Iterator[Change]]:
    def make(found: re.Match[str], statement: str) -> Iterator[Change]:
        is_bounded = kind not in {Kind.UPDATE, Kind.DELETE} or re.search(r"\bWHERE\b|\bLIMIT\b", statement, re.I)
        new_name = _plain(found.groupdict().get("new") or "")
        yield Change(kind, table=_plain(found["table"]), new_name=new_name, is_bounded=bool(is_bounded))

    return make


def _of_column(kind: Kind) -> Callable[[re.Match[str], str], Change]:
    def make(found: re.Match[str], action: str) -> Change:
        groups = found.groupdict()
        return Change(kind, name=_plain(groups.get("name") or ""), new_name=_plain(groups.get("new") or ""))

    return make


def _split(actions: str) -> list[str]:
    """Part the actions of an ALTER TABLE at the commas between them."""
    parts, depth = [""], 0
    for char in actions:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def _plain(name: str) -> str:
    return name.strip('"')


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_CONSTRAINT = rf"ADD (?:CONSTRAINT {_IF}(?P<name>{_NAME}) )?(?=FOREIGN|CHECK|UNIQUE|PRIMARY|EXCLUDE)"
_ACTIONS: list[tuple[re.Pattern[str], Callable[[re.Match[str], str], Change]]] = [
    (_pattern(_CONSTRAINT), _add_constraint),
    (_pattern(rf"ADD (?:UNIQUE |FULLTEXT |SPATIAL )?(?:INDEX|KEY) (?P<name>{_NAME})"), _of_column(Kind.CREATE_INDEX)),
    (_pattern(rf"ADD (?:COLUMN )?{_IF}(?P<name>{_NAME})"), _add_column),
    (_pattern(rf"DROP CONSTRAINT {_IF}(?P<name>{_NAME})"), _of_column(Kind.DROP_CONSTRAINT)),
    (_pattern(rf"DROP (?:FOREIGN KEY|CHECK) (?P<name>{_NAME})"), _of_column(Kind.DROP_CONSTRAINT)),
    (_pattern(r"DROP PRIMARY KEY"), _of_column(Kind.DROP_CONSTRAINT)),
    (_pattern(rf"DROP (?:INDEX|KEY) (?P<name>{_NAME})"), _of_column(Kind.DROP_INDEX)),
    (_pattern(rf"DROP (?!PARTITION )(?:COLUMN )?{_IF}(?P<name>{_NAME})"), _of_column(Kind.DROP_COLUMN)),
    (_pattern(rf"ALTER (?:COLUMN )?(?P<name>{_NAME}) SET NOT NULL"), _of_column(Kind.SET_NOT_NULL)),
    (_pattern(rf"ALTER (?:COLUMN )?(?P<name>{_NAME}) DROP NOT NULL"), _of_column(Kind.DROP_NOT_NULL)),
    (_pattern(rf"ALTER (?:COLUMN )?(?P<name>{_NAME}) (?:SET DATA )?TYPE"), _of_column(Kind.ALTER_TYPE)),
    (_pattern(rf"ALTER (?:COLUMN )?(?P<name>{_NAME}) (?:SET|DROP) DEFAULT"), _of_column(Kind.ALTER_DEFAULT)),
    (_pattern(rf"MODIFY (?:COLUMN )?{_IF}(?P<name>{_NAME})"), _of_column(Kind.ALTER_TYPE)),
    (_pattern(rf"CHANGE (?:COLUMN )?{_IF}(?P<name>{_NAME}) (?P<new>{_NAME})"), _of_column(Kind.ALTER_TYPE)),
    (_pattern(rf"RENAME (?:TO|AS) (?P<new>{_NAME})"), _of_column(Kind.RENAME_TABLE)),
    (_pattern(rf"RENAME (?:INDEX|KEY|CONSTRAINT) (?P<name>{_NAME})"), _of_column(Kind.OTHER)),
    (_pattern(rf"RENAME (?:COLUMN )?(?P<name>{_NAME}) TO (?P<new>{_NAME})"), _of_column(Kind.RENAME_COLUMN)),
    (_pattern(rf"VALIDATE CONSTRAINT (?P<name>{_NAME})"), _of_column(Kind.VALIDATE)),
    (_pattern(r"CONVERT TO|ENGINE\b|SET TABLESPACE|SET (?:UN)?LOGGED|SET ACCESS METHOD"), _of_column(Kind.REWRITE)),
]
_STATEMENTS: list[tuple[re.Pattern[str], Callable[[re.Match[str], str], Iterator[Change]]]] = [
    (_pattern(rf"ALTER (?:ONLINE )?(?:IGNORE )?TABLE {_IF}(?:ONLY )?{_TARGET} "), _alter_table),
    (
        _pattern(
            rf"CREATE (?P<unique>UNIQUE )?(?:FULLTEXT |SPATIAL )?INDEX (?P<concurrently>CONCURRENTLY )?{_IF}"
            rf"(?:(?!ON )(?P<name>{_NAME})(?: USING \w+)? )?ON (?:ONLY )?{_TARGET}"
        ),
        _create_index,
    ),
    (_pattern(rf"DROP INDEX (?P<concurrently>CONCURRENTLY )?{_IF}{_TARGET}"), _drop_index),
    (
        _pattern(rf"CREATE (?:TEMP(?:ORARY)? |UNLOGGED )?TABLE {_IF}{_TARGET}"),
        _of_kind(Kind.CREATE_TABLE),
    ),
    (_pattern(rf"DROP (?:FOREIGN )?TABLE {_IF}{_TARGET}"), _of_kind(Kind.DROP_TABLE)),
    (_pattern(rf"RENAME TABLE {_IF}{_TARGET} TO (?P<new>{_NAME})"), _of_kind(Kind.RENAME_TABLE)),
    (_pattern(rf"(?:INSERT|REPLACE) (?:IGNORE |OR \w+ )?INTO {_TARGET}"), _of_kind(Kind.INSERT)),
    (_pattern(rf"UPDATE (?:IGNORE |ONLY |LOW_PRIORITY )?{_TARGET} "), _of_kind(Kind.UPDATE)),
    (_pattern(rf"DELETE (?:IGNORE |QUICK )?FROM (?:ONLY )?{_TARGET}"), _of_kind(Kind.DELETE)),
    (_pattern(rf"TRUNCATE (?:TABLE )?(?:ONLY )?{_TARGET}"), _of_kind(Kind.TRUNCATE)),
]
