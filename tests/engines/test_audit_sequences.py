"""What counts a column's values, and has fallen behind them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from shardctl.fleet import Fleet
from shardctl.query.execute import Execution, execute
from shardctl.rows.audit import orphans
from shardctl.rows.audit.finding import Finding, Skipped, Trouble
from shardctl.rows.audit.sequences import check
from tests.engines.audit_counted import numbered, tickets
from tests.engines.audit_data import faults, open_fleet, plant, reader, scope_of
from tests.fixtures.apps import Opener, open_app
from tests.fixtures.engines import Databases, server_url
from tests.fixtures.projects import KINDS

__all__ = ["open_app"]  # a fixture

RULES = 'models = "tests.engines.audit_counted:metadata"\n'
SERVERS = [kind for kind in KINDS if "sqlite" not in kind]
POSTGRESQL = [kind for kind in KINDS if "postgresql" in kind]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def fleet(kind: str, tmp_path: Path) -> Iterator[Fleet]:
    databases = Databases(kind.partition(" ")[0], tmp_path)
    if databases.engine != "sqlite":
        server_url(databases.engine)
    with open_fleet(kind, databases, tmp_path, RULES) as opened:
        for shard in opened.shards.values():
            with shard.connect(read_only=False) as connection:
                connection.execute(insert(tickets), [{"name": "x"}, {"name": "y"}])
                connection.commit()
        yield opened
    databases.drop_all()


def fall_behind(fleet: Fleet, shard_id: str, table: str = "tickets", column: str = "id") -> None:
    """Have the second row get the key 7, as rows have that are copied or moved, in a way that the counter misses."""
    match fleet.shard(shard_id).backend.name:
        case "postgresql":
            plant(fleet, shard_id, f'update "{table}" set "{column}" = 7 where "{column}" = 2')
        case "mysql":
            change_by_cascade(fleet, shard_id, f"`{table}`", f"`{column}`")
        case _:
            plant(fleet, shard_id, f'update "{table}" set "{column}" = 7 where "{column}" = 2')


def change_by_cascade(fleet: Fleet, shard_id: str, table: str, column: str) -> None:
    """Change a key so that InnoDB does not count on for it: a plain UPDATE would."""
    with fleet.shard(shard_id).connect(read_only=False) as connection:
        for statement in [
            "create table sources (id int primary key)",
            "insert into sources values (1), (2)",
            f"alter table {table} add constraint source"
            f" foreign key ({column}) references sources (id) on update cascade",
            "update sources set id = 7 where id = 2",
            f"alter table {table} drop foreign key source",
            "drop table sources",
        ]:
            connection.exec_driver_sql(statement)
        connection.commit()


def add(fleet: Fleet, shard_id: str) -> int:
    with fleet.shard(shard_id).connect(read_only=False) as connection:
        key = connection.execute(insert(tickets).values(name="new")).inserted_primary_key
        connection.commit()
        assert key is not None
        return int(key[0])


def run(fleet: Fleet, command: str) -> None:
    """Run what a finding says as `exec` does."""
    words = shlex.split(command)
    assert words[:3] == ["shardctl", "exec", "--shard"]
    assert words[4] == "--write"
    (outcome,) = execute(fleet, Execution(words[-1], writes=True), [fleet.shard(words[3])])
    assert outcome.error is None, outcome.error


def test_a_counter_that_is_behind_is_named_and_mended(fleet: Fleet) -> None:
    assert faults(check(scope_of(fleet))) == set()
    fall_behind(fleet, "b")
    (entry,) = check(scope_of(fleet))
    assert isinstance(entry, Finding)
    assert (entry.kind, entry.name, entry.shards) == ("behind", "tickets", ("b",))
    assert (entry.count, entry.samples, entry.measured) == (1, ((7,),), "next 3, highest 7")
    run(fleet, entry.mend)
    assert faults(check(scope_of(fleet))) == set()
    assert add(fleet, "b") == 8


def test_an_id_does_not_depend_on_the_numbers(fleet: Fleet) -> None:
    fall_behind(fleet, "b")
    (before,) = check(scope_of(fleet))
    if fleet.shard("b").backend.name == "mysql":
        assert add(fleet, "b") == 3
    else:
        plant(fleet, "b", "update tickets set id = 11 where id = 7")
    (after,) = check(scope_of(fleet))
    assert isinstance(before, Finding)
    assert isinstance(after, Finding)
    assert before.finding_id == after.finding_id
    assert before.measured != after.measured


def test_names_that_must_be_quoted(fleet: Fleet) -> None:
    with fleet.shard("a").connect(read_only=False) as connection:
        values = [{"the id": n, "n": 50} for n in (1, 2)]
        connection.execute(insert(numbered), values)
        connection.commit()
    if fleet.shard("a").backend.name == "mysql":
        fall_behind(fleet, "a", "Odd names", "the id")
    elif fleet.shard("a").backend.name == "sqlite":
        plant(fleet, "a", "update sqlite_sequence set seq = 0 where name = 'Odd names'")
    found = [entry for entry in check(scope_of(fleet)) if isinstance(entry, Finding)]
    details = [(entry.name, entry.detail.partition(":")[0]) for entry in found]
    is_sqlite = fleet.shard("a").backend.name == "sqlite"
    assert details == [("Odd names", "the id"), *([] if is_sqlite else [("Odd names", "n")])]
    for entry in found:
        run(fleet, entry.mend)
    assert faults(check(scope_of(fleet))) == set()


def test_a_table_without_autoincrement_is_not_looked_at(fleet: Fleet) -> None:
    plant(fleet, "a", "insert into plain (id) values (9)", "insert into pairs (a, b) values (3, 4)")
    assert [entry for entry in check(scope_of(fleet)) if entry.name == "plain"] == []


@pytest.mark.parametrize("kind", POSTGRESQL)
def test_sequences_of_postgresql(fleet: Fleet) -> None:
    """Downwards, in steps, never asked, owned by nobody, and set without having been asked."""
    plant(
        fleet,
        "a",
        "alter sequence tickets_id_seq increment by -1 minvalue -1000 start -1 restart -1",
        "insert into tickets (id) values (-1), (-3)",
    )
    plant(fleet, "b", "alter sequence tickets_id_seq increment by 10", "insert into tickets (id) values (12), (11)")
    plant(fleet, "c", "select setval('tickets_id_seq', 4, false)", "insert into tickets (id) values (4)")
    plant(
        fleet,
        "c",
        "create sequence free",
        "alter table plain alter column id set default nextval('free')",
        "insert into plain (id) values (1)",
    )
    found = {(entry.name, *entry.shards): entry for entry in check(scope_of(fleet)) if isinstance(entry, Finding)}
    assert {key: entry.measured for key, entry in found.items()} == {
        ("tickets", "a"): "next -1, lowest -3",
        ("tickets", "b"): "next 12, highest 12",
        ("tickets", "c"): "next 4, highest 4",
        ("plain", "c"): "next 1, highest 1",
    }
    assert found["tickets", "a"].samples == ((-1,), (-3,))
    for entry in found.values():
        run(fleet, entry.mend)
    assert faults(check(scope_of(fleet))) == set()
    assert add(fleet, "a") == -4


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "mysql" in kind])
def test_sequences_of_mariadb(fleet: Fleet) -> None:
    if not getattr(fleet.shard("a").engine.dialect, "is_mariadb", False):
        pytest.skip("MySQL has no sequences")
    plant(
        fleet,
        "a",
        "create sequence free start with 5 nocache",
        "alter table plain modify id int not null default nextval(free)",
        "insert into plain (id) values (5), (6)",
    )
    (entry,) = check(scope_of(fleet))
    assert isinstance(entry, Finding)
    assert (entry.name, entry.measured, entry.samples) == ("plain", "next 5, highest 6", ((5,), (6,)))
    run(fleet, entry.mend)
    assert faults(check(scope_of(fleet))) == set()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_role_that_may_only_select_can_look(fleet: Fleet) -> None:
    fall_behind(fleet, "b")
    with reader(fleet, sequences=True) as limited:
        (entry,) = check(scope_of(limited))
    assert isinstance(entry, Finding)
    assert (entry.kind, entry.shards) == ("behind", ("b",))


@pytest.mark.parametrize("kind", POSTGRESQL)
def test_a_sequence_that_may_not_be_read_is_said(fleet: Fleet) -> None:
    fall_behind(fleet, "b")
    with reader(fleet) as limited:
        found = list(check(scope_of(limited)))
    assert Skipped("sequences", "tickets", "the login may not read the sequence tickets_id_seq on a, b, c") in found
    assert [entry for entry in found if not isinstance(entry, Skipped)] == []


def test_a_shard_without_the_table_is_trouble_or_nothing(fleet: Fleet) -> None:
    fall_behind(fleet, "b")
    plant(fleet, "a", "drop table tickets")
    found = list(check(scope_of(fleet)))
    assert [entry.shards for entry in found if isinstance(entry, Finding)] == [("b",)]
    assert [entry for entry in found if isinstance(entry, Trouble)] == []


NAMED = """
from sqlalchemy import create_engine, ForeignKey
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

