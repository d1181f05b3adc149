"""Alembic's module-level `op` and `context`, made to mean the shard that the current thread is at work on.

Alembic keeps both in module globals: two upgrades in one process write into each other's database, or crash it. Here
they are looked up in a `ContextVar`, so that each thread (and each `contextvars.Context`) has its own. The same context
variable keeps an env.py from reconfiguring the logging of the process that runs it.
"""

from __future__ import annotations

import contextvars
import functools
import logging.config
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import alembic
import alembic.context
import alembic.op
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext

from shardctl.errors import ShardctlError

SELF_TEST_TIMEOUT_S = 10.0

_installing = threading.Lock()
_in_env_py: contextvars.ContextVar[bool] = contextvars.ContextVar("shardctl_in_env_py", default=False)


def context_local_proxies() -> None:
    """Make `alembic.op` and `alembic.context` context-local, once per process.

    Raises:
        ShardctlError: This Alembic works differently inside, and two threads saw each other's.
    """
    if _is_installed():
        return
    with _installing:
        if _is_installed():
            return
        _replace(EnvironmentContext, alembic.context)
        _replace(Operations, alembic.op)
        for name in ("fileConfig", "dictConfig"):
            setattr(logging.config, name, _skipped_in_env_py(getattr(logging.config, name)))
        if not threads_are_apart():
            raise ShardctlError(
                f"Alembic {alembic.__version__} cannot run several migrations in one process",
                hint="install the newest Alembic that shardctl was tested with, and report this",
            )


def enter_env_py() -> None:
    """Mark this context: until it ends, an env.py runs in it."""
    _in_env_py.set(True)


def threads_are_apart() -> bool:
    """Tell whether two threads with an environment each see their own `op` and `context`."""
    both_inside = threading.Barrier(2)
    seen: list[bool] = []

    def look() -> None:
        marker: Any = SimpleNamespace(impl=None)
        config = Config()
        try:
            with EnvironmentContext(config, cast(Any, None)):
                operations = Operations(marker, marker)
                operations._install_proxy()
                both_inside.wait(SELF_TEST_TIMEOUT_S)
                own = alembic.op.get_context() is marker and alembic.context.config is config
                both_inside.wait(SELF_TEST_TIMEOUT_S)
                operations._remove_proxy()
        except (threading.BrokenBarrierError, NameError, KeyError, AttributeError):
            both_inside.abort()
            own = False
        seen.append(own)

    threads = [threading.Thread(target=look, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * SELF_TEST_TIMEOUT_S)
    return seen == [True, True]


class _Dispatcher:
    """Stands where Alembic keeps the one current object, and passes on to this context's."""

    def __init__(self, stack: contextvars.ContextVar[tuple[Any, ...]], module: str) -> None:
        self.__stack = stack
        self.__module = module

    def __getattr__(self, name: str) -> Any:
        stack = self.__stack.get()
        if not stack:
            raise NameError(f"`{self.__module}.{name}` is used while no migration runs in this thread")
        return getattr(stack[-1], name)


def _is_installed() -> bool:
    return all(isinstance(vars(module).get("_proxy"), _Dispatcher) for module in (alembic.op, alembic.context))


def _replace(cls: type[Any], module: ModuleType) -> None:
    stack: contextvars.ContextVar[tuple[Any, ...]] = contextvars.ContextVar(module.__name__, default=())

    def install(self: Any) -> None:
        stack.set((*stack.get(), self))

    def remove(self: Any) -> None:
        stack.set(tuple(entry for entry in stack.get() if entry is not self))

    # Past the metaclass, which would write new functions into the module.
    type.__setattr__(cls, "_install_proxy", install)
    type.__setattr__(cls, "_remove_proxy", remove)
    dispatcher = _Dispatcher(stack, module.__name__)
    attributes = cls._setups[cls][0]  # what is no function: `context.config`, `context.script`

    def module_getattr(name: str) -> Any:
        if name in attributes:
            return getattr(dispatcher, name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    for name in attributes:
        vars(module).pop(name, None)
    vars(module).update(_proxy=dispatcher, __getattr__=module_getattr)


def _skipped_in_env_py(configure: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(configure)
    def configure_unless_in_env_py(*args: Any, **options: Any) -> Any:
        return None if _in_env_py.get() else configure(*args, **options)

    return configure_unless_in_env_py
