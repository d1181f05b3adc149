"""How much tables have on shards, as each engine says it, and as it is counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import shardctl
from shardctl.errors import ConfigError
from shardctl.fleet import Fleet, LiveShard, Outcome
from shardctl.rows import sizes
from shardctl.rows.largest_keys import keyed_tables, largest_keys, read_largest_keys
from shardctl.rows.sizes import Known, ShardSize
from shardctl.rows.stats import Kind, TableStats, meant_tables, read_stats, table_stats, total_of
from tests.engines.test_status import as_login, counted_connections, counted_statements, kind, login, of_kind
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, create_places, in_shard, place_shards
from tests.fixtures.shop import RULES, SHARDS, Animal, Customer, Dog, Line, Order, create_tables, open_shop

__all__ = ["kind", "of_kind"]

NAMES = list(SHARDS)
ROWS = {"a": 60, "b": 30, "c": 0}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def filled(project: Project, kind: str, databases: Databases) -> Fleet:
    """Return a fleet with a table of some rows on each shard."""
    place_shards(project, kind, databases, NAMES)
    fleet = project.open()
    create_places(fleet, databases)
    for name, live in fleet.shards.items():
        in_shard(live, "create table towns (id integer primary key, name varchar(200))")
        with live.engine.begin() as connection:
            values = [{"id": number, "name": "x" * 150} for number in range(ROWS[name])]
            if values:
                connection.execute(text("insert into towns values (:id, :name)"), values)
    return fleet


def settle(live: LiveShard) -> None:
    """Wait for PostgreSQL's processes to end, at which they tell what they have inserted."""
    others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    deadline = time.monotonic() + 30
    while live.backend.name == "postgresql" and in_shard(live, others) != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def analyse(fleet: Fleet) -> None:
    for live in fleet.shards.values():
        settle(live)
        in_shard(live, "analyze table towns" if live.backend.name == "mysql" else "analyze towns")


def read(fleet: Fleet, *, is_exact: bool = False) -> dict[str, ShardSize]:
    found = {o.shard_id: o.result for o in read_stats(fleet, list(fleet.shards.values()), is_exact=is_exact)}
    return {name: found[name] for name in fleet.shards}


def by_table(found: dict[str, ShardSize], fleet: Fleet) -> dict[str, TableStats]:
    return {table.name: table for table in table_stats(found, meant_tables(fleet))}


def test_rows_are_estimated_and_counted(project: Project, kind: str, of_kind: Databases) -> None:
    fleet = filled(project, kind, of_kind)
    analyse(fleet)
    estimated = {name: size.tables["towns"] for name, size in read(fleet).items()}
    counted = {name: size.tables["towns"] for name, size in read(fleet, is_exact=True).items()}
    assert {name: size.rows for name, size in counted.items()} == ROWS
    assert {size.rows_are for size in counted.values()} == {Known.EXACT}
    # SQLite's small files are counted in any case; the estimates of the others are of just now.
    expected = Known.EXACT if of_kind.engine == "sqlite" else Known.ESTIMATE
    assert {size.rows_are for size in estimated.values()} == {expected}
    assert {name: size.rows for name, size in estimated.items()} == ROWS
    for size in estimated.values():
        assert size.bytes is None or size.bytes >= 4096
    bytes_are = Known.ESTIMATE if of_kind.engine == "mysql" else Known.EXACT
    assert {size.bytes_are for size in estimated.values()} == {bytes_are}
    assert (estimated["a"].bytes or 0) >= (estimated["c"].bytes or 0)


def test_each_shard_has_its_own_tables_only(project: Project, kind: str, of_kind: Databases) -> None:
    fleet = filled(project, kind, of_kind)
    quote = "`" if of_kind.engine == "mysql" else '"'
    in_shard(fleet.shards["b"], f"create table {quote}100% of b{quote} (id int)")
    in_shard(fleet.shards["b"], "create view big_towns as select * from towns")
    found = read(fleet, is_exact=True)
    assert {name: set(size.tables) for name, size in found.items()} == {
        "a": {"towns"},
        "b": {"towns", "100% of b"},
        "c": {"towns"},
    }
    assert found["b"].tables["100% of b"].rows == 0
    assert {size.file_bytes is not None for size in found.values()} == {of_kind.engine == "sqlite"}


