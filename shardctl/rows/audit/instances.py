"""An application's rows, as its own `shard_chooser` places them: instances, a chunk at a time.

What the chooser reads of other rows is loaded for a whole chunk, once it is known to read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Column, event, inspect, select
from sqlalchemy.ext.horizontal_shard import ShardedSession, set_shard_id
from sqlalchemy.orm import Mapper, ORMExecuteState, RelationshipProperty, selectinload

from shardctl.fleet import LiveShard
from shardctl.fleet.choosers import Answer, ask_shard_chooser
from shardctl.rows.audit.chunks import Cursor, next_chunk
from shardctl.rows.audit.finding import SAMPLES, Finding, Scope, Skipped, Trouble
from shardctl.rows.audit.keys import Key, Value, engine_of
from shardctl.rows.audit.passes import Pass
from shardctl.rows.audit.reading import table_of
from shardctl.rows.audit.tally import Tally

AT_ONCE = 2_000
"""Instances in memory, of each shard."""
AT_FIRST = 50
"""Instances of the first chunk."""
MOST_DEEP = 4
"""Relationships in a row that are loaded for a whole chunk."""

Fault = tuple[str, str]


def check_instances(
    scope: Scope, mapper: Mapper[Any], name: str, shards: Sequence[LiveShard]
) -> Iterator[Finding | Trouble | Skipped]:
    """Ask the application's own chooser where each instance belongs."""
    tally = Tally("placement", name, scope.max_findings)
    run = Pass(scope, tally, shards)
    reader = _Reader(scope, mapper)

    def absorb(parts: Mapping[LiveShard, _Part]) -> list[Trouble]:
        for shard, part in parts.items():
            for (kind, detail), found in part.faults.items():
                tally.add(kind, [shard.shard_id], detail, found.count, found.samples)
        return []

    yield from run.rounds(reader.read, absorb)
    yield from run.found()


@dataclass(slots=True)
class _Found:
    count: int = 0
    samples: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Part:
    rows: int
    last: Value | None
    faults: Mapping[Fault, _Found]


@dataclass(slots=True)
class _Reader:
    scope: Scope
    mapper: Mapper[Any]
    touched: set[RelationshipProperty[Any]] = field(default_factory=set)
    """Relationships to one object that the chooser reads."""

    def read(self, shard: LiveShard, cursor: Cursor) -> _Part:
        """Ask for the next instances of a shard."""
        shard.check_reachable()
        columns = tuple(column for column in table_of(self.mapper).primary_key if isinstance(column, Column))
        key = Key(columns, engine_of(shard.bind.dialect))
        condition = self.scope.since.get(table_of(self.mapper).key)
        where = [] if condition is None else [condition]
        # The first chunk shows what the chooser reads.
        scope = replace(self.scope, chunk=AT_FIRST if cursor.last is None else AT_ONCE)
        with self.scope.fleet.sessionmaker()() as session:
            session.autoflush = False  # nothing is written, whatever a chooser does to its instances
            connection = session.connection(bind_arguments={"mapper": self.mapper, "shard_id": shard.shard_id})
            chunk = next_chunk(connection, scope, key, cursor, where)
            if chunk is None:
                return _Part(0, None, {})
            statement = select(self.mapper).where(*key.between(chunk.first, chunk.last), *where)
            options = [set_shard_id(shard.shard_id), *_preloads(self.mapper, self.touched, MOST_DEEP)]
            instances = session.scalars(statement.options(*options)).unique().all()
            return _Part(len(instances), chunk.last, self._ask(session, shard, instances))

    def _ask(self, session: ShardedSession, shard: LiveShard, instances: Sequence[Any]) -> Mapping[Fault, _Found]:
        faults: defaultdict[Fault, _Found] = defaultdict(_Found)
        event.listen(session, "do_orm_execute", self._note)
        known = self.scope.fleet.shards
        for instance in instances:
            mapper = inspect(instance).mapper
            answer = ask_shard_chooser(session, mapper, instance, known)
            fault = _fault(answer, shard)
            if fault is not None:
                found = faults[fault]
                found.count += 1
                if len(found.samples) < SAMPLES:
                    found.samples.append(tuple(mapper.primary_key_from_instance(instance)))
        return faults

    def _note(self, context: ORMExecuteState) -> None:
        """Remember the relationship that an instance's attribute was just loaded for."""
        path: Any = context.loader_strategy_path if context.is_relationship_load else None
        link = path.path[-1] if path is not None and len(path.path) else None
        if isinstance(link, RelationshipProperty) and not link.uselist:
            self.touched.add(link)


def _fault(answer: Answer, shard: LiveShard) -> Fault | None:
    if answer.problem is not None:
        return "no placement", f"shard_chooser: {answer.problem}"
    if answer.shard_ids == (shard.shard_id,):
        return None
    return "misplaced", f"belong on {', '.join(answer.shard_ids)}, by shard_chooser"


def _preloads(mapper: Mapper[Any], touched: set[RelationshipProperty[Any]], depth: int) -> list[Any]:
    """Return what loads these relationships, and those behind them, for many instances at once."""
    if not depth:
        return []
    found = []
    for link in sorted(touched, key=str):
        if mapper.isa(link.parent) or link.parent.isa(mapper):
            option = selectinload(getattr(link.parent.class_, link.key))
            found.append(option.options(*_preloads(link.mapper, touched, depth - 1)))
    return found
