"""The only place that creates engines.

Each shard gets two. `bind` is the application's: shards that are schemas of one database share its pool and differ by
their `schema_translate_map`. `engine` is for shardctl's own connections: without a pool (`kept` has those that only
read), and with unqualified names that mean the shard's own schema (by search_path, by the database in the URL, or by
opening the attached SQLite file as `main`), because `schema_translate_map` reaches neither SQL text nor most of
Alembic's operations.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, NullPool, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from shardctl.errors import ConfigError, nearest_name
from shardctl.fleet.backends import BACKENDS, Backend
from shardctl.fleet.kept import Kept
from shardctl.fleet.live_shard import LiveShard
from shardctl.fleet.quoting import quoted_name
from shardctl.topology.model import Shard, ShardMap

SQLITE_MAX_ATTACHED = 10  # SQLITE_LIMIT_ATTACHED as SQLite and CPython are built: sqlite.org/limits.html


def open_shards(shard_map: ShardMap, *, pooled: bool = True) -> dict[str, LiveShard]:
    """Make the engines of every shard; nothing is connected to yet.

    Args:
        shard_map: The shards.
        pooled: Whether sessions keep connections open for the next one, which over many shards are many.

    Raises:
        ConfigError: A URL cannot be understood, its driver is not installed, or one database has too many files
            attached.
    """
    shared: dict[str, Engine] = {}
    kept: dict[str, Kept] = {}
    live: dict[str, LiveShard] = {}
    for shard in shard_map.shards.values():
        url, backend = parse_url(shard.url, where=f"{shard_map.where}: `shards.{shard.shard_id}.url`")
        own_url = _own_url(url, shard, backend)
        engine = unpooled(own_url, timeout_s=shard_map.timeout_s)
        database = None
        if shard.schema is None:
            bind = _session_engine(url, shard_map, pooled=True) if pooled else engine
        else:
            if shard.url not in shared:
                neighbours = [other for other in shard_map.shards.values() if other.url == shard.url]
                shared[shard.url] = _shared_bind(url, neighbours, shard_map, pooled=pooled)
            database = shared[shard.url]
            bind = database.execution_options(schema_translate_map={None: shard.schema})
        if shard.schema is not None and backend.name == "postgresql":
            _use_schema(engine, shard.schema, backend)
        server = backend.server(own_url)
        live[shard.shard_id] = LiveShard(
            shard=shard,
            bind=bind,
            database=database,
            engine=engine,
            backend=backend,
            server=server,
            kept=kept.setdefault(server, Kept(shard_map.connections_per_server)),
        )
    return live


def silence_pools() -> None:
    """Where nothing is configured for logging, keep what pools log of lost connections from being printed.

    An env.py has connections of its own, which are rolled back when their server is gone; shardctl reports the loss.
    """
    logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())


def parse_url(text: str, *, where: str) -> tuple[URL, Backend]:
    """Read a URL, and complete it with the driver that shardctl installs for its engine.

    Raises:
        ConfigError: The URL cannot be read, or its engine is not supported.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"{where} is not a database URL", hint="for example `postgresql://app@db1/asia`") from error
    engine_name, _, driver = url.drivername.partition("+")
    engine_name = {"postgres": "postgresql"}.get(engine_name, engine_name)
    backend = BACKENDS.get(engine_name)
    if backend is None:
        raise ConfigError(
            f"{where} is for `{engine_name}`, which shardctl does not know",
            hint=_engine_hint(engine_name),
        )
    driver = driver or backend.driver or ""
    url = url.set(drivername=f"{engine_name}+{driver}" if driver else engine_name)
    _check_driver(url, backend, where)
    return url, backend


def _engine_hint(name: str) -> str:
    nearest = nearest_name(name, BACKENDS)
    try:
        make_url(f"{name}://").get_dialect()
    except NoSuchModuleError:
        if nearest is not None:
            return f"did you mean `{nearest}`?"
    return "use one of `postgresql`, `mysql`, `mariadb`, `sqlite`"


