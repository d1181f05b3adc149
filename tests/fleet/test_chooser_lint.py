"""`choosers lint`: applications with one fault each, and applications without."""

from __future__ import annotations

import datetime
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from shardctl.errors import UnknownName
from shardctl.fleet import Fleet
from shardctl.rows.choosers.lint import Wish, lint_choosers
from shardctl.rows.choosers.report import Report
from shardctl.rows.choosers.rules import RULES, check_codes
from shardctl.rows.choosers.stored import read_samples
from shardctl.rows.choosers.watched import writes
from tests.fixtures.shop import RULES as SHOP_RULES
from tests.fixtures.shop import (
    Account,
    Animal,
    Customer,
    Dog,
    Order,
    Product,
    Region,
    Visit,
    create_tables,
    open_shop,
)

MADE = "made = sessionmaker(class_=ShardedSession, shards=shards, **choosers)\n"

Linter = Callable[..., Report]


def lint(fleet: Fleet, *, rows: bool = True, limit: int = 25, **wish: object) -> Report:
    mappers = list(fleet.models.mappers.values())
    outcomes = list(read_samples(fleet, mappers, list(fleet.shards.values()), limit=limit)) if rows else []
    outcomes.sort(key=lambda outcome: outcome.shard_id)
    return lint_choosers(fleet, mappers, [outcome.result for outcome in outcomes], Wish(**wish))


def faults(report: Report) -> set[tuple[str, str, str]]:
    return {(entry.rule.code, entry.class_name, entry.chooser) for entry in report.findings}


