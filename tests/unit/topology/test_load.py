"""What is wrong with a shard map is told by file, key and nearest right name; tests/cli shows how that reads."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from shardctl.errors import ConfigError, ExitCode, UnknownName
from shardctl.topology.buckets import spread_buckets
from shardctl.topology.load import find_file, load
from shardctl.topology.model import FollowingTable, ReferenceTable, ShardedTable, ShardMap, ShardState
from shardctl.topology.strategies import Directory, Hash, Lookup, Range

SHARDS = '[shards.asia]\nurl = "sqlite:///asia.db"\n\n[shards.europe]\nurl = "postgresql://db1/europe"\n\n'


def read(tmp_path: Path, text: str, **environ: str) -> ShardMap:
    file = tmp_path / "shardctl.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, environ=environ)


def test_everything_that_a_shard_map_says(tmp_path: Path) -> None:
    shard_map = read(
        tmp_path,
        """
        models = ["shop.models:Base", "shop.audit:metadata"]
        migrations = "db/migrations"
        connections_per_server = 3
        timeout_s = 2.5

        [shards.asia]
        url = "postgresql://app:${PASSWORD}@db1/shop"
        schema = "asia"
        labels = { region = "asia", rank = 1, canary = true }
        state = "draining"

        [shards.europe]
        url = "sqlite:///data/europe.db?timeout=3"

        [shards.africa]
        url = "sqlite://"
        schema = "africa"
        attach = "data/${AFRICA}.db"

        [tables.Customer]
        strategy = "lookup"
        key = "region"
        shards = { Asia = "asia", Europe = "europe" }

        [tables.Order]
        strategy = "follow"
        parent = "customer"

        [tables.Event]
        strategy = "hash"
        key = ["tenant", "day"]
        shards = ["asia", "europe"]

        [tables.Log]
        strategy = "hash"
        key = "id"
        buckets = { asia = "0-1000", europe = "1001-1023" }

        [tables.Reading]
        strategy = "range"
        key = "day"
        ranges = [{ below = 2026-01-01, shard = "asia" }, { shard = "europe" }]

        [tables.Tenant]
        strategy = "directory"
        key = "id"
        on = "asia"
        table = "places"
        key_column = "tenant"
        shard_column = "shard"
        default = "europe"

        [tables.Country]
        strategy = "reference"

        [tables.Currency]
        strategy = "reference"
        shards = ["asia"]
        """,
        PASSWORD="hunter2",
        AFRICA="south",
    )
    assert shard_map.models == ("shop.models:Base", "shop.audit:metadata")
    assert shard_map.migrations == tmp_path / "db/migrations"
    assert (shard_map.connections_per_server, shard_map.timeout_s) == (3, 2.5)
    assert shard_map.source == tmp_path / "shardctl.toml"
    asia, europe, africa = shard_map.shards.values()
    assert (asia.url, asia.schema, asia.state) == ("postgresql://app:hunter2@db1/shop", "asia", ShardState.DRAINING)
    assert asia.labels == {"region": "asia", "rank": "1", "canary": "true"}
    assert (europe.url, europe.state) == (f"sqlite:///{tmp_path}/data/europe.db?timeout=3", ShardState.ACTIVE)
    assert (africa.url, africa.schema, africa.attach) == ("sqlite://", "africa", tmp_path / "data/south.db")
    assert shard_map.tables == {
        "Customer": ShardedTable("Customer", Lookup({"Asia": "asia", "Europe": "europe"}), ("region",)),
        "Order": FollowingTable("Order", "customer"),
        "Event": ShardedTable("Event", Hash(spread_buckets(["asia", "europe"])), ("tenant", "day")),
        "Log": ShardedTable("Log", Hash(("asia",) * 1001 + ("europe",) * 23), ("id",)),
        "Reading": ShardedTable("Reading", Range((datetime.date(2026, 1, 1),), ("asia", "europe")), ("day",)),
        "Tenant": ShardedTable(
            "Tenant", Directory(("asia", "europe", "africa"), "asia", "places", "tenant", "shard", "europe"), ("id",)
        ),
        "Country": ReferenceTable("Country", ("asia", "europe", "africa")),
        "Currency": ReferenceTable("Currency", ("asia",)),
    }


def test_the_place_to_gather_in_is_a_database_server(tmp_path: Path) -> None:
    assert (
        read(tmp_path, f'gather = "mysql://${{WHO}}@db1/scratch"\n{SHARDS}', WHO="app").gather
        == "mysql://app@db1/scratch"
    )
    with pytest.raises(ConfigError, match="`gather` is not the URL of a PostgreSQL or MySQL database"):
        read(tmp_path, f'gather = "sqlite:///x.db"\n{SHARDS}')


def test_defaults(tmp_path: Path) -> None:
    shard_map = read(tmp_path, 'models = "shop:Base"\n' + SHARDS)
    assert shard_map.models == ("shop:Base",)
    assert (shard_map.connections_per_server, shard_map.timeout_s, shard_map.migrations) == (8, 30.0, None)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("modles = 1\n" + SHARDS, "unknown key `modles`", "did you mean `models`?"),
        (SHARDS + "[shards.asia.x]\n", "unknown key `shards.asia.x`", "use one of `attach`, `labels`"),
        ('[shards.a]\nurl = "sqlite:///a"\nstate = "activ"', "`shards.a.state` is `activ`", "did you mean `active`?"),
        (SHARDS + '[tables.T]\nstrategy = "hsh"', "`tables.T.strategy` is `hsh`", "did you mean `hash`?"),
        (
            SHARDS + '[tables.T]\nstrategy = "follow"\nparnt = "x"',
            "unknown key `tables.T.parnt`",
            "did you mean `parent`",
        ),
        (
            SHARDS + '[tables.T]\nstrategy = "hash"\nkey = "id"\nshards = ["euorpe"]',
            r"`tables.T.shards\[0\]` is `euorpe`, not one of the shards",
            "did you mean `europe`?",
        ),
        (
            SHARDS + '[tables.T]\nstrategy = "directory"\nkey = "id"\non = "asia"\ntable = "t"\ndefault = "asai"',
            "`tables.T.default` is `asai`",
            "did you mean `asia`?",
        ),
        (
            SHARDS + '[tables.T]\nstrategy = "hash"\nkey = "id"\nbuckets = { asai = "0-1023" }',
            "`tables.T.buckets.asai` is `asai`",
            "did you mean `asia`?",
        ),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(tmp_path: Path, text: str, message: str, hint: str) -> None:
    with pytest.raises(UnknownName, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith("shardctl.toml: ")
    assert hint in str(caught.value.hint)
    assert caught.value.exit_code == ExitCode.USAGE


TABLE = SHARDS + "[tables.T]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("x = ", "not valid TOML"),
        ("timeout_s = 1", "no shards"),
        ('app = "shop:Session"\n' + SHARDS, "exclude each other"),
        ("shards = 1", "`shards` must be a table"),
        ("[shards]\na = 1", "`shards.a` is not a table"),
        ("[shards.a]", "unknown|`shards.a` has no `url`"),
        ("[shards.a]\nurl = true", "`shards.a.url` must be text, not `True`"),
        ('[shards.a]\nurl = "sqlite:///a"\nlabels = { x = [1] }', r"`shards.a.labels.x` must be text, not `\[1\]`"),
        ('[shards.a]\nurl = "sqlite:///a"\nlabels = { x = { y = 1 } }', "`shards.a.labels.x` must be text"),
        ('[shards.a]\nurl = "db1/asia"', "`shards.a.url` is not a database URL"),
        ('[shards.a]\nurl = "sqlite:a.db"', "`shards.a.url` is not a SQLite URL"),
        ('[shards.a]\nurl = "sqlite:///file::memory:?uri=true"', "is an in-memory database"),
        ('[shards.a]\nurl = "sqlite+pysqlite:///:memory:"', "is an in-memory database"),
        ('[shards.a]\nurl = "postgresql://${NOBODY}@db/a"', "needs the environment variable `NOBODY`"),
        ('[shards.a]\nurl = "sqlite:///a"\nschema = "a"', "`shards.a.schema` needs `attach`"),
        ('[shards.a]\nurl = "sqlite:///a"\nattach = "b"', "`shards.a.attach` needs a SQLite `url`, and a `schema`"),
        ('[shards.a]\nurl = "mysql://db/a"\nschema = "b"\nattach = "b"', "`shards.a.attach` needs a SQLite `url`"),
        ("timeout_s = 0\n" + SHARDS, "`timeout_s` must be a number above 0, not `0`"),
        ("timeout_s = inf\n" + SHARDS, "`timeout_s` must be a number above 0, not `inf`"),
        ("timeout_s = nan\n" + SHARDS, "`timeout_s` must be a number above 0"),
        ("timeout_s = true\n" + SHARDS, "`timeout_s` must be a number above 0, not `True`"),
        ("connections_per_server = 0.5\n" + SHARDS, "`connections_per_server` must be a whole number"),
        ("models = 7\n" + SHARDS, "`models` is `7`, not `module:attribute`"),
        ('models = ["a:b", "c"]\n' + SHARDS, "`models` is `c`, not `module:attribute`"),
        (SHARDS + "[tables]\nT = 1", "`tables.T` is not a table"),
        (TABLE, "`tables.T` has no `strategy`"),
        (TABLE + 'strategy = "follow"', "`tables.T` has no `parent`"),
        (TABLE + 'strategy = "lookup"\nkey = ""', "`tables.T` has no `shards`|has no `key`"),
        (TABLE + 'strategy = "lookup"\nkey = "a"\nshards = ["asia"]', r"`tables.T.shards` must be a table"),
        (TABLE + 'strategy = "lookup"\nkey = "a"\nshards = { x = 1 }', "`tables.T.shards.x` is `1`"),
        (TABLE + 'strategy = "range"\nkey = ["a", "b"]\nranges = [{ shard = "asia" }]', "only `hash` takes several"),
        (TABLE + 'strategy = "range"\nkey = "a"\nranges = [1]', r"`tables.T.ranges\[0\]` has no `shard`"),
        (TABLE + 'strategy = "range"\nkey = "a"\nranges = [{ below = [1], shard = "asia" }]', "must be a number, text"),
        (TABLE + 'strategy = "range"\nkey = "a"\nranges = [{ below = nan, shard = "asia" }]', "do not ascend"),
        (TABLE + 'strategy = "hash"\nkey = "a"\nshards = []', "`tables.T.shards` is not a list of shards"),
        (TABLE + 'strategy = "hash"\nkey = "a"\nshards = ["asia", "asia"]', "`tables.T.shards` names a shard twice"),
        (TABLE + 'strategy = "hash"\nkey = "a"\nbuckets = { asia = 7 }', "is not text as `0-255, 300`"),
        (TABLE + 'strategy = "hash"\nkey = "a"\nbuckets = { asia = "0-7" }', "1016 of 1024 buckets have no shard"),
        (TABLE + 'strategy = "directory"\nkey = "a"\ntable = "t"', "needs `on`"),
        (TABLE + 'strategy = "follow"\nparent = "p"\nidentity = "local"', "`tables.T.identity` is `local`, not one of"),
        (TABLE + 'strategy = "reference"\nshards = "asia"', "`tables.T.shards` is not a list of shards"),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith("shardctl.toml: ")
    assert caught.value.exit_code == ExitCode.USAGE


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        load(tmp_path / "nothing.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)
    (tmp_path / "shardctl.toml").write_bytes(b"models = '\xe9'")
    with pytest.raises(ConfigError, match=r"not UTF-8 text: .* at byte 10"):
        load(tmp_path / "shardctl.toml")


@pytest.mark.parametrize(
    "url", ["sqlite:///asia.db", "sqlite+pysqlite:///./asia.db", "sqlite:///file:asia.db?uri=true"]
)
def test_relative_files_are_relative_to_the_shard_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "shardctl.toml").write_text(f'[shards.asia]\nurl = "{url}"')
    shard = load("../shardctl.toml").shards["asia"]
    file = shard.url.partition("///")[2].removeprefix("file:").partition("?")[0]
    assert Path(file).resolve() == tmp_path / "asia.db"


def test_the_nearest_file_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    outer = tmp_path / "shardctl.toml"
    outer.write_text(SHARDS)
    (tmp_path / "a" / "pyproject.toml").write_text('# no [tool.shardctl] here\n[project]\nname = "tool.shardctl"\n')
    assert find_file(inner) == outer
    pyproject = inner / "pyproject.toml"
    pyproject.write_text('[tool.shardctl.shards.asia]\nurl = "sqlite:///asia.db"\n')
    assert find_file(inner) == pyproject
    assert list(load(pyproject).shards) == ["asia"]
    (inner / "shardctl.toml").write_text(SHARDS)
    assert find_file(inner) == inner / "shardctl.toml"


@pytest.mark.parametrize("text", ["", "tool = 1", "[tool]\nshardctl = 1", "[tool.other]\nx = 1"])
def test_a_pyproject_without_a_shard_map(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"no `\[tool.shardctl\]`|must be a table"):
        load(tmp_path / "pyproject.toml")


def test_an_application_takes_the_place_of_the_shards(tmp_path: Path) -> None:
    (tmp_path / "shardctl.toml").write_text("timeout_s = 3\n" + TABLE + 'strategy = "reference"')
    shard_map = load(tmp_path / "shardctl.toml", app="shop:Session")
    assert (shard_map.app, shard_map.timeout_s, shard_map.shards, shard_map.tables) == ("shop:Session", 3, {}, {})


def test_variables_come_from_the_process_unless_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASIA_HOST", "db7")
    text: Any = '[shards.asia]\nurl = "postgresql://${ASIA_HOST}/a"'
    (tmp_path / "shardctl.toml").write_text(text)
    assert load(tmp_path / "shardctl.toml").shards["asia"].url == "postgresql://db7/a"
    assert read(tmp_path, text, ASIA_HOST="db8").shards["asia"].url == "postgresql://db8/a"


@pytest.mark.parametrize(
    "text",
    [
        '[shards.asia]\nurl = ["{url}"]',
        '[shards.asia]\nurl = "sqlite:///a.db"\nattach = ["{url}"]',
        'shards = "{url}"',
        'models = "{url}"\n[shards.asia]\nurl = "sqlite:///a.db"',
    ],
)
def test_a_url_in_the_wrong_place_is_shown_without_its_password(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text.replace("{url}", "postgresql://app:s3cret@db1/asia?sslpassword=s3cret"))
    assert "postgresql://app:***@db1/asia?sslpassword=***" in caught.value.message
    assert "s3cret" not in caught.value.message
