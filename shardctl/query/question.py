"""A statement that is resolved for the shards that are asked: how it is planned, and each way to answer it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from sqlglot import exp

from shardctl.errors import ConfigError, QueryRefused, nearest_name
from shardctl.query.dialects import check_dialect, rewritten
from shardctl.query.direct import plan_direct
from shardctl.query.engines.values import run_as_written
from shardctl.query.gather import gather
from shardctl.query.here.kinds import NotListed
from shardctl.query.here.place import MEMORY_LIMIT
from shardctl.query.holders import Holders, online
from shardctl.query.merge import RowMerge
from shardctl.query.names import class_tables, resolve_classes
from shardctl.query.parse import Statement, parse
from shardctl.query.plan import QueryPlan, Route, columns_sql, plan_query
from shardctl.query.pull.places import gathering_place
from shardctl.query.pull.prepare import plan_gathering
from shardctl.query.pull.run import pull, pull_here
from shardctl.query.refusals import REFUSALS
from shardctl.query.remembered import Remembered
from shardctl.query.results import QueryResult, QueryRows
from shardctl.query.scan import TooManyRows, run_on, scan
from shardctl.query.stream import NotStreamed, Stream

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard
    from shardctl.fleet.models import Models


class Question:
    """One statement, resolved for the shards that were chosen."""

    def __init__(
        self,
        fleet: Fleet,
        sql: str,
        shards: Sequence[LiveShard],
        timeout_s: float | None,
        *,
        everywhere: bool,
        memory_limit: str = MEMORY_LIMIT,
        dialect: str | None = None,
    ) -> None:
        if not shards:
            raise QueryRefused("no shards were chosen")
        self._fleet = fleet
        self._sql = sql
        self._dialect = None if dialect is None else check_dialect(dialect)
        self._shards = shards
        self._timeout_s = timeout_s
        self._everywhere = everywhere
        self._memory_limit = memory_limit
        self._started = time.monotonic()
        self._engines = frozenset(shard.backend.name for shard in shards)
        self._remembered = Remembered(fleet, sql, shards, everywhere=everywhere, dialect=self._dialect)
        self._has_looked = False
        self._plan_of_before = self._remembered.plan
        if self._plan_of_before is None:
            _ = self._holders  # what cannot be read is refused here

    @cached_property
    def _models(self) -> Models | None:
        return models_of(self._fleet)

    @cached_property
    def _statements(self) -> dict[str, Statement]:
        """The statement for each engine: one text, unless it has to be written anew."""
        is_mixed = len(self._engines) > 1
        tables = class_tables(self._models)
        found = {}
        for engine in dict.fromkeys(shard.backend.name for shard in self._shards):
            text = self._sql if self._dialect is None else rewritten(self._sql, self._dialect, engine)
            found[engine] = resolve_classes(parse(text, engine), tables, is_mixed=is_mixed)
        return found

    @property
    def _statement(self) -> Statement:
        return self._statements[self._shards[0].backend.name]

    @cached_property
    def _holders(self) -> Holders:
        return self._holders_of(self._statement)

    def _holders_of(self, statement: Statement) -> Holders:
        return Holders(self._fleet, self._models, statement, self._shards, everywhere=self._everywhere)

    @property
    def without_rule(self) -> str | None:
        """A table of the statement that no rule of the shard map is for."""
        return self._holders.without_rule

    @cached_property
    def plan(self) -> QueryPlan:
        """The plan to run the statement on the one shard that has its rows, or else to merge, or else to gather."""
        return self._plan_of_before or self._planned()

    def _planned(self) -> QueryPlan:
        plan = self._plan()
        if plan.route is Route.GATHER or not self._has_looked:
            self._remembered.remember(plan)
        return plan

    def _plan(self, *, directly: bool = True) -> QueryPlan:
        one = self._holders.one() if directly and len(self._engines) == 1 else None
        pruned = None if one is None else self._holders.pruned([one.shard_id])
        if one is not None and pruned is not None:
            shapes = {key: table.shape for key, table in self._holders.tables.items()}
            with suppress(QueryRefused):
                return plan_direct(self._statement, one.shard_id, shapes, pruned)
        try:
            return self._plan_to_merge()
        except QueryRefused as refusal:
            return self.plan_to_gather(refusal)

    def answer(self, *, with_shard: bool, max_rows: int | None, max_rows_pulled: int) -> QueryResult:
        """Run the statement by its plan; what an old plan has refused is planned anew, as the tables are now."""
        try:
            return self._answer(self.plan, with_shard=with_shard, max_rows=max_rows, max_rows_pulled=max_rows_pulled)
        except TooManyRows:
            raise
        except QueryRefused:
            if self._plan_of_before is None or self._plan_of_before.route is not Route.GATHER:
                raise
            self._remembered.forget()
        plan = self._planned()
        return self._answer(plan, with_shard=with_shard, max_rows=max_rows, max_rows_pulled=max_rows_pulled)

    def _answer(self, plan: QueryPlan, *, with_shard: bool, max_rows: int | None, max_rows_pulled: int) -> QueryResult:
        """Run the statement by a plan, and by the next best one where only the shards could show what is wrong."""
        if plan.is_by_key:
            try:
                return self.merged(plan, with_shard=with_shard, max_rows=max_rows)
            except TooManyRows:
                raise
            except QueryRefused:  # a function or a view: the other routes say more of it, or can do without
                plan = self._plan(directly=False)
        if plan.route is Route.GATHER:
            return self.gathered(plan, max_rows_pulled, with_shard=with_shard)
        try:
            return self.merged(plan, with_shard=with_shard, max_rows=max_rows)
        except TooManyRows:
            raise
        except QueryRefused as refusal:
            if plan.route is Route.DIRECT:
                raise
            try:
                return self.gathered(self.plan_to_gather(refusal), max_rows_pulled, with_shard=with_shard)
            except TooManyRows:
                raise
            except QueryRefused:
                raise refusal from None

    def _plan_to_merge(self) -> QueryPlan:
        shards = self._holders.together() if len(self._shards) > 1 else online(self._shards)
        ids = [shard.shard_id for shard in shards]
        pruned = self._holders.pruned(ids) if len(self._shards) > 1 else None
        probe = columns_sql(self._statement) if len(shards) > 1 or pruned is not None else None
        columns = self._columns(shards[0], probe) if probe is not None else None
        plans = [
            plan_query(
                statement,
                ids,
                colocation=holders.colocation,
                ties=holders.ties,
                input_columns=columns,
                engines=self._engines,
                pruned=pruned,
            )
            for statement in self._statements.values()
            for holders in [self._holders if statement is self._statement else self._holders_of(statement)]
        ]
        return replace(plans[0], others=tuple(plans[1:]))

    def plan_to_gather(self, refusal: QueryRefused, not_here: NotListed | None = None) -> QueryPlan:
        """Plan to gather what the refusal says cannot be merged."""
        if len(self._engines) > 1:
            raise refusal
        return plan_gathering(
            self._fleet, self._statement, self._holders, refusal, timeout_s=self._timeout_s, not_here=not_here
        )

    def merged(self, plan: QueryPlan, *, with_shard: bool, max_rows: int | None) -> QueryResult:
        answers = scan(self._fleet, plan, self._asked(plan), timeout_s=self._timeout_s, max_rows=max_rows)
        columns, rows = gather(plan, answers, with_shard=with_shard)
        return QueryResult(columns, rows, plan.shard_ids, time.monotonic() - self._started, plan)

    def streamed(self, *, with_shard: bool) -> QueryRows:
        plan = self.plan
        if not isinstance(self._statement.tree, exp.Query) or not isinstance(plan.merge, RowMerge | None):
            raise NotStreamed
        if plan.route is Route.GATHER:
            raise NotStreamed
        stream = Stream(self._fleet, plan, self._asked(plan), timeout_s=self._timeout_s, with_shard=with_shard)
        stream.at_end = self._fleet.query_ended
        return QueryRows(stream.columns, stream.rows, plan.shard_ids, plan)

    def gathered(self, plan: QueryPlan, max_rows: int, *, with_shard: bool) -> QueryResult:
        if with_shard:
            REFUSALS["shard column"].refuse()
        asked = self._asked(plan)
        assert plan.gathering is not None
        if plan.gathering.here is not None:
            try:
                pulled = pull_here(
                    self._fleet,
                    plan,
                    asked,
                    timeout_s=self._timeout_s,
                    max_rows=max_rows,
                    memory_limit=self._memory_limit,
                )
            except NotListed as not_here:  # what only the rows could show
                refusal = QueryRefused(plan.reason.removeprefix("not merged: "))
                return self.gathered(self.plan_to_gather(refusal, not_here), max_rows, with_shard=False)
        else:
            place = gathering_place(self._fleet, plan.engine)
            assert place is not None
            pulled = pull(self._fleet, plan, asked, place, timeout_s=self._timeout_s, max_rows=max_rows)
        seconds = time.monotonic() - self._started
        return QueryResult(pulled.columns, pulled.rows, plan.shard_ids, seconds, plan, pulled.rows_pulled)

    def nearest_table(self) -> str | None:
        """Return a hint for the first table of a statement that the models do not know."""
        known = [] if self._models is None else [*self._models.mappers, *self._models.tables]
        unknown = [table.name for table in self._statement.tables if table.name not in known]
        nearest = nearest_name(unknown[0], known) if unknown else None
        return None if nearest is None else f"did you mean `{nearest}`?"

    def _asked(self, plan: QueryPlan) -> list[LiveShard]:
        return [shard for shard in self._shards if shard.shard_id in plan.shard_ids]

    def _columns(self, shard: LiveShard, sql: str) -> frozenset[str]:
        self._has_looked = True

        def read(shard: LiveShard) -> frozenset[str]:
            with shard.connect(keep=True) as connection:
                names = run_as_written(connection, sql).keys()
                return frozenset(name.lower() for name in names)

        return run_on(self._fleet, [shard], read, timeout_s=self._timeout_s)[0]


def models_of(fleet: Fleet) -> Models | None:
    """Return the fleet's models, or None if it has none: queries work without."""
    if not fleet.shard_map.models and fleet._models is None:  # to tell none from broken ones
        return None
    try:
        return fleet.models
    except ConfigError:
        return None
