"""SQLite's AUTOINCREMENT. Other keys cannot fall behind: the next one is counted from the highest that there is.

SQLite itself never gives a value that is taken, but by a record that is too low it gives again those of deleted rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, text

from shardctl.rows.audit.counters import Columns, Counter

_TABLES = text("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name IN :tables").bindparams(
    bindparam("tables", expanding=True)
)
_AUTOINCREMENT = re.compile(r"\bprimary\s+key\b[^,]*\bautoincrement\b", re.IGNORECASE)


class SQLite:
    """The counters of SQLite."""

    def find(self, connection: Connection, columns: Columns) -> Sequence[Counter]:
        by_table = {column.table.name: column for column in columns.values() if column.primary_key}
        rows = connection.execute(_TABLES, {"tables": sorted(by_table)})
        return [
            Counter(by_table[name], "sqlite_sequence", "") for name, sql in rows if _AUTOINCREMENT.search(sql or "")
        ]

    def next_value(self, connection: Connection, counter: Counter) -> int:
        return int(self._record(connection, counter) or 0) + 1

    def _record(self, connection: Connection, counter: Counter) -> int | None:
        statement = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
        value: int | None = connection.execute(statement, {"table": counter.table.name}).scalar()
        return value

    def mend(self, connection: Connection, counter: Counter, furthest: int) -> str:
        name = counter.table.name.replace("'", "''")
        if self._record(connection, counter) is None:
            return f"INSERT INTO sqlite_sequence (name, seq) VALUES ('{name}', {furthest})"
        return f"UPDATE sqlite_sequence SET seq = {furthest} WHERE name = '{name}'"


SQLITE = SQLite()
