"""Objects of mapped classes that are made up, with the parents that a new one has when a flush asks for its shard."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.exc import UnmappedColumnError
from sqlalchemy.orm.interfaces import MANYTOONE

from shardctl.fleet.rules import columns_of
from shardctl.rows.choosers.values import edge_values, ordinary_value

Known = Mapping[Column[Any], list[Any]]
"""Values of a column that mean something to a chooser."""

_EVERY = 8
"""One value in so many is at the edge of its type."""


@dataclass(slots=True)
class Maker:
    """Makes objects: the same seed, the same objects.

    They are made as SQLAlchemy makes what it loads, without the class's own `__init__`, so that it need not be known
    what that takes.
    """

    seed: int
    known: Known

    def make(self, mapper: Mapper[Any], number: int) -> Any:
        """Return the object of a class with this number, whose columns have plausible values."""
        return self._make(mapper, number, ())

    def _make(self, mapper: Mapper[Any], number: int, below: tuple[Mapper[Any], ...]) -> Any:
        numbers = random.Random(f"{self.seed} {mapper.class_.__name__} {number}")
        instance = mapper.class_manager.new_instance()
        for name, column in columns_of(mapper).items():
            if isinstance(column, Column):
                set_committed_value(instance, name, self._value(mapper, column, number, numbers))
        for relationship in mapper.relationships:
            parent = relationship.mapper
            is_circle = any(parent.isa(above) or above.isa(parent) for above in (*below, mapper))
            if relationship.direction is MANYTOONE and not relationship.viewonly and not is_circle:
                self._give_parent(mapper, instance, relationship, self._make(parent, number, (*below, mapper)))
        return instance

    def _value(self, mapper: Mapper[Any], column: Column[Any], number: int, numbers: random.Random) -> Any:
        if mapper.polymorphic_on is not None and column.shares_lineage(mapper.polymorphic_on):
            return mapper.polymorphic_identity
        known = self.known.get(column, [])
        if known and number < len(known):
            return known[number]
        edges = () if column.primary_key else edge_values(column)
        if edges and numbers.randrange(_EVERY) == 0:
            return numbers.choice(edges)
        return numbers.choice(known) if known else ordinary_value(column, numbers)

    def _give_parent(
        self, mapper: Mapper[Any], instance: Any, relationship: RelationshipProperty[Any], parent: Any
    ) -> None:
        set_committed_value(instance, relationship.key, parent)
        for local, remote in relationship.local_remote_pairs or ():
            with suppress(UnmappedColumnError):
                value = getattr(parent, relationship.mapper.get_property_by_column(remote).key)
                set_committed_value(instance, mapper.get_property_by_column(local).key, value)
