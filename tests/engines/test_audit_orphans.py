"""Children whose parent is on another shard, or nowhere."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardctl.fleet import Fleet
from shardctl.rows.audit.finding import Finding, Skipped, Trouble
from shardctl.rows.audit.orphans import check
from tests.engines.audit_data import Pet, Visit, faults, fill, open_fleet, open_mixed, plant, reader, scope_of
from tests.fixtures.apps import Opener, open_app
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.projects import KINDS

__all__ = ["open_app"]

FAULTS = {
    "a": [
        "insert into pets (id, owner_id, mother_id) values (11, 10, null), (12, 99, null), (13, 1, 77), (14, 11, 14)",
        "insert into pet_tags (pet_id, tag) values (55, 'big'), (1, 'odd')",
        "insert into marks (pet_id, mark) values (56, 3)",
        "insert into badges (id, code) values (11, 'bob'), (12, 'nobody')",
        "insert into invoices (id, owner_id) values (11, 10), (12, 98)",
        "insert into notes (id, tenant, number) values (11, 't', 2), (12, 'u', 1)",
        "insert into visits (id, code) values (11, 'nobody')",
        "insert into dogs (id, tricks) values (7, 5)",
    ],
    "b": [
        "insert into cells (tenant, number) values ('u', 1)",
        "update teams set captain_id = 66",
        "insert into tags (name) values ('odd')",
    ],
    "c": [
        "insert into players (id, team_id) values (5, 1)",
        "insert into teams (id, captain_id) values (9, 5), (8, 1)",
    ],
}
EXPECTED = {
    ("parent elsewhere", "Pet", "a", 1, ((11,),)),
    ("parent missing", "Pet", "a", 2, ((12,), (14,))),
    ("parent missing", "Pet", "a", 1, ((13,),)),
    ("parent missing", "pet_tags", "a", 1, ((55, "big"),)),
    ("parent elsewhere", "pet_tags", "a", 1, ((1, "odd"),)),
    ("parent missing", "marks", "a", 1, ((56,),)),
    ("parent elsewhere", "Badge", "a", 1, ((11,),)),
    ("parent missing", "Badge", "a", 1, ((12,),)),
    ("parent elsewhere", "Invoice", "a", 1, ((11,),)),
    ("parent missing", "Invoice", "a", 1, ((12,),)),
    ("parent elsewhere", "Note", "a", 1, ((12,),)),
    ("parent missing", "Note", "a", 1, ((11,),)),
    ("parent missing", "Visit", "a", 1, ((11,),)),
    ("parent missing", "Dog", "a", 1, ((7,),)),
    ("parent missing", "Team", "b", 1, ((1,),)),
    ("parent elsewhere", "Player", "c", 1, ((5,),)),
}


@pytest.fixture(params=KINDS)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    databases = Databases(request.param.partition(" ")[0], tmp_path)
    if databases.engine != "sqlite":
        server_url(databases.engine)
    with open_fleet(request.param, databases, tmp_path) as opened:
        fill(opened)
        yield opened
    databases.drop_all()


@pytest.mark.parametrize("chunk", [1, 2, 20_000])
def test_exactly_the_orphans_are_named(fleet: Fleet, chunk: int) -> None:
    assert faults(check(scope_of(fleet, chunk=chunk))) == set()
    for shard_id, statements in FAULTS.items():
        plant(fleet, shard_id, *statements)
    assert faults(check(scope_of(fleet, chunk=chunk))) == EXPECTED


@pytest.mark.parametrize("fleet", [kind for kind in KINDS if "sqlite" not in kind], indirect=True)
def test_a_role_that_may_only_select_can_look(fleet: Fleet) -> None:
    for shard_id, statements in FAULTS.items():
        plant(fleet, shard_id, *statements)
    with reader(fleet) as limited:
        assert faults(check(scope_of(limited))) == EXPECTED


def test_findings_name_the_link_and_what_shows_it(fleet: Fleet) -> None:
    for shard_id, statements in FAULTS.items():
        plant(fleet, shard_id, *statements)
    found = [entry for entry in check(scope_of(fleet)) if isinstance(entry, Finding)]
    details = {(entry.name, entry.kind): entry for entry in found}
    assert details["Badge", "parent elsewhere"].detail == "code -> owners.code: the Owner is on b"
    assert details["Badge", "parent elsewhere"].mend == "shardctl locate Badge 11"
    note = details["Note", "parent missing"]
    assert note.detail == "(tenant, number) -> cells(tenant, number): no Cell on any shard"
    assert details["pet_tags", "parent missing"].detail == ("pet_id -> pets.id: no Pet beside it; keys are per shard")
    for entry in found:
        if entry.kind == "parent missing" and entry.name != "Visit":
            command = shlex.split(entry.mend)
            assert command[:-1] == ["shardctl", "exec", "--shard", *entry.shards]
            with fleet.shard(command[3]).connect() as connection:
                assert len(connection.exec_driver_sql(command[-1]).all()) >= entry.count
    assert len({entry.finding_id for entry in found}) == len(found)
    assert {entry.finding_id for entry in check(scope_of(fleet, chunk=3))} == {entry.finding_id for entry in found}


def test_equality_is_the_databases_own(fleet: Fleet) -> None:
    """MySQL's usual collations ignore case, beside a child and on another shard."""
    plant(fleet, "a", "insert into badges (id, code) values (21, 'ANN'), (22, 'Bob')")
    is_mysql = fleet.shards["a"].backend.name == "mysql"
    expected = {("parent elsewhere", "Badge", "a", 1, ((22,),))}
    if not is_mysql:
        expected = {("parent missing", "Badge", "a", 2, ((21,), (22,)))}
    plant(fleet, "b", "insert into visits (id, code) values (21, 'ANN')")
    if not is_mysql:
        expected |= {("parent missing", "Visit", "b", 1, ((21,),))}
    assert faults(check(scope_of(fleet))) == expected


