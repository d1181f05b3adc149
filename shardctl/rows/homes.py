"""Where many stored rows belong by the shard map: by their keys, or by the parents that they follow, in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.orm import RelationshipProperty

from shardctl.errors import NoPlacement, ShardctlError, ShardError, ShardUnreachable
from shardctl.fleet import Outcome
from shardctl.fleet.choosers import Answer
from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import Follow, Reference, Sharded
from shardctl.rows.identities import Identity, Target
from shardctl.rows.reading import Reader
from shardctl.rows.source import Question, source_of
from shardctl.rows.spellings import Answered
from shardctl.topology.strategies import Directory, key_text

Row = Mapping[str, Any]
"""The values of a class's attributes, or of a table's columns, by name."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a row belongs, and why."""

    shard_ids: tuple[str, ...]
    """One, or for a reference table all; none if nothing says."""
    reason: str


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row of one shard, and where it belongs."""

    primary_key: Identity
    values: Row
    home: Home
    asked: Identity | None = None
    """The primary key that it answers; None if it was found by other columns."""
    shard_chooser: Answer | None = None


@dataclass(frozen=True, slots=True)
class Homes:
    """Finds the homes of rows."""

    placement: Placement
    reader: Reader

    def of(self, target: Target, rows: Sequence[tuple[str, Row]]) -> list[Home]:
        """Return the home of each row, which is given with the shard that it is on."""
        match self.placement.rule(target):
            case Reference(shard_ids=shard_ids):
                return [Home(shard_ids, "reference table: every copy")] * len(rows)
            case Sharded() as rule:
                return self._by_keys(target, rule, rows)
            case Follow() as rule:
                return self._by_parents(target, rule, rows)
        return [self._unplaced(target)] * len(rows)

    def _unplaced(self, target: Target) -> Home:
        try:
            self.placement.home(target, SimpleNamespace())
        except NoPlacement as error:
            return Home((), error.message)
        raise AssertionError(target)

    def _by_keys(self, target: Target, rule: Sharded, rows: Sequence[tuple[str, Row]]) -> list[Home]:
        names = [attribute_of(target, column) for column in rule.columns]
        own = [tuple(row[name] for name in names) for _, row in rows]
        keys = {key: SimpleNamespace(**dict(zip(rule.attributes, key, strict=True))) for key in own}
        try:
            rule = self._with_entries(rule, list(keys.values()))
        except ShardError as error:
            return [Home((), error.message)] * len(rows)
        homes = {key: self._placed(rule, named) for key, named in keys.items()}
        return [homes[key] for key in own]

    def _placed(self, rule: Sharded, key: SimpleNamespace) -> Home:
        try:
            shard_id = self.placement.place_by_key(rule, key)
            reason = rule.strategy.explain(self.placement.key_of(rule, key))
        except NoPlacement as error:
            return Home((), error.message)
        return Home((shard_id,), f"{', '.join(rule.attributes)}: {reason}")

    def _with_entries(self, rule: Sharded, keys: Sequence[SimpleNamespace]) -> Sharded:
        """Read all keys' entries of a directory at once."""
        strategy = rule.strategy
        if not isinstance(strategy, Directory):
            return rule
        texts = []
        for key in keys:
            try:
                texts.append((key_text(self.placement.key_of(rule, key)[0]),))
            except NoPlacement:  # which is said when the row is placed
                continue
        entries = self._entries(strategy, list(dict.fromkeys(texts)))
        return replace(rule, strategy=replace(strategy, read=entries.get))

    def _entries(self, directory: Directory, texts: Sequence[Identity]) -> dict[str, str]:
        own = {table.name: table for table in self.placement.directories.get(directory.on, [])}
        table = own.get(directory.table, self.reader.fleet.models.tables.get(directory.table))
        assert table is not None
        source = source_of(table)
        assert source is not None
        question = Question(source, (table.c[directory.key_column],), (table.c[directory.shard_column],))
        shard = self.reader.fleet.shard(directory.on)
        for outcome in self.reader.by_keys(question, [shard], {shard.shard_id: texts}):
            if outcome.error is not None:
                where = f"the directory `{directory.table}` on shard `{directory.on}`"
                raise ShardError(f"{where} cannot be read: {outcome.error.message}")
            return {answer.asked[0]: str(answer.values[0]) for answer in outcome.result if answer.values[0] is not None}
        return {}

    # -- followers -----------------------------------------------------------------------------------------------------

    def _by_parents(self, target: Target, rule: Follow, rows: Sequence[tuple[str, Row]]) -> list[Home]:
        links = [(shard_id, link_of(target, rule.relationship, row)) for shard_id, row in rows]
        known = list(dict.fromkeys(link for link in links if None not in link[1]))
        homes = self._of_parents(rule, known)
        unset = Home((), f"{rule.name}.{rule.relationship.key} is not set, so that the row follows no parent")
        return [homes.get(link, unset) for link in links]

    def _of_parents(self, rule: Follow, links: Sequence[tuple[str, Identity]]) -> dict[tuple[str, Identity], Home]:
        """Return the homes of rows by the shard that they are on and the key of their parent."""
        wanted: dict[str, list[Identity]] = {}
        for shard_id, key in links:
            wanted.setdefault(shard_id, []).append(key)
        beside, problems = self._parents(rule, wanted)
        homes = self.of(rule.parent, [(shard_id, row) for (shard_id, _), row in beside.items()])
        found = {link: _follower(rule, home) for link, home in zip(beside, homes, strict=True)}
        for link in links:
            if link[0] in problems:
                found[link] = Home((), self._not_asked(rule, link[0], problems[link[0]]))
        return found | self._far(rule, [link for link in links if link not in found])

    def _parents(
        self, rule: Follow, wanted: Mapping[str, Sequence[Identity]]
    ) -> tuple[dict[tuple[str, Identity], Row], dict[str, ShardctlError]]:
        """Return parents by shard and key, with what says where they belong; and the shards that did not answer."""
        names = self._deciding(rule.parent)
        source = source_of(rule.parent)
        assert source is not None
        columns = tuple(rule.parent.column_attrs[name].columns[0] for name in names)
        question = Question(source, remote_of(rule.relationship), columns or remote_of(rule.relationship))
        found: dict[tuple[str, Identity], Row] = {}
        problems = {}
        for outcome in self._asked(question, wanted):
            if outcome.error is not None:
                problems[outcome.shard_id] = outcome.error
                continue
            for answer in outcome.result:
                found[outcome.shard_id, answer.asked] = dict(zip(names, answer.values, strict=False))
        return found, problems

    def _asked(self, question: Question, wanted: Mapping[str, Sequence[Identity]]) -> list[Outcome[list[Answered]]]:
        shards = [self.reader.fleet.shard(shard_id) for shard_id in wanted]
        offline = ShardUnreachable("it is offline")
        outcomes = self.reader.by_keys(question, [shard for shard in shards if not shard.is_offline], wanted)
        return outcomes + [Outcome(shard, 0.0, error=offline) for shard in shards if shard.is_offline]

    def _deciding(self, target: Target) -> list[str]:
        """Return the attributes that say where a row of a class belongs."""
        match self.placement.rule(target):
            case Sharded() as rule:
                return [attribute_of(target, column) for column in rule.columns]
            case Follow(relationship=relationship):
                return [attribute_of(target, local) for local, _ in relationship.local_remote_pairs or ()]
        return []

    def _far(self, rule: Follow, links: Sequence[tuple[str, Identity]]) -> dict[tuple[str, Identity], Home]:
        """Return the homes of rows whose parent is not beside them: it is taken to belong where it is."""
        if not links:
            return {}
        keys = list(dict.fromkeys(key for _, key in links))
        holders = self.placement.shard_ids(rule.parent)
        parents, problems = self._parents(rule, dict.fromkeys(holders, keys))
        if problems:
            shard_id, problem = next(iter(problems.items()))
            return dict.fromkeys(links, Home((), self._not_asked(rule, shard_id, problem)))
        at: dict[Identity, list[str]] = {}
        for shard_id, key in parents:
            at.setdefault(key, []).append(shard_id)
        return {
            link: far_home(rule, link[1], [name for name in holders if name in at.get(link[1], ())]) for link in links
        }

    def _not_asked(self, rule: Follow, shard_id: str, problem: ShardctlError) -> str:
        parent = rule.parent.class_.__name__
        return f"shard `{shard_id}` cannot be asked for the {parent} that {rule.name} follows: {problem.message}"


