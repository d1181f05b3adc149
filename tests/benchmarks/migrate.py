"""`shardctl migrate --all-shards` against Alembic run for one shard after the other, or for eight at a time.

Both sides run the same env.py and the same five revisions, and what is left is checked after each run.
"""

from __future__ import annotations

import os
import shlex
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import URL, Engine, NullPool, create_engine, make_url, text

from shardctl.fleet import Fleet
from shardctl.schema.run_env import env_url
from tests.benchmarks.measure import Row, command, note, peak_kib, program, ratios, shell
from tests.fixtures.delay import delayed
from tests.fixtures.engines import DEFAULT_SERVERS
from tests.fixtures.histories import Revision, write_history
from tests.fixtures.projects import Project, in_shard

ROUND_TRIP_S = 0.02
JOBS = 32
SAMPLE = 10

# The generic template's, but for the URL, which the shell loop gives with -x.
ENV = """
from alembic import context
from sqlalchemy import create_engine, pool

given = context.get_x_argument(as_dictionary=True)
context.config.attributes["shard"] = given["shard"]
engine = create_engine(given.get("url") or context.config.get_main_option("sqlalchemy.url"), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""

HISTORY = [
    Revision(
        "r1",
        None,
        """
        cities = op.create_table(
            "cities",
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("name", sa.String(64), nullable=False),
        )
        op.create_table(
            "reports",
            sa.Column("id", sa.Integer(), primary_key=True),
            sa.Column("city_id", sa.Integer(), sa.ForeignKey("cities.id", ondelete="CASCADE"), nullable=False),
        )
        op.create_index("ix_reports_city", "reports", ["city_id"])
        tag = context.config.attributes["shard"]
        op.bulk_insert(cities, [{"id": number, "name": f"{tag} {number}"} for number in range(1, 4)])
        """,
    ),
    Revision(
        "r2",
        "r1",
        """
        with op.batch_alter_table("cities") as batch:
            batch.add_column(sa.Column("tag", sa.String(64)))
        """,
    ),
    Revision("r3", "r2", "op.get_bind().execute(sa.text('update cities set tag = upper(name)'))"),
    Revision("r4", "r3", "op.execute('insert into reports (id, city_id) select id, id from cities')"),
    Revision(
        "r5",
        "r4",
        """
        assert sa.inspect(op.get_bind()).has_table("reports")
        with op.batch_alter_table("cities") as batch:
            batch.alter_column("tag", existing_type=sa.String(64), type_=sa.String(80))
        """,
    ),
]


@dataclass
class Scene:
    """A project with shards that can be emptied."""

    folder: Path
    urls: dict[str, dict[str, str]]
    empty: Callable[[Scene], None]
    fleet: Fleet = field(init=False)

    def __post_init__(self) -> None:
        project = Project(self.folder, self.urls, more=f"connections_per_server = {JOBS}")
        project.write_env(ENV)
        write_history(project.migrations, HISTORY)
        (self.folder / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\n")
        self.fleet = project.open()
        lines = [f"{name} {env_url(live).render_as_string(False)}" for name, live in self.fleet.shards.items()]
        (self.folder / "urls").write_text("\n".join(lines) + "\n")
        self.alembic = f"{shlex.quote(program('alembic'))} -c alembic.ini"

    def ours(self) -> Callable[[], object]:
        return command("shardctl", "migrate", "--all-shards", "--yes", "--jobs", str(JOBS), cwd=self.folder)

    def loop(self, number: int | None = None) -> Callable[[], object]:
        """Return the loop, over the first so many shards."""
        urls = "urls" if number is None else f"head -n {number} urls"
        source = f"cat {urls}" if number is None else urls
        upgrade = f'{self.alembic} -x "shard=$shard" -x "url=$url" upgrade head'
        return shell(f"{source} | while read -r shard url; do {upgrade} || exit 1; done", cwd=self.folder)

    def xargs(self) -> Callable[[], object]:
        upgrade = f'{self.alembic} -x "shard=$0" -x "url=$1" upgrade head'
        return shell(f"xargs -P 8 -n 2 sh -c {shlex.quote(upgrade)} < urls", cwd=self.folder)

    def make_empty(self) -> None:
        self.empty(self)

    def check(self) -> None:
        """Fail if a shard is not at the head, or has another's rows."""
        for name, live in self.fleet.shards.items():
            assert in_shard(live, "select version_num from alembic_version") == [("r5",)]
            rows = in_shard(live, "select name, tag from cities where id = 3")
            assert rows == [(f"{name} 3", f"{name} 3".upper())]


def upgrades(scene: Scene, what: str, *, rounds: int) -> Iterator[Row]:
    loop, xargs = ratios(
        scene.ours(), [scene.loop(), scene.xargs()], rounds=rounds, before=scene.make_empty, after=scene.check
    )
    what = f"migrate --all-shards, {len(scene.urls)} {what}"
    yield Row(what, "a shell loop of alembic upgrade head", loop)
    yield Row(what, "the same by xargs -P 8", xargs)