@pytest.fixture
def lint_app(open_app: Callable[..., Fleet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Linter:
    """Lints an application whose cities are two on each side, and whose settings are in the west."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for side in ("east", "west"):
        with sqlite3.connect(tmp_path / f"{side}.db") as connection:
            connection.executescript(
                f"""
                create table cities (id integer primary key, side text);
                insert into cities values (1, '{side}'), (2, '{side}');
                create table settings (id integer primary key);
                insert into settings values (1);
                create table streets (id integer primary key, city_id integer);
                insert into streets values (1, 1);
                """
            )
        connection.close()

    def run(source: str, **options: object) -> Report:
        sys.modules.pop("the_app", None)  # a test may have several applications
        return lint(open_app(source + MADE), **options)

    return run


SHARD = "def f(mapper, instance, clause=None):\n    "
IDENTITY = "def f(mapper, key, **kw):\n    "
EXECUTE = "def f(context):\n    "
IN_TURN = "import itertools\nturns = itertools.cycle([%s])\n"
WRITES = "with shards['west'].begin() as connection:\n        connection.exec_driver_sql('delete from settings')\n    "
READS = "with shards['west'].connect() as connection:\n        connection.exec_driver_sql('select 1')\n    "
READS_ONLY = "if not context.is_select:\n        return []\n    "

FAULTS = [
    (SHARD + "raise LookupError('gone')", "C101 C201"),
    (SHARD + "return [instance.side]", "C102"),
    (SHARD + "return None", "C102 C201"),
    (SHARD + "return 'north'", "C103"),
    (SHARD + "return instance.side if instance.id == 1 else 'north'", "C103"),
    (IN_TURN % "'east', 'west'" + SHARD + "return next(turns)", "C105"),
    (SHARD + WRITES + "return instance.side", "C106"),
    (SHARD + READS + "return instance.side", "C107"),
    (SHARD + "side = instance.side\n    instance.side = 'west'\n    return side", "C108"),
    (SHARD + "instance.seen = True\n    return instance.side", ""),
    ("import time\n" + SHARD + "time.sleep(0.02)\n    return instance.side", "C109"),
    (SHARD + "return 'west'", "C202 C203 C204"),
    (SHARD + "return {'east': 'west', 'west': 'east'}[instance.side]", "C204"),
    (IDENTITY + "raise LookupError('gone')", "C101"),
    (IDENTITY + "return 'east'", "C102"),
    (IDENTITY + "return None", "C102"),
    (IDENTITY + "return ['east', 'north']", "C103"),
    (IDENTITY + "return []", "C104"),
    (IDENTITY + "return ['east']", "C302"),
    (IDENTITY + READS + "return list(shards)", "C107"),
    (EXECUTE + "raise LookupError('gone')", "C101"),
    (EXECUTE + "return 'east'", "C102"),
    (EXECUTE + "return ['north']", "C103"),
    (EXECUTE + "return iter(())", "C104"),
    (EXECUTE + "return (name for name in shards)", ""),
    (EXECUTE + READS_ONLY + "return list(shards)", "C104"),
    (IN_TURN % "['east'], ['west']" + EXECUTE + "return next(turns)", "C105"),
    (EXECUTE + WRITES + "return list(shards)", "C106"),
    (EXECUTE + "context.session.add(City(id=1, side='west'))\n    return list(shards)", "C108"),
    (EXECUTE + "return ['west']", "C301 C303 C304 C305"),
    (EXECUTE + "return ['west'] if context.is_delete else list(shards)", "C305"),
    (EXECUTE + "return list(shards) if context.parameters or not context.is_select else ['west']", "C303 C304"),
]


@pytest.mark.parametrize(("source", "codes"), FAULTS, ids=range(len(FAULTS)))
def test_each_fault_has_its_code(lint_app: Linter, source: str, codes: str) -> None:
    chooser = "shard" if SHARD in source else "identity" if IDENTITY in source else "execute"

    report = lint_app(f"{source}\nchoosers['{chooser}_chooser'] = f\n", max_ms=15.0)

    of_cities = [entry for entry in report.findings if entry.class_name in ("City", "")]
    assert {entry.rule.code for entry in of_cities} == set(codes.split()), of_cities
    assert {entry.chooser for entry in of_cities} <= {f"{chooser}_chooser"}
    assert all(entry.count and entry.what and entry.example for entry in of_cities)
    assert report.is_clean == (set(codes.split()) <= {"C203", "C204"})


def test_every_code_is_met() -> None:
    assert {code for _, codes in FAULTS for code in codes.split()} == set(RULES)


def test_nothing_is_written_whatever_the_choosers_do(lint_app: Linter, tmp_path: Path) -> None:
    lint_app(f"{SHARD}{WRITES}return instance.side\nchoosers['shard_chooser'] = f\n")
    lint_app(
        """
def f(mapper, instance, clause=None):
    with Session(shards["west"]) as session:
        session.add(Setting(id=99))
        try:
            session.commit()
        except Exception:
            pass
    return instance.side
choosers["shard_chooser"] = f
"""
    )
    for side in ("east", "west"):
        with sqlite3.connect(tmp_path / f"{side}.db") as connection:
            assert connection.execute("select id from settings").fetchall() == [(1,)]
            assert connection.execute("select count(*) from cities").fetchone() == (2,)
        connection.close()
    assert not event.contains(Engine, "before_cursor_execute", lint)


def test_a_clean_application(lint_app: Linter) -> None:
    report = lint_app("")
    assert report.findings == []
    assert report.is_clean
    assert report.stored == 4 + 1
    assert report.notes == []
    assert {(timing.class_name, timing.chooser) for timing in report.timings} == {
        (name, f"{chooser}_chooser") for name in ("City", "Setting") for chooser in ("shard", "identity", "execute")
    }
    assert all(0 <= timing.median_ms <= timing.max_ms for timing in report.timings)
    assert lint_app("", rows=False).findings == []


STREETS = """
class Street(Base):
    __tablename__ = "streets"
    id: Mapped[int] = mapped_column(primary_key=True)
    city_id: Mapped[int] = mapped_column(ForeignKey("cities.id"))
    city: Mapped[City] = relationship()

choosers["shard_chooser"] = lambda mapper, instance, clause=None: getattr(instance, "city", instance).side
"""


def test_children_are_placed_by_their_parents(lint_app: Linter) -> None:
    assert lint_app(STREETS).findings == []
    assert lint_app(STREETS, rows=False).findings == []


def test_a_lazy_load_that_cannot_be_answered(lint_app: Linter) -> None:
    report = lint_app(
        STREETS
        + """
def f(context):
    return {}["parent"] if context.is_relationship_load else list(shards)
choosers["execute_chooser"] = f
"""
    )
    found = [(entry.rule.code, entry.class_name) for entry in report.findings]
    assert found == [("C101", "Street")]
    assert report.findings[0].example == "load of Street.city of Street (1,) on east: raised KeyError: 'parent'"


def test_values_that_choosers_know_are_found_in_them(lint_app: Linter) -> None:
    by_table = "homes = {'E': 'east', 'W': 'west'}\nf = lambda mapper, instance, clause=None: homes[instance.side]\n"
    in_code = (
        "def f(mapper, instance, clause=None):\n    if instance.side in ('E', 'O'):\n        return 'east'\n"
        "    if instance.side == 'W':\n        return 'west'\n    raise ValueError(instance.side)\n"
    )
    in_closure = (
        "def make(homes):\n    return lambda mapper, instance, clause=None: homes[instance.side]\n"
        "f = make({'E': 'east', 'W': 'west'})\n"
    )
    setting = "g = lambda mapper, instance, clause=None: 'west' if mapper.class_ is Setting else f(mapper, instance)\n"
    for source in (by_table, in_code, in_closure):
        report = lint_app(
            f"{source}{setting if source is not in_closure else ''}choosers['shard_chooser'] = f\n", rows=False
        )
        assert [entry for entry in report.findings if entry.class_name == "City"] == []


def test_one_home_that_is_declared_is_no_finding(lint_app: Linter) -> None:
    report = lint_app("choosers['shard_chooser'] = lambda mapper, instance, clause=None: 'west'\n", rows=False)
    assert ("C202", "City", "shard_chooser") in faults(report)
    assert ("C202", "Setting", "shard_chooser") not in faults(report)
    declared = "City.__table__.info['shards'] = ['west']\n"
    report = lint_app(
        declared + "choosers['shard_chooser'] = lambda mapper, instance, clause=None: 'west'\n", rows=False
    )
    assert "C202" not in {code for code, _, _ in faults(report)}


def test_the_same_seed_asks_the_same(lint_app: Linter) -> None:
    source = "choosers['shard_chooser'] = lambda mapper, instance, clause=None: f'shard_{instance.id % 7}'\n"

    def examples(seed: int) -> list[str]:
        return [entry.example for entry in lint_app(source, seed=seed, rows=False).findings]

    assert examples(1) == examples(1)
    assert examples(1) != examples(2)


def test_rules_that_are_allowed_are_left_out(lint_app: Linter) -> None:
    source = "choosers['execute_chooser'] = lambda context: ['west']\n"
    allowed = check_codes(["c301", "C303", "C304"])
    assert {code for code, _, _ in faults(lint_app(source, allowed=allowed))} == {"C305"}
    with pytest.raises(UnknownName, match="no rule `C999`"):
        check_codes(["C999"])


def test_rows_that_cannot_be_read_are_said(lint_app: Linter, tmp_path: Path) -> None:
    (tmp_path / "west.db").unlink()
    with sqlite3.connect(tmp_path / "west.db") as connection:
        connection.execute("create table cities (id integer primary key, side text)")
    connection.close()
    assert lint_app("").notes == ["rows of Setting cannot be read: no such table: settings"]


def test_the_choosers_of_a_shard_map(tmp_path: Path) -> None:
    rules = SHOP_RULES.replace('shards = { Asia = "a", Europe = "b" }', 'shards = { Asia = "a", Europe = "c" }')
    with open_shop(tmp_path, rules=rules) as fleet:
        create_tables(fleet)
        with fleet.shards["b"].connect(read_only=False) as connection:
            connection.exec_driver_sql("insert into account_shards values ('eve', 'b')")
            connection.commit()
        with fleet.session() as session:
            for number in range(6):
                customer = Customer(id=number, name=str(number))
                session.add_all(
                    [customer, Order(customer=customer), Product(sku=f"s{number}"), Dog(id=number, tricks=2)]
                )
                session.add(Visit(day=datetime.date(2024 + number % 3, 5, 5)))
            session.add_all([Account(name="eve"), Region(name="Asia"), Animal(id=70, kind="animal")])
            session.commit()
        report = lint(fleet)
        assert report.findings == []
        assert report.stored == 6 * 5 + 3
        assert lint(fleet, rows=False).findings == []


@pytest.mark.parametrize("states", [{"a": "readonly", "b": "draining"}, {"c": "offline"}], ids=str)
def test_states_are_no_faults_of_choosers(tmp_path: Path, states: dict[str, str]) -> None:
    with open_shop(tmp_path, states=states) as fleet:
        create_tables(fleet)
        assert lint(fleet).findings == []


def test_a_class_without_a_rule_has_no_home(tmp_path: Path) -> None:
    rules = SHOP_RULES.replace("[tables.Product]", "[tables.products_that_are_none]").partition("[tables.products_that")
    with open_shop(tmp_path, rules=rules[0] + "[tables.Cell]" + rules[2].partition("[tables.Cell]")[2]) as fleet:
        found = faults(lint(fleet, rows=False))
    assert found == {("C201", "Product", "shard_chooser")}


@pytest.mark.parametrize(
    ("statement", "is_write"),
    [
        ("SELECT 1", False),
        ("  select a from b where c = 'insert into'", False),
        ("WITH x AS (SELECT 1) SELECT * FROM x", False),
        ("-- delete\nSELECT 1", False),
        ("PRAGMA table_info('cities')", False),
        ("SHOW TABLES", False),
        ('SELECT "update" FROM t', False),
        ("INSERT INTO t VALUES (1)", True),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", True),
        ("SELECT * FROM t FOR UPDATE", True),
        ("SELECT nextval('s')", True),
        ("SELECT * INTO t2 FROM t", True),
        ("PRAGMA user_version = 7", True),
        ("CREATE TABLE t (id int)", True),
        ("CALL f()", True),
    ],
)
def test_what_writes(statement: str, is_write: bool) -> None:
    assert writes(statement) is is_write