def _follower(rule: Follow, parent: Home) -> Home:
    """Return the home of what follows a parent with this home."""
    if len(parent.shard_ids) > 1:
        return Home((), f"{rule.name} follows {rule.parent.class_.__name__}, of which several shards have a copy")
    return Home(parent.shard_ids, f"follows {rule.relationship.key}" if parent.shard_ids else parent.reason)


def far_home(rule: Follow, key: Identity, shard_ids: Sequence[str]) -> Home:
    """Return the home of what follows a parent that is on these shards."""
    if len(shard_ids) == 1:
        return Home((shard_ids[0],), f"follows {rule.relationship.key}")
    where = f"on {' and on '.join(shard_ids)}" if shard_ids else "on no shard"
    parent = rule.parent.class_.__name__
    return Home((), f"the {parent} that {rule.name} follows ({', '.join(map(repr, key))}) is {where}")


def is_readable(placement: Placement, target: Target) -> bool:
    """Say whether rows of a class, and what they follow, can be read without a session."""
    if source_of(target) is None:
        return False
    rule = placement.rule(target)
    if not isinstance(rule, Follow):
        return True
    return rule.relationship.secondary is None and is_readable(placement, rule.parent)


def link_of(target: Target, relationship: RelationshipProperty[Any], row: Row) -> Identity:
    """Return the values by which a row refers to its parent, or its children to it."""
    return tuple(row[attribute_of(target, local)] for local in local_of(relationship))


def local_of(relationship: RelationshipProperty[Any]) -> tuple[Column[Any], ...]:
    """Return the columns of a row by which it refers to its parent, or its children to it."""
    pairs: Any = relationship.local_remote_pairs if relationship.secondary is None else relationship.synchronize_pairs
    return tuple(local for local, _ in pairs)


def remote_of(relationship: RelationshipProperty[Any]) -> tuple[Column[Any], ...]:
    """Return the columns of the other side, in the order of `link_of`."""
    return tuple(remote for _, remote in relationship.local_remote_pairs or ())  # type: ignore[misc]


def attribute_of(target: Target, column: Any) -> str:
    """Return the name of the attribute that is mapped to a column."""
    return str(column.key) if isinstance(target, Table) else str(target.get_property_by_column(column).key)
