"""Which of the chosen shards hold a statement's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from shardctl.query.colocation import DeclaredColocation, tables_by_name
from shardctl.query.parse import Statement, refuse
from shardctl.query.pull.sources import table_key
from shardctl.query.refusals import REFUSALS

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
    """

    def __init__(self, fleet: Fleet, models: Models | None, statement: Statement, shards: Sequence[LiveShard]) -> None:
        self._shards = shards
        self.models = models
        self._undeclared: list[str] = []
        self.colocation = None if models is None else DeclaredColocation(fleet.shard_map.tables, models)
        self.by_table: dict[str, Sequence[LiveShard]] = {}
        known = {} if models is None else tables_by_name(models)
        for table in statement.tables:
            key = table_key(statement, table)
            found: Sequence[LiveShard] = shards
            model = known.get(statement.fold(table.this)) if table.args.get("db") is None else None
            if model is not None and models is not None:
                limit = fleet.shard_ids(models.mapper_of(model) or model)
                found = [shard for shard in shards if shard.shard_id in limit] or shards
                if fleet.placement is None or fleet.placement.rule(models.mapper_of(model) or model) is None:
                    self._undeclared.append(key)
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
        return asked

    def chosen(self, shard_ids: Sequence[str]) -> tuple[str, ...]:
        """Return those of these shards that were chosen."""
        return tuple(shard.shard_id for shard in self._shards if shard.shard_id in shard_ids)

    def each(self) -> Mapping[str, Sequence[str]]:
        """Return the shards to read each table from: one for a reference table.

        Raises:
            QueryRefused: Nothing says whether each shard holds a part of a table that others are read with, or a copy.
        """
        if len(self.by_table) > 1 and self._undeclared:
            REFUSALS["placement"].refuse(None, self._undeclared[0])
        return {
            key: [shard.shard_id for shard in (shards[:1] if key in self._references else shards)]
            for key, shards in self.by_table.items()
        }
