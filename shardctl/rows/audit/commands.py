"""The commands that findings name, as they can be pasted into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sqlalchemy import ClauseElement, Dialect

_SPECIAL = '"$`\\!'
"""What means something to a shell between double quotes."""


def shard_command(shard_ids: Sequence[str], sql: str, *, writes: bool = False) -> str:
    """Return the command that sends a statement to some shards."""
    named = " ".join(f"--shard {shlex.quote(shard_id)}" for shard_id in shard_ids)
    quoted = shlex.quote(sql) if any(mark in sql for mark in _SPECIAL) else f'"{sql}"'
    return f"shardctl exec {named} {'--write ' if writes else ''}{quoted}"


def written(statement: ClauseElement, dialect: Dialect) -> str:
    """Return a statement as text on one line, with its values in it."""
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    text = " ".join(line.strip() for line in str(compiled).splitlines())
    return text.replace("%%", "%") if dialect.paramstyle in ("format", "pyformat") else text
