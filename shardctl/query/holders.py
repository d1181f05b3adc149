"""Which of the chosen shards hold a statement's tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from shardctl.errors import Refused
from shardctl.query.colocation import DeclaredColocation, tables_by_name
from shardctl.query.parse import Statement, refuse
from shardctl.query.pruning import Pruned, Pruning
from shardctl.query.pull.sources import Sources, table_key
from shardctl.query.refusals import REFUSALS
from shardctl.query.sharding import KeyedTable, keyed_table
from shardctl.query.ties import Ties
from shardctl.topology.model import ReferenceTable

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard
    from shardctl.fleet.models import Models


class Holders:
    """The shards that hold each table of a statement: all that were chosen, where the shard map says nothing.

    Args:
        fleet: The fleet.
        models: Its models, if it has any.
        statement: The statement, with class names resolved.
        shards: The shards that were chosen.
        everywhere: Whether all of them are asked, whatever the statement says of sharding keys.
    """

    def __init__(
        self,
        fleet: Fleet,
        models: Models | None,
        statement: Statement,
        shards: Sequence[LiveShard],
        *,
        everywhere: bool = False,
    ) -> None:
        self._shards = shards
        self._statement = statement
        self.models = models
        self._undeclared: list[str] = []
        rules = fleet.shard_map.tables
        if everywhere:  # rows are not taken to live with those that they follow
            rules = {name: rule for name, rule in rules.items() if isinstance(rule, ReferenceTable)}
        self.colocation = None if models is None else DeclaredColocation(rules, models)
        self.by_table: dict[str, Sequence[LiveShard]] = {}
        self.tables: dict[str, KeyedTable] = {}
        known = {} if models is None else tables_by_name(models)
        dialects = [shard.bind.dialect for shard in fleet.shards.values()]
        for table in statement.tables:
            key = table_key(statement, table)
            found: Sequence[LiveShard] = shards
            model = known.get(statement.fold(table.this)) if table.args.get("db") is None else None
            if model is not None and models is not None:
                limit = fleet.shard_ids(models.mapper_of(model) or model)
                found = [shard for shard in shards if shard.shard_id in limit] or shards
                placement = fleet.placement
                keyed = None if placement is None else keyed_table(models, placement, model, dialects)
                if keyed is None:
                    self._undeclared.append(key)
                else:
                    self.tables[key] = keyed
            else:
                self._undeclared.append(key)
            self.by_table[key] = found
        self._references = {
            table_key(statement, table)
            for table in statement.tables
            if self.colocation is not None
            and table.args.get("db") is None
            and self.colocation.is_reference(statement.fold(table.this))
        }
        self.placed: Mapping[str, KeyedTable] = {} if everywhere else self.tables
        """What the shard map says of tables, as far as rows are taken to be where it says."""
        tables = self.placed if len(shards) > 1 else {}
        ids = {key: [shard.shard_id for shard in self.by_table[key]] for key in tables}
        self._pruning = Pruning(statement, tables, ids, {shard.backend.name for shard in shards})

    @property
    def without_rule(self) -> str | None:
        """A table that no rule of the shard map is for."""
        return next(iter(self._undeclared), None)

    def pruned(self, asked: Collection[str]) -> Pruned | None:
        """Return why no more shards than these are asked; None if these are all."""
        candidates = {shard.shard_id for shards in self.by_table.values() for shard in shards}
        reason = self._pruning.reason
        return Pruned(len(candidates), reason) if reason and len(asked) < len(candidates) else None

    @cached_property
    def ties(self) -> Ties:
        """Which of the statement's rows live together."""
        shapes = {key: table.shape for key, table in self.placed.items()}
        return Ties(Sources(self._statement, shapes), self.placed)

    def one(self) -> LiveShard | None:
        """Return the shard that has every row that the statement needs, if there is one such."""
        found = self._pruning.of_all()
        if found is None or len(found) > 1:
            return None
        having = [shard for shard in self._shards if all(shard in shards for shards in self.by_table.values())]
        fitting = [shard for shard in _online_first(having) if not found or shard.shard_id in found]
        return online(fitting[:1])[0] if fitting else None

    def together(self) -> Sequence[LiveShard]:
        """Return the shards that can each answer for their own rows.

        Raises:
            QueryRefused: A shard holds a part of one table and nothing of another one.
        """
        sharded = [shards for key, shards in self.by_table.items() if key not in self._references]
        asked = list((sharded or list(self.by_table.values()) or [self._shards])[0])
        if not sharded:
            asked = [shard for shard in asked if all(shard in shards for shards in self.by_table.values())]
        uneven = [key for key, shards in self.by_table.items() if not set(asked) <= set(shards)]
        uneven += [
            key for key, shards in self.by_table.items() if key not in self._references and list(shards) != asked
        ]
        if uneven or not asked:
            refuse(f"`{(uneven or list(self.by_table))[0]}` is not on every shard of the other tables")
        if not sharded:
            asked = _online_first(asked)  # any one of them has the whole answer
            online(asked[:1])
            return asked
        return online(self._left(asked, self._pruning.of_select(self._statement.tree)))

    def each(self) -> Mapping[str, Sequence[str]]:
        """Return the shards to read each table from: one for a reference table.

        Raises:
            QueryRefused: Nothing says whether each shard holds a part of a table that others are read with, or a copy.
        """
        if len(self.by_table) > 1 and self._undeclared:
            REFUSALS["placement"].refuse(None, self._undeclared[0])
        found = {
            key: self._left(shards, self._pruning.of_table(key))
            for key, shards in self.by_table.items()
            if key not in self._references
        }
        found |= {key: _online_first(self.by_table[key])[:1] for key in self._references}
        return {key: [shard.shard_id for shard in online(found[key])] for key in self.by_table}

    def _left(self, shards: Sequence[LiveShard], found: Collection[str] | None) -> Sequence[LiveShard]:
        """Return the shards that are left; one, where no row can match: the answer is that of no rows."""
        if found is None:
            return shards
        return [shard for shard in shards if shard.shard_id in found] or _online_first(shards)[:1]


def online(shards: Sequence[LiveShard]) -> Sequence[LiveShard]:
    """Return the shards that will be asked.

    Raises:
        Refused: One of them is declared offline: an answer without it would be incomplete.
    """
    names = [shard.shard_id for shard in shards if shard.is_offline]
    if names:
        listed = ", ".join(names)
        raise Refused(
            f"the answer would be incomplete: {listed} {'is' if len(names) == 1 else 'are'} offline",
            hint=f"pass {' '.join(f'`--exclude {name}`' for name in names[:3])} for an answer without",
        )
    return shards


def _online_first(shards: Sequence[LiveShard]) -> list[LiveShard]:
    return sorted(shards, key=lambda shard: shard.is_offline)
