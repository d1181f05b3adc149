"""What a statement of MySQL or MariaDB does to a transaction, and what says that it has been done already: pure."""

from __future__ import annotations

import re
from enum import StrEnum


class Kind(StrEnum):
    """What a statement does, as far as doing it twice is concerned."""

    READ = "read"
    """Reads, or sets up the session: it has to run each time."""
    CONTROL = "control"
    """Begins or ends a transaction, or a part of one."""
    TEMPORARY = "temporary"
    """Makes or drops a table that only the session has."""
    WRITE = "write"
    """Changes rows, and is committed or rolled back with its transaction."""
    SCHEMA = "schema"
    """Changes the schema: commits what was before it, and is done or not done when it ends."""
    OPAQUE = "opaque"
    """May do anything, such as calling a procedure."""


_WORDS = {
    Kind.READ: "SELECT SHOW DESCRIBE DESC EXPLAIN SET USE HELP VALUES TABLE DO PREPARE DEALLOCATE HANDLER",
    Kind.CONTROL: "START COMMIT ROLLBACK SAVEPOINT RELEASE LOCK UNLOCK ANALYZE OPTIMIZE CHECK REPAIR FLUSH CHECKSUM",
    Kind.WRITE: "INSERT UPDATE DELETE REPLACE LOAD",
    Kind.SCHEMA: "CREATE ALTER DROP RENAME TRUNCATE GRANT REVOKE",
}
_KIND_OF = {word: kind for kind, words in _WORDS.items() for word in words.split()}

_COMMENTS = re.compile(r"\A(?:\s|\(|--\s[^\n]*(?:\n|\Z)|#[^\n]*(?:\n|\Z)|/\*(?!M?!).*?\*/)+", re.DOTALL)
_TEMPORARY = re.compile(r"(?:CREATE(?:\s+OR\s+REPLACE)?|DROP)\s+TEMPORARY\b", re.IGNORECASE)
_WRITING_WITH = re.compile(r"\)\s*(?:UPDATE|DELETE|INSERT|REPLACE)\b", re.IGNORECASE)
_SESSION_STATE = re.compile(
    r"\b(?:LAST_INSERT_ID|ROW_COUNT|FOUND_ROWS)\s*\(|@@(?:\w+\.)?(?:identity|last_insert_id)\b|(?<![@\w])@[\w`'\"$]",
    re.IGNORECASE,
)
_RETURNING = re.compile(r"\bRETURNING\b", re.IGNORECASE)
# The server makes up a name for these, another one each time.
_UNNAMED = re.compile(
    r"\bADD\s+(?:CONSTRAINT\s+)?(?:UNIQUE|FULLTEXT|SPATIAL|INDEX|KEY|FOREIGN|CHECK)(?:\s+(?:INDEX|KEY))?"
    r"\s*(?:USING\s+\w+\s*)?\(",
    re.IGNORECASE,
)

# Beginning of a statement -> errors that a second run of it answers with because the first one had succeeded.
_DONE_ALREADY: tuple[tuple[str, frozenset[int]], ...] = (
    (r"CREATE\s+(?:OR\s+REPLACE\s+)?(?:\w+\s+)?(?:INDEX|KEY)\b", frozenset({1061})),
    (r"CREATE\s.*?\bTRIGGER\b", frozenset({1359, 4031})),
    (r"CREATE\s.*?\b(?:PROCEDURE|FUNCTION|PACKAGE)\b", frozenset({1304})),
    (r"CREATE\s.*?\bEVENT\b", frozenset({1537})),
    (r"CREATE\s.*?\b(?:DATABASE|SCHEMA)\b", frozenset({1007})),
    (r"CREATE\b", frozenset({1050})),
    (r"DROP\s+INDEX\b", frozenset({1091})),
    (r"DROP\s+TRIGGER\b", frozenset({1360})),
    (r"DROP\s+(?:PROCEDURE|FUNCTION|PACKAGE)\b", frozenset({1305})),
    (r"DROP\s+EVENT\b", frozenset({1539})),
    (r"DROP\s+(?:DATABASE|SCHEMA)\b", frozenset({1008})),
    (r"DROP\b", frozenset({1051, 4091, 4092})),
    # The old name is gone, or the new one is there.
    (r"RENAME\s+TABLE\b", frozenset({1050, 1017, 1146})),
    (r"ALTER\s+TABLE\s+\S+\s+RENAME\s+(?:COLUMN|INDEX|KEY)\b", frozenset({1054, 1060, 1061, 1176})),
    (r"ALTER\s+TABLE\s+\S+\s+RENAME\b", frozenset({1050, 1017, 1146})),
    (r"ALTER\s+TABLE\s+\S+\s+CHANGE\b", frozenset({1054})),
    # 1005 is MariaDB's for a foreign key of a name that is taken, by way of errno 121.
    (r"ALTER\s+TABLE\s+\S+\s+ADD\b", frozenset({1060, 1061, 1068, 1022, 1826, 1005, 3822})),
    (r"ALTER\s+TABLE\s+\S+\s+DROP\b", frozenset({1091, 3821, 3940})),
)
_DONE_ALREADY_PATTERNS = [(re.compile(start, re.IGNORECASE | re.DOTALL), codes) for start, codes in _DONE_ALREADY]


def kind_of(statement: str) -> Kind:
    """Return what a statement does."""
    text = _bare(statement)
    if _TEMPORARY.match(text):
        return Kind.TEMPORARY
    word = re.match(r"\w*", text)
    first = word.group().upper() if word else ""
    if first == "WITH":
        return Kind.WRITE if _WRITING_WITH.search(text) else Kind.READ
    if first == "BEGIN":
        return Kind.CONTROL if re.fullmatch(r"BEGIN(?:\s+WORK)?\s*;?\s*", text, re.IGNORECASE) else Kind.OPAQUE
    return _KIND_OF.get(first, Kind.OPAQUE)


def done_already(statement: str) -> frozenset[int]:
    """Return the errors that mean that a statement which changes the schema had been done."""
    text = _bare(statement)
    for start, codes in _DONE_ALREADY_PATTERNS:
        if start.match(text):
            return codes
    return frozenset()


def can_be_repeated(statement: str) -> bool:
    """Whether a statement that changes the schema, if it was done, fails or changes nothing when it runs again."""
    return _UNNAMED.search(statement) is None


def needs_session(statement: str) -> bool:
    """Whether a statement reads what earlier ones left in the session: the last id, a count, a variable."""
    return _SESSION_STATE.search(statement) is not None


def has_rows(statement: str) -> bool:
    """Whether a statement that changes rows answers with rows."""
    return _RETURNING.search(statement) is not None


def _bare(statement: str) -> str:
    return _COMMENTS.sub("", statement)
