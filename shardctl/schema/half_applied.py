"""Which revisions earlier runs have left in the middle, of many shards in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, column, literal, select, table, union_all

from shardctl.fleet.survey import Place
from shardctl.schema.history import DONE, JOURNAL, RUNNING, HistoryEntry
from shardctl.schema.journal import DONE as STATEMENT_DONE
from shardctl.schema.revisions import Scripts
from shardctl.schema.runs import as_text


@dataclass(frozen=True, slots=True)
class LeftRevision:
    """A revision that is not finished, and runs no more."""

    direction: str
    revision: str
    statement: int
    """The last one that was started."""
    is_done: bool
    """Whether it is known to be done."""

    def __str__(self) -> str:
        what = "revision" if self.direction == "upgrade" else f"{self.direction} of revision"
        return f"half-applied: {what} `{self.revision}`, statement {self.statement}"


def read_left(connection: Connection, places: Sequence[Place]) -> dict[str, list[LeftRevision]]:
    """Return what the journals of shards say, by the shards' names; the shards have the journal's table."""
    if not places:
        return {}
    names = ("direction", "revision", "statement", "state")
    statements = []
    for index, place in enumerate(places):
        journal = table(JOURNAL.name, *(column(name, JOURNAL.c[name].type) for name in names), schema=place.schema)
        texts = [as_text(journal.c[name], connection).label(name) for name in ("direction", "revision", "state")]
        statements.append(select(literal(index, literal_execute=True), journal.c.statement, *texts))
    query = statements[0] if len(statements) == 1 else union_all(*statements)
    last: dict[tuple[int, str, str], tuple[int, str]] = {}
    for index, number, direction, revision, state in connection.execute(query):
        key = (index, direction, revision)
        last[key] = max(last.get(key, (0, "")), (number, state))
    found: dict[str, list[LeftRevision]] = {}
    for (index, direction, revision), (number, state) in last.items():
        left = LeftRevision(direction, revision, number, state == STATEMENT_DONE)
        found.setdefault(places[index].shard.shard_id, []).append(left)
    return found


def still_left(
    found: Sequence[LeftRevision], revisions: tuple[str, ...], last: HistoryEntry | None, scripts: Scripts
) -> LeftRevision | None:
    """Return the revision that a shard was left in the middle of; None if it runs, or was finished by other means.

    Args:
        found: What the shard's journal says.
        revisions: The shard's own.
        last: What ran on it last, read after the journal.
        scripts: The project's revisions.
    """
    if last is not None and last.outcome == RUNNING:
        return None
    lineage = scripts.lineage(revisions) if found and set(revisions) <= scripts.known else frozenset()
    for left in found:
        is_finished = (left.direction == "upgrade") is (left.revision in lineage)
        is_over = last is not None and (last.outcome, last.direction, last.revision) == (
            DONE,
            left.direction,
            left.revision,
        )
        if not is_finished and not is_over:
            return left
    return None
