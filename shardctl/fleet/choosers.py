"""Asking choosers that may be anybody's: whatever they do becomes an answer or a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Executable, event
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Mapper, ORMExecuteState

from shardctl.errors import ShardctlError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chooser said."""

    shard_ids: tuple[str, ...] = ()
    problem: str | None = None
    """What it did instead of answering, or what is wrong with its answer."""
    said: Any = field(default=None, compare=False, repr=False)
    """What it returned."""
    raised: type[Exception] | None = field(default=None, compare=False, repr=False)
    """Of which type what it raised is: the exception itself would keep connections open that its frames hold."""

    def __str__(self) -> str:
        said = ", ".join(self.shard_ids)
        return f"{said} ({self.problem})" if said and self.problem else said or self.problem or "no shard"


def ask(chooser: Callable[[], Any], known: Iterable[str]) -> Answer:
    """Call a chooser and take its answer: a name, or names in a list, tuple, set or generator."""
    order = {shard_id: position for position, shard_id in enumerate(known)}
    try:
        said = chooser()
        if not isinstance(said, Iterable):
            return Answer(problem=f"returned {said!r}", said=said)
        shard_ids = [_name(item) for item in ((said,) if isinstance(said, str) else said)]
    except Exception as error:
        return Answer(problem=_problem(error), raised=type(error))
    if isinstance(said, set | frozenset):  # which have no order of their own
        shard_ids.sort(key=lambda shard_id: order.get(shard_id, len(order)))
    unknown = [shard_id for shard_id in dict.fromkeys(shard_ids) if shard_id not in order]
    return Answer(tuple(dict.fromkeys(shard_ids)), f"no such shard: {', '.join(unknown)}" if unknown else None, said)


def _name(item: Any) -> str:
    return str.__str__(item) if isinstance(item, str) else str(item)  # of an enumeration's member: its value


def _problem(error: Exception) -> str:
    if isinstance(error, ShardctlError):  # the shard map's own choosers explain themselves
        return error.message
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"raised {type(error).__name__}" + (f": {lines[0]}" if lines else "")


def ask_shard_chooser(session: ShardedSession, mapper: Mapper[Any], instance: Any, known: Iterable[str]) -> Answer:
    """Ask where an object belongs."""
    said: list[Any] = []

    def choose() -> Any:
        chooser: Callable[..., Any] = session.shard_chooser
        said.append(chooser(mapper, instance))  # as a flush calls it
        return said[0]

    answer = ask(choose, known)
    if answer.problem is None and not isinstance(said[0], str):
        return Answer(answer.shard_ids, f"returned a {type(said[0]).__name__}, not the name of one shard", said[0])
    return answer


def ask_identity_chooser(
    session: ShardedSession, mapper: Mapper[Any], key: tuple[Any, ...], known: Iterable[str]
) -> Answer:
    """Ask where an object with this primary key may be."""
    return ask(
        lambda: session.identity_chooser(mapper, key, lazy_loaded_from=None, execution_options={}, bind_arguments={}),
        known,
    )


class _Asked(Exception):
    """Carries a chooser's answer out of a statement that is not executed."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


NOT_ASKED = Answer(problem="was not asked")


def ask_execute_chooser(session: ShardedSession, statement: Executable, known: Iterable[str]) -> Answer:
    """Ask where a statement would be sent, and do not send it."""
    return ask_where_sent(session, lambda: session.execute(statement), known)


def ask_where_sent(session: ShardedSession, run: Callable[[], object], known: Iterable[str]) -> Answer:
    """Ask where the first statement would be sent that a function executes in a session, and do not send it."""
    is_asking = False

    def intercept(context: ORMExecuteState) -> None:
        nonlocal is_asking
        if not is_asking:  # what the chooser executes itself is sent
            is_asking = True
            raise _Asked(ask(lambda: session.execute_chooser(context), known))

    event.listen(session, "do_orm_execute", intercept, insert=True)
    try:
        run()
    except _Asked as asked:
        return asked.answer
    except Exception as error:  # another listener of the application's
        return Answer(problem=_problem(error), raised=type(error))
    finally:
        event.remove(session, "do_orm_execute", intercept)
    return NOT_ASKED
