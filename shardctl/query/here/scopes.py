"""Names: which column of which table, subquery or WITH a column of a statement is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlglot import exp

from shardctl.query.here.kinds import not_listed
from shardctl.query.here.values import Value
from shardctl.query.parse import Statement, shown


@dataclass(frozen=True, slots=True)
class Output:
    """One column of a SELECT."""

    name: str
    """Folded; empty if nothing can call it."""
    value: Value


@dataclass(frozen=True)
class Query:
    """A SELECT for DuckDB, whose columns are `c0`, `c1` and so on."""

    sql: str
    outputs: tuple[Output, ...]


class Columns(Mapping[str, Value]):
    """The columns of one source, in their order."""

    def __init__(self, values: Mapping[str, Any], used: set[str] | None = None) -> None:
        self._values = values
        self._used = used

    def __getitem__(self, name: str) -> Value:
        found = self._values[name]
        if self._used is not None:
            self._used.add(name)
        value: Value = found() if callable(found) else found
        return value

    def __iter__(self) -> Any:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass
class Scope:
    """What the expressions of one SELECT see."""

    statement: Statement
    parent: Scope | None
    ctes: Mapping[str, tuple[str, Query]]
    sources: list[tuple[str, Columns]] = field(default_factory=list)
    groups: dict[exp.Expression, Value] = field(default_factory=dict)
    """What rows are grouped by."""
    is_local: list[bool] = field(default_factory=list)
    """Of each column that was looked up from here: whether it is of this SELECT's own FROM."""

    def resolve(self, column: Any) -> Value:
        """Return the column that a name means.

        Raises:
            NotListed: None is sure to be meant.
        """
        if not isinstance(column.this, exp.Identifier) or column.args.get("db") is not None:
            raise not_listed(f"`{shown(column)}`")
        name = self.statement.fold(column.this)
        qualifier = self.statement.fold(column.args.get("table"))
        scope: Scope | None = self
        while scope is not None:
            found = scope.own(qualifier, name)
            if found is not None:
                self.is_local.append(scope is self)
                return found
            scope = scope.parent
        raise not_listed(f"the column `{shown(column)}`")

    def own(self, qualifier: str, name: str) -> Value | None:
        """Return a column of this SELECT's FROM."""
        found = [
            columns for alias, columns in self.sources if (not qualifier or alias == qualifier) and name in columns
        ]
        if len(found) > 1:
            raise not_listed(f"the name `{name}`, which several tables have,")
        if qualifier and not found and any(alias == qualifier for alias, _ in self.sources):
            raise not_listed(f"the column `{qualifier}.{name}`")
        return found[0][name] if found else None


def columns_of(query: Query, name: str) -> Columns:
    """Return a query's columns, as a source of this name has them."""
    found: dict[str, Any] = {}
    for i, output in enumerate(query.outputs):
        key = output.name or f"?{i}"  # which nothing can call
        if key in found:
            key = f"?{i}"
            found[output.name] = _ambiguous(output.name)
        found[key] = replace(output.value, sql=f"{name}.c{i}", literal=None)
    return Columns(found)


def _ambiguous(name: str) -> Callable[[], Value]:
    def refuse() -> Value:
        raise not_listed(f"the name `{name}`, which two outputs have,")

    return refuse


def renamed(query: Query, names: Sequence[str]) -> Query:
    """Return a query whose first columns have other names."""
    kept = query.outputs[len(names) :]
    renamed = tuple(replace(output, name=name) for output, name in zip(query.outputs, names, strict=False))
    return replace(query, outputs=renamed + kept)
