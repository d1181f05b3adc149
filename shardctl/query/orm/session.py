"""A ShardedSession whose SELECTs over several shards run at the same time and give one database's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Connection,
    Delete,
    Engine,
    Exists,
    IteratorResult,
    Label,
    Result,
    Select,
    TextClause,
    TextualSelect,
    Update,
    event,
)
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.horizontal_shard import set_shard_id
from sqlalchemy.orm import FromStatement, ORMExecuteState
from sqlalchemy.sql import visitors

from shardctl.errors import NoPlacement, QueryRefused
from shardctl.fleet.one_connection import OneConnectionSession
from shardctl.query.orm.checked import check_once, check_one_shard, check_write
from shardctl.query.orm.counting import count_rows
from shardctl.query.orm.crew import connect_all, run_on_connections
from shardctl.query.orm.groups import Groups
from shardctl.query.orm.merge import Look, Seen, engine_of, look_at_keys, look_at_parts, merged_groups, merged_rows
from shardctl.query.orm.parts import elements, is_entity, is_subquery, refuse, unknown_functions
from shardctl.query.orm.plan import Count, Rows, is_rowwise, plan
from shardctl.query.orm.sources import check_sources
from shardctl.query.orm.stand_in import Connected, Execution, Having, Noted, Noting
from shardctl.query.orm.text import check_text, reads


class MergingSession(OneConnectionSession):
    """A ShardedSession that merges what several shards answer, or refuses to.

    A SELECT runs on the session's own connections, so that it sees what the session has not committed. Where no
    placement is known, joins are trusted.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._stand_in: Callable[[Any], Any] | None = None
        event.listen(self, "do_orm_execute", answer_select, retval=True, insert=True)

    def _connection_for_bind(self, engine: Any, execution_options: Any = None, **options: Any) -> Any:
        if self._stand_in is not None:
            return self._stand_in(engine)
        return super()._connection_for_bind(engine, execution_options, **options)

    @contextmanager
    def standing_in(self, stand_in: Callable[[Any], Any]) -> Iterator[None]:
        """Answer who asks for a connection with something else."""
        self._stand_in = stand_in
        try:
            yield
        finally:
            self._stand_in = None

    def connections(self, binds: Sequence[Any]) -> list[Connection]:
        """Return the session's connections; those that it has not yet are made at the same time."""
        databases = dict.fromkeys(self._databases.get(bind, bind) for bind in binds)
        missing = [found for found in databases if isinstance(found, Engine) and not self._is_connected(found)]
        if len(missing) > 1:
            for connection in connect_all(missing):
                super()._connection_for_bind(Connected(connection))
        return [self._connection_for_bind(bind) for bind in binds]

    def _is_connected(self, database: Engine) -> bool:
        transaction = self.get_nested_transaction() or self.get_transaction()
        while transaction is not None:
            if database in transaction._connections:
                return True
            transaction = transaction.parent
        return False


def answer_select(context: ORMExecuteState) -> Any:
    """Answer a SELECT that needs several shards; None leaves everything else to ShardedSession."""
    session = context.session
    if not isinstance(session, MergingSession) or _names_shard(context):
        return None
    statement = context.statement
    is_text = isinstance(statement, TextClause) and reads(statement.text)
    if isinstance(statement, Update | Delete):
        check_write(statement, session.placement, lambda: session.execute_chooser(context))
    if not (context.is_select or is_text or (isinstance(statement, FromStatement) and not statement.is_dml)):
        return None
    shard_ids = list(session.execute_chooser(context))
    if not shard_ids:
        raise NoPlacement("no shard was chosen for this statement")
    asking = _Asking(context, session, shard_ids)
    if len(shard_ids) == 1:
        return asking.answer_by_one(shard_ids[0])
    return asking.answer_text() if is_text else asking.answer()


def _names_shard(context: ORMExecuteState) -> bool:
    """Say whether a statement is for one shard that is named: in every way that ShardedSession knows."""
    if "shard_id" in context.bind_arguments or "_sa_shard_id" in context.execution_options:
        return True
    if any(isinstance(option, set_shard_id) for option in context._non_compile_orm_options):
        return True
    loading = context.execution_options.get("_sa_orm_load_options")
    return getattr(loading, "_identity_token", None) is not None


