"""A SQLAlchemy statement -> what it says of sharding keys, for `topology.routing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BinaryExpression, BindParameter, Column, ColumnElement
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BooleanClauseList, Grouping

from shardctl.errors import NoPlacement
from shardctl.fleet.rules import Sharded, fits
from shardctl.topology.routing import ANYTHING, And, Compare, Op, Or, Predicate

_COMPARISONS: Mapping[Any, Op] = {
    operators.eq: "=",
    operators.lt: "<",
    operators.le: "<=",
    operators.gt: ">",
    operators.ge: ">=",
}
_MIRRORED: Mapping[Op, Op] = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None


class PredicateReader:
    """Reads WHERE clauses.

    Args:
        rules: The sharded table of each sharding-key column.
        parameters: What the statement is executed with, over the values in the statement itself.
    """

    def __init__(self, rules: Mapping[Column[Any], tuple[Sharded, str]], parameters: Parameters) -> None:
        self._rules = rules
        self._parameters: Mapping[str, Any] | None = parameters if isinstance(parameters, Mapping) else {}
        if parameters and not isinstance(parameters, Mapping):
            self._parameters = None  # executed with many sets of values

    def read(self, clause: Any) -> Predicate:
        """Return the predicate of a WHERE clause; what is not understood is ANYTHING."""
        match clause:
            case Grouping():
                return self.read(clause.element)
            case BooleanClauseList():
                parts = tuple(self.read(part) for part in clause.clauses)
                if clause.operator is operators.and_:
                    return And(parts)
                return Or(parts) if clause.operator is operators.or_ else ANYTHING
            case BinaryExpression():
                return self._comparison(clause)
        return ANYTHING

    def _comparison(self, clause: BinaryExpression[Any]) -> Predicate:
        op = _COMPARISONS.get(clause.operator)
        if op is not None:
            straight = self._compare(clause.left, op, lambda: [clause.right])
            return (
                straight
                if straight is not ANYTHING
                else self._compare(clause.right, _MIRRORED[op], lambda: [clause.left])
            )
        if clause.operator is operators.in_op:
            return self._compare(clause.left, "in", lambda: [clause.right])
        if clause.operator is operators.between_op and not clause.modifiers.get("symmetric"):
            return self._compare(clause.left, "between", lambda: list(getattr(clause.right, "clauses", ())))
        return ANYTHING

    def _compare(self, side: Any, op: Op, others: Callable[[], list[Any]]) -> Predicate:
        column = _root_column(side)
        if column is None or column not in self._rules:
            return ANYTHING
        rule, attribute = self._rules[column]
        values: list[Any] = []
        for other in others():
            found = self._values(other)
            if found is None or not all(fits(value, column) for value in found):
                return ANYTHING
            values.extend(found)
        try:
            values = [rule.stored(column, value) for value in values]
        except NoPlacement:
            return ANYTHING
        return Compare(rule.name, attribute, op, tuple(values), source=hash(side.table))

    def _values(self, element: Any) -> list[Any] | None:
        """Return the constants of one side of a comparison, or None if it is not constant."""
        if isinstance(element, Grouping):
            return self._values(element.element)
        if not isinstance(element, BindParameter) or self._parameters is None:
            return None
        if element.key in self._parameters:
            value = self._parameters[element.key]
        elif element.required:
            return None
        else:
            value = element.effective_value
        return list(value) if element.expanding and isinstance(value, list | tuple | set | frozenset) else [value]


def _root_column(element: Any) -> Column[Any] | None:
    """Return the table's column behind a column, an alias's column or a mapped attribute; not behind an expression."""
    if not isinstance(element, ColumnElement) or not hasattr(element, "table"):
        return None
    roots = list(element.base_columns)  # several behind a column of a UNION
    return roots[0] if len(roots) == 1 and isinstance(roots[0], Column) else None