class Base(DeclarativeBase):
    __table_args__ = {{"schema": "tenant"}}

class City(Base):
    __tablename__ = "cities"
    id: Mapped[int] = mapped_column(primary_key=True)

class Street(Base):
    __tablename__ = "streets"
    id: Mapped[int] = mapped_column(primary_key=True)
    city_id: Mapped[int] = mapped_column(ForeignKey("tenant.cities.id"))

engine = create_engine({url!r})
sides = ("east", "west")
shards = {{side: engine.execution_options(schema_translate_map={{"tenant": f"s_{{side}}"}}) for side in sides}}
Session = sessionmaker(
    class_=ShardedSession,
    shards=shards,
    shard_chooser=lambda mapper, instance, clause=None: "east",
    identity_chooser=lambda mapper, primary_key, **kw: list(shards),
    execute_chooser=lambda context: list(shards),
)
"""


def test_an_application_that_translates_a_named_schema(open_app: Opener, postgresql: Databases) -> None:
    fleet = open_app("", "Session", base=NAMED.format(url=postgresql.create("weather")))
    for side in ("east", "west"):
        with fleet.shard(side).bind.begin() as connection:
            connection.exec_driver_sql(f"create schema s_{side}")
            fleet.models.metadatas[0].create_all(connection)
    plant(
        fleet, "west", "insert into cities (id) values (1)", "insert into streets (id, city_id) values (5, 1), (6, 2)"
    )
    assert faults(check(scope_of(fleet))) == {
        ("behind", "City", "west", 1, ((1,),)),
        ("behind", "Street", "west", 2, ((5,), (6,))),
    }
    assert faults(orphans.check(scope_of(fleet))) == {("parent missing", "Street", "west", 1, ((6,),))}
