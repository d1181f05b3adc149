"""What a database says of its own schemas, one module per engine.

A catalogue is a mapping of named objects to definitions, in the engine's own words, in no order, and without the name
of the schema itself: two schemas are equal exactly if their mappings are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection

KINDS = (
    "table",
    "column",
    "primary key",
    "unique",
    "foreign key",
    "check",
    "exclusion",
    "index",
    "comment",
    "sequence",
    "type",
    "view",
    "trigger",
    "policy",
    "function",
)


class SchemaObject(NamedTuple):
    """The name of one object in a schema."""

    kind: str
    """One of KINDS."""
    table: str
    """The table that it belongs to; empty for views, types, functions, and sequences of their own."""
    name: str
    """Empty for a table, its primary key, and its comment; columns in parentheses for a constraint without a name."""

    def __str__(self) -> str:
        match self.kind:
            case "table":
                return f"table {self.table}"
            case "column":
                return f"column {self.table}.{self.name}"
            case "comment":
                return f"comment on {self.table}.{self.name}" if self.name else f"comment on {self.table}"
        if not self.name:
            return f"{self.kind} of {self.table}"
        return f"{self.kind} {self.table}{self.name}" if self.name.startswith("(") else f"{self.kind} {self.name}"


Objects = dict[SchemaObject, str]
"""Each object's definition."""


class Catalogue(Protocol):
    """Reads one engine's catalogue."""

    def own_schema(self, connection: Connection) -> str:
        """Return the schema that unqualified names on a connection mean."""
        ...

    def read(self, connection: Connection, schemas: Sequence[str]) -> Mapping[str, Objects]:
        """Return the objects of schemas that a connection can see; a schema that is not there is left out.

        The number of statements does not depend on the number of schemas.
        """
        ...


def catalogue_of(dialect_name: str) -> Catalogue:
    """Return the catalogue of an engine."""
    match dialect_name:
        case "postgresql":
            from shardctl.schema.catalogue.postgresql import POSTGRESQL

            return POSTGRESQL
        case "sqlite":
            from shardctl.schema.catalogue.sqlite import SQLITE

            return SQLITE
    from shardctl.schema.catalogue.mysql import MYSQL

    return MYSQL
