"""A project whose env.py breaks off the run at a chosen statement, and what a shard holds afterwards."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, inspect, select, text

from shardctl.errors import ShardctlError
from shardctl.fleet import LiveShard, connect
from shardctl.schema.apply import upgrade
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.history import HISTORY, JOURNAL, OWN_TABLES
from shardctl.schema.limits import Terms
from shardctl.schema.revisions import load_scripts
from shardctl.topology.load import load
from tests.fixtures.projects import Project

# Counts what runs on the shard's connection, and in `stop_at` finds the number to stop before or behind.
BREAKING_ENV = """
import os
import signal
from pathlib import Path

from alembic import context
from sqlalchemy import create_engine, event, text

folder = Path(context.script.dir).parent
connection = context.config.attributes["connection"]
file = folder / "stop_at"
number, where, how = file.read_text().split() if file.exists() else ("0", "", "")
engine = connection.engine
seen = folder / "seen"


numbers = {}


def before(conn, cursor, statement, *rest):
    if conn.get_execution_options().get("counted"):
        numbers[cursor] = int(seen.read_text() or 0) + 1
        seen.write_text(str(numbers[cursor]))
        stop_if(conn, numbers[cursor], "before")


def behind(conn, cursor, statement, *rest):
    # Statements are nested: the journal's own run while the one that they are about is on its way.
    if conn.get_execution_options().get("counted"):
        stop_if(conn, numbers.pop(cursor), "behind")


def stop_if(conn, count, place):
    if (str(count), place) == (number, where):
        stop(conn)


def stop(conn):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sql, driver = (
        ("select pg_terminate_backend(:id)", conn.connection.driver_connection.info.backend_pid)
        if conn.dialect.name == "postgresql"
        else ("kill :id", conn.connection.driver_connection.thread_id())
    )
    other = create_engine(conn.engine.url)
    with other.connect() as killer:
        killer.execute(text(sql), {"id": driver})
    other.dispose()


connection.execution_options(counted=True)
event.listen(connection, "before_cursor_execute", before)
event.listen(connection, "after_cursor_execute", behind)
context.configure(connection=connection)
with context.begin_transaction():
    context.run_migrations()
