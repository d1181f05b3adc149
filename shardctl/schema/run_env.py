"""One shard's way through the project's env.py.

Whatever an env.py takes its URL from (`sqlalchemy.url`, `-x`, `config.attributes`) leads to the shard; and whatever
connection it hands to `context.configure`, the migrations run on the shard's own, where unqualified names are its own.
"""

from __future__ import annotations

import contextvars
import importlib.util
import re
from argparse import Namespace
from contextlib import ExitStack

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection

from shardctl.errors import ShardctlError, ShardError
from shardctl.fleet import LiveShard
from shardctl.fleet.live_shard import driver_line
from shardctl.fleet.quoting import quoted_name
from shardctl.schema.confinement import confined
from shardctl.schema.goals import UPGRADE_TO_HEAD, Goal
from shardctl.schema.proxies import context_local_proxies, enter_env_py
from shardctl.schema.revisions import DEFAULT_VERSION_TABLE, Scripts, ShardRevision, read_standing
from shardctl.schema.shard_environment import (
    ONE_DATABASE,
    SEVERAL_DATABASES,
    Course,
    Learnt,
    Progress,
    ShardEnvironment,
)
from shardctl.schema.transactions import whole_revisions

_MAKES_ASYNC_ENGINES = re.compile(r"\basync_engine_from_config\b|\bcreate_async_engine\b")
_ASYNC_DRIVERS = {"sqlite": ["aiosqlite"], "mysql": ["aiomysql", "asyncmy"], "mariadb": ["aiomysql", "asyncmy"]}
_TAKES_CONNECTION = re.compile(r"\battributes\b|\bshardctl\b")
_NAMES_VERSION_TABLE = re.compile(r"\bversion_table\b|\*\*")


def run_env(shard: LiveShard, scripts: Scripts, connection: Connection, course: Course) -> Progress:
    """Run the project's env.py on one shard.

    Args:
        shard: The shard.
        scripts: The project's revisions.
        connection: The shard's own connection, not in a transaction.
        course: What to run.

    Returns:
        The progress; its `error` is what the run raised.
    """
    context_local_proxies()
    progress = Progress()
    own_place = place(connection)
    config = env_config(shard, scripts, connection, course.goal)

    def run() -> None:
        enter_env_py()
        with ExitStack() as stack:

            def target() -> Connection:
                """Return a connection that an env.py cannot have spoilt."""
                is_fit = not connection.closed and not connection.in_transaction() and place(connection) == own_place
                is_fit = is_fit and not _is_translated(connection)
                fit = connection if is_fit else stack.enter_context(shard.connect(read_only=False))
                stack.enter_context(course.on_connection(fit))
                stack.enter_context(whole_revisions(fit))
                stack.enter_context(confined(shard, fit))
                return fit

            environment = ShardEnvironment(config, scripts, shard, target, progress, course)
            with environment:
                scripts.directory.run_env()

    try:
        contextvars.copy_context().run(run)
    except (Exception, SystemExit) as error:
        if progress.error is None or isinstance(error, ShardctlError):
            progress.error = error if progress.has_asked else _explained(error, shard, scripts)
    return progress


def _explained(error: BaseException, shard: LiveShard, scripts: Scripts) -> BaseException:
    """Return the error of an env.py that came to no revision, with a hint if it is of a kind that cannot."""
    text, reason = scripts.env_py, f"{type(error).__name__}: {driver_line(error)}"
    if isinstance(error, ShardctlError):
        return error
    if "upgrade_token=" in text:
        return ShardError(f"{SEVERAL_DATABASES}: {reason}", hint=ONE_DATABASE)
    if "requires an async driver" in reason:
        drivers = " or ".join(_ASYNC_DRIVERS.get(shard.engine.url.get_backend_name(), ["psycopg"]))
        return ShardError(reason, hint=f"env.py makes an asynchronous engine: pip install {drivers}")
    return error


def connections_of(scripts: Scripts | None) -> int:
    """Return how many connections a shard has while env.py runs: one that does not take ours opens its own."""
    if scripts is None:
        return 1
    return 1 if _TAKES_CONNECTION.search(scripts.env_py) else 2


def version_table_of(shard: LiveShard, scripts: Scripts) -> str:
    """Return the name that the project's env.py gives to a shard's version table."""
    if shard.shard_id not in scripts.version_tables:
        if not _NAMES_VERSION_TABLE.search(scripts.env_py):
            return DEFAULT_VERSION_TABLE
        _learn_version_table(shard, scripts)
    return scripts.version_tables.get(shard.shard_id, DEFAULT_VERSION_TABLE)