def test_schemas_of_one_server_are_read_in_one_statement(project: Project, kind: str, of_kind: Databases) -> None:
    fleet = filled(project, kind, of_kind)
    with counted_statements() as statements, counted_connections() as connections:
        read(fleet)
    together = kind in ("postgresql schemas", "mysql databases")
    assert len(connections) == (1 if together else 3)
    if together:
        assert len([statement for statement in statements if "FROM" in statement]) == 1


def test_a_table_that_nobody_has_analysed(project: Project, postgresql: Databases) -> None:
    fleet = filled(project, "postgresql schemas", postgresql)
    settle(fleet.shards["a"])  # the statistics collector was told; the planner knows nothing yet
    assert {name: size.tables["towns"].rows for name, size in read(fleet).items()} == ROWS
    in_shard(fleet.shards["a"], "select pg_stat_reset_single_table_counters('s_a.towns'::regclass)")
    lost = read(fleet)["a"].tables["towns"]
    assert lost.rows is None
    parts = by_names({"a": ShardSize({"towns": lost})})["towns"].parts
    assert [part.rows_are for part in parts] == ["unknown"]


def by_names(found: dict[str, ShardSize]) -> dict[str, TableStats]:
    return {table.name: table for table in table_stats(found, {})}


def test_estimates_outlive_the_statistics_that_a_crash_loses(project: Project, postgresql: Databases) -> None:
    fleet = filled(project, "postgresql databases", postgresql)
    analyse(fleet)
    in_shard(fleet.shards["a"], "select pg_stat_reset_single_table_counters('towns'::regclass)")
    assert read(fleet)["a"].tables["towns"].rows == ROWS["a"]


def test_a_partitioned_table_has_what_its_partitions_have(project: Project, postgresql: Databases) -> None:
    fleet = filled(project, "postgresql schemas", postgresql)
    live = fleet.shards["a"]
    in_shard(live, "create table days (day int) partition by range (day)")
    in_shard(live, "create table early partition of days for values from (0) to (10)")
    in_shard(live, "create table late partition of days for values from (10) to (20) partition by range (day)")
    in_shard(live, "create table latest partition of late for values from (15) to (20)")
    in_shard(live, "insert into days values (1), (2), (17)")
    settle(live)
    in_shard(live, "analyze early")
    in_shard(live, "analyze latest")
    found = read(fleet)["a"]
    assert set(found.tables) == {"towns", "days"}
    assert found.tables["days"].rows == 3
    assert found.tables["days"].bytes == 2 * 8192
    assert read(fleet, is_exact=True)["a"].tables["days"].rows == 3


@pytest.mark.parametrize("what", ["postgresql schemas", "postgresql databases"])
def test_a_table_that_is_being_altered_holds_up_nothing(project: Project, what: str, postgresql: Databases) -> None:
    project.more = "timeout_s = 2"
    fleet = filled(project, what, postgresql)
    analyse(fleet)
    with fleet.shards["a"].engine.begin() as connection:
        connection.execute(text("lock table towns in access exclusive mode"))
        found = read(fleet)
    assert {name: size.tables["towns"].rows for name, size in found.items()} == ROWS
    are = {name: size.tables["towns"].bytes_are for name, size in found.items()}
    assert are == {"a": Known.ESTIMATE, "b": Known.EXACT, "c": Known.EXACT}
    assert (found["a"].tables["towns"].bytes or 0) >= 8192
    in_shard(fleet.shards["a"], "create table new as select * from towns")
    with fleet.shards["a"].engine.begin() as connection:
        connection.execute(text("lock table new in access exclusive mode"))
        assert read(fleet)["a"].tables["new"].bytes is None  # nobody has counted its pages yet


def test_a_login_that_may_only_read(project: Project, postgresql: Databases) -> None:
    fleet = filled(project, "postgresql schemas", postgresql)
    analyse(fleet)
    fleet.shards["asia"] = fleet.shards["a"]  # as whom the login is made
    grants = ["grant usage on schema s_a, s_b", "grant select on all tables in schema s_a"]
    with login("postgresql", grants, fleet) as name:
        limited = as_login(project, name)
        found = {o.shard_id: o for o in read_stats(limited, list(limited.shards.values()))}
        counted = {o.shard_id: o for o in read_stats(limited, list(limited.shards.values()), is_exact=True)}
    assert found["a"].result.tables["towns"].rows == counted["a"].result.tables["towns"].rows == ROWS["a"]
    assert counted["a"].result.tables["towns"].rows_are is Known.EXACT
    assert (found["b"].result.tables["towns"].rows, found["b"].result.tables["towns"].is_denied) == (ROWS["b"], True)
    assert counted["b"].result.tables["towns"].rows_are is Known.ESTIMATE
    assert found["c"].error.message == counted["c"].error.message == "permission denied for schema `s_c`"