"""

REVISIONS = {
    "r1": """
        cities = op.create_table(
            "cities",
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("name", sa.String(64), nullable=False),
            sa.Column("number", sa.Integer(), nullable=False),
        )
        op.bulk_insert(cities, [{"id": n, "name": f"city {n}", "number": n} for n in (1, 2, 3)])
        op.create_table(
            "reports",
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("city_id", sa.Integer(), sa.ForeignKey("cities.id", name="fk_city"), nullable=False),
        )
        op.execute("update cities set number = number * 10")
        op.create_index("ix_cities_name", "cities", ["name"])
    """,
    "r2": """
        op.execute("update cities set number = number + 1")
        op.add_column("cities", sa.Column("tag", sa.String(64)))
        result = op.get_bind().execute(sa.text("update cities set number = number * 2"))
        assert result.rowcount == 3, result.rowcount
        op.drop_index("ix_cities_name", table_name="cities")
        with op.batch_alter_table("cities") as batch:
            batch.alter_column("name", existing_type=sa.String(64), type_=sa.String(80), existing_nullable=False)
    """,
    "r3": """
        bind = op.get_bind()
        for row in bind.execute(sa.text("select id, number from cities where id < 3")).all():
            bind.execute(sa.text("update cities set tag = :tag where id = :id"), {"tag": row.number, "id": row.id})
        op.create_index("ix_cities_tag", "cities", ["tag"])
        op.execute("insert into cities (id, name, number, tag) select 4, 'raw', max(number), max(tag) from cities")
        op.rename_table("reports", "weather_reports")
        op.execute("insert into weather_reports (id, city_id) select id, id from cities")
    """,
}
DOWNGRADES = {
    "r3": """
        op.execute("update cities set number = number - 1")
        op.rename_table("weather_reports", "reports")
        op.execute("delete from reports where id = 4")
        op.drop_index("ix_cities_tag", table_name="cities")
        op.execute("delete from cities where id = 4")
    """,
    "r2": """
        op.execute("update cities set number = number / 2")
        with op.batch_alter_table("cities") as batch:
            batch.drop_column("tag")
        op.execute("update cities set number = number + 5")
    """,
}


def write_project(project: Project) -> None:
    project.write_env(BREAKING_ENV)
    before = None
    for revision, body in REVISIONS.items():
        file = project.write_revision(revision, before, body)
        if revision in DOWNGRADES:
            lines = [line.removeprefix("    ") for line in DOWNGRADES[revision].strip("\n").splitlines()]
            file.write_text(
                file.read_text().replace("def downgrade():\n    pass", "def downgrade():\n" + "\n".join(lines))
            )
        before = revision
    project.write_shard_map()


def stop_at(folder: Path, number: int, where: str, how: str) -> None:
    (folder / "seen").write_text("0")
    (folder / "stop_at").write_text(f"{number} {where} {how}")


def go_on(folder: Path) -> None:
    (folder / "seen").write_text("0")
    (folder / "stop_at").unlink(missing_ok=True)


def steps_seen(folder: Path) -> int:
    return int((folder / "seen").read_text())


def migrate_here(folder: Path, direction: str, target: str) -> None:
    """Bring the project's shard to a revision; to be called in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with connect(load(folder / "shardctl.toml"), pooled=False) as fleet:
        scripts = load_scripts(fleet.shard_map.migrations, where="shardctl.toml")
        (shard,) = fleet.shards.values()
        try:
            upgrade(shard, scripts, Goal(Direction(direction), target), terms=Terms(lock_wait_s=30))
        except ShardctlError as error:
            (folder / "error").write_text(f"{error.message}\n{error.facts}\n{error.hint}")
            os._exit(3)
    os._exit(0)


def contents(live: LiveShard) -> dict[str, Any]:
    """Return all that migrations can have left on a shard."""
    with live.engine.connect() as connection:
        inspector = inspect(connection)
        found: dict[str, Any] = {}
        for name in sorted(set(inspector.get_table_names()) - OWN_TABLES):
            columns = [(entry["name"], str(entry["type"]), entry["nullable"]) for entry in inspector.get_columns(name)]
            keys = [(key["name"], key["referred_table"]) for key in inspector.get_foreign_keys(name)]
            indexes = sorted((entry["name"], tuple(entry["column_names"])) for entry in inspector.get_indexes(name))
            rows = sorted(tuple(row) for row in connection.execute(text(f"select * from {name}")))
            found[name] = (columns, keys, indexes, rows)
        return found


def done_in_history(live: LiveShard) -> list[tuple[str, str]]:
    """Return which revisions a shard remembers as done, in their order."""
    with live.engine.connect() as connection:
        query = select(HISTORY.c.revision, HISTORY.c.direction).where(HISTORY.c.outcome == "done")
        return [tuple(row) for row in connection.execute(query.order_by(HISTORY.c.id))]


def outcomes_in_history(live: LiveShard) -> list[str]:
    with live.engine.connect() as connection:
        return list(connection.scalars(select(HISTORY.c.outcome).order_by(HISTORY.c.id)))


def journal_rows(live: LiveShard) -> int:
    with live.engine.connect() as connection:
        if not inspect(connection).has_table(JOURNAL.name):
            return 0
        return len(connection.execute(select(JOURNAL)).all())


def empty(live: LiveShard) -> None:
    """Take everything from a shard."""
    if live.backend.name == "sqlite":
        file = Path(str(live.engine.url.database))
        for suffix in ("", "-journal"):
            Path(f"{file}{suffix}").unlink(missing_ok=True)
        file.touch()
        return
    with live.engine.begin() as connection:
        metadata = MetaData()
        metadata.reflect(connection)
        metadata.drop_all(connection)