def shard_revision(shard: LiveShard, scripts: Scripts) -> ShardRevision:
    """Return where a shard stands among the project's revisions.

    Raises:
        ShardError: It cannot be read.
    """
    version_table = version_table_of(shard, scripts)
    with shard.connect() as connection:
        return read_standing(connection, scripts, version_table)


def place(connection: Connection) -> str:
    """Return what unqualified names on a connection belong to; the connection is not in a transaction afterwards."""
    query = {
        "postgresql": "SELECT current_database() || '.' || array_to_string(current_schemas(false), ',')",
        "sqlite": "SELECT file FROM pragma_database_list WHERE name = 'main'",
    }.get(connection.dialect.name, "SELECT database()")
    found = connection.exec_driver_sql(query).scalar()
    connection.rollback()
    return str(found)


def check_steady(shard: LiveShard, connection: Connection) -> None:
    """Refuse an application's engine that sets another search path where a transaction begins.

    Raises:
        ShardError: The run's history, and its version table as it is read, would be elsewhere than its tables.
    """
    if not shard.may_be_autocommit:
        return
    inside = place(connection)
    with shard.backend.autocommit(connection):
        outside = place(connection)
    if inside != outside:
        raise ShardError(
            f"names lead to `{inside}` in the application's transactions, and to `{outside}` otherwise",
            hint="have its engine set the search path where it connects, not where a transaction begins",
        )


def check_place(shard: LiveShard, connection: Connection) -> None:
    """Refuse a connection that is not on the shard's own schema.

    Raises:
        ShardError: The schema is missing, or the connection is on another one.
    """
    schema = shard.shard.schema
    found = place(connection)
    if schema is None or connection.dialect.name == "sqlite":
        return
    if connection.dialect.name == "postgresql":
        _, _, found = found.partition(f"{shard.engine.url.database}.")
    if not found:
        raise ShardError(f"there is no schema `{schema}`", hint="`shardctl init` creates it")
    if found.casefold() != schema.casefold():
        raise ShardError(f"the connection is on schema `{found}`, not on `{schema}`")


def _is_translated(connection: Connection) -> bool:
    """Say whether an env.py had names without a schema translated: they would leave the shard's own."""
    return None in (connection.get_execution_options().get("schema_translate_map") or {})


def _learn_version_table(shard: LiveShard, scripts: Scripts) -> None:
    context_local_proxies()
    config = env_config(shard, scripts, None)

    def run() -> None:
        enter_env_py()
        with ShardEnvironment(config, scripts, shard, None, Progress(), None):
            scripts.directory.run_env()

    # An env.py that fails says so when it is run for its own sake; until then its version table has the usual name.
    try:
        contextvars.copy_context().run(run)
    except (Learnt, Exception, SystemExit):
        return


def env_config(
    shard: LiveShard, scripts: Scripts, connection: Connection | None, goal: Goal = UPGRADE_TO_HEAD
) -> Config:
    """Return Alembic's settings for a run of env.py on one shard: whatever env.py takes its URL from leads there."""
    config = scripts.settings.new_config()
    url = _as_env_py_takes_it(env_url(shard), scripts).render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    config.cmd_opts = Namespace(
        x=[f"shard={shard.shard_id}"],
        cmd=(getattr(command, goal.direction), ["revision"], ["sql", "tag"]),
        revision=goal.target,
        sql=False,
        tag=None,
        name=scripts.settings.section,
        config=config.config_file_name,
    )
    config.attributes["shard"] = shard.shard_id
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def _as_env_py_takes_it(url: URL, scripts: Scripts) -> URL:
    """Give a URL an asynchronous driver if env.py makes asynchronous engines; psycopg is both."""
    backend = url.get_backend_name()
    if backend not in _ASYNC_DRIVERS or not _MAKES_ASYNC_ENGINES.search(scripts.env_py):
        return url
    installed = [driver for driver in _ASYNC_DRIVERS[backend] if importlib.util.find_spec(driver)]
    return url.set(drivername=f"{backend}+{installed[0]}") if installed else url


def env_url(shard: LiveShard) -> URL:
    """Return the URL at which unqualified names are the shard's own, for an env.py that makes its own engine."""
    url, schema = shard.engine.url, shard.shard.schema
    if schema is None or url.get_backend_name() != "postgresql":
        return url
    escaped = re.sub(r"([\\\s])", r"\\\1", quoted_name(schema, "postgresql"))
    before = url.query.get("options", "")
    before = before if isinstance(before, str) else " ".join(before)
    return url.update_query_dict({"options": f"{before} -csearch_path={escaped}".strip()})