class _Asking:
    """One statement, and the shards that it needs."""

    def __init__(self, context: ORMExecuteState, session: MergingSession, shard_ids: Sequence[Any]) -> None:
        self._context = context
        self._session = session
        self._shard_ids = shard_ids

    def answer_by_one(self, shard_id: Any) -> Any:
        """Return one shard's result, if all that the statement reads is there."""
        context = self._context
        if not (context.is_relationship_load or context.is_column_load):
            check_one_shard(context.statement, self._session.placement, context.parameters, shard_id)
        return self.invoke(shard_id, context.statement)

    def answer(self) -> Any:
        """Return the merged result of a SELECT."""
        context = self._context
        statement: Any = context.statement
        text = statement.element if isinstance(statement, FromStatement) else statement
        if isinstance(text, TextClause | TextualSelect):
            self._check_text(str(getattr(text, "element", text)))
            return merged_rows(Rows(statement), self._ask(statement)[0], (), self._shard_ids)
        if isinstance(context.parameters, dict) and isinstance(statement, Select):
            statement = statement.params(context.parameters)
        if isinstance(statement, Select) and not statement.get_final_froms():
            return self._answer_without_tables(statement)
        found = plan(statement, self._session.placement)
        if isinstance(found, Count):
            return count_rows(found, self._session.execute)
        if not (context.is_relationship_load or context.is_column_load):
            check_once(statement, self._session.placement)
        self._check_functions(statement)
        if isinstance(found, Groups):
            _, seen = self._ask(found.statement, look_at_parts(found, statement), takes_rows=True)
            return merged_groups(found, seen, self._shard_ids)
        results, seen = self._ask(found.statement, look_at_keys(found, statement) if found.keys else None)
        merged = merged_rows(found, results, seen, self._shard_ids)
        if found.keys:
            columns = statement._raw_columns
            is_single = len(columns) == 1 and is_entity(columns[0]) and not context.load_options._only_return_tuples
            merged._attributes = merged._attributes.union({"is_single_entity": is_single})
        return merged

    def _answer_without_tables(self, statement: Select[Any]) -> Result[Any]:
        """Answer what selects from nothing: on one shard, or `EXISTS`, which is true if it is true on any."""
        columns = statement._raw_columns
        whole = columns[0].element if isinstance(columns[0], Label) else columns[0]
        if len(columns) == 1 and isinstance(whole, Exists):
            inner = next(part for part in visitors.iterate(whole) if isinstance(part, Select))
            if not is_rowwise(inner.limit(None).offset(None), None):
                refuse("a subquery would see one shard's rows only", whole)
            check_sources(inner, self._session.placement, is_rowwise)
            results, _ = self._ask(statement)
            rows = [row for result in results for row in result._raw_row_iterator()]
            return IteratorResult(results[0]._metadata, iter([max(rows)]))
        if any(is_subquery(part) for column in columns for part in elements(column)):
            refuse("a subquery would see one shard's rows only", statement)
        return self.invoke(self._shard_ids[0], statement)

    def answer_text(self) -> Any:
        """Return the rows of SQL text, one shard's after another's."""
        statement = self._context.statement
        self._check_text(str(statement))
        return merged_rows(Rows(statement), self._ask(statement)[0], (), self._shard_ids)

    def invoke(self, shard_id: Any, statement: Any) -> Result[Any]:
        """Let the session execute a statement on one shard."""
        bind_arguments = {**self._context.bind_arguments, "shard_id": shard_id}
        self._context.update_execution_options(identity_token=shard_id)
        return self._context.invoke_statement(statement=statement, bind_arguments=bind_arguments)

    def _check_functions(self, statement: Any) -> None:
        """Refuse aggregates that cannot be merged; only the engine knows which functions are that."""
        parts = (getattr(statement, name, ()) for name in ("_raw_columns", "_order_by_clauses", "_having_criteria"))
        names = unknown_functions(part for entries in parts for part in entries if not is_entity(part))
        if names:
            connection = self._session.connections([self._session.get_bind(shard_id=self._shard_ids[0])])[0]
            wrong = engine_of(connection).not_scalar(names).ask(connection)
            if wrong:
                refuse(f"`{wrong[0]}` looks at more than one row, and each shard has only its own", f"{wrong[0]}(…)")

    def _check_text(self, text: str) -> None:
        bind = self._session.get_bind(shard_id=self._shard_ids[0])
        check_text(text, bind.dialect.name)

    def _ask(
        self, statement: Any, look: Look | None = None, *, takes_rows: bool = False
    ) -> tuple[list[Result[Any]], list[Seen]]:
        """Execute a statement on every shard at the same time.

        Args:
            statement: The statement.
            look: Called with each database's own result and its connection.
            takes_rows: Whether `look` takes the rows; then there are no results.

        Returns:
            The session's results, and what `look` returned, by shard.
        """
        context, session = self._context, self._session
        # SQL text has no such options: it is flushed for.
        if context.is_orm_statement and (not context.is_select or context.load_options._autoflush):
            session._autoflush()  # before its connections are replaced
        executions = [self._noted(shard_id, statement) for shard_id in self._shard_ids]
        connections = session.connections([execution.bind for execution in executions])
        cursors: list[Any] = [None] * len(executions)

        def execute(number: int) -> Seen | None:
            try:
                cursors[number] = executions[number].on(connections[number])
                return None if look is None else look(cursors[number], connections[number])
            except Exception as error:
                error.add_note(f"on shard `{self._shard_ids[number]}`")
                raise

        seen = run_on_connections(connections, execute)
        if takes_rows:
            return [], [own for own in seen if own is not None]
        results = []
        for shard_id, cursor in zip(self._shard_ids, cursors, strict=True):
            with session.standing_in(lambda bind, cursor=cursor: Having(cursor)):  # type: ignore[misc]
                results.append(self.invoke(shard_id, statement))
        return results, [own for own in seen if own is not None]

    def _noted(self, shard_id: Any, statement: Any) -> Execution:
        with self._session.standing_in(Noting):
            try:
                self.invoke(shard_id, statement)
            except Noted as noted:
                return noted.execution
            except InvalidRequestError as error:
                if statement is self._context.statement:
                    raise
                # Of several sources, SQLAlchemy chooses what to join to by the columns, and there are others now.
                raise QueryRefused(
                    "over several shards, the columns to merge by leave SQLAlchemy in doubt about a join",
                    facts=[str(error).splitlines()[0]],
                    hint="join in `select_from()`: `select_from(join(…))`",
                ) from error
        raise NoPlacement(f"another listener answered for shard `{shard_id}`, in place of the shard")
