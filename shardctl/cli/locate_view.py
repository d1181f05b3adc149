"""What `locate` found, as rows for people and for machines, and what is said below them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shardctl.cli import diagnostics, output
from shardctl.cli.values import to_json, to_text
from shardctl.errors import ExitCode

if TYPE_CHECKING:
    from shardctl.fleet import LiveShard, Outcome
    from shardctl.rows.identities import Identity
    from shardctl.rows.locate import FoundRow, Locator, Search
    from shardctl.rows.related import Related

MAX_WIDTH = 40
"""Characters of one value in a table."""
SHOWN = 8
"""Keys that a line names."""

Lines = Iterator[list[Any]]


@dataclass(slots=True)
class Sample:
    """How many there are, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append(text)

    def __str__(self) -> str:
        return ", ".join(self.first) + (f" and {self.count - SHOWN} more" if self.count > SHOWN else "")


@dataclass(slots=True)
class Tally:
    """What all batches come to, in memory that does not grow with them."""

    rows: int = 0
    is_cut: bool = False
    misplaced: int = 0
    missing: Sample = field(default_factory=Sample)
    duplicates: Sample = field(default_factory=Sample)
    lacking: Sample = field(default_factory=Sample)
    related: dict[str, Sample] = field(default_factory=dict)
    """By relationship, the rows of which something is not beside them."""
    failed: list[Outcome[Any]] = field(default_factory=list)

    def add(self, search: Search) -> None:
        self.rows += len(search.found)
        self.is_cut |= search.is_cut
        self.failed += search.failed
        for key in search.missing:
            self.missing.add(key_text(key))
        for copy in search.lacking:
            self.lacking.add(f"{key_text(copy.primary_key)} on {', '.join(copy.shard_ids)}")
        for key in dict.fromkeys(row.identity for row in search.found if row.is_duplicate):
            self.duplicates.add(key_text(key))
        for row in search.found:
            self.misplaced += row.verdict == "misplaced"
            for name, related in row.related.items():
                if related.is_finding:
                    self.related.setdefault(name, Sample()).add(f"{key_text(row.primary_key)} on {row.shard_id}")

    def conclude(self, name: str, scope: str, where: str) -> ExitCode:
        """Say what a table of rows does not show, and return the code that it means.

        Args:
            name: The class.
            scope: Why its keys name one row of the fleet.
            where: Where rows were looked for.
        """
        if self.is_cut:
            diagnostics.say("note: a shard has more rows than `--limit` shows")
        if self.missing.count:
            diagnostics.say(f"not found {where}: {name} {self.missing}")
        elif not self.rows:
            diagnostics.say(f"not found {where}: no such {name}")
        if self.misplaced:
            diagnostics.say(f"misplaced: {self.misplaced} of {self.rows} rows are not where they belong")
        if self.duplicates.count:
            diagnostics.say(f"duplicate identity: {name} {self.duplicates} on several shards ({scope})")
        if self.lacking.count:
            diagnostics.say(f"incomplete copies: {name} {self.lacking}")
        for relationship, rows in self.related.items():
            diagnostics.say(f"not beside their rows: {relationship} of {name} {rows}")
        is_clean = self.rows and not (
            self.missing.count or self.misplaced or self.duplicates.count or self.lacking.count
        )
        return ExitCode.OK if is_clean and not self.related else ExitCode.FINDINGS


def key_text(key: Sequence[Any]) -> str:
    """Return a primary key as people read it."""
    return ", ".join(map(str, key))


