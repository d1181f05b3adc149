"""What a revision changes, in one form for Alembic's operations and for SQL: what rules are written against."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What is done."""

    CREATE_TABLE = "create table"
    DROP_TABLE = "drop table"
    RENAME_TABLE = "rename table"
    ADD_COLUMN = "add column"
    DROP_COLUMN = "drop column"
    RENAME_COLUMN = "rename column"
    ALTER_TYPE = "alter type"
    ALTER_DEFAULT = "alter default"
    SET_NOT_NULL = "set not null"
    DROP_NOT_NULL = "drop not null"
    CREATE_INDEX = "create index"
    DROP_INDEX = "drop index"
    ADD_CONSTRAINT = "add constraint"
    DROP_CONSTRAINT = "drop constraint"
    VALIDATE = "validate constraint"
    REWRITE = "rewrite"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    TRUNCATE = "truncate"
    OTHER = "other"
    """Any other statement; `sql` says which."""


DATA = frozenset({Kind.INSERT, Kind.UPDATE, Kind.DELETE, Kind.TRUNCATE})


@dataclass(frozen=True, slots=True)
class Change:
    """One change, and the line of the revision that asks for it."""

    kind: Kind
    line: int | None = None
    table: str = ""
    name: str = ""
    """Of the column, index or constraint; of the kind of object elsewhere."""
    new_name: str = ""
    schemas: tuple[str, ...] = ()
    """The schemas that it names."""
    is_autocommit: bool = False
    is_batch: bool = False
    concurrently: bool = False
    constraint: str = ""
    """`foreign key`, `check`, `unique`, `primary key` or `exclude`."""
    is_validated: bool = True
    """Whether a constraint is checked against the rows that are there, at once."""
    is_unique: bool = False
    where: str = ""
    """A condition: of a check, or of a partial index."""
    columns: tuple[str, ...] = ()
    prefixed: tuple[str, ...] = ()
    """Columns of which a MySQL index has a beginning only."""
    column: Any = None
    """The `Column` that is added, or the columns and constraints of a table that is created."""
    old_type: Any = None
    new_type: Any = None
    is_nullable: bool = True
    has_default: bool = False
    default: str = ""
    generated: str = ""
    """`identity`, `stored` or `virtual`."""
    referred: tuple[str, ...] = ()
    """Of foreign keys that delete or change rows here with those there: the tables there."""
    sql: str = ""
    """The statement, normalised, where it was given as SQL."""
    refusal: str = ""
    rendered: str = ""
    is_bounded: bool = True
    """Whether an UPDATE or DELETE has a condition."""
    made_by: str = ""
    """The revision that made the table, if it is known."""


@dataclass(slots=True)
class Revision:
    """A revision as recorded for one engine."""

    id: str
    path: str
    engine: str
    is_mariadb: bool = False
    changes: list[Change] = field(default_factory=list)
    recreated: list[tuple[str, int | None]] = field(default_factory=list)
    reads: list[tuple[int | None, str]] = field(default_factory=list)
    error: tuple[int | None, str] | None = None
    varying: list[Change] = field(default_factory=list)
    """What is not the same when the revision runs a second time."""
    cascading: dict[str, frozenset[str]] = field(default_factory=dict)
    """Tables that rows are deleted from with those of another: by the other."""
    downgrade: Downgrade | None = None
    types: dict[tuple[str, str], Any] = field(default_factory=dict)
    """The types of the columns that earlier revisions made, by table and name."""
    proven: list[Change] = field(default_factory=list)
    """CHECK constraints that all rows are known to keep."""
    misspelt: list[tuple[int, str, str]] = field(default_factory=list)
    """Comments that allow a rule there is none of: line, code, and the nearest."""

    @property
    def created(self) -> frozenset[str]:
        """The tables that it creates."""
        return frozenset(change.table for change in self.changes if change.kind is Kind.CREATE_TABLE)

    def of(self, *kinds: Kind) -> list[Change]:
        """Return the changes of these kinds, in order."""
        return [change for change in self.changes if change.kind in kinds]


@dataclass(frozen=True, slots=True)
class Downgrade:
    """What a revision's `downgrade()` is, as written."""

    kind: str
    """`missing`, `empty`, `raises`, or `written`."""
    line: int | None
