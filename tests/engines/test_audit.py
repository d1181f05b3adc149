"""Rows that are where they should not be are named, each of them, and nothing else is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text, update

import shardctl
from shardctl.errors import ShardctlError
from shardctl.fleet import Fleet
from shardctl.rows.audit.marks import marks_of
from shardctl.rows.audit.run import Audit
from shardctl.rows.audit.targets import read_since
from tests.fixtures.apps import Opener, open_app
from tests.fixtures.audited import (
    ALL_RULES,
    CLEAN,
    DAY,
    NOON,
    OWN_RULES,
    TICKETS,
    Base,
    Rows,
    audited,
    faults,
    open_audited,
    put,
    scope_of,
)
from tests.fixtures.engines import Databases
from tests.fixtures.projects import KINDS, Project, create_places, place_shards
from tests.fixtures.shop import SHARDS, create_tables

__all__ = ["open_app"]  # a fixture

CHUNKS = (20_000, 2)
"""Rows of one statement: all of a table, and as few as can be."""

PLANTED: Rows = {
    ("a", "Customer"): [{"id": 1, "name": "twice"}, {"id": 14, "name": "n"}],
    ("b", "Order"): [{"id": 7, "customer_id": 2}],
    ("a", "Order"): [{"id": 8, "customer_id": 1}],
    ("a", "Line"): [{"id": 8, "order_id": 8, "amount": 1}],
    ("b", "Visit"): [{"id": 5, "day": DAY}],
    ("a", "Region"): [{"id": 2, "name": "asia"}, {"id": 3, "name": "Asia "}, {"id": 4, "name": "Europe"}],
    ("c", "Account"): [{"id": 2, "name": "bo"}, {"id": 3, "name": "nobody"}],
    ("a", "Ticket"): [{"id": TICKETS[1], "side": None}, {"id": uuid.UUID(int=7), "side": "z"}],
    ("a", "Memo"): [{"id": 3, "ticket_id": None}, {"id": 4, "ticket_id": TICKETS[1]}],
    ("a", "Seal"): [{"memo_id": 3}, {"memo_id": 4}],
    ("c", "logs"): [{"side": "x", "line": "one"}, {"side": "x", "line": "two"}, {"side": "w", "line": "three"}],
    ("c", "Animal"): [{"id": 2, "kind": "dog"}],
    ("c", "Dog"): [{"id": 2, "tricks": 1}],
    ("b", "Label"): [{"name": "k3", "side": "y"}],
    ("c", "Booking"): [{"day": DAY, "seat": "2a", "side": "z"}],
}
"""Rows beside the clean ones, each with something wrong, but for one order."""


LOST = ("placement", "misplaced")
EXPECTED = {
    (*LOST, "Customer", "a", 1, ((1,),)),
    (*LOST, "Customer", "a", 1, ((14,),)),
    (*LOST, "Order", "a", 1, ((8,),)),
    (*LOST, "Line", "a", 1, ((8,),)),
    (*LOST, "Visit", "b", 1, ((5,),)),
    ("placement", "no placement", "Region", "a", 1, ((2,),)),
    ("placement", "no placement", "Region", "a", 1, ((3,),)),
    (*LOST, "Region", "a", 1, ((4,),)),
    (*LOST, "Account", "c", 1, ((2,),)),
    ("placement", "no placement", "Account", "c", 1, ((3,),)),
    ("placement", "no placement", "Ticket", "a", 1, ((TICKETS[1],),)),
    (*LOST, "Ticket", "a", 1, ((uuid.UUID(int=7),),)),
    # The one follows nothing, the other one a ticket that belongs nowhere.
    *[("placement", "no placement", name, "a", 1, ((key,),)) for name in ("Memo", "Seal") for key in (3, 4)],
    (*LOST, "logs", "c", 2, ()),
    ("placement", "no placement", "logs", "c", 1, ()),
    (*LOST, "Animal", "c", 1, ((2,),)),
    ("duplicates", "on several shards", "Animal", "b c", 1, ((2,),)),
    ("duplicates", "on several shards", "Customer", "a c", 1, ((1,),)),
    ("duplicates", "on several shards", "Ticket", "a b", 1, ((TICKETS[1],),)),
    ("duplicates", "on several shards", "Label", "b c", 1, (("k3",),)),
    ("duplicates", "on several shards", "Booking", "a c", 1, ((DAY, "2a"),)),
}


@pytest.fixture
def fleet(tmp_path: Path, databases: Databases) -> Iterator[Fleet]:
    with open_audited(tmp_path, databases) as opened:
        yield opened


@pytest.fixture
def written() -> Iterator[list[str]]:
    """Statements that do not only read, or settle how to read."""
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.split()[0].upper() not in ("SELECT", "PRAGMA", "SET", "SHOW", "DESCRIBE"):
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_clean_fleet_has_no_findings(fleet: Fleet, chunk: int, written: list[str]) -> None:
    found = audited(fleet, chunk=chunk)
    assert faults(found) == set()
    assert found.troubles == []
    assert found.looked["placement"]["Ticket"] == {"a": 10, "b": 10, "c": 10}
    assert found.looked["duplicates"]["Label"] == {"a": 7, "b": 7, "c": 6}
    left_out = {(skipped.check, skipped.name) for skipped in found.skipped}
    assert left_out == {("placement", "Currency"), ("duplicates", "Currency")} | {
        ("duplicates", name) for name in ("Account", "Region", "Visit", "Order", "Line", "Memo", "Seal", "logs")
    }
    assert written == []


@pytest.mark.parametrize("chunk", CHUNKS)
def test_each_fault_is_named_and_nothing_else(fleet: Fleet, chunk: int) -> None:
    put(fleet, PLANTED)
    found = audited(fleet, chunk=chunk)
    assert faults(found) == EXPECTED
    assert found.troubles == []
    assert all(finding.is_exact for finding in found.findings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_shards_of_every_kind(tmp_path: Path, kind: str) -> None:
    databases = Databases(kind.partition(" ")[0], tmp_path)
    project = Project(tmp_path, more=ALL_RULES.partition("\n\n")[0])
    place_shards(project, kind, databases, list(SHARDS))
    project.write_shard_map()
    (tmp_path / "shardctl.toml").write_text(
        (tmp_path / "shardctl.toml").read_text() + ALL_RULES.partition("\n\n")[2] + OWN_RULES
    )
    try:
        with shardctl.open(tmp_path / "shardctl.toml") as fleet:
            create_places(fleet, databases)
            create_tables(fleet)
            put(fleet, CLEAN)
            assert faults(audited(fleet, "placement", "duplicates", tables=["Ticket", "Label", "Seal"])) == set()
            put(fleet, {("c", "Ticket"): [{"id": TICKETS[3], "side": "x"}]})
            put(fleet, {("c", "Memo"): [{"id": 7, "ticket_id": TICKETS[3]}], ("c", "Seal"): [{"memo_id": 7}]})
            assert faults(audited(fleet, chunk=2, tables=["Ticket", "Label", "Seal"])) == {
                ("placement", "misplaced", "Ticket", "c", 1, ((TICKETS[3],),)),
                ("placement", "misplaced", "Seal", "c", 1, ((7,),)),
                ("duplicates", "on several shards", "Ticket", "a c", 1, ((TICKETS[3],),)),
            }
    finally:
        databases.drop_all()


def test_findings_have_the_same_id_in_every_run(fleet: Fleet) -> None:
    put(fleet, PLANTED)
    first = {found.finding_id for found in audited(fleet).findings}
    put(fleet, {("b", "Visit"): [{"id": 6, "day": DAY}]})
    found = audited(fleet, chunk=3).findings
    assert {finding.finding_id for finding in found} == first
    assert len(first) == len(found)


def test_a_directory_is_read_for_many_keys_at_once(fleet: Fleet) -> None:
    names = [{"id": 100 + number, "name": f"name {number}"} for number in range(700)]
    directory = fleet.directories_on("b")[0]
    with fleet.shard("b").bind.begin() as connection:
        connection.execute(directory.insert(), [{"key": row["name"], "shard_id": "b"} for row in names[:-1]])
    put(fleet, {("b", "Account"): names})
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.extend([statement] if "account_shards" in statement else [])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        found = audited(fleet, "placement", tables=["Account"])
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert faults(found) == {("placement", "no placement", "Account", "b", 1, ((799,),))}
    assert len(seen) == 2


def test_a_table_where_it_should_not_be_has_misplaced_rows(fleet: Fleet) -> None:
    region: Any = fleet.models.find("Region")
    region.local_table.create(fleet.shard("c").bind)
    assert faults(audited(fleet, "placement")) == set()
    put(fleet, {("c", "Region"): [{"id": 1, "name": "Asia"}]})
    assert faults(audited(fleet, "placement")) == {("placement", "misplaced", "Region", "c", 1, ((1,),))}


def test_a_sample_finds_faults_among_what_it_looks_at(fleet: Fleet) -> None:
    put(fleet, {("a", "Ticket"): [{"id": uuid.UUID(int=number), "side": "z"} for number in range(1, 2_001)]})
    put(fleet, {("b", "Ticket"): [{"id": uuid.UUID(int=number), "side": "z"} for number in range(1, 2_001)]})
    found = audited(fleet, tables=["Ticket"], sample=0.1)
    kinds = {(finding.check, " ".join(finding.shards)) for finding in found.findings}
    assert kinds == {("placement", "a"), ("placement", "b"), ("duplicates", "a b")}
    assert not any(finding.is_exact for finding in found.findings)
    assert 200 <= found.looked["placement"]["Ticket"]["a"] < 1_000


def test_since_limits_what_is_looked_at_and_not_what_it_is_compared_with(fleet: Fleet) -> None:
    with fleet.shard("b").bind.begin() as connection:
        connection.execute(update(Base.metadata.tables["tickets"]).values(opened=NOON.replace(year=2020)))
    late = {"side": "z", "opened": NOON.replace(year=2027)}
    put(fleet, {("a", "Ticket"): [{"id": TICKETS[1], **late}]})
    put(fleet, {("a", "Ticket"): [{"id": uuid.UUID(int=5), "side": "z"}]})
    scope = scope_of(fleet, tables=["Ticket", "Label"])
    since, others = read_since(scope.targets, "opened=2026-06-01")
    assert [target.class_.__name__ for target in others] == ["Label"]
    found = audited(fleet, tables=["Ticket", "Label"], since=since)
    assert faults(found) == {
        ("placement", "misplaced", "Ticket", "a", 1, ((TICKETS[1],),)),
        ("duplicates", "on several shards", "Ticket", "a b", 1, ((TICKETS[1],),)),
    }
    assert found.looked["placement"]["Ticket"] == {"a": 1, "b": 0, "c": 0}


def test_more_findings_than_are_wanted_are_counted(fleet: Fleet) -> None:
    put(fleet, {("a", "Region"): [{"id": number, "name": f"nowhere {number}"} for number in range(10, 20)]})
    found = audited(fleet, "placement", tables=["Region"], max_findings=3)
    assert len(found.findings) == 3
    assert [skipped.why for skipped in found.skipped] == ["findings beyond the first 3 are left out, with rows: 7"]


class Stopped(BaseException):
    """Stands for ^C, or the end of the process."""


@pytest.mark.slow
@pytest.mark.parametrize("stops_after", [1, 4, 9, 30])
def test_a_run_that_was_stopped_goes_on(fleet: Fleet, stops_after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    put(fleet, PLANTED)
    monkeypatch.setattr("shardctl.rows.audit.marks.WRITE_EVERY_S", 0)
    options = {"checks": ["placement", "duplicates"], "tables": ["Ticket", "Label", "Customer"]}
    rounds = 0

    def told(*looked: object) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == stops_after * 3:
            raise Stopped

    scope = scope_of(fleet, tables=options["tables"], chunk=2, marks=marks_of(fleet.shard_map, options))
    with pytest.raises(Stopped):
        list(Audit(scope, options["checks"], told=told).run())
    marks = marks_of(fleet.shard_map, options)
    if stops_after > 1:
        marks.read()
    again = Audit(scope_of(fleet, tables=options["tables"], chunk=2, marks=marks), options["checks"])
    list(again.run())
    whole = audited(fleet, tables=options["tables"])
    assert faults(again) == faults(whole)
    assert again.looked == whole.looked
    with pytest.raises(ShardctlError, match="had other options"):
        marks_of(fleet.shard_map, options | {"sample": "1%"}).read()
    marks.remove()
    with pytest.raises(ShardctlError, match="no interrupted audit"):
        marks_of(fleet.shard_map, options).read()


def test_a_shard_that_does_not_answer_is_named_and_the_others_are_audited(fleet: Fleet, tmp_path: Path) -> None:
    put(fleet, {("a", "Region"): [{"id": 4, "name": "Europe"}], ("a", "Label"): [{"name": "k2", "side": "x"}]})
    with fleet.shard("c").bind.begin() as connection:
        connection.execute(text("drop table labels"))
    found = audited(fleet, tables=["Region", "Label"])
    assert faults(found) == {
        ("placement", "misplaced", "Region", "a", 1, ((4,),)),
        ("duplicates", "on several shards", "Label", "a b", 1, (("k2",),)),
    }
    troubles = {(trouble.shard_id, trouble.name, trouble.error.message) for trouble in found.troubles}
    assert troubles == {("c", "Label", "there is no table `labels`")}


@pytest.mark.slow
def test_a_role_that_may_only_select_is_enough(tmp_path: Path, databases: Databases) -> None:
    if databases.engine == "sqlite":
        pytest.skip("SQLite has no roles")
    role = f"{databases.prefix}_reader"
    with open_audited(tmp_path, databases) as fleet:
        put(fleet, PLANTED)
        urls = {shard_id: shard.engine.url for shard_id, shard in fleet.shards.items()}
    try:
        grant_reading(urls, role, databases.engine)
        reader = {shard_id: url.set(username=role, password="secret") for shard_id, url in urls.items()}
        shards = "".join(
            f"\n[shards.{shard_id}]\nurl = '{url.render_as_string(hide_password=False)}'\n"
            for shard_id, url in reader.items()
        )
        (tmp_path / "shardctl.toml").write_text(ALL_RULES + OWN_RULES + shards)
        with shardctl.open(tmp_path / "shardctl.toml") as fleet:
            found = audited(fleet, chunk=3)
            assert found.troubles == []
            assert faults(found) == EXPECTED
    finally:
        drop_role(urls, role, databases.engine)


def drop_role(urls: dict[str, Any], role: str, engine: str) -> None:
    for url in urls.values():
        if engine == "postgresql":
            on(url, f"drop owned by {role}")
    on(urls["a"], f"drop {'role' if engine == 'postgresql' else 'user'} {role}")


def on(url: Any, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def grant_reading(urls: dict[str, Any], role: str, engine: str) -> None:
    if engine == "postgresql":
        on(urls["a"], f"create role {role} login password 'secret'")
    else:
        on(urls["a"], f"create user {role} identified by 'secret'")
    for url in urls.values():
        if engine == "postgresql":
            on(url, f"revoke temporary on database {url.database} from public")
            on(url, f"grant select on all tables in schema public to {role}")
        else:
            on(url, f"grant select on {url.database}.* to {role}")


@pytest.mark.slow
def test_shards_of_several_engines(tmp_path: Path, postgresql: Databases, mysql: Databases) -> None:
    (tmp_path / "a.db").touch()
    urls = {"a": f"sqlite:///{tmp_path}/a.db", "b": postgresql.create("b"), "c": mysql.create("c")}
    rules = ALL_RULES.split("[tables.")[0].replace("tests.fixtures.shop:Base", "tests.fixtures.audited:Base")
    shards = "".join(f"\n[shards.{shard_id}]\nurl = '{url}'\n" for shard_id, url in urls.items())
    (tmp_path / "shardctl.toml").write_text(rules + OWN_RULES + shards)
    with shardctl.open(tmp_path / "shardctl.toml") as fleet:
        for shard in fleet.shards.values():
            Base.metadata.create_all(shard.bind)
        for number, (shard_id, side) in enumerate(zip("abc", "xyz", strict=True)):
            put(
                fleet,
                {(shard_id, "Ticket"): [{"id": key, "side": side} for key in TICKETS["abc".index(shard_id) :: 3]]},
            )
            names = [f"{shard_id} {number}" for number in range(9)] + [
                f"É{shard_id}",
                "ß" * (1 + "abc".index(shard_id)),
            ]
            put(fleet, {(shard_id, "Label"): [{"name": name, "side": side} for name in names]})
        assert faults(audited(fleet, chunk=2)) == set()
        put(fleet, {("c", "Ticket"): [{"id": TICKETS[4], "side": "z"}], ("b", "Label"): [{"name": "a 7", "side": "y"}]})
        put(fleet, {("c", "Label"): [{"name": "Éa", "side": "z"}]})
        put(fleet, {(shard, "Booking"): [{"day": DAY, "seat": "é", "side": "z"}] for shard in "bc"})
        found = audited(fleet, chunk=2)
        assert found.troubles == []
        assert faults(found) == {
            ("placement", "misplaced", "Booking", "b", 1, ((DAY, "é"),)),
            ("duplicates", "on several shards", "Booking", "b c", 1, ((DAY, "é"),)),
            ("duplicates", "on several shards", "Ticket", "b c", 1, ((TICKETS[4],),)),
            ("duplicates", "on several shards", "Label", "a b", 1, (("a 7",),)),
            ("duplicates", "on several shards", "Label", "a c", 1, (("Éa",),)),
        }
        assert faults(audited(fleet, "duplicates", sample=0.5)) == {
            row for row in faults(found) if row[0] == "duplicates"
        }


def test_collations_that_differ_between_shards(tmp_path: Path, postgresql: Databases) -> None:
    with open_audited(tmp_path, postgresql) as fleet:
        with fleet.shard("b").bind.begin() as connection:
            connection.execute(text('alter table labels alter name type varchar(40) collate "C"'))
        with fleet.shard("a").bind.begin() as connection:
            connection.execute(text('alter table labels alter name type varchar(40) collate "en-x-icu"'))
        assert faults(audited(fleet, "duplicates", chunk=2)) == set()
        put(fleet, {("b", "Label"): [{"name": name, "side": "y"} for name in ("Zebra", "éclair", "b_c", "ZOO")]})
        assert faults(audited(fleet, "duplicates", chunk=2)) == {
            ("duplicates", "on several shards", "Label", "a b", 3, (("Zebra",), ("b_c",), ("éclair",))),
            ("duplicates", "on several shards", "Label", "b c", 1, (("ZOO",),)),
        }


def test_texts_that_a_collation_holds_equal_are_told_apart(tmp_path: Path, postgresql: Databases) -> None:
    with open_audited(tmp_path, postgresql) as fleet:
        with fleet.shard("a").bind.begin() as connection:
            connection.execute(
                text("create collation loose (provider=icu, locale='und-u-ks-level2', deterministic=false)")
            )
            connection.execute(text("alter table regions alter name type varchar(40) collate loose"))
        put(fleet, {("a", "Region"): [{"id": 5, "name": "ASIA"}, {"id": 6, "name": "Asia"}]})
        assert faults(audited(fleet, "placement")) == {("placement", "no placement", "Region", "a", 1, ((5,),))}


def test_declared_identities(tmp_path: Path, databases: Databases) -> None:
    """What the shard map says of keys decides, whatever the databases do."""
    rules = (ALL_RULES + OWN_RULES).replace('key = "side"\n', 'key = "side"\nidentity = "per-shard"\n')
    rules = rules.replace('parent = "customer"\n', 'parent = "customer"\nidentity = "fleet-wide"\n')
    with open_audited(tmp_path, databases, rules=rules) as fleet:
        put(fleet, PLANTED)
        found = audited(fleet, "duplicates", tables=["Order", "Ticket"])
        assert faults(found) == {("duplicates", "on several shards", "Order", "a b", 1, ((1,),))}
        why = {skipped.name: skipped.why for skipped in found.skipped}
        assert why["Ticket"] == "declared per-shard: a key names a row on its shard only"


NAMED = """
from sqlalchemy import create_engine, String
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