def migrate_sqlite(folder: Path, shards: int = 50, rounds: int = 3) -> Iterator[Row]:
    """From nothing to the head, SQLite files."""
    with sqlite_scene(folder, shards) as scene:
        yield from upgrades(scene, "SQLite files", rounds=rounds)


def migrate_postgresql(folder: Path, shards: int = 50, rounds: int = 3) -> Iterator[Row]:
    """From nothing to the head, PostgreSQL databases."""
    with databases_scene(folder, shards) as scene:
        yield from upgrades(scene, "PostgreSQL databases", rounds=rounds)


def migrate_far(folder: Path, shards: int = 50, rounds: int = 3) -> Iterator[Row]:
    """From nothing to the head, PostgreSQL schemas behind a round trip of 20 ms."""
    with schemas_scene(folder, shards, is_far=True) as scene:
        yield from upgrades(scene, "PostgreSQL schemas, 20 ms away", rounds=rounds)


def migrate_nothing(folder: Path, shards: int = 200, rounds: int = 3) -> Iterator[Row]:
    """All at the head already: PostgreSQL schemas; the loop runs over a sample and is extrapolated."""
    with schemas_scene(folder, shards) as scene:
        scene.make_empty()
        scene.ours()()
        scene.check()
        sample = min(SAMPLE, shards)
        (part,) = ratios(scene.ours(), [scene.loop(sample)], rounds=rounds)
        what = f"migrate --all-shards, {shards} PostgreSQL schemas, nothing to do"
        yield Row(what, f"the loop, extrapolated from {sample}", part * shards / sample)


def migrate_memory(folder: Path, shards: int = 50) -> Iterator[Row]:
    """The most memory that a run of 32 jobs has, against one process of Alembic."""
    with schemas_scene(folder, shards) as scene:
        scene.make_empty()
        ours = peak_kib(["shardctl", "migrate", "--all-shards", "--yes", "--jobs", str(JOBS)], cwd=folder)
        scene.check()
        scene.make_empty()
        name, _, url = (folder / "urls").read_text().splitlines()[0].partition(" ")
        alembic = ["alembic", "-c", "alembic.ini", "-x", f"shard={name}", "-x", f"url={url}", "upgrade", "head"]
        one = peak_kib(alembic, cwd=folder)
        note(f"peak memory: {ours} KiB, Alembic {one} KiB")
        yield Row(f"migrate --jobs {JOBS}, peak memory", "one alembic upgrade head", ours / one, "times as much")


@contextmanager
def sqlite_scene(folder: Path, shards: int) -> Iterator[Scene]:
    def empty(scene: Scene) -> None:
        for name in scene.urls:
            for file in folder.glob(f"{name}.db*"):
                file.unlink()
            (folder / f"{name}.db").touch()

    yield Scene(
        folder, {f"s{number:03}": {"url": f"sqlite:///{folder}/s{number:03}.db"} for number in range(shards)}, empty
    )


@contextmanager
def databases_scene(folder: Path, shards: int) -> Iterator[Scene]:
    prefix = f"bench_{uuid.uuid4().hex[:8]}"
    server = postgresql_url()
    names = {f"s{number:03}": f"{prefix}_{number:03}" for number in range(shards)}

    def empty(scene: Scene) -> None:
        for live in scene.fleet.shards.values():
            in_shard(live, "drop schema if exists public cascade")
            in_shard(live, "create schema public")

    try:
        on_server(server, [f"create database {name}" for name in names.values()])
        urls = {shard: {"url": text_of(server.set(database=name))} for shard, name in names.items()}
        yield Scene(folder, urls, empty)
    finally:
        on_server(server, [f"drop database if exists {name} with (force)" for name in names.values()])


@contextmanager
def schemas_scene(folder: Path, shards: int, *, is_far: bool = False) -> Iterator[Scene]:
    server = postgresql_url()
    database = server.set(database=f"bench_{uuid.uuid4().hex[:8]}")

    def empty(scene: Scene) -> None:
        # One after the other: one transaction would need a lock for each of their tables.
        for name in scene.urls:
            on_server(database, [f"drop schema if exists {name} cascade", f"create schema {name}"])

    try:
        on_server(server, [f"create database {database.database}"])
        with delayed(database, round_trip_s=ROUND_TRIP_S if is_far else 0.0) as far:
            url = text_of(far if is_far else database)
            yield Scene(
                folder, {f"s{number:03}": {"url": url, "schema": f"s{number:03}"} for number in range(shards)}, empty
            )
    finally:
        on_server(server, [f"drop database if exists {database.database} with (force)"])


def postgresql_url() -> URL:
    return make_url(os.environ.get("SHARDCTL_TEST_POSTGRESQL_URL", DEFAULT_SERVERS["postgresql"]))


def on_server(url: URL, statements: list[str]) -> None:
    engine: Engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def text_of(url: URL) -> str:
    return url.render_as_string(hide_password=False)


BENCHMARKS = {
    "migrate-sqlite": migrate_sqlite,
    "migrate-postgresql": migrate_postgresql,
    "migrate-far": migrate_far,
    "migrate-nothing": migrate_nothing,
    "migrate-memory": migrate_memory,
}
