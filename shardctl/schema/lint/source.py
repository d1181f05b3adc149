"""What is read in a revision's file rather than run: its comments, and its `downgrade()`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shardctl.errors import nearest_name
from shardctl.schema.lint.changes import Downgrade

_ALLOW = re.compile(r"#\s*shardctl:\s*allow\s+((?:[A-Za-z]+\d+[,\s]*)+)")
_CODE = re.compile(r"[A-Za-z]+\d+")


@dataclass(frozen=True, slots=True)
class Source:
    """A revision's file."""

    allowed: dict[int, frozenset[str]] = field(default_factory=dict)
    """The rules that a comment allows, by the comment's line."""
    comments: frozenset[int] = frozenset()
    """The lines that hold nothing but a comment."""
    spans: tuple[tuple[int, int], ...] = ()
    """First and last line of each statement; of a compound one, of its head."""
    downgrade: Downgrade | None = None

    def allows(self, code: str, line: int | None) -> bool:
        """Say whether a comment in a statement, or in the lines above it, allows a rule there."""
        if line is None:
            return False
        inside = [span for span in self.spans if span[0] <= line <= span[1]]
        first, last = min(inside, key=lambda span: span[1] - span[0], default=(line, line))
        while first - 1 in self.comments:
            first -= 1
        return any(code in self.allowed.get(number, ()) for number in range(first, last + 1))

    def misspelt(self, known: Sequence[str]) -> list[tuple[int, str, str]]:
        """Return the codes in comments that no rule has: line, code, and the nearest that there is."""
        return [
            (line, code, nearest_name(code, known) or "")
            for line, codes in self.allowed.items()
            for code in sorted(codes)
            if code not in known
        ]


def read_source(path: str) -> Source:
    """Read a revision's file; one that has no text, as a compiled one, says nothing."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        tree = ast.parse(text)
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (OSError, SyntaxError, ValueError, tokenize.TokenError):
        return Source()
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    allowed = {
        token.start[0]: frozenset(code.upper() for code in _CODE.findall(found[1]))
        for token in comments
        if (found := _ALLOW.match(token.string))
    }
    alone = frozenset(token.start[0] for token in comments if token.line.lstrip().startswith("#"))
    return Source(allowed, alone, tuple(_spans(tree)), _downgrade(tree))


def _spans(tree: ast.AST) -> Iterator[tuple[int, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            yield node.lineno, max(end, node.lineno)


def _downgrade(tree: ast.Module) -> Downgrade:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "downgrade":
            body = [statement for statement in node.body if not _says_nothing(statement)]
            if not body:
                return Downgrade("empty", node.lineno)
            return Downgrade("raises" if isinstance(body[0], ast.Raise) else "written", node.lineno)
    return Downgrade("missing", None)


def _says_nothing(statement: ast.stmt) -> bool:
    is_constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    is_return = isinstance(statement, ast.Return) and (
        statement.value is None or (isinstance(statement.value, ast.Constant) and statement.value.value is None)
    )
    return is_constant or is_return or isinstance(statement, ast.Pass)
