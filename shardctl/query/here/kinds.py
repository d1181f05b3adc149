"""The types that values have while a statement is translated, as the fleet's engine names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from shardctl.errors import QueryRefused

MAX_DIGITS = 38
_MAX_SCALE = 18
"""Products of two such numbers still fit."""
_PLAIN = {
    "bool": "BOOLEAN",
    "int2": "SMALLINT",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "uint8": "UBIGINT",
    "float8": "DOUBLE",
    "text": "VARCHAR",
    "bpchar": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP",
    "uuid": "UUID",
    "bytea": "BLOB",
}
_POSTGRESQL = {
    "boolean": "bool",
    "smallint": "int2",
    "integer": "int4",
    "bigint": "int8",
    "double precision": "float8",
    "text": "text",
    "character varying": "text",
    "character": "bpchar",
    "date": "date",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "uuid": "uuid",
    "bytea": "bytea",
    "numeric": "numeric",
}
_MYSQL = {
    "tinyint": "int8",
    "smallint": "int8",
    "mediumint": "int8",
    "int": "int8",
    "bigint": "int8",
    "double": "float8",
    "decimal": "numeric",
    "date": "date",
    "datetime": "timestamp",
    "char": "text",
    "varchar": "text",
    "tinytext": "text",
    "text": "text",
    "mediumtext": "text",
    "longtext": "text",
    "varbinary": "bytea",
    "tinyblob": "bytea",
    "blob": "bytea",
    "mediumblob": "bytea",
    "longblob": "bytea",
}
_DECLARED = re.compile(r"(?P<name>[a-z]+(?: varying| precision)?)(?:\((?P<size>[\d,]+)\))?(?P<rest>.*)", re.DOTALL)


class NotListed(QueryRefused):
    """A part of a statement is not on the list of what DuckDB answers like the fleet's engine."""


def not_listed(what: str) -> NotListed:
    """Return the refusal of a part of a statement."""
    return NotListed(f"{what} is not known to mean the same in DuckDB")


@dataclass(frozen=True, slots=True)
class Kind:
    """One type."""

    name: str
    """PostgreSQL's name for it; `null` and `unknown` are NULL and a string that takes its type from its neighbour;
    `quotient` is a division that is not done yet."""
    digits: int = 0
    scale: int = 0
    """Of a number with decimals; of a quotient, that of what is divided."""
    is_ordered: bool = False
    """Of text: whether it is compared byte by byte."""
    folds: bool = False
    """Of text: whether it is compared without case, as ASCII."""
    factor: Decimal = Decimal(1)
    """What a quotient is multiplied with, once it is rounded."""
    divisor_scale: int = 0

    @property
    def sql(self) -> str:
        """DuckDB's name of it."""
        if self.name == "numeric":
            return f"DECIMAL({self.digits},{self.scale})"
        return _PLAIN.get(self.name, "VARCHAR")

    @property
    def is_integer(self) -> bool:
        return self.name in ("int2", "int4", "int8", "uint8")

    @property
    def is_exact(self) -> bool:
        """Whether it is a number that has a last digit."""
        return self.is_integer or self.name == "numeric"

    @property
    def is_text(self) -> bool:
        return self.name in ("text", "bpchar")


BOOL, INT4, INT8, FLOAT8 = Kind("bool"), Kind("int4"), Kind("int8"), Kind("float8")
DATE, TIMESTAMP = Kind("date"), Kind("timestamp")
NULL, UNKNOWN = Kind("null"), Kind("unknown")
_INTEGER_DIGITS = {"int2": 5, "int4": 10, "int8": 19, "uint8": 20}


def numeric(digits: int, scale: int) -> Kind:
    """Return a number of so many digits; DuckDB reports it if a value has more than fit.

    Raises:
        NotListed: It has more decimals than are kept without loss.
    """
    if scale > _MAX_SCALE:
        raise not_listed(f"a number with {scale} decimals")
    return Kind("numeric", min(digits, MAX_DIGITS), scale)


def as_numeric(kind: Kind) -> Kind:
    """Return an exact number's type as one with decimals."""
    return kind if kind.name == "numeric" else numeric(_INTEGER_DIGITS[kind.name], 0)


def column_kind(engine: str, declared: str, settings: Mapping[str, str]) -> Kind:
    """Return a column's type from how its engine declares it.

    Raises:
        NotListed: DuckDB has no type that holds the same values.
    """
    found = _DECLARED.fullmatch(declared)
    size, rest = (None, "") if found is None else (found["size"], found["rest"])
    word = "" if found is None else found["name"]
    if engine == "postgresql" and word == "timestamp":  # its precision stands before the zone
        word += rest.partition(" COLLATE ")[0]
    name = (_POSTGRESQL if engine == "postgresql" else _MYSQL).get(word)
    if name is None or ("[]" in rest):
        raise not_listed(f"the type `{declared}`")
    if name == "numeric":
        digits, _, scale = (size or "").partition(",")
        if not digits or int(digits) > MAX_DIGITS or "zerofill" in rest:
            raise not_listed(f"the type `{declared}`")
        return numeric(int(digits), int(scale or 0))
    if name in ("text", "bpchar"):
        return _text_kind(engine, name, rest, settings)
    if engine == "mysql" and "unsigned" in rest and name == "int8" and "zerofill" not in rest:
        return Kind("uint8")
    if "unsigned" in rest or "zerofill" in rest or (engine == "mysql" and word == "double" and size):
        raise not_listed(f"the type `{declared}`")
    return Kind(name)


def _text_kind(engine: str, name: str, rest: str, settings: Mapping[str, str]) -> Kind:
    collation = re.search(r'COLLATE (?:pg_catalog\.)?"?([\w.@-]+)', rest)
    if engine == "mysql":
        own = collation[1] if collation else ""
        if own in ("utf8mb4_bin", "utf8mb3_bin", "utf8_bin", "ascii_bin"):
            return Kind("text", is_ordered=True)
        if own in ("utf8mb4_general_ci", "utf8mb3_general_ci", "utf8_general_ci"):
            return Kind("text", is_ordered=True, folds=True)
        return Kind("text", folds=True)  # neither compared nor grouped
    own = collation[1] if collation else settings.get("database datcollate", "")
    is_utf8 = settings.get("database encoding") == "6"
    is_libc = collation is not None or settings.get("database datlocprovider") in ("c", "b")
    return Kind(name, is_ordered=is_utf8 and is_libc and own in ("C", "POSIX", "C.UTF-8", "C.utf8", "ucs_basic"))