class Base(DeclarativeBase):
    pass

class City(Base):
    __tablename__ = "cities"
    __table_args__ = {{"schema": "tenant"}}
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    side: Mapped[str]

engine = create_engine({url!r})
sides = ("east", "west")
shards = {{side: engine.execution_options(schema_translate_map={{"tenant": f"s_{{side}}"}}) for side in sides}}
Session = sessionmaker(
    class_=ShardedSession,
    shards=shards,
    shard_chooser=lambda mapper, instance, clause=None: instance.side,
    identity_chooser=lambda mapper, primary_key, **kw: sides,
    execute_chooser=lambda context: sides,
)
"""


def test_an_application_that_translates_a_named_schema(open_app: Opener, postgresql: Databases) -> None:
    fleet = open_app("", "Session", base=NAMED.format(url=postgresql.create("weather")))
    city: Any = fleet.models.find("City")
    for side in ("east", "west"):
        with fleet.shard(side).bind.begin() as connection:
            connection.execute(text(f"create schema s_{side}"))
            city.local_table.create(connection)
    put(fleet, {("east", "City"): [{"name": "Rome", "side": "east"}, {"name": "Oslo", "side": "west"}]})
    put(fleet, {("west", "City"): [{"name": "Rome", "side": "west"}]})
    found = audited(fleet)
    assert found.troubles == []
    assert faults(found) == {
        ("placement", "misplaced", "City", "east", 1, (("Oslo",),)),
        ("duplicates", "on several shards", "City", "east west", 1, (("Rome",),)),
    }
