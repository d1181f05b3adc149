"""Expressions over rows -> expressions over partial results: keys become `__k<n>`, aggregates `__a<n>`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from shardctl.query.calls import MERGEABLE, aggregates_in, calls, closing, mergeable_calls
from shardctl.query.clauses import Clauses, Item, split
from shardctl.query.merge import Aggregate, PartialColumn
from shardctl.query.parse import Statement, Tokens, refuse, shown

PLACEHOLDER = re.compile(r"__(?:[kaco]\d+|s\d+|shard|oshard|[puj])\b", re.IGNORECASE)
CLOCKS = (exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.CurrentDatetime, exp.Rand)


@dataclass
class Builder:
    """What a statement's rewriting has come to need from each shard."""

    clauses: Clauses
    columns: list[PartialColumn] = field(default_factory=list)
    keys: list[tuple[Item, int]] = field(default_factory=list)
    aggregates: list[Aggregate] = field(default_factory=list)

    @property
    def statement(self) -> Statement:
        return self.clauses.statement

    def column(self, sql: str, probe: str | None = None) -> int:
        wanted = PartialColumn(sql, probe is not None, probe)
        if wanted not in self.columns:
            self.columns.append(wanted)
        return self.columns.index(wanted)


def check_placeholders(statement: Statement) -> None:
    """Refuse names that the rewritten statements use themselves."""
    for token in statement.tokens:
        if token.kind != "STRING" and PLACEHOLDER.fullmatch(token.text):
            refuse("names of this form are used by `query` itself", token.text)


def rewrite(builder: Builder, tokens: Tokens, node: exp.Expression, whole: str) -> str:
    """Put `__k<n>` for keys and `__a<n>` for aggregates; refuse what still needs a shard's rows."""
    statement = builder.statement
    _check_inside(statement, node, whole)
    spans = list(mergeable_calls(statement, tokens))
    expected = len(aggregates_in(statement, node))
    found = [statement.expression(statement.slice(tokens[start:end])) for start, end in spans]
    named = sum(len(aggregates_in(statement, call)) for call in found)
    if expected != named:
        kinds = [name for name in calls(tokens) if name not in MERGEABLE[statement.engine]] or [
            "an aggregate of another one"
        ]
        refuse(
            f"this cannot be merged over several shards yet: {', '.join(kinds)}",
            whole,
            hint="`count`, `sum`, `min`, `max` and `avg` can",
        )
    replacements: list[tuple[int, int, str]] = []
    for start, end in spans:
        replacements.append((start, end, f"__a{_aggregate(builder, tokens[start:end])}"))
    replacements.extend(_key_spans(builder, tokens, replacements))
    text = _replaced(statement, tokens, replacements)
    for column in statement.expression(text).find_all(exp.Column):
        if not PLACEHOLDER.fullmatch(column.name) or column.args.get("table") is not None:
            refuse(f"`{shown(column)}` is neither grouped by nor inside an aggregate", whole)
    return text


def _check_inside(statement: Statement, node: exp.Expression, whole: str) -> None:
    if node.find(exp.Window):
        refuse("a window function would see one shard's rows only", whole)
    clock = next(iter(node.find_all(*CLOCKS)), None)
    if clock is not None and aggregates_in(statement, node):
        refuse("each shard has a clock and a random generator of its own", whole)


def _aggregate(builder: Builder, tokens: Tokens) -> int:
    statement = builder.statement
    kind = tokens[0].text.lower()
    text = statement.slice(tokens)
    end = closing(tokens, 1)
    inner, tail = tokens[2:end], statement.slice(tokens[end + 1 :])
    argument = statement.slice(inner)
    if len(mergeable_calls(statement, inner)) or statement.expression(text).find(exp.Subquery, exp.Select):
        refuse("an aggregate inside an aggregate cannot be merged", text)
    if inner and inner[0].kind == "DISTINCT":
        if tail or len(split(inner)) > 1 or len(inner) == 1:
            refuse("DISTINCT over several columns, or with FILTER, cannot be merged over several shards yet", text)
        value = statement.slice(inner[1:])
        found = Aggregate(kind, (builder.column(value, probe=value),), is_distinct=True)
    elif kind == "avg":
        total = "total" if statement.engine == "sqlite" else "sum"
        parts = (f"{total}({argument}) {tail}".strip(), f"count({argument}) {tail}".strip())
        found = Aggregate(kind, tuple(builder.column(part) for part in parts))
    elif kind in {"min", "max"}:
        found = Aggregate(kind, (builder.column(text, probe=argument),))
    else:
        found = Aggregate(kind, (builder.column(text),))
    if found not in builder.aggregates:
        builder.aggregates.append(found)
    return builder.aggregates.index(found)


def _key_spans(builder: Builder, tokens: Tokens, taken: list[tuple[int, int, str]]) -> Iterable[tuple[int, int, str]]:
    used = {i for start, end, _ in taken for i in range(start, end)}
    words = [_word(builder.statement, token) for token in tokens]
    has_one_source = not builder.clauses.select.args.get("joins")
    for key, column in builder.keys:
        wanted = [_word(builder.statement, token) for token in key.tokens]
        is_unqualified = has_one_source and isinstance(key.node, exp.Column)
        wanted = wanted[-1:] if is_unqualified else wanted
        if words == wanted and not used:
            yield 0, len(tokens), f"__k{column}"
            return
        if not _is_atomic(key):
            continue
        for start in range(len(words) - len(wanted) + 1):
            end = start + len(wanted)
            if words[start:end] != wanted:
                continue
            if is_unqualified and start > 1 and tokens[start - 1].kind == "DOT":
                start -= 2  # the only table's name, or alias
            if used.isdisjoint(range(start, end)) and _stands_alone(tokens, start, end):
                used.update(range(start, end))
                yield start, end, f"__k{column}"


def _word(statement: Statement, token: Any) -> tuple[str, str]:
    if token.kind in {"STRING", "NUMBER"}:
        return token.kind, statement.sql[token.start : token.end + 1]
    if token.kind == "IDENTIFIER":
        return "NAME", token.text if statement.engine == "postgresql" else token.text.lower()
    return "NAME", token.text.lower()


def _is_atomic(key: Item) -> bool:
    """Whether a key's text means the same wherever it stands: a column, or one function call."""
    if isinstance(key.node, exp.Column):
        return True
    tokens = key.tokens
    return len(tokens) > 2 and tokens[1].kind == "L_PAREN" and closing(tokens, 1) == len(tokens) - 1


def _stands_alone(tokens: Tokens, start: int, end: int) -> bool:
    before = tokens[start - 1].kind if start else ""
    after = tokens[end].kind if end < len(tokens) else ""
    return before != "DOT" and after not in {"DOT", "L_PAREN"}


def _replaced(statement: Statement, tokens: Tokens, spans: list[tuple[int, int, str]]) -> str:
    text, position = "", tokens[0].start
    for start, end, name in sorted(spans):
        text += statement.sql[position : tokens[start].start] + name
        position = tokens[end - 1].end + 1
        if statement.sql[position : position + 1].isalnum():  # `sum(a)DIV 2`
            text += " "
    return text + statement.sql[position : tokens[-1].end + 1]