def test_only_some_rows_are_looked_at(fleet: Fleet) -> None:
    for shard_id, statements in FAULTS.items():
        plant(fleet, shard_id, *statements)
    owners = [Pet.__mapper__]
    found = list(check(scope_of(fleet, targets=owners, since={"pets": Pet.__table__.c.id > 11})))
    assert [(entry.count, entry.samples, entry.is_exact) for entry in found if isinstance(entry, Finding)] == [
        (2, ((12,), (14,)), False),
        (1, ((13,),), False),
    ]
    some = list(check(scope_of(fleet, targets=owners, sample=0.01)))  # the first rows of a table are always in it
    assert [entry.is_exact for entry in some if isinstance(entry, Finding)] == [False] * 3


def test_a_sample_is_told_as_what_it_is(postgresql: Databases, tmp_path: Path) -> None:
    told: list[int] = []
    with open_fleet("postgresql schemas", postgresql, tmp_path) as fleet:
        plant(fleet, "a", "insert into visits (id, code) select n, 'x' from generate_series(1, 5000) n")
        scope = scope_of(fleet, targets=[Visit.__mapper__], sample=0.2, told=lambda *entry: told.append(entry[2]))
        (entry,) = check(scope)
    assert isinstance(entry, Finding)
    assert sum(told) == entry.count
    assert 200 < entry.count < 3000


def test_what_was_looked_at_is_told(fleet: Fleet) -> None:
    told: list[tuple[str, str, int]] = []
    scope = scope_of(fleet, targets=[Visit.__mapper__], chunk=2, told=lambda *entry: told.append(entry))
    list(check(scope))
    assert sorted(told) == [("Visit", "a", 1), ("Visit", "a", 2), ("Visit", "b", 0), ("Visit", "c", 0)]


def test_children_that_go_with_their_parents_are_no_orphans(fleet: Fleet) -> None:
    plant(fleet, "a", "insert into visits (id, code) values (50, 'gone'), (51, 'nobody')")

    def told(_table: str, shard_id: str, _rows: int) -> None:
        if shard_id == "a":
            plant(fleet, "a", "delete from visits where id = 50")

    assert faults(check(scope_of(fleet, targets=[Visit.__mapper__], told=told))) == {
        ("parent missing", "Visit", "a", 1, ((51,),))
    }