def test_a_mysql_login_that_may_only_read(project: Project, mysql: Databases) -> None:
    fleet = filled(project, "mysql databases", mysql)
    analyse(fleet)
    fleet.shards["asia"] = fleet.shards["a"]
    grants = [f"grant select on {fleet.shards[name].engine.url.database}.*" for name in ("a", "b")]
    with login("mysql", grants, fleet) as name:
        limited = as_login(project, name)
        counted = {o.shard_id: o for o in read_stats(limited, list(limited.shards.values()), is_exact=True)}
    assert [counted[name].result.tables["towns"].rows for name in "ab"] == [ROWS["a"], ROWS["b"]]
    assert "denied" in counted["c"].error.message


def test_a_missing_schema_is_one_shards_trouble(project: Project, postgresql: Databases) -> None:
    fleet = filled(project, "postgresql schemas", postgresql)
    in_shard(fleet.shards["a"], "drop schema s_a cascade")
    found = {o.shard_id: o for o in read_stats(fleet, list(fleet.shards.values()))}
    assert found["a"].error.message == "there is no schema `s_a`"
    assert found["b"].result.tables["towns"].rows is not None


def test_a_large_sqlite_file_is_not_counted_unless_asked(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "COUNTED_BYTES", 4096)
    fleet = filled(project, "sqlite files", Databases("sqlite", tmp_path))
    found = read(fleet)
    assert found["a"].tables["towns"].rows is None
    in_shard(fleet.shards["a"], "analyze")
    in_shard(fleet.shards["a"], "delete from towns where id < 10")
    estimated, counted = read(fleet)["a"].tables["towns"], read(fleet, is_exact=True)["a"].tables["towns"]
    assert (estimated.rows, estimated.rows_are) == (60, Known.ESTIMATE)
    assert (counted.rows, counted.rows_are) == (50, Known.EXACT)


@pytest.fixture
def shop(databases: Databases, tmp_path: Path) -> Iterator[Fleet]:
    """The shop with customers, of whom each has as many orders as their number, of two lines."""
    fleet = open_shop(tmp_path, urls={name: databases.create(name) for name in SHARDS})
    create_tables(fleet)
    with fleet.sessionmaker()() as session:
        for number in (1, 2, 3, 4):  # to c, b, a, a
            customer = Customer(id=number, name=f"n{number}")
            for _ in range(number):
                customer.orders.append(Order(lines=[Line(amount=1), Line(amount=2)]))
            session.add(customer)
        session.add_all([Dog(id=3, tricks=1), Dog(id=4, tricks=2), Animal(id=1)])
        session.commit()
    with fleet:
        yield fleet


def test_each_table_knows_by_what_its_rows_are_where_they_are(shop: Fleet) -> None:
    fleet = shop
    in_shard(fleet.shards["a"], "create table stray (id int)")
    in_shard(fleet.shards["a"], "insert into stray values (1)")
    for name in SHARDS:
        in_shard(fleet.shards[name], "insert into currencies values ('EUR', 1)")
    in_shard(fleet.shards["c"], "drop table visits")
    found = by_table(read(fleet, is_exact=True), fleet)
    assert found["customers"].kind is found["animals"].kind is found["dogs"].kind is Kind.SHARDED
    assert found["orders"].kind is found["order_lines"].kind is Kind.FOLLOWS
    assert found["stray"].kind is found["account_shards"].kind is Kind.UNPLACED
    assert [part.shard_id for part in found["stray"].parts] == ["a"]
    assert [part.rows for part in found["orders"].parts] == [7, 2, 1]
    assert found["orders"].skew.max_over_mean == pytest.approx(2.1)
    assert found["orders"].share(found["orders"].parts[0]) == pytest.approx(0.7)
    assert (found["currencies"].kind, found["currencies"].rows, found["currencies"].skew) == (Kind.COPY, None, None)
    assert [part.rows for part in found["currencies"].parts] == [1, 1, 1]
    assert [part.rows_are for part in found["visits"].parts] == ["exact", "exact", "missing"]
    assert [part.shard_id for part in found["regions"].parts] == ["a", "b"]
    total = total_of(list(found.values()))
    assert [part.rows for part in total.parts] == [2 + 7 + 14 + 1 + 4, 1 + 2 + 4, 1 + 1 + 2 + 1]


