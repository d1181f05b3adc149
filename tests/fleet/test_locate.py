"""What `locate` says where a key has several spellings, and where the shard that would say is not there."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert

from shardctl.fleet import Fleet
from shardctl.rows.identities import Target
from shardctl.rows.locate import Search, locate
from tests.fixtures.shop import Account, Order, Product, create_tables, open_shop


def search(fleet: Fleet, target: Target, *keys: object) -> Search:
    return locate(fleet, target, list(fleet.shards.values()), identities=[(key,) for key in keys])


def test_a_key_is_found_by_another_spelling(tmp_path, databases):
    """MySQL's usual collations ignore case: the row's key is not the one that was asked for."""
    urls = {name: databases.create(name) for name in "abc"}
    with open_shop(tmp_path, urls=urls) as fleet:
        create_tables(fleet)
        with fleet.sessionmaker()() as session:
            session.add(Product(sku="apple"))
            session.commit()
        for target in (Product.__mapper__, Product.__table__):
            found = search(fleet, target, "APPLE", "pear", "apple", "apple")
            keys = [row.primary_key for row in found.found]
            assert keys == [("apple",)] * (2 if databases.engine == "mysql" else 1)
            assert found.missing == ([("pear",)] if databases.engine == "mysql" else [("APPLE",), ("pear",)])


def test_a_shard_that_is_not_there_is_named_and_not_made(fleet, tmp_path):
    with fleet.shard("a").bind.begin() as connection:
        connection.execute(insert(Order.__table__), {"id": 9, "customer_id": 2})
        connection.execute(insert(Account.__table__), {"id": 1, "name": "ann"})
    for shard in fleet.shards.values():
        shard.bind.dispose()
    missing = Path(tmp_path / "b.db")
    missing.unlink()

    order = search(fleet, Order.__mapper__, 9)
    assert [row.shard_id for row in order.found] == ["a"]
    assert order.found[0].reason == (
        f"shard `b` cannot be asked for the Customer that Order follows: there is no file `{missing}`"
    )
    account = search(fleet, Account.__mapper__, 1)
    assert account.found[0].reason == (
        f"the directory `account_shards` on shard `b` cannot be read: there is no file `{missing}`"
    )
    assert [outcome.shard_id for outcome in [*order.failed, *account.failed]] == ["b", "b"]
    assert not missing.exists()
