"""AUTO_INCREMENT of MySQL and MariaDB, and MariaDB's sequences.

Of a sequence whose values are cached, what is read is the first value that is not: the next one may be lower, so that
one that is behind by less than its cache is not seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, text

from shardctl.fleet.quoting import quoted_name
from shardctl.rows.audit.counters import Columns, Counter, model_sequences

_COLUMNS = text("""
SELECT table_name, column_name, extra, column_default FROM information_schema.columns
WHERE table_schema = database() AND table_name IN :tables
    AND (extra LIKE '%auto_increment%' OR column_default LIKE 'nextval(%')
""").bindparams(bindparam("tables", expanding=True))
_SEQUENCES = text("""
SELECT table_name FROM information_schema.tables
WHERE table_schema = database() AND table_type = 'SEQUENCE' AND table_name IN :names
""").bindparams(bindparam("names", expanding=True))
_NEXT = text("""
SELECT auto_increment, @@auto_increment_increment, @@auto_increment_offset FROM information_schema.tables
WHERE table_schema = database() AND table_name = :table
""")
_SEQUENCE_OF = re.compile(r"nextval\((?:`(?:[^`]|``)*`\.)?`((?:[^`]|``)*)`\)")


class MySQL:
    """The counters of MySQL and MariaDB."""

    def find(self, connection: Connection, columns: Columns) -> Sequence[Counter]:
        by_name = {(key.casefold(), name.casefold()): column for (key, name), column in columns.items()}
        tables = sorted({column.table.name for column in columns.values()})
        found = []
        taken: dict[str, list[Any]] = {}
        for table, name, extra, default in connection.execute(_COLUMNS, {"tables": tables}):
            column = by_name.get((table.casefold(), name.casefold()))
            sequence = _SEQUENCE_OF.match(default or "")
            if column is not None and sequence is not None:
                taken.setdefault(sequence[1].replace("``", "`"), []).append(column)
            elif column is not None and "auto_increment" in extra:
                found.append(Counter(column, "AUTO_INCREMENT", ""))
        for model, column in model_sequences(columns):
            if column not in taken.setdefault(model.name, []):
                taken[model.name].append(column)
        return [*found, *self._sequences(connection, taken)]

    def _sequences(self, connection: Connection, taken: dict[str, list[Any]]) -> list[Counter]:
        if not taken or not getattr(connection.dialect, "is_mariadb", False):
            return []
        found = []
        for (name,) in connection.execute(_SEQUENCES, {"names": list(taken)}).all():
            written = quoted_name(name, "mysql")
            step = connection.execute(text(f"SELECT increment FROM {written}")).scalar_one()
            found += [Counter(column, name, written, int(step)) for column in taken[name]]
        return found

    def next_value(self, connection: Connection, counter: Counter) -> int:
        if counter.written:
            statement = text(f"SELECT next_not_cached_value FROM {counter.written}")
            return int(connection.execute(statement).scalar_one())
        is_mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
        if not is_mariadb and (connection.dialect.server_version_info or ()) >= (8,):
            connection.exec_driver_sql("SET SESSION information_schema_stats_expiry = 0")  # not what it was a day ago
        value, step, offset = connection.execute(_NEXT, {"table": counter.table.name}).one()
        least = int(value or 1)
        # What is given is the next one of those that other servers do not give.
        return least if offset > step else offset + -(-max(0, least - offset) // step) * step

    def mend(self, connection: Connection, counter: Counter, furthest: int) -> str:
        if counter.written:
            prepared = connection.dialect.identifier_preparer.quote(counter.name)
            return f"SELECT SETVAL({prepared}, {furthest})"
        table = connection.dialect.identifier_preparer.format_table(counter.table)
        return f"ALTER TABLE {table} AUTO_INCREMENT = {furthest + 1}"


MYSQL = MySQL()
