"""How a revision runs: its transaction, its way back, and whether it could be examined at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from shardctl.schema.lint.changes import DATA, Change, Kind, Revision
from shardctl.schema.lint.rule import Hit, Severity, rule

_TRANSACTION = re.compile(r"(?:BEGIN|COMMIT|ROLLBACK|START TRANSACTION|SAVEPOINT|END)\b(?! OF)", re.I)


@rule(
    "EN01",
    Severity.ERROR,
    "the engine has no such statement",
    why="it fails before anything is sent: {refusal}",
    safer='make it depend on the engine: `if op.get_context().dialect.name == "…":`',
)
def refused(revision: Revision) -> Iterator[Change]:
    """Alembic or SQLAlchemy has no words for the operation on this engine, such as a type that it does not have."""
    said_elsewhere = "No support for ALTER of constraints in SQLite"
    yield from (c for c in revision.changes if c.refusal and said_elsewhere not in c.refusal)


@rule(
    "TX01",
    Severity.WARNING,
    "statements inside and outside a transaction",
    engine="postgresql",
    why="a failure after the `autocommit_block` leaves half of the revision, which cannot be run again",
    safer="move the block into a revision of its own",
)
def mixed(revision: Revision) -> Iterator[Hit]:
    """The block commits what came before it, and what follows is another transaction: it is no longer one step.

    Its number is written at the end, so a run that broke off begins again with what is done already.
    """
    outside = [change for change in revision.changes if change.is_autocommit]
    if outside and len(outside) < len(revision.changes):
        yield Hit(outside[0].line)


@rule(
    "TX02",
    Severity.ERROR,
    "transaction ended by hand",
    why="`{statement}` ends the transaction that the revision, its number and the shard's lock depend on",
    safer="use `with op.get_context().autocommit_block():`",
)
def by_hand(revision: Revision) -> Iterator[Change]:
    """BEGIN, COMMIT and ROLLBACK in SQL are not seen by Alembic, which goes on as if its transaction were open."""
    yield from (change for change in revision.of(Kind.OTHER) if _TRANSACTION.match(change.sql))


@rule(
    "IR01",
    Severity.WARNING,
    "downgrade that does nothing",
    why="`downgrade()` is empty: the shard says it is at the revision before, and has the tables of this one",
    safer='undo it, or say that it cannot be: raise NotImplementedError("cannot be undone")',
)
def empty_downgrade(revision: Revision) -> Iterator[Hit]:
    """An empty `downgrade()` succeeds, writes the older revision into the version table, and changes nothing.

    The next upgrade then fails on what is there already. Revisions that only change data are not reported.
    """
    is_schema = any(change.kind not in DATA for change in revision.changes)
    if revision.downgrade is not None and revision.downgrade.kind == "empty" and is_schema:
        yield Hit(revision.downgrade.line)


@rule(
    "IR02",
    Severity.INFO,
    "no way back",
    why="`downgrade()` is missing or raises: this revision cannot be undone",
    safer="write one, or keep a backup of what it changes",
)
def no_downgrade(revision: Revision) -> Iterator[Hit]:
    """That a revision cannot be undone is a decision, and fine if it is one."""
    if revision.changes and revision.downgrade is not None and revision.downgrade.kind in {"missing", "raises"}:
        yield Hit(revision.downgrade.line)


@rule(
    "IN01",
    Severity.INFO,
    "decided by what is in the database",
    why="it reads {what}: examined both as if it were there and as if not, without what is done for each row",
    safer="have the revision decide by its own text, so that every shard gets the same",
)
def reads(revision: Revision) -> Iterator[Hit]:
    """A revision that asks the database what to do may do different things on each shard.

    Nothing is executed here, so questions are answered with no and with yes, and rows with none.
    """
    lines: dict[int | None, str] = {}
    for line, what in revision.reads:
        lines.setdefault(line, what)
    if revision.error is None:
        yield from (Hit(line, words={"what": what}) for line, what in lines.items())


@rule(
    "IN02",
    Severity.WARNING,
    "needs live data: not analysable",
    why="what comes after this line needs live data ({what}), and was not examined",
    safer="read it by eye, then allow it: # shardctl: allow IN02 read by …",
)
def not_analysable(revision: Revision) -> Iterator[Hit]:
    """The revision goes on only with rows of a real database: an ORM session, reflection, `one()`, an assertion."""
    if revision.error is not None and revision.reads:
        yield Hit(revision.error[0], words={"what": revision.error[1]})


@rule(
    "IN03",
    Severity.ERROR,
    "raises",
    why="`upgrade()` raises on this engine: {what}",
    safer="have it run on every engine of the fleet; shards of this one stay where they are",
)
def raises(revision: Revision) -> Iterator[Hit]:
    """It raised without having read anything, so it will on every shard of this engine."""
    if revision.error is not None and not revision.reads:
        yield Hit(revision.error[0], words={"what": revision.error[1]})


@rule(
    "IN04",
    Severity.WARNING,
    "comment that allows an unknown rule",
    why="`{code}` is no rule{hint}",
    safer="`shardctl migrate lint --rules` lists them",
)
def unknown_code(revision: Revision) -> Iterator[Hit]:
    """A misspelt code allows nothing."""
    for line, code, nearest in revision.misspelt:
        yield Hit(line, words={"code": code, "hint": f": did you mean `{nearest}`?" if nearest else ""})