def _check_driver(url: URL, backend: Backend, where: str) -> None:
    """Refuse a driver that is not installed, or that is asynchronous."""
    try:
        dialect = url.get_dialect()
        if dialect.is_async:
            raise ConfigError(
                f"{where}: `{url.drivername}` is an asynchronous driver, which shardctl does not use",
                hint=f"write `{url.get_backend_name()}://`, or name another driver",
            )
        dialect.import_dbapi()
    except NoSuchModuleError as error:
        raise ConfigError(f"{where}: SQLAlchemy knows no driver `{url.drivername}`") from error
    except ModuleNotFoundError as error:
        is_ours = backend.extra is not None and url.get_driver_name() == backend.driver
        raise ConfigError(
            f"{where}: the driver of `{url.drivername}` is not installed: no module `{error.name}`",
            hint=f"pip install 'shardctl[{backend.extra}]'" if is_ours else f"pip install {error.name}",
        ) from error


def unpooled(url: URL, *, timeout_s: float, **options: Any) -> Engine:
    """Make an engine that opens a connection for each use and closes it afterwards."""
    return _new_engine(url, timeout_s=timeout_s, poolclass=NullPool, **options)


def _new_engine(url: URL, *, timeout_s: float, **options: Any) -> Engine:
    backend = BACKENDS[url.get_backend_name()]
    engine = create_engine(url, connect_args=backend.connect_args(timeout_s), **options)
    backend.limit_greeting(engine)
    return engine


def sqlite_file_engine(file: Path | str, *, timeout_s: float) -> Engine:
    """Make an engine on one SQLite file, which its connections see as `main`."""
    return unpooled(URL.create("sqlite", database=str(file)), timeout_s=timeout_s)


def _own_url(url: URL, shard: Shard, backend: Backend) -> URL:
    """Return the URL in which this shard's schema is the default one."""
    if shard.attach is not None:
        return url.set(database=str(shard.attach), query={})
    if shard.schema is not None and backend.name == "mysql":
        return url.set(database=shard.schema)
    return url


def _session_engine(url: URL, shard_map: ShardMap, *, pooled: bool) -> Engine:
    if not pooled:
        return unpooled(url, timeout_s=shard_map.timeout_s)
    backend = BACKENDS[url.get_backend_name()]
    return _new_engine(
        url,
        timeout_s=shard_map.timeout_s,
        poolclass=QueuePool,
        pool_size=shard_map.connections_per_server,
        max_overflow=0,
        pool_pre_ping=backend.name != "sqlite",
    )


def _shared_bind(url: URL, shards: Iterable[Shard], shard_map: ShardMap, *, pooled: bool) -> Engine:
    engine = _session_engine(url, shard_map, pooled=pooled)
    if engine.dialect.name in ("mysql", "mariadb"):
        # Its drivers stream one result per connection, and a session asks several shards on one.
        engine.dialect.supports_server_side_cursors = False
    files = {shard.schema: shard.attach for shard in shards if shard.attach is not None}
    if len(files) > SQLITE_MAX_ATTACHED:
        raise ConfigError(
            f"{shard_map.where}: {len(files)} files are attached to one SQLite database,"
            f" which takes {SQLITE_MAX_ATTACHED}",
            hint="give the files a `url` each, in place of `attach`",
        )

    def attach(dbapi_connection: Any, record: object) -> None:
        for schema, file in files.items():
            dbapi_connection.execute(f"ATTACH DATABASE ? AS {quoted_name(str(schema), 'sqlite')}", (str(file),))

    if files:
        event.listen(engine, "connect", attach)
    return engine


def _use_schema(engine: Engine, schema: str, backend: Backend) -> None:
    def connect(dbapi_connection: Any, record: object) -> None:
        backend.use_schema(dbapi_connection, schema)

    # First, before the dialect asks for the default schema.
    event.listen(engine, "connect", connect, insert=True)
