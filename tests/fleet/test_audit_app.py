"""Audits of applications: their own choosers say where rows belong."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event

from shardctl.fleet import Fleet
from tests.fixtures.apps import Opener, open_app
from tests.fixtures.audited import audited, faults, put

__all__ = ["open_app"]  # a fixture

STATIONS = """
class Country(Base):
    __tablename__ = "countries"
    id: Mapped[int] = mapped_column(primary_key=True)
    side: Mapped[str]

class Place(Base):
    __tablename__ = "places"
    id: Mapped[int] = mapped_column(primary_key=True)
    country_id: Mapped[int] = mapped_column(ForeignKey("countries.id"))
    country: Mapped[Country] = relationship()

class Station(Base):
    __tablename__ = "stations"
    id: Mapped[str] = mapped_column(primary_key=True)
    place_id: Mapped[int] = mapped_column(ForeignKey("places.id"))
    place: Mapped[Place] = relationship()

def shard_chooser(mapper, instance, clause=None):
    if isinstance(instance, Station):
        return instance.place.country.side
    if isinstance(instance, Place):
        return instance.country.side
    return instance.side

choosers["shard_chooser"] = shard_chooser
made = sessionmaker(class_=ShardedSession, shards=shards, **choosers)
"""


@pytest.fixture
def fleet(open_app: Opener) -> Fleet:
    opened = open_app(STATIONS)
    for shard in opened.shards.values():
        opened.models.metadatas[0].create_all(shard.bind)
    for side in ("east", "west"):
        put(opened, {(side, "Country"): [{"id": number, "side": side} for number in range(1, 4)]})
        put(opened, {(side, "Place"): [{"id": number, "country_id": number % 3 + 1} for number in range(1, 301)]})
        stations = [{"id": f"{side} {number}", "place_id": number} for number in range(1, 301)]
        put(opened, {(side, "Station"): stations})
    put(opened, {("west", "Setting"): [{"id": 1}]})
    return opened


def test_instances_are_asked_for_with_few_statements(fleet: Fleet) -> None:
    """What the chooser reads of other rows is loaded one by one for the first rows only."""
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        found = audited(fleet, "placement", tables=["Station"])
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert faults(found) == set()
    assert found.looked["placement"]["Station"] == {"east": 300, "west": 300}
    # Of 600 stations with their places: the first fifty of each shard one by one, and no more than that.
    assert len(seen) < 150


def test_each_fault_is_named(fleet: Fleet) -> None:
    put(fleet, {("east", "Country"): [{"id": 9, "side": "west"}, {"id": 10, "side": "nowhere"}]})
    put(fleet, {("east", "Place"): [{"id": 900, "country_id": 9}, {"id": 901, "country_id": 99}]})
    put(fleet, {("east", "Station"): [{"id": "east 900", "place_id": 900}, {"id": "west 7", "place_id": 7}]})
    put(fleet, {("east", "City"): [{"id": 1, "side": "east"}], ("west", "City"): [{"id": 1, "side": "west"}]})
    found = audited(fleet, "placement", "duplicates")
    assert faults(found) == {
        ("placement", "misplaced", "Country", "east", 1, ((9,),)),
        ("placement", "no placement", "Country", "east", 1, ((10,),)),
        ("placement", "misplaced", "Place", "east", 1, ((900,),)),
        ("placement", "no placement", "Place", "east", 1, ((901,),)),
        ("placement", "misplaced", "Station", "east", 1, (("east 900",),)),
        ("duplicates", "on several shards", "Station", "east west", 1, (("west 7",),)),
    }
    details = {finding.samples: finding.detail for finding in found.findings}
    assert details[(10,),] == "shard_chooser: no such shard: nowhere"
    assert "AttributeError" in details[(901,),]
    assert found.troubles == []


def test_a_sample_of_instances(fleet: Fleet) -> None:
    put(fleet, {("east", "Country"): [{"id": number, "side": "west"} for number in range(100, 3_000)]})
    found = audited(fleet, "placement", tables=["Country"], sample=0.2)
    (finding,) = found.findings
    assert (finding.kind, finding.shards, finding.is_exact) == ("misplaced", ("east",), False)
    assert 200 <= found.looked["placement"]["Country"]["east"] < 1_500


def test_tables_without_a_class_are_left_out(open_app: Opener) -> None:
    fleet = open_app(
        """
        from sqlalchemy import Column, String

        Table("tags", Base.metadata, Column("id", String(9), primary_key=True))
        made = Sharded
        """
    )
    for shard in fleet.shards.values():
        fleet.models.metadatas[0].create_all(shard.bind)
    put(fleet, {("east", "tags"): [{"id": "a"}], ("west", "tags"): [{"id": "a"}]})
    found = audited(fleet, "placement", "duplicates", tables=["tags"])
    assert faults(found) == {("duplicates", "on several shards", "tags", "east west", 1, (("a",),))}
    assert [skipped.why for skipped in found.skipped] == ["an application places mapped classes only"]


def test_a_chooser_that_changes_instances_writes_nothing(open_app: Opener) -> None:
    fleet = open_app(
        """
        def shard_chooser(mapper, instance, clause=None):
            side, instance.side = instance.side, "spoilt"
            return side

        choosers["shard_chooser"] = shard_chooser
        made = sessionmaker(class_=ShardedSession, shards=shards, autoflush=True, **choosers)
        """
    )
    for shard in fleet.shards.values():
        fleet.models.metadatas[0].create_all(shard.bind)
    put(fleet, {(side, "City"): [{"id": number, "side": side} for number in range(200)] for side in ("east", "west")})
    for _ in range(2):
        found: Any = audited(fleet, "placement", tables=["City"])
        assert faults(found) == set()
