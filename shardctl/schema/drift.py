"""Drift: what the live schema of a shard has and should not, lacks and should have, or has differently.

Pure: fingerprints and what Alembic found go in, findings come out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from shardctl.schema.catalogue import SchemaObject
from shardctl.schema.fingerprint import Fingerprint

MODELS = "models"


class Status(StrEnum):
    """How an object differs."""

    MISSING = "missing"
    UNEXPECTED = "unexpected"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Finding:
    """One object of a schema that is not as it should be."""

    object: SchemaObject
    status: Status
    against: tuple[str, ...]
    """What says how it should be: `models`, `3 of 4 shards`, or a shard's name."""
    found: str = ""
    expected: str = ""

    @property
    def text(self) -> str:
        """The finding in words, without the object's name."""
        if self.status is Status.DIFFERENT and self.found != self.expected:
            return f"different: {_quoted(self.found)} against {_quoted(self.expected)}"
        return self.status.value


@dataclass(frozen=True, slots=True)
class GroupedFinding:
    """A finding, and all the shards that have it."""

    shard_ids: tuple[str, ...]
    finding: Finding


Belongs = Callable[[str, str], bool]
"""A shard's name, a table's -> whether the table is meant to be on the shard."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that two schemas do not have alike; None stands for its absence."""

    object: SchemaObject
    found: str | None
    expected: str | None

    def finding(self, against: str) -> Finding:
        status = Status.DIFFERENT
        if self.found is None or self.expected is None:
            status = Status.MISSING if self.found is None else Status.UNEXPECTED
        return Finding(self.object, status, (against,), self.found or "", self.expected or "")


def compare_with(found: Fingerprint, expected: Fingerprint, is_meant: Callable[[str], bool]) -> list[Difference]:
    """Return how one schema differs from another.

    Args:
        found: The schema.
        expected: What it should be.
        is_meant: A table -> whether it is meant to be in both; if not, its absence from either is no difference.
    """
    if found.digest == expected.digest:
        return []
    differences = [
        Difference(object_, found.objects.get(object_), expected.objects.get(object_))
        for object_ in sorted(found.objects.keys() | expected.objects.keys())
        if found.objects.get(object_) != expected.objects.get(object_)
    ]
    return _whole(entry for entry in differences if _is_drift(entry, is_meant))


def compare_with_most(fingerprints: Mapping[str, Fingerprint], belongs: Belongs) -> dict[str, list[Finding]]:
    """Return how each shard differs from most of the others: for each object, the definition that most shards have.

    Where as many have one as another, that of the first shard counts.

    Args:
        fingerprints: Of shards of one kind of engine, at one revision.
        belongs: Which tables are meant to be on which shard.
    """
    if len({fingerprint.digest for fingerprint in fingerprints.values()}) < 2:
        return {shard_id: [] for shard_id in fingerprints}
    objects = set[SchemaObject]().union(*(fingerprint.objects for fingerprint in fingerprints.values()))
    differences: dict[str, list[Difference]] = {shard_id: [] for shard_id in fingerprints}
    against: dict[SchemaObject, str] = {}
    for object_ in sorted(objects):
        # A shard that is not meant to have the table has no say, unless it has it.
        votes = {
            shard_id: fingerprint.objects.get(object_)
            for shard_id, fingerprint in fingerprints.items()
            if object_ in fingerprint.objects or not object_.table or belongs(shard_id, object_.table)
        }
        counts = Counter(votes.values())
        if len(counts) < 2:
            continue
        expected, count = counts.most_common(1)[0]  # of equal counts, the first one
        against[object_] = f"{count} of {len(votes)} shards"
        for shard_id, found in votes.items():
            if found != expected:
                differences[shard_id].append(Difference(object_, found, expected))
    return {
        shard_id: [entry.finding(against[entry.object]) for entry in _whole(entries)]
        for shard_id, entries in differences.items()
    }


def merged(first: Iterable[Finding], second: Iterable[Finding]) -> list[Finding]:
    """Join what two comparisons of one shard found; what both found is told once, in the words of the first if any."""
    found = {(finding.object, finding.status): finding for finding in first}
    for finding in second:
        same = found.get((finding.object, finding.status))
        if same is None:
            found[finding.object, finding.status] = finding
        else:
            told = same if same.found and same.expected else finding
            found[finding.object, finding.status] = replace(told, against=(*same.against, *finding.against))
    return sorted(found.values(), key=lambda finding: finding.object)


def settled(
    others: Mapping[str, Sequence[Finding]], models: Mapping[str, Sequence[Finding]]
) -> dict[str, list[Finding]]:
    """Return what a comparison of shards with one another found, where the models do not know better.

    Where they found an object wrong on some shards only, it is right on those others, however few these are.
    """
    wrong = {finding.object for findings in models.values() for finding in findings}
    right = {shard_id: wrong - {finding.object for finding in findings} for shard_id, findings in models.items()}
    return {
        shard_id: [finding for finding in findings if finding.object not in right.get(shard_id, ())]
        for shard_id, findings in others.items()
    }


def grouped(findings: Mapping[str, Sequence[Finding]]) -> list[GroupedFinding]:
    """Return each finding once, with the shards that have it, in their order."""
    shard_ids: dict[Finding, list[str]] = {}
    for shard_id, entries in findings.items():
        for finding in entries:
            shard_ids.setdefault(finding, []).append(shard_id)
    order = {shard_id: position for position, shard_id in enumerate(findings)}
    groups = [GroupedFinding(tuple(names), finding) for finding, names in shard_ids.items()]
    return sorted(groups, key=lambda group: ([order[name] for name in group.shard_ids], group.finding.object))


def _is_drift(entry: Difference, is_meant: Callable[[str], bool]) -> bool:
    is_partly_absent = entry.found is None or entry.expected is None
    return not (is_partly_absent and entry.object.table and not is_meant(entry.object.table))


def _whole(differences: Iterable[Difference]) -> list[Difference]:
    """Leave out the parts of what is missing or unexpected as a whole."""
    entries = list(differences)
    absent = {entry.object for entry in entries if entry.found is None or entry.expected is None}
    return [entry for entry in entries if not any(whole in absent for whole in _wholes(entry.object))]


def _wholes(object_: SchemaObject) -> Iterable[SchemaObject]:
    if object_.kind != "table":
        yield SchemaObject("table", object_.table, "")
    if object_.kind == "comment":
        yield SchemaObject("column", object_.table, object_.name)


def _quoted(definition: str) -> str:
    line = " ".join(definition.split())
    return f"`{line}`" if line else "nothing"
