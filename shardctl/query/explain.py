"""A plan as data that can be shown: which shards are sent what, why these, and what becomes of their answers.

Pure, but for `look`, which has the shards' own engines say what they would do: none of the statements runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shardctl.query.asked import Asked, noting
from shardctl.query.engines import ENGINES
from shardctl.query.merge import EngineMerge, RowMerge, merge_steps, row_steps
from shardctl.query.parameters import bound_value, is_bound, names_in
from shardctl.query.plan import QueryPlan, Route
from shardctl.query.question import Question
from shardctl.query.results import QueryResult

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard


@dataclass(frozen=True, slots=True)
class Sent:
    """A statement, and the shards that it is sent to."""

    shard_ids: tuple[str, ...]
    sql: str
    table: str = ""
    """The table whose rows it pulls; empty where the shard answers the statement itself."""
    remarks: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explained:
    """What will be done for a statement."""

    route: str
    shard_ids: tuple[str, ...]
    """The shards that are asked."""
    candidates: int
    """How many there were to ask."""
    why: str
    """Why these shards."""
    reason: str
    """Why this route."""
    sent: tuple[Sent, ...]
    merged: tuple[str, ...] = ()
    """How the answers become one, step by step."""
    merged_where: str = ""
    gathered: str = ""
    """The statement that runs over the rows that were pulled."""
    gathered_where: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What a shard's engine says of a statement that it is sent."""

    returned: int | None = None
    """Rows that it expects to answer with; None where it does not say."""
    read: int | None = None
    """Rows that it expects to read, where it says that instead."""
    plan: tuple[str, ...] = ()
    problem: str | None = None
    """Why there is none of this."""


Looks = Mapping[tuple[int, str], Look]
"""By the number of what is sent, and the shard."""


def explain(
    fleet: Fleet,
    sql: str,
    *,
    shards: Sequence[LiveShard],
    timeout_s: float | None = None,
    everywhere: bool = False,
    dialect: str | None = None,
) -> Explained:
    """Explain what `run_query` would do with these arguments; nothing runs but what planning has to know.

    Raises:
        QueryRefused: As `run_query`.
    """
    question = Question(fleet, sql, shards, timeout_s, everywhere=everywhere, dialect=dialect)
    return explained(question.plan, shards, why_all(question, fleet, everywhere=everywhere))


def analyze(
    fleet: Fleet,
    sql: str,
    *,
    shards: Sequence[LiveShard],
    timeout_s: float | None = None,
    max_rows_pulled: int,
    everywhere: bool = False,
    dialect: str | None = None,
    memory_limit: str,
) -> tuple[Explained, QueryResult, Asked]:
    """Run a statement, and explain what was done: the plan, the answer, and what the shards took for it.

    Args:
        fleet: As for `run_query`, and so are the others.
        sql: The statement.
        shards: The shards to ask.
        timeout_s: Seconds for one shard.
        max_rows_pulled: Rows at most that are brought to one place.
        everywhere: Ask all of them, whatever the statement says of sharding keys.
        dialect: The statement's, if it is not the shards': an engine's, or any that sqlglot reads.
        memory_limit: What DuckDB may use.

    Raises:
        QueryRefused: As `run_query`.
        ShardError: As `run_query`.
    """
    question = Question(
        fleet, sql, shards, timeout_s, everywhere=everywhere, memory_limit=memory_limit, dialect=dialect
    )
    _ = question.plan  # planning asks the shards too, which is no part of the answer
    with noting() as asked:
        result = question.answer(with_shard=False, max_rows=None, max_rows_pulled=max_rows_pulled)
    return explained(result.plan, shards, why_all(question, fleet, everywhere=everywhere)), result, asked


def why_all(question: Question, fleet: Fleet, *, everywhere: bool) -> str:
    """Return why no shard is left out, in case none is."""
    if everywhere:
        return "all are asked, whatever the sharding key says"
    if fleet.shard_map.app is not None:
        return "the application's own choosers place objects, not SQL text"
    if question.without_rule is not None:
        return f"no rule of the shard map says where rows of `{question.without_rule}` are"
    return "no condition on a sharding key rules one out"


