"""PostgreSQL's sequences: those of serial and identity columns, and others that defaults or models take values from."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, text

from shardctl.rows.audit.counters import Columns, Counter, model_sequences

_OF_COLUMNS = text("""
WITH counted AS (
    SELECT refobjid AS relation, refobjsubid AS place, objid AS sequence FROM pg_catalog.pg_depend
    WHERE classid = CAST('pg_catalog.pg_class' AS regclass) AND refclassid = CAST('pg_catalog.pg_class' AS regclass)
        AND deptype IN ('a', 'i') AND refobjsubid > 0
    UNION
    SELECT v.adrelid, v.adnum, d.refobjid FROM pg_catalog.pg_attrdef v
    JOIN pg_catalog.pg_depend d ON d.objid = v.oid AND d.classid = CAST('pg_catalog.pg_attrdef' AS regclass)
        AND d.refclassid = CAST('pg_catalog.pg_class' AS regclass)
)
SELECT CASE WHEN pg_catalog.pg_table_is_visible(t.oid) THEN t.relname ELSE tn.nspname || '.' || t.relname END,
    a.attname, s.relname, CAST(CAST(s.oid AS regclass) AS text), q.seqincrement,
    pg_catalog.has_sequence_privilege(s.oid, 'SELECT')
FROM counted c
JOIN pg_catalog.pg_class t ON t.oid = c.relation JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.place
JOIN pg_catalog.pg_class s ON s.oid = c.sequence AND s.relkind = 'S'
JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
WHERE t.relname IN :tables
ORDER BY t.relname, a.attnum, s.relname
""").bindparams(bindparam("tables", expanding=True))
_BY_NAME = text("""
SELECT CAST(CAST(s.oid AS regclass) AS text), q.seqincrement, pg_catalog.has_sequence_privilege(s.oid, 'SELECT')
FROM pg_catalog.pg_class s JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
WHERE s.oid = pg_catalog.to_regclass(:name)
""")


class PostgreSQL:
    """The counters of PostgreSQL."""

    def find(self, connection: Connection, columns: Columns) -> Sequence[Counter]:
        tables = sorted({column.table.name for column in columns.values()})
        found = [
            Counter(columns[key, column], name, written, step, is_readable)
            for key, column, name, written, step, is_readable in connection.execute(_OF_COLUMNS, {"tables": tables})
            if (key, column) in columns
        ]
        known = {(counter.column, counter.written) for counter in found}
        prepare = connection.dialect.identifier_preparer
        for sequence, column in model_sequences(columns):
            row = connection.execute(_BY_NAME, {"name": prepare.format_sequence(sequence)}).one_or_none()
            if row is not None and (column, row[0]) not in known:
                found.append(Counter(column, sequence.name, *row))
        return found

    def next_value(self, connection: Connection, counter: Counter) -> int:
        row = connection.execute(text(f"SELECT last_value, is_called FROM {counter.written}")).one()
        return int(row[0]) + counter.step if row[1] else int(row[0])

    def mend(self, connection: Connection, counter: Counter, furthest: int) -> str:
        quoted = counter.written.replace("'", "''")
        return f"SELECT setval('{quoted}', {furthest})"


POSTGRESQL = PostgreSQL()
