"""Where a SQLAlchemy statement would go, by the session's own choosers; it is not sent.

A listener of `do_orm_execute` that comes after the session's own answers with no rows, shard by shard: it sees what the
choosers, options such as `set_shard_id` and the application's listeners made of the statement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Delete, Engine, IteratorResult, Select, TextClause, TextualSelect, Update, event
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import CompileError
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import FromStatement, ORMExecuteState
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.selectable import SelectBase

from shardctl.errors import QueryRefused, ShardctlError
from shardctl.fleet.statement_routing import StatementRouter
from shardctl.query.explain import Explained, Sent, merging_place
from shardctl.query.orm.checked import check_one_shard, check_write
from shardctl.query.orm.groups import Groups
from shardctl.query.orm.parts import OrderKey, shown
from shardctl.query.orm.plan import Count, Rows, is_rowwise, plan
from shardctl.query.orm.session import MergingSession, answer_select
from shardctl.query.orm.sources import check_sources
from shardctl.query.orm.text import check_text
from shardctl.topology.model import ShardedTable

if TYPE_CHECKING:
    from shardctl.fleet import Fleet

_APPENDED = "one shard's rows after another's; ShardedSession sorts, limits and adds up nothing"


@dataclass(slots=True)
class _Met:
    """What a session was about to do."""

    shards: dict[str, Any]
    """The statement for each shard."""
    chosen: bool = False
    """Whether the execute_chooser was asked."""


def explain_statement(fleet: Fleet, statement: Any, parameters: Mapping[str, Any] | None = None) -> Explained:
    """Explain where a session of the fleet would send a statement.

    Args:
        fleet: With the application's own session factory, or with the shard map's.
        statement: A `select()`, `update()`, `delete()` or `insert()`.
        parameters: What it would be executed with.

    Raises:
        QueryRefused: The answers of the shards could not be merged.
        ShardctlError: A chooser refuses, fails, or names no shard of the fleet.
    """
    with fleet.session() as session:
        met = _meet(session, statement, dict(parameters or {}))
        _check(met, fleet)
        shard_ids = tuple(shard_id for shard_id in fleet.shards if shard_id in met.shards)
        reads = isinstance(statement, SelectBase | TextClause | FromStatement)
        steps: tuple[str, ...] = ()
        where = "here"
        if met.chosen and isinstance(session, MergingSession):
            _check_read(session, statement, parameters, shard_ids)
        if reads and len(shard_ids) > 1 and isinstance(session, MergingSession):
            engine = fleet.shards[shard_ids[0]].backend.name
            only, steps, is_rows = _merging(session, statement, engine, parameters)
            where = "here" if is_rows else merging_place(engine, shard_ids[0])
            met.shards.update(dict.fromkeys(shard_ids, only) if only is not None else {})
            shard_ids = shard_ids if steps else shard_ids[:1]
        elif reads and len(shard_ids) > 1:
            steps = (_APPENDED,)
        sent = _sent({shard_id: met.shards[shard_id] for shard_id in shard_ids}, fleet, parameters)
        return Explained(
            route="direct" if len(shard_ids) == 1 else "scatter",
            shard_ids=shard_ids,
            candidates=len(fleet.shards),
            why=_why(fleet, session, met, statement, parameters),
            reason=_reason(shard_ids, reads=reads),
            sent=sent,
            merged=steps,
            merged_where=where,
        )


def _meet(session: ShardedSession, statement: Any, parameters: dict[str, Any]) -> _Met:
    """Execute a statement in a session that sends nothing."""
    met = _Met({})
    own: Callable[..., Any] = session.execute_chooser

    def choose(context: ORMExecuteState) -> Any:
        met.chosen = True
        return own(context)

    def answer(context: ORMExecuteState) -> Any:
        met.shards[str(context.bind_arguments.get("shard_id"))] = context.statement
        return IteratorResult(SimpleResultMetaData(()), iter(()))

    if isinstance(session, MergingSession):  # which would ask the shards itself
        event.remove(session, "do_orm_execute", answer_select)
    event.listen(session, "do_orm_execute", answer)
    session.execute_chooser = choose
    try:
        session.execute(statement, parameters or None)
    except ShardctlError:
        raise
    except Exception as error:
        if met.chosen and not met.shards and isinstance(error, IndexError):
            raise ShardctlError(f"{_name(own)} chose no shard") from error
        raise ShardctlError(f"the session cannot execute this: {type(error).__name__}: {error}") from error
    finally:
        session.execute_chooser = own
        event.remove(session, "do_orm_execute", answer)
    return met


def _check_read(
    session: MergingSession, statement: Any, parameters: Mapping[str, Any] | None, shard_ids: Sequence[str]
) -> None:
    """Refuse what the session would refuse to send."""
    if isinstance(statement, Update | Delete):
        check_write(statement, session.placement, lambda: shard_ids)
    elif len(shard_ids) == 1:
        check_one_shard(statement, session.placement, dict(parameters or {}), shard_ids[0])


def _check(met: _Met, fleet: Fleet) -> None:
    if not met.shards:
        raise ShardctlError("a listener of the application's answers this statement, in place of the shards")
    for shard_id in met.shards:
        if shard_id not in fleet.shards:
            raise ShardctlError(f"the session chose `{shard_id}`, which is none of its shards")


def _why(fleet: Fleet, session: ShardedSession, met: _Met, statement: Any, parameters: Mapping[str, Any] | None) -> str:
    shards = ", ".join(met.shards)
    if not met.chosen:
        return f"the statement names its shard -> {shards}"
    if fleet.placement is None:
        return f"{_name(session.execute_chooser)} -> {shards}"
    found = StatementRouter(fleet.shard_map, fleet.placement).route(statement, parameters or None).reason
    if len(met.shards) == len(fleet.shards):
        return found
    rules = fleet.shard_map.tables.items()
    strategies = [rule.strategy.name for name, rule in rules if isinstance(rule, ShardedTable) and f"{name}." in found]
    return " -> ".join([found, *dict.fromkeys(strategies), shards])


def _name(chooser: Any) -> str:
    return f"execute_chooser `{getattr(chooser, '__module__', '?')}.{getattr(chooser, '__qualname__', chooser)}`"


def _reason(shard_ids: tuple[str, ...], *, reads: bool) -> str:
    if len(shard_ids) == 1:
        return "one shard is enough"
    return "its rows are on several shards" if reads else "each of these shards changes its own rows"


def _merging(
    session: MergingSession, statement: Any, engine: str, parameters: Mapping[str, Any] | None
) -> tuple[Any, tuple[str, ...], bool]:
    """Return what each shard is sent in place of the statement, how the answers are merged, and whether as rows.

    Without a step, one shard answers.

    Raises:
        QueryRefused: They cannot be.
    """
    text = statement.element if isinstance(statement, FromStatement) else statement
    if isinstance(text, TextClause | TextualSelect):
        check_text(str(getattr(text, "element", text)), engine)
        return None, ("append",), True
    if isinstance(statement, Select):
        statement = statement.params(dict(parameters or {}))
        if not statement.get_final_froms():
            has_exists = "EXISTS" in shown(statement).upper()
            return None, ("true if it is true on any shard",) if has_exists else (), True
    found = plan(statement, session.placement)
    if isinstance(found, Count):
        inner = plan(found.source, session.placement)
        own = inner.source if isinstance(inner, Count) else inner.statement
        return own, ("count the rows that its inner statement has, once these are merged",), True
    check_sources(statement, session.placement, is_rowwise)
    if isinstance(found, Groups):
        return found.statement, _group_steps(found), False
    return found.statement, (_row_step(found),), True


def _row_step(found: Rows) -> str:
    text = f"sort by {_listed(found.keys)}" if found.keys else "append"
    text += "" if found.limit is None else f", take {found.limit}"
    return text + (f" after the first {found.offset}" if found.offset else "")


def _group_steps(found: Groups) -> tuple[str, ...]:
    steps = [f"group by {', '.join(shown(key) for key, _ in found.keys)}"] if found.keys else []
    for aggregate in found.aggregates:
        parts = ", ".join(shown(found.columns[column]) for column in aggregate.columns)
        steps.append(f"{aggregate.kind} of {'distinct ' if aggregate.is_distinct else ''}{parts}")
    if found.having:
        steps.append("having " + " AND ".join(map(shown, found.having)))
    if found.order:
        steps.append(f"sort by {_listed(found.order)}")
    if found.limit is not None or found.offset:
        steps.append(f"take {'all' if found.limit is None else found.limit} after the first {found.offset}")
    return tuple(steps) or ("distinct rows",)


def _listed(keys: Any) -> str:
    def one(key: OrderKey) -> str:
        return shown(key.expression) + (" DESC" if key.desc else "")

    return ", ".join(map(one, keys))


def _sent(statements: Mapping[str, Any], fleet: Fleet, parameters: Mapping[str, Any] | None) -> tuple[Sent, ...]:
    """Write each shard's statement in its own dialect; shards that are sent the same are put together."""
    together: dict[tuple[str, str], tuple[list[str], Mapping[str, Any]]] = {}
    for shard_id, statement in statements.items():
        bind: Engine = fleet.shards[shard_id].bind
        translated = bind.get_execution_options().get("schema_translate_map")
        options = {"schema_translate_map": translated, "render_schema_translate": True} if translated else {}
        if isinstance(statement, UpdateBase):
            options["column_keys"] = list(parameters or {}) or None
        try:
            compiled = statement.compile(dialect=bind.dialect, compile_kwargs={"render_postcompile": True}, **options)
        except CompileError as error:
            raise QueryRefused(f"this statement cannot be written for `{shard_id}`", facts=[str(error)]) from error
        values = {**compiled.params, **{k: v for k, v in (parameters or {}).items() if k in compiled.params}}
        together.setdefault((str(compiled), str(values)), ([], values))[0].append(shard_id)
    return tuple(Sent(tuple(ids), sql, parameters=values) for (sql, _), (ids, values) in together.items())
