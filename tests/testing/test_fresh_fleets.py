"""Fleets for one test: a project's rules, on empty SQLite files."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from sqlalchemy import JSON, Column, MetaData, String, Table, inspect, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shardctl.errors import ConfigError
from shardctl.fleet import Fleet
from shardctl.testing.fleets import copy_fleet, find_shard_map, resized
from shardctl.topology.load import load
from shardctl.topology.model import ShardState
from tests.fixtures.shop import ALL, RULES, Base, Customer, Region, Visit

SHARDS = """
[shards.a]
url = "postgresql://shop:${NOT_SET}@db1/shop"
schema = "a"
labels = { region = "eu" }

[shards.b]
url = "mysql://shop@db2/b"

[shards.c]
url = "sqlite:///main.db"
schema = "c"
attach = "c.db"
state = "readonly"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shard map of three engines, one class for each strategy."""
    file = tmp_path / "shardctl.toml"
    file.write_text(f'gather = "${{NOT_SET_EITHER}}"\n{RULES}{SHARDS}')
    return file


def copied(file: Path, *, shards: int | None = None) -> Fleet:
    folder = file.parent / "fleet"
    folder.mkdir()
    return copy_fleet(file, folder, shards=shards)


def test_each_shard_is_a_file_with_the_tables_that_belong_on_it(shop: Path) -> None:
    with copied(shop) as fleet:
        for shard_id, live in fleet.shards.items():
            assert live.backend.name == "sqlite"
            assert live.shard.schema is None
            tables = set(inspect(live.bind).get_table_names())
            assert tables == {table.name for table in fleet.tables_on(shard_id)}
            assert ("regions" in tables) == (shard_id in "ab")
            assert ("account_shards" in tables) == (shard_id == "b")
        assert fleet.shards["a"].shard.labels == {"region": "eu"}
        assert fleet.shards["c"].shard.state is ShardState.READONLY
        assert fleet.shard_map.gather is None
    assert {file.name for file in (shop.parent / "fleet").iterdir()} == {f"shard-{number}.db" for number in (1, 2, 3)}


def test_its_sessions_place_and_merge(shop: Path) -> None:
    shop.write_text(shop.read_text().replace("readonly", "active"))
    with copied(shop) as fleet, fleet.session() as session:
        session.add_all([Customer(id=number, name=str(number)) for number in range(9)])
        session.commit()
        assert session.scalars(select(Customer.id).order_by(Customer.id.desc()).limit(2)).all() == [8, 7]
        assert len({inspect(customer).identity_token for customer in session.scalars(select(Customer))}) == 3


def homes(fleet: Fleet, *instances: Base) -> str:
    assert fleet.placement is not None
    return " ".join(fleet.placement.home(inspect(instance).mapper, instance) for instance in instances)


def test_fewer_shards_take_the_rows_of_the_others_in_turn(shop: Path) -> None:
    with copied(shop) as whole:
        assert homes(whole, *(Customer(id=number) for number in (1, 2, 3))) == "c b a"
    (shop.parent / "fleet").rename(shop.parent / "first")
    with copied(shop, shards=2) as fleet:
        assert list(fleet.shards) == ["a", "b"]
        assert homes(fleet, *(Customer(id=number) for number in (1, 2, 3))) == "a b a"
        assert homes(fleet, Region(name="Asia"), Region(name="Europe")) == "a b"
        assert homes(fleet, Visit(day=datetime.date(2030, 1, 1))) == "a"
        assert "account_shards" in inspect(fleet.shards["b"].bind).get_table_names()
    with pytest.raises(ConfigError, match="a fleet of 0 shards"):
        resized(load(shop, environ={"NOT_SET": "", "NOT_SET_EITHER": "postgresql://db1/scratch"}), 0)


def test_more_shards_are_used_by_what_is_placed_by_hash(shop: Path) -> None:
    with copied(shop, shards=5) as fleet:
        assert list(fleet.shards) == ["a", "b", "c", "extra_1", "extra_2"]
        used = set(homes(fleet, *(Customer(id=number) for number in range(100))).split())
        assert used == set(fleet.shards)
        assert homes(fleet, Region(name="Asia")) == "a"
        for shard_id, live in fleet.shards.items():
            tables = inspect(live.bind).get_table_names()
            assert "currencies" in tables, "a reference table of every shard"
            assert ("visits" in tables) == (shard_id in ALL.split())


def test_more_shards_than_any_rule_could_use(tmp_path: Path) -> None:
    file = tmp_path / "shardctl.toml"
    tables = '[tables.Region]\nstrategy = "lookup"\nkey = "name"\nshards = { Asia = "a" }\n'
    file.write_text(f'models = "tests.fixtures.shop:Base"\n{SHARDS}{tables}')
    with pytest.raises(ConfigError, match="no rule by `hash`: nothing would be on 1 more") as caught:
        copied(file, shards=4)
    assert caught.value.hint == "ask for 3 at most"


class Odd(DeclarativeBase):
    pass


class Document(Odd):
    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(40))
    body: Mapped[list[str]] = mapped_column(ARRAY(String))


even = MetaData()
Table("documents", even, Column("body", JSON().with_variant(ARRAY(String), "postgresql")))
in_schema = MetaData()
Table("documents", in_schema, Column("body", JSON()), schema="archive")


def test_a_type_that_sqlite_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    file = tmp_path / "shardctl.toml"
    file.write_text(f'models = "test_fresh_fleets:Odd"\n{SHARDS}')
    with pytest.raises(ConfigError, match="SQLite cannot create table `documents`, column `body`") as caught:
        copied(file)
    assert caught.value.facts == ("its type is ARRAY(String())",)
    assert "with_variant" in str(caught.value.hint)
    (tmp_path / "fleet").rename(tmp_path / "first")
    file.write_text(f'models = "test_fresh_fleets:even"\n{SHARDS}')
    copied(file).close()
    (tmp_path / "fleet").rename(tmp_path / "second")
    file.write_text(f'models = "test_fresh_fleets:in_schema"\n{SHARDS}')
    with pytest.raises(ConfigError, match=r"SQLite cannot create table `archive\.documents`") as caught:
        copied(file)
    assert caught.value.facts == ("unknown database archive",)


def test_an_application_has_engines_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "shardctl.toml"
    file.write_text('app = "app:Session"\n')
    with pytest.raises(ConfigError, match="`app` makes its own engines") as caught:
        copied(file)
    assert "--shardctl-scatter" in str(caught.value.hint)


def test_the_shard_map_is_found_as_the_command_line_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "tests"
    below.mkdir()
    with pytest.raises(ConfigError, match=r"no `shardctl.toml` in .*tests` or in a folder above"):
        find_shard_map("", None, below)
    (tmp_path / "shardctl.toml").touch()
    assert find_shard_map("", None, below) == tmp_path / "shardctl.toml"
    monkeypatch.setenv("SHARDCTL_CONFIG", "elsewhere.toml")
    assert find_shard_map("", None, below) == Path("elsewhere.toml")
    assert find_shard_map("maps/small.toml", below / "pytest.ini", tmp_path) == below / "maps/small.toml"
    assert find_shard_map("maps/small.toml", None, tmp_path) == tmp_path / "maps/small.toml"


def test_fixtures_give_fresh_fleets_and_say_what_is_wrong_in_a_few_lines(pytester: pytest.Pytester, shop: Path) -> None:
    pytester.path.joinpath("shardctl.toml").write_text(shop.read_text().replace("readonly", "active"))
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    pytester.makepyfile(
        """
        import pytest
        from tests.fixtures.shop import Customer

        @pytest.mark.parametrize("time", [1, 2])
        def test_fresh(shardctl_fleet, time):
            with shardctl_fleet.session() as session:
                assert session.get(Customer, 1) is None
                session.add(Customer(id=1, name="one"))
                session.commit()
            assert len(shardctl_fleet.shards) == 3

        def test_two(shardctl_fleet, make_shardctl_fleet):
            assert [len(make_shardctl_fleet(shards=count).shards) for count in (1, 4)] == [1, 4]

        def test_wrong(make_shardctl_fleet):
            make_shardctl_fleet(shards=0)
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["a fleet of 0 shards holds nothing", "", "hint: ask for one at least"])
    assert "shardctl/testing" not in result.stdout.str()
