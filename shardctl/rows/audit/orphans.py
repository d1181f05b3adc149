"""Children whose parent is on another shard, or nowhere: no foreign key of a database can see either.

On each shard, the database itself says which children have no parent beside them. Their parents are then looked for on
the other shards. Where a child may well live apart from its parent, only one that is on no shard is a fault.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, Subquery, Table, func, literal_column, select

from shardctl.fleet import LiveShard
from shardctl.rows.audit.chunks import SAMPLED_AT_ONCE, Chunk, Cursor, next_chunk
from shardctl.rows.audit.commands import shard_command, written
from shardctl.rows.audit.finding import SAMPLES, Finding, Scope, Skipped, Trouble
from shardctl.rows.audit.keys import Key, Value, engine_of, raw
from shardctl.rows.audit.links import Link, is_ambiguous, is_colocated, links_of, tables_of, target_of
from shardctl.rows.audit.lookup import BATCH, Wanted, look_up
from shardctl.rows.audit.paging import Page, is_partial, rounds, typed
from shardctl.rows.audit.reading import on_each
from shardctl.rows.audit.tally import known_as, locate_command

CHECK = "orphans"


def check(scope: Scope) -> Iterator[Finding | Trouble | Skipped]:
    """Yield the children without a parent beside them, by link, shard, and where the parent is."""
    tables = dict.fromkeys(table for target in scope.targets for table in tables_of(target))
    silent = replace(scope, told=lambda _table, _shard_id, _rows: None)
    told: set[Table] = set()
    for link in links_of(scope.fleet, tables):
        # A table with several links is read for each of them, and told of once.
        yield from _Search(silent if link.child in told else scope, link).run()
        told.add(link.child)


@dataclass(frozen=True, slots=True)
class _Orphan:
    key: Value
    parent: Value


@dataclass(slots=True)
class _Tally:
    """Orphans of one kind."""

    count: int = 0
    samples: list[Value] = field(default_factory=list)

    def add(self, key: Value) -> None:
        self.count += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(key)


class _Search:
    """The orphans of one link.

    Args:
        scope: What is looked at.
        link: What leads to the parents.
    """

    def __init__(self, scope: Scope, link: Link) -> None:
        fleet = scope.fleet
        self._scope = scope
        self._link = link
        self._name = known_as(fleet, target_of(fleet, link.child))
        self._parent_name = known_as(fleet, target_of(fleet, link.parent))
        has_child = set(fleet.shard_ids(target_of(fleet, link.child)))
        self._has_parent = has_parent = set(fleet.shard_ids(target_of(fleet, link.parent)))
        self._together = has_parent if is_colocated(fleet, link) else set()
        """The shards on which a child is meant to have its parent beside it."""
        self._is_ambiguous = len(has_parent) > 1 and is_ambiguous(fleet, link)
        self._children = [shard for shard in scope.shards if shard.shard_id in has_child]
        self._parents = [shard for shard in scope.shards if shard.shard_id in has_parent]
        self._silent = has_parent - {shard.shard_id for shard in self._parents}
        """The shards with parents that are not asked, or did not answer."""
        self._tallies: dict[tuple[str, tuple[str, ...]], _Tally] = defaultdict(_Tally)
        """By the child's shard, and those that have its parent."""
        self._cut: set[str] = set()
        """The shards whose children could not be read to the end."""
        self._unknown = 0

    def run(self) -> Iterator[Finding | Trouble | Skipped]:
        for pages in rounds(self._scope, self._name, self._children, self._read):
            for page in pages:
                if isinstance(page, Trouble):
                    self._cut.add(page.shard_id)
                    yield page
                else:
                    yield from self._sort_out(*page)
        for (shard_id, holders), tally in sorted(self._tallies.items()):
            yield self._finding(shard_id, holders, tally)
        if self._unknown:
            where = ", ".join(sorted(self._silent))
            why = f"{self._unknown} rows may have their {self._parent_name} on {where}, which was not asked"
            yield Skipped(CHECK, self._name, why)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _read(self, connection: Connection, shard: LiveShard, last: Value | None) -> Page[list[_Orphan]]:
        """Read one page's children without a parent beside them."""
        table, key = self._link.child, self._key(connection)
        where = [self._scope.since[table.key]] if table.key in self._scope.since else []
        chunk = next_chunk(connection, self._scope, key, Cursor(last), where) if key.columns else Chunk(None, None)
        if chunk is None:
            return Page([], 0, None)
        rows = self._rows(key).where(*where)
        size = self._scope.chunk if self._scope.sample is None else SAMPLED_AT_ONCE
        if key.columns:
            rows = rows.where(*key.between(chunk.first, None)).order_by(*key.parts).limit(size)
        children = rows.subquery()
        if chunk.last is None:
            size = connection.execute(select(func.count()).select_from(children)).scalar_one()
        return Page(self._alone(connection, shard, children, len(key.columns)), size, chunk.last)

    def _key(self, connection: Connection) -> Key:
        return Key(tuple(self._link.child.primary_key), engine_of(connection.dialect))

    def _rows(self, key: Key) -> Select[Any]:
        """Return all children, with what they say of their parents."""
        own = [child for child, _ in self._link.pairs]
        columns = (column.label(f"c{place}") for place, column in enumerate([*key.parts, *own]))
        return select(*columns).select_from(self._link.child)

    def _alone(self, connection: Connection, shard: LiveShard, children: Subquery, width: int) -> list[_Orphan]:
        """Return those of some children that have no parent beside them; before their links are keys of that width."""
        links = list(children.c)[width:]
        statement = select(*map(raw, children.c)).where(*(column.is_not(None) for column in links))
        if shard.shard_id in self._has_parent:
            parent = self._link.parent.alias()
            equal = [parent.c[column.key] == own for own, (_, column) in zip(links, self._link.pairs, strict=True)]
            statement = statement.where(~select(literal_column("1")).select_from(parent).where(*equal).exists())
        return [_Orphan(tuple(row[:width]), tuple(row[width:])) for row in connection.execute(statement)]

    # -- sorting out ---------------------------------------------------------------------------------------------------

    def _sort_out(self, shard: LiveShard, orphans: list[_Orphan]) -> Iterator[Trouble]:
        """Look for the parents of children that have none beside them, and count the children by where these are."""
        if not orphans:
            return
        holders: Mapping[Value, Sequence[str]] = {}
        if not self._is_ambiguous or shard.shard_id not in self._together:
            parents = frozenset(orphan.parent for orphan in orphans)
            wanted = Wanted(self._link, parents, shard.engine.dialect)
            others = [other for other in self._parents if other is not shard]
            holders, troubles = look_up(self._scope, wanted, others)
            yield from troubles
            lost = {trouble.shard_id for trouble in troubles}
            self._parents = [other for other in self._parents if other.shard_id not in lost]
            self._silent |= lost
        if shard.shard_id in self._together:
            for orphan in orphans:
                self._add(shard, orphan, tuple(holders.get(orphan.parent, ())))
        else:
            yield from self._sort_out_apart(shard, [orphan for orphan in orphans if not holders.get(orphan.parent)])

    def _sort_out_apart(self, shard: LiveShard, orphans: Sequence[_Orphan]) -> Iterator[Trouble]:
        """Count children that may live apart from their parents, and have none on the other shards either.

        They are looked at again: they may have been deleted while their parents, deleted with them, were looked for.
        """
        if self._silent - {shard.shard_id}:
            self._unknown += len(orphans)
        elif orphans:
            found, troubles = on_each(
                self._scope, [shard], lambda shard: self._still_alone(shard, orphans), name=self._name
            )
            yield from troubles
            for orphan in found.get(shard.shard_id, ()):
                self._add(shard, orphan, ())

    def _still_alone(self, shard: LiveShard, orphans: Sequence[_Orphan]) -> Sequence[_Orphan]:
        named = [orphan for orphan in orphans if orphan.key and None not in orphan.key]
        still = [orphan for orphan in orphans if not orphan.key or None in orphan.key]
        with shard.connect(keep=True) as connection:
            key = self._key(connection)
            for start in range(0, len(named), BATCH):
                keys = [orphan.key for orphan in named[start : start + BATCH]]
                children = self._rows(key).where(key.one_of(keys)).order_by(*key.parts).subquery()
                still += self._alone(connection, shard, children, len(key.columns))
        return still

    def _add(self, shard: LiveShard, orphan: _Orphan, holders: tuple[str, ...]) -> None:
        self._tallies[shard.shard_id, holders].add(self._typed(orphan, shard))

    def _typed(self, orphan: _Orphan, shard: LiveShard) -> Value:
        """Return what names a child: its primary key, or what it says of its parent if it has none."""
        columns: list[Column[Any]] = list(self._link.child.primary_key) or [child for child, _ in self._link.pairs]
        values = orphan.key or orphan.parent
        return tuple(typed(column, value, shard.engine.dialect) for column, value in zip(columns, values, strict=True))

    # -- saying --------------------------------------------------------------------------------------------------------

    def _finding(self, shard_id: str, holders: tuple[str, ...], tally: _Tally) -> Finding:
        silent = self._silent - {shard_id}
        parent = self._parent_name
        if holders:
            kind, where = "parent elsewhere", f"the {parent} is on {' and '.join(holders)}"
        elif self._is_ambiguous and shard_id in self._together:
            kind, where = "parent missing", f"no {parent} beside it; keys are per shard"
        elif silent:
            kind = "parent not beside it"
            where = f"the {parent} may be on {', '.join(sorted(silent))}, which was not asked"
        else:
            kind, where = "parent missing", f"no {parent} on any shard"
        samples = tuple(tally.samples)
        return Finding(
            CHECK,
            kind,
            self._name,
            (shard_id,),
            tally.count,
            samples,
            f"{self._link.text}: {where}",
            self._mend(shard_id, holders, samples),
            is_exact=shard_id not in self._cut and not is_partial(self._scope, self._link.child),
        )

    def _mend(self, shard_id: str, holders: Sequence[str], samples: Sequence[Value]) -> str:
        """Return the command that shows where rows belong, or all of them beside what they say of their parents."""
        link = self._link
        if holders and link.child.primary_key:
            return locate_command(self._name, samples)
        child, parent = link.child.alias("child"), link.parent.alias("parent")
        equal = [parent.c[there.key] == child.c[here.key] for here, there in link.pairs]
        alone: list[ColumnElement[bool]] = [child.c[here.key].is_not(None) for here, _ in link.pairs]
        if shard_id in self._has_parent:
            alone.append(~select(literal_column("1")).select_from(parent).where(*equal).exists())
        statement: Select[Any] = select(literal_column("child.*")).select_from(child).where(*alone)
        return shard_command([shard_id], written(statement, self._scope.fleet.shard(shard_id).engine.dialect))