def test_the_largest_sharding_keys(shop: Fleet) -> None:
    fleet = shop
    in_shard(fleet.shards["c"], "insert into cells values ('t', 1, ''), ('t', 2, '')")
    in_shard(fleet.shards["a"], "insert into customers (id, name) values (1, 'misplaced')")
    tables, unread = keyed_tables(fleet)
    assert unread == []
    assert {table.name for table in tables} >= {"customers", "orders", "order_lines", "cells", "animals"}
    shards = list(fleet.shards.values())
    read_now = read_largest_keys(fleet, shards, tables, 3, timeout_s=None)
    found = sorted(read_now, key=lambda outcome: outcome.shard_id)
    largest = largest_keys(tables, found, 3)
    assert [(key.key, key.shard_id, key.rows) for key in largest if key.table == "order_lines"] == [
        ((4,), "a", 8),
        ((3,), "a", 6),
        ((2,), "b", 4),
    ]
    assert {key.columns for key in largest if key.table == "order_lines"} == {("Customer.id",)}
    assert largest[[key.table for key in largest].index("order_lines")].share == pytest.approx(8 / 20)
    assert {(key.key, key.rows) for key in largest if key.table == "cells"} == {(("t", 1), 1), (("t", 2), 1)}
    assert [(key.key, key.shard_id) for key in largest if key.table == "dogs"] == [((3,), "a"), ((4,), "a")]
    assert [(key.key, key.shard_id) for key in largest if key.table == "animals"][2:] == [((1,), "c")]
    ones = [key.shard_id for key in largest_of(fleet, tables, 9, "customers") if key.key == (1,)]
    assert sorted(ones) == ["a", "c"]


def largest_of(fleet: Fleet, tables: list[object], most: int, name: str) -> Iterable[object]:
    found: list[Outcome[object]] = list(read_largest_keys(fleet, fleet.shards.values(), tables, most, timeout_s=None))
    return [key for key in largest_keys(tables, found, most) if key.table == name]


APP = """
from sqlalchemy import create_engine
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import sessionmaker
from tests.fixtures.shop import Base

shards = {{name: create_engine(url) for name, url in {urls!r}.items()}}
Session = sessionmaker(
    class_=ShardedSession, shards=shards, shard_chooser=max, identity_chooser=max, execute_chooser=max
)
"""


def test_an_application_without_a_shard_map(
    shop: Fleet, databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {name: live.engine.url.render_as_string(hide_password=False) for name, live in shop.shards.items()}
    name = f"stats_app_{databases.engine}"
    (tmp_path / f"{name}.py").write_text(APP.format(urls=urls))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shardctl.toml").unlink()
    with shardctl.open(app=f"{name}:Session") as app:
        found = by_table(read(app, is_exact=True), app)
        assert {table.kind for table in found.values()} == {Kind.UNPLACED}
        assert [part.rows for part in found["orders"].parts] == [7, 2, 1]
        with pytest.raises(ConfigError, match="does not say what its sharding keys are"):
            keyed_tables(app)
        for live in app.shards.values():
            live.bind.dispose()


def test_schemas_that_are_copies_of_one_shop(postgresql: Databases, tmp_path: Path) -> None:
    url = postgresql.create("shop")
    engine = create_engine(url)
    with engine.begin() as connection:
        for name in SHARDS:
            connection.execute(text(f"create schema {name}"))
    engine.dispose()
    entries = "".join(f'\n[shards.{name}]\nurl = "{url}"\nschema = "{name}"\n' for name in SHARDS)
    (tmp_path / "shardctl.toml").write_text(RULES + entries)
    fleet = shardctl.open(tmp_path / "shardctl.toml")
    create_tables(fleet)
    for name in SHARDS:
        in_shard(fleet.shards[name], "insert into regions values (1, 'Asia')" if name != "c" else "select 1")
    fleet.close()
    settle(fleet.shards["a"])
    with fleet, counted_connections() as connections:
        found = by_table(read(fleet), fleet)
    assert len(connections) == 1
    assert [part.rows for part in found["regions"].parts] == [1, 1]
