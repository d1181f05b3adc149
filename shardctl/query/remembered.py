"""Plans that are remembered: of what a statement's text, the shard map and the models decide by themselves.

And those that took a look at the tables, if they look again when they run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from shardctl.query.parameters import bound_values
from shardctl.topology.model import ShardedTable, ShardMap
from shardctl.topology.strategies import Directory

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard
    from shardctl.query.plan import QueryPlan

_MOST = 256
_PLANS: WeakKeyDictionary[Fleet, OrderedDict[Hashable, tuple[ShardMap, QueryPlan]]] = WeakKeyDictionary()
_LOCK = threading.Lock()


class Remembered:
    """The place of one question's plan: a plan that took a look at a shard, and does not take it again, has none.

    Args:
        fleet: The fleet.
        sql: The statement.
        shards: The shards that were chosen.
        everywhere: Whether all of them are asked.
        dialect: The statement's, if it is not the shards'.
    """

    def __init__(
        self, fleet: Fleet, sql: str, shards: Sequence[LiveShard], *, everywhere: bool, dialect: str | None
    ) -> None:
        self._fleet = fleet
        values = tuple((name, type(value), value) for name, value in sorted(bound_values().items()))
        chosen = tuple((shard.shard_id, shard.is_offline) for shard in shards)
        self._key = (sql, chosen, everywhere, dialect, values)

    @property
    def plan(self) -> QueryPlan | None:
        """The plan of the same question, if it was asked before."""
        with _LOCK:
            plans = _PLANS.get(self._fleet)
            shard_map, plan = (None, None) if plans is None else plans.get(self._key, (None, None))
            if plans is None or shard_map is not self._fleet.shard_map:
                return None
            plans.move_to_end(self._key)
            return plan

    def forget(self) -> None:
        """Plan anew the next time."""
        with _LOCK:
            _PLANS.get(self._fleet, OrderedDict()).pop(self._key, None)

    def remember(self, plan: QueryPlan) -> None:
        """Keep a plan, unless a directory's rows decided it too."""
        rules = self._fleet.shard_map.tables.values()
        if any(isinstance(rule, ShardedTable) and isinstance(rule.strategy, Directory) for rule in rules):
            return
        with _LOCK:
            plans = _PLANS.setdefault(self._fleet, OrderedDict())
            plans[self._key] = (self._fleet.shard_map, plan)
            if len(plans) > _MOST:
                plans.popitem(last=False)
