"""The writer of a statement's expressions: each node by its kind, with the types of its operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from shardctl.query.here.kinds import (
    BOOL,
    Kind,
    not_listed,
)
from shardctl.query.here.listed import LISTED
from shardctl.query.here.quotients import compared_sql
from shardctl.query.here.values import (
    Demands,
    Value,
    comparable,
    met,
    typed_literal,
)
from shardctl.query.parse import shown

if TYPE_CHECKING:
    from shardctl.query.here.scopes import Scope


Writers = Mapping[type, tuple[Callable[["Writer", Any, Any], Value], frozenset[str]]]

OF_TWO = frozenset({"this", "expression"})
"""The parts of a node with one operand, or two."""


@dataclass
class Writer:
    """Writes one statement's expressions.

    Args:
        engine: The fleet's engine.
        subquery: Writes a SELECT inside an expression: its SQL and its outputs.
        aggregate: Writes an aggregate or a window function; None if a node is neither.
        writers: What writes each kind of node, and which parts of a node it reads.
    """

    engine: str
    subquery: Callable[[exp.Expression, Scope], tuple[str, list[Value]]]
    aggregate: Callable[[exp.Expression, Scope], Value | None]
    writers: Writers
    demands: Demands = field(default_factory=Demands)
    used: set[str] = field(default_factory=set)
    """The entries of the list that were needed."""

    def use(self, what: str, kind: Kind | str, node: exp.Expression | None = None) -> None:
        """Note that an entry of the list is needed.

        Raises:
            NotListed: There is no such entry.
        """
        name = kind if isinstance(kind, str) else kind.name
        if name not in LISTED[self.engine].get(what, "").split():
            part = f" in `{shown(node)}`" if node is not None else ""
            raise not_listed(f"`{what}` of {name}{part}" if name != "any" else f"`{what}`{part}")
        self.used.add(f"{what} {name}")

    def value(self, node: Any, scope: Scope) -> Value:
        """Write an expression.

        Raises:
            NotListed: A part of it is not on the list.
        """
        if node in scope.groups:
            return scope.groups[node]
        if type(node) in self.writers:
            write, parts = self.writers[type(node)]
            check_parts(node, parts)
            return write(self, node, scope)
        found = self.aggregate(node, scope)
        if found is None:
            raise not_listed(f"`{shown(node)}`")
        return found

    def settled(self, node: Any, scope: Scope) -> Value:
        """Write an expression whose type does not depend on what it meets."""
        return self.settle(self.value(node, scope))

    def settle(self, value: Value) -> Value:
        """Return a value with a type of its own: a string is text."""
        if value.kind.name in ("unknown", "null"):
            return typed_literal(value, Kind("text"))
        return value

    def condition(self, node: Any, scope: Scope) -> str:
        """Write what is true or not."""
        found = self.value(node, scope)
        if found.kind.name == "null":
            return "CAST(NULL AS BOOLEAN)"
        if found.kind.name != "bool":
            if self.engine != "mysql" or not found.kind.is_integer:
                raise not_listed(f"`{shown(node)}` as a condition")
            return f"({found.sql} <> 0)"
        return found.sql

    def compared(self, operator: str, left: Value, right: Value, node: exp.Expression | None = None) -> Value:
        """Write a comparison."""
        entry = "=" if operator in ("=", "<>") else "<"
        names = [left.kind.name, right.kind.name]
        if "quotient" in names:
            return self._compared_quotient(operator, left, right, node)
        left, right = met(left, right, self.engine)
        self.use(entry, left.kind, node)
        is_order = entry == "<"
        sides = [comparable(side, self.demands, self.engine, is_order=is_order) for side in (left, right)]
        return Value(f"({sides[0]} {operator} {sides[1]})", BOOL)

    def _compared_quotient(self, operator: str, left: Value, right: Value, node: Any) -> Value:
        self.use("=" if operator in ("=", "<>") else "<", "quotient", node)
        if left.kind.name != "quotient":
            swapped = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}.get(operator, operator)
            return self._compared_quotient(swapped, right, left, node)
        if not right.kind.is_exact:
            raise not_listed(f"`{shown(node)}`")
        return Value(compared_sql(left, operator, right, self.engine), BOOL)


def check_parts(node: exp.Expression, known: frozenset[str]) -> None:
    """Refuse a node that says more than is read of it: parsers put more into nodes from version to version."""
    more = [name for name, value in node.args.items() if value and name.rstrip("_") not in known]
    if more:
        raise not_listed(f"`{shown(node)}`")


def united(writer: Writer, values: list[Value]) -> list[Value]:
    """Return values as the one type that holds all of them."""
    known = [value for value in values if value.kind.name not in ("unknown", "null")]
    if not known:
        return [writer.settle(value) for value in values]
    common = known[0]
    for value in known[1:]:
        common = met(common, value, writer.engine)[0]
    origins = frozenset(origin for value in values for origin in value.origins)
    found = []
    for value in values:
        one, other = met(value, common, writer.engine)
        if one.kind != other.kind or one.kind.name == "quotient":
            raise not_listed(f"{value.kind.name} together with {common.kind.name}")
        found.append(replace(one, origins=origins, is_column=False, literal=None))
    return found
