from __future__ import annotations

import pytest

from shardctl.errors import UnknownName
from shardctl.topology.model import Shard, ShardMap, place_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:hunter2@db1/asia", "postgresql://app:***@db1/asia"),
        ("postgresql://app:hunt:er2@db1/asia", "postgresql://app:***@db1/asia"),
        ("postgresql://app:hunter2@2@db1/asia", "postgresql://app:***@db1/asia"),
        ("postgresql://us/er:hunter2@db1/asia", "postgresql://us/er:***@db1/asia"),
        ("postgresql://:hunter2@db1/asia", "postgresql://:***@db1/asia"),
        ("postgresql://app@db1:5432/asia", "postgresql://app@db1:5432/asia"),
        ("postgresql://db1/asia?user=app&password=hunter2&x=1", "postgresql://db1/asia?user=app&password=***&x=1"),
        ("mysql://db1/asia?passwd=hunter2", "mysql://db1/asia?passwd=***"),
        ("sqlite:////data/asia.db", "sqlite:////data/asia.db"),
    ],
)
def test_passwords_are_hidden(url: str, shown: str) -> None:
    shard = Shard("asia", url)
    assert shard.safe_url == shown
    assert "hunter2" not in repr(shard)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("postgresql://db/shop", "postgresql+psycopg://app:hunter2@db:5432/shop", True),
        ("postgres://db/shop", "postgresql://db/shop", True),
        ("mysql://db/shop", "mariadb+pymysql://root@db:3306/shop", True),
        ("postgresql://db/shop", "postgresql://db/shop2", False),
        ("postgresql://db/shop", "postgresql://db:5433/shop", False),
        ("postgresql:///shop?host=/a", "postgresql:///shop?host=/b", False),
        ("sqlite:////data/a.db", "sqlite:////data/../data/a.db?timeout=3", True),
        ("sqlite:////data/a.db", "sqlite:///file:/data/a.db?uri=true", True),
        ("sqlite:////data/a.db", "sqlite:////data/b.db", False),
    ],
)
def test_one_place_is_one_place_however_it_is_spelt(one: str, other: str, is_same: bool) -> None:
    assert (place_of(Shard("a", one)) == place_of(Shard("b", other))) is is_same


def test_schemas_are_places() -> None:
    url = "postgresql://db/shop"
    assert place_of(Shard("a", url, schema="a")) != place_of(Shard("b", url, schema="b"))
    assert place_of(Shard("a", "mysql://db/shop", schema="a")) == place_of(Shard("b", "mysql://db/a"))


def test_an_unknown_shard_is_answered_with_the_nearest() -> None:
    shard_map = ShardMap({"asia": Shard("asia", "sqlite:///asia.db")})
    assert shard_map.shard("asia").shard_id == "asia"
    with pytest.raises(UnknownName, match="no shard named `asai` in the shard map") as caught:
        shard_map.shard("asai")
    assert caught.value.hint == "did you mean `asia`? `shardctl shards` lists all 1"