def test_who_cannot_be_asked_is_not_taken_to_have_nothing(fleet: Fleet) -> None:
    for shard_id, statements in FAULTS.items():
        plant(fleet, shard_id, *statements)
    asked = [fleet.shard("a"), fleet.shard("c")]
    found = list(check(scope_of(fleet, targets=[Visit.__mapper__], shards=asked)))
    assert found == [Skipped("orphans", "Visit", "2 rows may have their Owner on b, which was not asked")]
    (entry,) = check(scope_of(fleet, targets=[fleet.models.find("Badge")], shards=asked))
    assert isinstance(entry, Finding)
    assert (entry.kind, entry.count) == ("parent not beside it", 2)
    assert entry.detail == "code -> owners.code: the Owner may be on b, which was not asked"


def test_a_table_that_is_not_there_is_one_shards_trouble(fleet: Fleet) -> None:
    for shard_id, statements in FAULTS.items():
        plant(fleet, shard_id, *statements)
    drop = "drop table owners cascade" if fleet.shards["b"].backend.name == "postgresql" else "drop table owners"
    plant(fleet, "b", drop)
    found = list(check(scope_of(fleet, targets=[Visit.__mapper__, fleet.models.find("Badge")])))
    troubles = [entry for entry in found if isinstance(entry, Trouble)]
    assert {(entry.shard_id, entry.name) for entry in troubles} == {("b", "Badge"), ("b", "Owner"), ("b", "Visit")}
    assert all("owners" in entry.error.message for entry in troubles)
    assert {entry.kind for entry in found if isinstance(entry, Finding)} == {"parent not beside it"}


def test_parents_are_found_on_another_engine(tmp_path: Path) -> None:
    """A key is the application's value there: engines store it in several ways."""
    found = Databases("postgresql", tmp_path)
    server_url("postgresql")
    urls = {"a": "sqlite:///a.db", "b": found.create("b"), "c": "sqlite:///c.db"}
    try:
        with open_mixed(tmp_path, urls) as fleet:
            fill(fleet)
            for shard_id, statements in FAULTS.items():
                plant(fleet, shard_id, *statements)
            assert faults(check(scope_of(fleet))) == EXPECTED
    finally:
        found.drop_all()


def test_keys_that_are_not_plain(tmp_path: Path) -> None:
    """SQLite allows NULL in a primary key, which comes first."""
    with open_mixed(tmp_path, {name: f"sqlite:///{name}.db" for name in "abc"}) as fleet:
        plant(
            fleet,
            "a",
            "drop table visits",
            "create table visits (id int, code text, primary key (id))",
            "insert into visits values (null, 'x'), (null, 'y'), (1, 'z'), (null, null)",
        )
        assert faults(check(scope_of(fleet, targets=[Visit.__mapper__], chunk=4))) == {
            ("parent missing", "Visit", "a", 3, ((None,), (None,), (1,)))
        }


APP = """
class Place(Base):
    __tablename__ = "places"
    id: Mapped[int] = mapped_column(primary_key=True)
    city_id: Mapped[int] = mapped_column(ForeignKey("cities.id"))
    setting_id: Mapped[int] = mapped_column(ForeignKey("settings.id"))
"""


def test_an_applications_foreign_keys_are_meant_to_hold(open_app: Opener) -> None:
    """Unless a shard has no such table: `settings` is on one only."""
    fleet = open_app(APP, "Sharded")
    for shard_id, shard in fleet.shards.items():
        Path(str(shard.engine.url.database)).touch()
        fleet.models.metadatas[0].create_all(shard.bind, tables=list(fleet.tables_on(shard_id)))
    plant(fleet, "west", "insert into settings values (1)", "insert into cities values (7, 'west')")
    plant(
        fleet,
        "east",
        "insert into cities values (1, 'east')",
        "insert into places values (1, 1, 1), (2, 7, 1), (3, 1, 2)",
    )
    found = list(check(scope_of(fleet)))
    assert faults(found) == {
        ("parent missing", "Place", "east", 1, ((2,),)),
        ("parent missing", "Place", "east", 1, ((3,),)),
    }
