"""Alembic's `op` and `context` in several threads of one process."""

from __future__ import annotations

import logging
import logging.config
import subprocess
import sys
import threading
from pathlib import Path

import alembic.context
import alembic.op
import pytest
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from shardctl.schema.proxies import context_local_proxies, enter_env_py, threads_are_apart

ROOT = Path(__file__).parents[3]


def in_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_self_test_tells_stock_alembic_from_ours() -> None:
    said = in_new_process(
        "from shardctl.schema.proxies import context_local_proxies, threads_are_apart\n"
        "before = threads_are_apart()\n"
        "context_local_proxies()\n"
        "print(before, threads_are_apart())"
    )
    assert said == "False True"


def test_alembic_that_differs_inside_is_refused() -> None:
    said = in_new_process(
        "from shardctl.errors import ShardctlError\n"
        "from shardctl.schema import proxies\n"
        "proxies._replace = lambda cls, module: None\n"
        "try:\n"
        "    proxies.context_local_proxies()\n"
        "except ShardctlError as error:\n"
        "    print(error.message)"
    )
    assert said.endswith("cannot run several migrations in one process")


def test_installing_twice_changes_nothing() -> None:
    context_local_proxies()
    before = vars(alembic.op)["_proxy"], Operations._install_proxy
    threads = [threading.Thread(target=context_local_proxies) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (vars(alembic.op)["_proxy"], Operations._install_proxy) == before
    assert threads_are_apart()


def test_outside_a_migration_there_is_no_op() -> None:
    context_local_proxies()
    with pytest.raises(NameError, match=r"`alembic.op.execute` is used while no migration runs in this thread"):
        alembic.op.execute("select 1")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        alembic.op.nonsense  # noqa: B018


def test_environments_nest() -> None:
    context_local_proxies()
    outer, inner = Config(), Config()
    with EnvironmentContext(outer, None):
        assert alembic.context.config is outer
        with EnvironmentContext(inner, None):
            assert alembic.context.config is inner
        assert alembic.context.config is outer


def test_plain_alembic_goes_on_working_in_the_process() -> None:
    context_local_proxies()
    engine = create_engine("sqlite://")
    with engine.connect() as connection, Operations.context(MigrationContext.configure(connection)) as op:
        assert alembic.op.get_bind() is connection
        assert alembic.op.get_context() is op.get_context()
        alembic.op.execute("create table t (id int)")
        assert connection.exec_driver_sql("select * from t").all() == []
    engine.dispose()


def test_operations_registered_later_reach_the_own_context() -> None:
    context_local_proxies()
    seen: list[object] = []

    @Operations.register_operation("shardctl_probe")
    class Probe:
        @classmethod
        def shardctl_probe(cls, operations: Operations) -> None:
            seen.append(operations.get_bind())

    engine = create_engine("sqlite://")
    with engine.connect() as connection, Operations.context(MigrationContext.configure(connection)):
        alembic.op.shardctl_probe()
        assert seen == [connection]
    engine.dispose()


def test_logging_is_left_alone_in_an_env_py_only() -> None:
    context_local_proxies()
    import contextvars

    config = {"version": 1, "disable_existing_loggers": True, "root": {"level": "ERROR"}}
    own = logging.getLogger("shardctl.test_proxies")
    level = logging.getLogger().level

    def as_env_py() -> None:
        enter_env_py()
        logging.config.dictConfig(config)
        logging.config.fileConfig(None)

    contextvars.copy_context().run(as_env_py)
    assert (own.disabled, logging.getLogger().level) == (False, level)
    with pytest.raises(ValueError, match="version"):
        logging.config.dictConfig({})
