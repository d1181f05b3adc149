"""Which tables live together: what the shard map and the models say about joins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy import Table

from shardctl.fleet.models import Models
from shardctl.topology.model import FollowingTable, ReferenceTable, TableRule

ColumnPairs = tuple[tuple[str, str], ...]


class Colocation(Protocol):
    """What the planner asks about tables, by the names that a statement means: in lower case unless case counts."""

    def is_reference(self, table_name: str) -> bool:
        """Whether every shard holds a full copy."""
        ...

    def follows(self, child_table: str) -> tuple[str, ColumnPairs] | None:
        """Return the table whose rows this one's rows live with, and the (child, parent) columns that tie them."""
        ...

    def columns(self, table_name: str) -> frozenset[str]:
        """Return a table's columns in lower case; none if they are not known."""
        ...


class DeclaredColocation:
    """Colocation as the rules of the shard map declare it, through the models' relationships."""

    def __init__(self, rules: Mapping[str, TableRule], models: Models) -> None:
        self._references: set[str] = set()
        self._parents: dict[str, tuple[str, ColumnPairs]] = {}
        self._tables = tables_by_name(models)
        for name, rule in rules.items():
            mapper, table = _find(models, name)
            if table is None:
                continue
            if isinstance(rule, ReferenceTable):
                self._references.update({table.key, table.key.lower()})
            elif isinstance(rule, FollowingTable) and mapper is not None:
                tie = _tie(mapper, table, rule.parent)
                if tie is not None:
                    self._parents.update({table.key: tie, table.key.lower(): tie})

    def is_reference(self, table_name: str) -> bool:
        return table_name in self._references

    def follows(self, child_table: str) -> tuple[str, ColumnPairs] | None:
        return self._parents.get(child_table)

    def columns(self, table_name: str) -> frozenset[str]:
        table = self._tables.get(table_name)
        return frozenset() if table is None else frozenset(column.name.lower() for column in table.columns)


def tables_by_name(models: Models) -> dict[str, Table]:
    """Return tables by the names that a statement may have for them: as they are, and in lower case."""
    return {table.key.lower(): table for table in models.tables.values()} | dict(models.tables)


def _find(models: Models, name: str) -> tuple[Any, Table | None]:
    mapper = models.mappers.get(name)
    if mapper is None:
        table = models.tables.get(name)
        return (None, None) if table is None else (models.mapper_of(table), table)
    return mapper, mapper.local_table if isinstance(mapper.local_table, Table) else None


def _tie(mapper: Any, table: Table, relationship: str) -> tuple[str, ColumnPairs] | None:
    """Return parent and columns of a relationship, if both ends are columns of the two tables themselves."""
    if relationship not in mapper.relationships:
        return None
    found = mapper.relationships[relationship]
    parent = found.mapper.local_table
    pairs = found.local_remote_pairs
    if not isinstance(parent, Table) or not pairs or found.secondary is not None:
        return None
    if any(local.table is not table or remote.table is not parent for local, remote in pairs):
        return None
    return parent.key, tuple((local.name, remote.name) for local, remote in pairs)
