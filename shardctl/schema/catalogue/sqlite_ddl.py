"""What only the text of a CREATE TABLE says in SQLite: checks, collations, generated columns, names of constraints.

The text itself is not compared: ALTER TABLE edits it, so that equal tables have different texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""
    --[^\n]* | /\*.*?\*/ | \s+                                # nothing
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\])
    | (?P<word>[\w$]+(?:\.\d+)?)
    | (?P<other>\|\||<<|>>|<=|>=|==|!=|<>|->>|->|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = frozenset(["constraint", "primary", "unique", "check", "foreign"])


@dataclass(slots=True)
class TableText:
    """What the text of a table says."""

    checks: list[tuple[str, str]] = field(default_factory=list)
    """Names, empty where there is none, and conditions."""
    generated: dict[str, str] = field(default_factory=dict)
    """Column, in lower case -> expression."""
    collations: dict[str, str] = field(default_factory=dict)
    """Column, in lower case -> collation."""
    uniques: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Columns -> name of the constraint, where it has one."""
    foreign_keys: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)
    """Columns -> name of the constraint, and when it is checked."""
    is_autoincrement: bool = False
    options: str = ""
    """What stands after the columns: `strict`, `without rowid`."""


def normalised(sql: str) -> str:
    """Return SQL with one space between tokens, in lower case, and without quotes around names."""
    return _joined(_tokens(sql))


def read_table_text(sql: str) -> TableText:
    """Read a CREATE TABLE statement."""
    tokens = _tokens(sql)
    read = TableText()
    if "(" not in tokens:
        return read
    start = tokens.index("(")
    end = _closing(tokens, start)
    read.options = _joined(tokens[end + 1 :])
    for definition in _split(tokens[start + 1 : end]):
        if definition[0] in _KEYWORDS:
            _read_clauses(read, definition, column=None)
        else:
            _read_clauses(read, definition[1:], column=_bare(definition[0]).casefold())
    return read


def _read_clauses(read: TableText, tokens: list[str], column: str | None) -> None:
    """Read the constraints in the definition of a table's column, or of a table (column: None)."""
    name, position = "", 0
    key: tuple[str, ...] = (column,) if column else ()
    while position < len(tokens):
        token, following = tokens[position], tokens[position + 1 : position + 2]
        if token == "constraint":
            name, position = _bare(following[0]), position + 2
            continue
        if token == "foreign":
            key = _columns(tokens, position + 2)
        elif token in ("check", "unique", "references", "primary"):
            _add_constraint(read, token, name, tokens[position:], key)
            name = ""
        elif column:
            _add_property(read, token, tokens[position:], column)
        position = _closing(tokens, position) + 1 if token == "(" else position + 1


def _add_constraint(read: TableText, word: str, name: str, tokens: list[str], key: tuple[str, ...]) -> None:
    match word:
        case "check":
            read.checks.append((name, _joined(tokens[2 : _closing(tokens, 1)])))
        case "unique":
            read.uniques[key or _columns(tokens, 1)] = name
        case "references":
            read.foreign_keys[key] = name, "deferred" if "deferred" in tokens else ""
        case "primary":
            read.is_autoincrement |= "autoincrement" in tokens


def _add_property(read: TableText, word: str, tokens: list[str], column: str) -> None:
    if word == "as" and tokens[1:2] == ["("]:
        end = _closing(tokens, 1)
        kind = " stored" if tokens[end + 1 : end + 2] == ["stored"] else ""
        read.generated[column] = f"({_joined(tokens[2:end])}){kind}"
    elif word == "collate":
        read.collations[column] = _bare(tokens[1]).lower()


def _columns(tokens: list[str], start: int) -> tuple[str, ...]:
    """Return the names in parentheses that open at a position."""
    return tuple(_bare(part[0]) for part in _split(tokens[start + 1 : _closing(tokens, start)]))


def _tokens(sql: str) -> list[str]:
    """Return strings and quoted names as they are, and the rest in lower case."""
    tokens = []
    for match in _TOKEN.finditer(sql):
        if match["string"] or match["quoted"]:
            tokens.append(match[0])
        elif match.lastgroup:
            tokens.append(match[0].lower())
    return tokens


def _bare(token: str) -> str:
    if token[:1] in ('"', "`"):
        return token[1:-1].replace(token[0] * 2, token[0])
    return token[1:-1] if token[:1] == "[" else token


def _joined(tokens: list[str]) -> str:
    words = (token if token.startswith("'") else _bare(token).lower() for token in tokens)
    text = " ".join(words)
    return re.sub(r"(?<=\() | (?=[),])|(?<=\w) (?=\()", "", text)


def _closing(tokens: list[str], start: int) -> int:
    """Return where the parenthesis closes that opens at a position."""
    depth = 0
    for position in range(start, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[position], 0)
        if depth == 0:
            return position
    return len(tokens)


def _split(tokens: list[str]) -> Iterator[list[str]]:
    """Split at the commas that no parentheses enclose."""
    depth, part = 0, list[str]()
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token == "," and depth == 0:
            yield part
            part = []
        else:
            part.append(token)
    if part:
        yield part
