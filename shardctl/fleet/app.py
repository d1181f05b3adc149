"""An existing application's session factory -> its shards, as they are.

Its engines, choosers and models are used, never rebuilt. Where unqualified names on one of its engines do not mean the
shard's own schema (`schema_translate_map`), shardctl's own connections are made so that they do.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, SingletonThreadPool, StaticPool
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import scoped_session, sessionmaker

from shardctl.errors import ConfigError, ShardError
from shardctl.fleet.backends import BACKENDS, Backend
from shardctl.fleet.engines import sqlite_file_engine, unpooled
from shardctl.fleet.live_shard import LiveShard
from shardctl.fleet.models import Models, collect, load_attribute, load_models, registries_in
from shardctl.topology.model import Shard, ShardMap

SessionFactory = Callable[[], ShardedSession]

_HINT = "name what makes sessions, such as a sessionmaker"


def load_app(shard_map: ShardMap) -> tuple[dict[str, LiveShard], Models | None, SessionFactory]:
    """Import an application and take its shards, models and session factory.

    The models are None if neither the shard map nor the application's module names any.

    Raises:
        ConfigError: It cannot be imported, or the attribute makes no ShardedSession.
    """
    target = str(shard_map.app)
    folder = shard_map.source.parent if shard_map.source else None
    value, module = load_attribute(target, folder=folder, where="app", what="app")
    factory, session = first_session(value, target)
    try:
        binds = dict(vars(session)["_ShardedSession__shards"])  # name-mangled; bind_shard() adds to it
        modules = [module, *_modules_of(factory, session)]
    finally:
        session.close()
    if not binds:
        raise ConfigError(f"app: `{target}` has no shards", hint="give the sessionmaker `shards={…}`")
    shards = {
        _name(shard_id): live_shard(_name(shard_id), bind, shard_map.timeout_s) for shard_id, bind in binds.items()
    }
    if shard_map.models:
        return shards, load_models(shard_map.models, folder=folder, where=shard_map.where), factory
    return shards, find_models(modules), factory


def find_models(modules: list[ModuleType]) -> Models | None:
    """Return the models that modules name: mapped classes, declarative bases, metadatas."""
    models = collect(
        [entry for module in modules for entry in registries_in(module)],
        [value for module in modules for value in vars(module).values() if isinstance(value, MetaData)],
    )
    return models if models.tables or models.mappers else None


def _modules_of(factory: SessionFactory, session: ShardedSession) -> Iterator[ModuleType]:
    """Yield where the factory and the choosers are defined: choosers name the classes that they place."""
    for function in (factory, session.shard_chooser, session.identity_chooser, session.execute_chooser):
        name = getattr(inspect.unwrap(function), "__module__", None)
        module = sys.modules.get(name) if isinstance(name, str) else None
        if module is not None and not module.__name__.startswith("sqlalchemy."):
            yield module


def _name(shard_id: Any) -> str:
    if not isinstance(shard_id, str):
        raise ConfigError(f"app: the shard id {shard_id!r} is not text")
    return str.__str__(shard_id)  # of an enumeration's member: its value


def first_session(value: Any, target: str) -> tuple[SessionFactory, ShardedSession]:
    """Return what makes an application's sessions, and the first of them.

    Raises:
        ConfigError: The value is not a session factory, or an asynchronous one, or it fails.
    """
    factory = session_factory(value, target)
    try:
        made: Any = factory()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"app: calling `{target}` failed: {type(error).__name__}: {error}") from error
    if isinstance(made, ShardedSession):
        return factory, made
    if isinstance(made, sessionmaker | scoped_session):
        return first_session(made, target)
    _refuse_asynchronous(made, target)
    raise ConfigError(f"app: `{target}` made a {type(made).__name__}, not a ShardedSession", hint=_HINT)


def session_factory(value: Any, target: str) -> SessionFactory:
    """Return what makes an application's sessions.

    Raises:
        ConfigError: The value is not a session factory, or an asynchronous one.
    """
    _refuse_asynchronous(value, target)
    if isinstance(value, ShardedSession):
        raise ConfigError(f"app: `{target}` is one session", hint=_HINT)
    if isinstance(value, scoped_session):
        return session_factory(value.session_factory, target)
    if isinstance(value, sessionmaker):
        if not (isinstance(value.class_, type) and issubclass(value.class_, ShardedSession)):
            raise ConfigError(
                f"app: `{target}` makes {value.class_.__name__}s, not ShardedSessions",
                hint="give the sessionmaker `class_=ShardedSession`",
            )
        return value
    if callable(value):
        return value  # type: ignore[no-any-return]
    raise ConfigError(f"app: `{target}` is of type {type(value).__name__}, not a factory of ShardedSession", hint=_HINT)


def _refuse_asynchronous(value: Any, target: str) -> None:
    """Refuse what needs an event loop.

    By name: importing `sqlalchemy.ext.asyncio` needs greenlet, which SQLAlchemy does not always install.
    """
    if inspect.iscoroutine(value):
        value.close()
    elif not inspect.iscoroutinefunction(value):
        classes = value.__mro__ if isinstance(value, type) else type(value).__mro__
        if not any(cls.__module__.startswith("sqlalchemy.ext.asyncio") for cls in classes):
            return
    raise ConfigError(
        f"app: `{target}` makes asynchronous sessions, which shardctl does not run",
        hint="point it at a sessionmaker with ordinary engines of the same shards, or write a shardctl.toml",
    )


def live_shard(shard_id: str, bind: Any, timeout_s: float) -> LiveShard:
    """Make a shard of one of an application's engines.

    Raises:
        ConfigError: It is not an engine, or its database is not supported.
    """
    if not isinstance(bind, Engine):
        raise ConfigError(f"app: the bind of shard `{shard_id}` is a {type(bind).__name__}, not an Engine")
    backend = BACKENDS.get(bind.dialect.name)
    if backend is None:
        raise ConfigError(f"app: shard `{shard_id}` is on {bind.dialect.name}, which shardctl does not know")
    translated: Mapping[str | None, str | None] = bind.get_execution_options().get("schema_translate_map") or {}
    schemas = {translated[None]} if None in translated else set(translated.values())
    schema = schemas.pop() if len(schemas) == 1 else None
    live = LiveShard(
        shard=Shard(shard_id, bind.url.render_as_string(hide_password=False), schema=schema),
        bind=bind,
        database=None,
        engine=bind,
        backend=backend,
        server=backend.server(bind.url),
        prepare=None if backend.name == "sqlite" else Connection.detach,
        may_be_autocommit=backend.name != "sqlite",
        is_thread_bound=isinstance(bind.pool, SingletonThreadPool | StaticPool),
    )
    if schema is not None:
        _confine(live, schema, timeout_s)
        named = {name: None for name in translated if name is not None}
        if named and live.engine is not bind:  # a model's name for the schema is no name that the database knows
            live.engine = live.engine.execution_options(schema_translate_map=named)
    elif schemas:
        live.prepare = _refuse_text(f"its schema_translate_map {dict(translated)} leads to several schemas")
    return live


def _confine(live: LiveShard, schema: str, timeout_s: float) -> None:
    """Make unqualified names on shardctl's own connections mean the schema that the engine translates to."""
    if live.backend.name != "sqlite":
        url = live.bind.url.set(database=schema) if live.backend.name == "mysql" else live.bind.url
        connect = _connect_and_use(live.bind, live.backend, schema)
        # An engine of its own, because the application's keeps what it takes for the default schema.
        live.engine = unpooled(url, timeout_s=timeout_s, creator=connect)
        live.prepare = None
        return
    # The application attached its files on connections of its own: another thread's connection lacks them.
    live.is_thread_bound = True
    file = _attached_file(live.bind, schema)
    if file:
        live.engine = sqlite_file_engine(file, timeout_s=timeout_s)
        live.server = live.backend.server(live.engine.url)
    else:
        live.prepare = _refuse_text(f"its schema `{schema}` is not a file")


def _connect_and_use(bind: Engine, backend: Backend, schema: str) -> Callable[[], Any]:
    """Return what connects as the application does, and then goes to a schema."""

    def connect() -> Any:
        pooled = bind.raw_connection()
        connection = pooled.dbapi_connection
        pooled.detach()  # what is set here must not reach the application's pool
        backend.use_schema(connection, schema)
        return connection

    return connect


def _refuse_text(reason: str) -> Callable[[Connection], None]:
    def prepare(connection: Connection) -> None:
        raise ShardError(f"SQL text cannot be confined to this shard: {reason}")

    return prepare


def _attached_file(bind: Engine, schema: str) -> str | None:
    try:
        with bind.connect() as connection:
            rows = connection.exec_driver_sql("PRAGMA database_list").all()
    except SQLAlchemyError:
        return None
    return next((row[2] for row in rows if row[1] == schema), None)
