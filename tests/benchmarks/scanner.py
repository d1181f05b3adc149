"""DuckDB's own scanner of PostgreSQL over the same shards, in an environment of its own: its DuckDB is an older one."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL

PACKAGE = "duckdb-extension-postgres-scanner"

SCRIPT = """
import glob, json, os, sys
import duckdb, duckdb_extension_postgres_scanner as extension

shards, sharded, copies = json.loads(sys.stdin.readline())
(path,) = glob.glob(os.path.dirname(extension.__file__) + "/**/*.duckdb_extension", recursive=True)
connection = duckdb.connect(config={"allow_unsigned_extensions": True})
connection.execute(f"LOAD '{path}'")
for name, where in shards.items():
    connection.execute(f"ATTACH '{where}' AS {name} (TYPE postgres, READ_ONLY)")
for table in sharded + copies:
    names = list(shards)[: 1 if table in copies else None]
    rows = " UNION ALL ".join(f"SELECT * FROM {name}.public.{table}" for name in names)
    connection.execute(f"CREATE VIEW {table} AS {rows}")
for line in sys.stdin:
    rows = connection.execute(json.loads(line)).fetchall()
    print(f"answered {len(rows)}", flush=True)  # DuckDB may have drawn its progress above
"""


@contextmanager
def scanner(
    folder: Path, shards: dict[str, URL], sharded: Sequence[str], copies: Sequence[str]
) -> Iterator[Callable[[str], Callable[[], object]]]:
    """Start it, with a view of each table over all shards; give what asks it a statement.

    Args:
        folder: For the environment.
        shards: Where they are.
        sharded: Tables with rows on every shard.
        copies: Tables with all rows on every shard.
    """
    venv.create(folder / "scanner", with_pip=True)
    python = folder / "scanner" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE], check=True, stdout=sys.stderr)
    with subprocess.Popen(
        [python, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout
        places = {
            name: f"host={url.host} port={url.port or 5432} user={url.username} dbname={url.database}"
            for name, url in shards.items()
        }
        stdin.write(json.dumps([places, list(sharded), list(copies)]) + "\n")

        def asking(sql: str) -> Callable[[], object]:
            def ask() -> None:
                stdin.write(json.dumps(sql) + "\n")
                if not any(line.startswith("answered") for line in iter(stdout.readline, "")):
                    raise RuntimeError(f"DuckDB's scanner did not answer: {sql}")

            return ask

        yield asking
        stdin.close()