def explained(plan: QueryPlan, shards: Sequence[LiveShard], why_all: str) -> Explained:
    """Describe a plan.

    Args:
        plan: The plan that runs.
        shards: The shards that were chosen.
        why_all: Why no shard is left out, in case none is.
    """
    candidates = len(shards) if plan.pruned is None else plan.pruned.candidates
    if plan.pruned is not None:
        why = f"{plan.pruned.reason} -> {', '.join(plan.shard_ids)}"
    elif len(shards) == 1 or plan.route is Route.DIRECT:
        why = plan.reason
    else:
        why = why_all
    head = (str(plan.route), plan.shard_ids, candidates, why, plan.reason)
    if plan.gathering is not None:
        sent = tuple(
            Sent(scan.shard_ids, scan.sql(), scan.table.name, _remarks(scan.explain()), _parameters(scan.sql()))
            for scan in plan.gathering.scans
        )
        here = plan.gathering.here
        runs = plan.gathering.sql if here is None else here.sql
        return Explained(*head, sent, gathered=runs, gathered_where=plan.gathering.place)
    steps, where = _merged(plan)
    engines = {shard.shard_id: shard.backend.name for shard in shards}
    sent = tuple(
        Sent(ids, own.shard_sql, parameters=_parameters(own.shard_sql))
        for own in (plan, *plan.others)
        if (ids := tuple(name for name in plan.shard_ids if not plan.others or engines[name] == own.engine))
    )
    return Explained(*head, sent, merged=steps, merged_where=where)


def look(
    fleet: Fleet, found: Explained, shards: Sequence[LiveShard], *, timeout_s: float | None, with_plans: bool
) -> Looks:
    """Have the shards' engines say what they expect of each statement; a shard that cannot is no error.

    Args:
        fleet: The fleet.
        found: What is sent.
        shards: The shards, of which those are asked that are sent something.
        timeout_s: Seconds for one shard.
        with_plans: Whether their plans are wanted too.
    """
    asked = {shard_id for sent in found.sent for shard_id in sent.shard_ids}
    wanted = [shard for shard in shards if shard.shard_id in asked]

    def read(shard: LiveShard) -> dict[int, Look]:
        engine = ENGINES[shard.backend.name]
        looks = {}
        with shard.connect(read_only=True) as connection:
            for number, sent in enumerate(found.sent):
                if shard.shard_id in sent.shard_ids:
                    returned, to_read = engine.expected_rows(connection, sent.sql)
                    plan = tuple(engine.plan(connection, sent.sql)) if with_plans else ()
                    looks[number] = Look(returned, to_read, plan)
        return looks

    looks: dict[tuple[int, str], Look] = {}
    for outcome in fleet.fan_out(read, wanted, timeout_s=timeout_s):
        for number, sent in enumerate(found.sent):
            if outcome.shard_id in sent.shard_ids:
                failed = Look(problem=outcome.error.message if outcome.error else None)
                looks[number, outcome.shard_id] = outcome.result[number] if outcome.is_ok else failed
    return looks


def merging_place(engine: str, first: str) -> str:
    """Return where partial results are merged, of which the first shard's engine is the judge."""
    return "in SQLite here" if engine == "sqlite" else f"on `{first}`"


def _merged(plan: QueryPlan) -> tuple[tuple[str, ...], str]:
    if isinstance(plan.merge, RowMerge):
        return (row_steps(plan.merge),), "here"
    if isinstance(plan.merge, EngineMerge):
        where = "here" if plan.merge.counts_only else merging_place(plan.engine, plan.shard_ids[0])
        return tuple(merge_steps(plan.merge)), where
    return (), ""


def _parameters(sql: str) -> dict[str, Any]:
    return {name: bound_value(name) for name in sorted(names_in(sql)) if is_bound(name)}


def _remarks(lines: Sequence[str]) -> tuple[str, ...]:
    """Return what a scan says beside the statement: below it, or behind it."""
    unique = ("the keys must be unique",) if lines[0].endswith(", which must be unique") else ()
    return unique + tuple(line.strip() for line in lines[1:])
