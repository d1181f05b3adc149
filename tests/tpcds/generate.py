"""Run by itself, where DuckDB and its extension `tpcds` can be imported: write TPC-DS's rows and queries to a folder.

python generate.py FOLDER SCALE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: Path, scale: float) -> None:
    import duckdb
    import duckdb_extension_tpcds

    (extension,) = Path(duckdb_extension_tpcds.__file__).parent.rglob("*.duckdb_extension")
    database = duckdb.connect()
    database.execute(f"LOAD '{extension}'")
    database.execute(f"CALL dsdgen(sf = {scale})")
    tables: dict[str, list[tuple[str, str]]] = {}
    for table, column, kind in database.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal"
        " ORDER BY table_name, column_index"
    ).fetchall():
        tables.setdefault(table, []).append((column, kind))
    for table in tables:
        database.execute(f"COPY {table} TO '{folder / table}.csv' (HEADER, NULLSTR '\\N')")
    queries = dict(database.execute("SELECT query_nr, query FROM tpcds_queries()").fetchall())
    (folder / "tpcds.json").write_text(json.dumps({"tables": tables, "queries": queries}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
