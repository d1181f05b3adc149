"""What each engine is asked for the rows and bytes of tables, of many schemas in one statement.

All of it is in catalogues that any login may read. A row has: schema, table (none: the schema has no table), rows by
the engine's estimate (none: it has none), bytes, whether these are an estimate, and whether this login may not read the
table, or the schema.
"""

from __future__ import annotations

# A partitioned table has what its partitions have. What somebody locks exclusively is not measured, which would wait
# for the lock: it has the pages of its last VACUUM, if there was one. The statistics collector's count is the newest
# estimate; where it was lost (after a crash, on a standby) the planner's is taken, rows by page times pages:
# https://www.postgresql.org/docs/current/row-estimation-examples.html
_POSTGRESQL = """
    WITH RECURSIVE parts AS (
        SELECT c.oid AS root, c.oid AS part
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON c.relnamespace = n.oid
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND {where}
        UNION ALL
        SELECT parts.root, i.inhrelid
        FROM parts JOIN pg_catalog.pg_inherits i ON i.inhparent = parts.part
        JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition
    ), locked AS (
        SELECT DISTINCT coalesce(i.indrelid, l.relation) AS part
        FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = l.relation
        WHERE l.mode = 'AccessExclusiveLock' AND l.pid <> pg_catalog.pg_backend_pid()
            AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    ), counted AS (
        SELECT parts.root, c.relkind, c.relpages, c.reltuples, locked.part IS NOT NULL AS is_locked,
            CASE WHEN locked.part IS NULL THEN pg_catalog.pg_total_relation_size(c.oid) END AS bytes,
            CASE WHEN locked.part IS NULL THEN pg_catalog.pg_relation_size(c.oid) END AS own_bytes,
            pg_catalog.current_setting('block_size')::bigint AS page,
            pg_catalog.pg_stat_get_live_tuples(c.oid) AS live,
            pg_catalog.pg_stat_get_vacuum_count(c.oid) + pg_catalog.pg_stat_get_autovacuum_count(c.oid)
                + pg_catalog.pg_stat_get_analyze_count(c.oid) + pg_catalog.pg_stat_get_autoanalyze_count(c.oid) AS looks
        FROM parts JOIN pg_catalog.pg_class c ON c.oid = parts.part LEFT JOIN locked ON locked.part = parts.part
    ), estimated AS (
        SELECT root, is_locked,
            coalesce(bytes, CASE WHEN relkind = 'p' THEN 0 ELSE nullif(relpages, 0) * page END) AS bytes,
            CASE
                WHEN relkind = 'p' THEN 0
                WHEN looks > 0 THEN live
                WHEN reltuples > 0 AND relpages > 0 THEN
                    greatest(live, round(reltuples / relpages * coalesce(own_bytes / page, relpages))::bigint)
                WHEN live > 0 OR own_bytes = 0 THEN live
            END AS rows
        FROM counted
    ), summed AS (
        SELECT root, CASE WHEN bool_and(rows IS NOT NULL) THEN sum(rows)::bigint END AS rows,
            CASE WHEN bool_and(bytes IS NOT NULL) THEN sum(bytes)::bigint END AS bytes, bool_or(is_locked) AS is_locked
        FROM estimated GROUP BY root
    )
"""

_OF_PLACES = """
    SELECT n.nspname, c.relname, summed.rows, summed.bytes, summed.is_locked,
        NOT has_table_privilege(c.oid, 'SELECT'), NOT has_schema_privilege(n.oid, 'USAGE')
    FROM pg_catalog.pg_namespace n
    LEFT JOIN (summed JOIN pg_catalog.pg_class c ON c.oid = summed.root) ON c.relnamespace = n.oid
    WHERE n.nspname IN :schemas"""

_OF_PATH = """
    SELECT NULL, c.relname, summed.rows, summed.bytes, summed.is_locked, NOT has_table_privilege(c.oid, 'SELECT'), false
    FROM summed JOIN pg_catalog.pg_class c ON c.oid = summed.root"""

_MYSQL = """
    SELECT table_schema, table_name, table_rows, data_length + index_length, true, false, false
    FROM information_schema.tables
    WHERE table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND table_schema """

OF_SCHEMAS = {
    "postgresql": _POSTGRESQL.format(where="n.nspname IN :schemas") + _OF_PLACES,
    "mysql": "SELECT schema_name, NULL, NULL, NULL, true, false, false FROM information_schema.schemata "
    f"WHERE schema_name IN :schemas UNION ALL {_MYSQL} IN :schemas",
}

OF_CONNECTION = {
    "postgresql": _POSTGRESQL.format(
        where="n.nspname NOT IN ('pg_catalog', 'information_schema') AND pg_catalog.pg_table_is_visible(c.oid)"
    )
    + _OF_PATH,
    "mysql": f"{_MYSQL} = database()",
}

SQLITE_TABLES = r"""
    SELECT name FROM sqlite_master
    WHERE type = 'table' AND rootpage <> 0 AND name NOT LIKE 'sqlite\_%' ESCAPE '\'"""
SQLITE_ESTIMATES = "SELECT tbl, max(CAST(stat AS INTEGER)) FROM sqlite_stat1 GROUP BY tbl"
SQLITE_BYTES = """
    SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name
    WHERE s.aggregate = TRUE GROUP BY m.tbl_name"""
SQLITE_FILE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