@dataclass(frozen=True, slots=True)
class View:
    """How found rows are laid out.

    Args:
        class_name: The class, or the table.
        key_names: The attributes of the primary key.
        names: The attributes of all columns.
        related: The relationships that are shown.
        with_routing: Whether choosers were asked.
        is_incomplete: Whether there is a shard that was not even asked.
    """

    class_name: str
    key_names: Sequence[str]
    names: Sequence[str]
    related: Sequence[str]
    with_routing: bool
    is_incomplete: bool

    @classmethod
    def of(cls, locator: Locator, *, is_incomplete: bool) -> View:
        """Return the view of what a locator finds; it is incomplete from the beginning if shards were left out."""
        from shardctl.fleet.rules import columns_of
        from shardctl.rows.identities import key_names, name_of

        target = locator.target
        key = [known[0] for known in key_names(target)] if list(target.primary_key) else []
        return cls(name_of(target), key, list(columns_of(target)), locator.related, locator.with_routing, is_incomplete)

    # -- for people, and CSV -------------------------------------------------------------------------------------------

    def columns(self) -> list[str]:
        """Return the columns of a table."""
        chooser = ["shard_chooser"] if self.with_routing else []
        related = [f"with {name}" for name in self.related]
        return ["shard", "identity key", "belongs on", "verdict", *chooser, *related, *self.names]

    def line(self, row: FoundRow) -> list[Any]:
        """Return one row of a table."""
        cells: list[Any] = [
            row.shard_id,
            self._identity_key(row.primary_key, row.shard_id),
            ", ".join(row.expected) or row.reason,
            row.verdict,
        ]
        if self.with_routing:
            cells.append(_said(row))
        cells += [related_text(row.related[name]) for name in self.related]
        return cells + [_shortened(value) for value in row.values.values()]

    def _identity_key(self, key: Identity, shard_id: str | None) -> str:
        return f"({self.class_name}, {key!r}, {shard_id!r})"

    def csv_columns(self) -> list[str]:
        """Return the columns of CSV, which has what choosers answer in each row."""
        routing = ["identity_chooser", "execute_chooser"] if self.with_routing else []
        return [*self.columns(), *routing]

    def csv_lines(self, search: Search) -> Lines:
        """Yield what was found, not found and not answered, in the order of the keys."""
        width = len(self.columns())
        routing = self._routing(search)
        for entry in _in_order(search):
            if isinstance(entry, _Absent):
                values = dict(zip(self.key_names, entry.key or (), strict=False))
                key = self._identity_key(entry.key, entry.shard_id) if entry.key is not None else ""
                cells = [entry.shard_id, key, entry.reason, self._verdict(entry, search)]
                cells += [None] * (width - len(cells) - len(self.names)) + [values.get(name) for name in self.names]
            else:
                cells = self.line(entry)
            key_of = entry.key if isinstance(entry, _Absent) else entry.identity
            yield [*cells, *(routing.get(key_of, (None, None)) if self.with_routing else ())]

    def _routing(self, search: Search) -> Mapping[Any, tuple[str, str]]:
        return {item.primary_key: (str(item.identity_chooser), str(item.execute_chooser)) for item in search.routing}

    def _verdict(self, absent: _Absent, search: Search) -> str:
        return (
            "incomplete"
            if absent.verdict == "not found" and (self.is_incomplete or not search.is_complete)
            else absent.verdict
        )

    # -- for machines --------------------------------------------------------------------------------------------------

    def json_columns(self) -> list[str]:
        """Return the members of an object."""
        chooser = ["shard_chooser"] if self.with_routing else []
        related = ["with"] if self.related else []
        return ["shard", "identity", "expected", "verdict", "reason", "row", *chooser, *related]

    def json_lines(self, search: Search) -> Lines:
        """Yield the same as objects."""
        for entry in _in_order(search):
            if isinstance(entry, _Absent):
                identity = [self.class_name, list(entry.key), entry.shard_id] if entry.key is not None else None
                values: list[Any] = [entry.shard_id, identity, [], self._verdict(entry, search), entry.reason, None]
                values += [None] * (self.with_routing + bool(self.related))
            else:
                identity = [self.class_name, list(entry.primary_key), entry.shard_id]
                values = [entry.shard_id, identity, list(entry.expected), entry.verdict, entry.reason]
                values.append(dict(entry.values))
                values += [_said(entry)] if self.with_routing else []
                values += [{name: _related(entry.related[name]) for name in self.related}] if self.related else []
            yield values


@dataclass(frozen=True, slots=True)
class _Absent:
    """What there is no row for."""

    shard_id: str | None
    key: Identity | None
    verdict: str
    reason: str


def _in_order(search: Search) -> Iterator[FoundRow | _Absent]:
    """Yield rows, and what is missing, in the order of the keys; then the shards that did not answer."""
    by_key: dict[Identity, list[FoundRow | _Absent]] = {key: [] for key in search.asked}
    for row in search.found:
        by_key.setdefault(row.identity, []).append(row)
    for copy in search.lacking:
        by_key[copy.primary_key] += [
            _Absent(shard_id, copy.primary_key, "copy missing", "reference table: every copy")
            for shard_id in copy.shard_ids
        ]
    for key in search.missing:
        by_key[key].append(_Absent(None, key, "not found", ""))
    for entries in by_key.values():
        yield from entries
    for outcome in search.failed:
        yield _Absent(outcome.shard_id, None, "no answer", outcome.error.message if outcome.error else "")


def unanswered(shards: Sequence[LiveShard]) -> Search:
    """Return what shards that are declared offline answer."""
    from shardctl.errors import ShardUnreachable
    from shardctl.fleet import Outcome
    from shardctl.rows.locate import Search

    return Search([], [], [Outcome(shard, 0.0, error=ShardUnreachable("offline")) for shard in shards])


def _said(row: FoundRow) -> str | None:
    """Return what the shard_chooser answers; a table without a class has none."""
    return str(row.shard_chooser) if row.shard_chooser is not None else None


def related_text(related: Related) -> str:
    """Return how many related rows are where."""
    if related.is_missing:
        return "nowhere"
    return ", ".join(
        f"{shard_id} {number}" + (" (elsewhere)" if shard_id in related.elsewhere else "")
        for shard_id, number in related.counts.items()
    )


def _related(related: Related) -> dict[str, Any]:
    return {
        "shards": dict(related.counts),
        "elsewhere": list(related.elsewhere),
        "is_finding": related.is_finding,
    }


def routing_lines(search: Search) -> Lines:
    """Yield what choosers answer for each key."""
    for item in search.routing:
        yield [repr(item.primary_key), str(item.identity_chooser), str(item.execute_chooser)]


def routing_objects(search: Search) -> list[dict[str, Any]]:
    """Return the same for machines."""
    return [
        {
            "primary_key": to_json(item.primary_key),
            "identity_chooser": str(item.identity_chooser),
            "execute_chooser": str(item.execute_chooser),
        }
        for item in search.routing
    ]


def _shortened(value: object) -> object:
    text = to_text(value)
    return text[: MAX_WIDTH - 1] + "…" if len(text) > MAX_WIDTH and output.is_terminal() else value
