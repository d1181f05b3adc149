"""SQLAlchemy's statements are explained by the session's own choosers: where they go, and nothing is sent."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import delete, event, func, insert, select, text, update
from sqlalchemy.ext.horizontal_shard import set_shard_id

from shardctl.errors import NoPlacement, QueryRefused
from shardctl.fleet.fleet import Fleet
from shardctl.query.explain import explain
from shardctl.query.orm import MergingSession
from shardctl.query.orm.explain import explain_statement
from shardctl.query.parameters import bound
from tests.engines.keyed_data import HASH, SHARDS, Account, Country, Item, Shop, Visit, keyed
from tests.fixtures.engines import Databases, server_url

DAY = datetime.date(2024, 2, 3)
READ = [
    select(Account),
    select(Account).where(Account.id == 3),
    select(Account).where(Account.id.in_([3, 4])).order_by(Account.id.desc()).limit(3),
    select(Account.name, func.count()).group_by(Account.name),
    select(func.max(Item.cost), func.avg(Item.cost)),
    select(func.count()).select_from(select(Account).limit(5).subquery()),
    select(Visit).where(Visit.day == DAY),
    select(Shop).options(set_shard_id(SHARDS[1])),
    select(Shop).execution_options(_sa_shard_id=SHARDS[1]),
    select(Country),
    select(Account.__table__).where(Account.__table__.c.id == 3),
    select(Account).from_statement(text("SELECT * FROM accounts")),
    select(Account.id).union_all(select(Item.id)),
]
CHANGED = [
    update(Account).where(Account.id == 3).values(tier=1),
    update(Account).values(tier=1).execution_options(synchronize_session="fetch"),
    delete(Item).where(Item.account_id == 3),
    delete(Visit),
    update(Country).values(name="c"),
    insert(Account.__table__).values(id=900, name="x"),
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Shards whose sessions merge; made once, because nothing is committed."""
    databases = Databases(request.param, tmp_path_factory.mktemp("explained"))
    if databases.engine != "sqlite":
        server_url(databases.engine)
    with keyed(databases) as (made, _):
        yield Fleet(made.shard_map, made.shards, made.models, session_class=lambda: MergingSession)
    databases.drop_all()


@contextmanager
def sent(fleet: Fleet) -> Iterator[dict[str, list[str]]]:
    """Collect what is sent to each shard by its sessions and by shardctl itself."""
    found: dict[str, list[str]] = {}

    def listener(shard_id: str) -> Any:
        return lambda connection, cursor, statement, *rest: found.setdefault(shard_id, []).append(statement)

    engines = {id(engine): engine for shard in fleet.shards.values() for engine in (shard.bind, shard.engine)}
    names = {id(engine): shard.shard_id for shard in fleet.shards.values() for engine in (shard.bind, shard.engine)}
    listeners = [(engine, listener(names[key])) for key, engine in engines.items()]
    for engine, listen in listeners:
        event.listen(engine, "before_cursor_execute", listen)
    yield found
    for engine, listen in listeners:
        event.remove(engine, "before_cursor_execute", listen)


def test_statements_go_where_it_is_explained_and_nothing_is_sent_before(fleet: Fleet) -> None:
    for statement in READ + CHANGED:
        with sent(fleet) as before:
            found = explain_statement(fleet, statement)
        assert before == {}, statement
        with sent(fleet) as met, fleet.session() as session:
            session.execute(statement)
            session.rollback()
        assert set(found.shard_ids) == set(met), statement
        assert {shard_id for one in found.sent for shard_id in one.shard_ids} == set(met), statement


def test_the_statement_shown_is_the_statement_sent(fleet: Fleet) -> None:
    def plain(sql: str) -> str:
        return " ".join(sql.split())

    for statement in READ[:5] + CHANGED[:1]:
        found = explain_statement(fleet, statement)
        with sent(fleet) as met, fleet.session() as session:
            session.execute(statement)
        for one in found.sent:
            for shard_id in one.shard_ids:
                assert plain(one.sql) in map(plain, met[shard_id]), statement


def test_reasons_and_merging(fleet: Fleet) -> None:
    home = HASH.place((3,))
    found = explain_statement(fleet, READ[1])
    assert (found.route, found.shard_ids) == ("direct", (home,))
    assert found.why == f"Account.id = 3 -> hash -> {home}"
    assert explain_statement(fleet, READ[7]).why == f"the statement names its shard -> {SHARDS[1]}"
    assert explain_statement(fleet, READ[0]).why == "no condition on a sharding key"
    ordered = explain_statement(fleet, select(Account).order_by(Account.id.desc()).limit(3).offset(1))
    assert ordered.merged == ("sort by accounts.id DESC, take 3 after the first 1",)
    grouped = explain_statement(fleet, READ[3])
    assert grouped.merged[0] == "group by accounts.name"
    assert grouped.merged_where in ("in SQLite here", f"on `{grouped.shard_ids[0]}`")
    values = explain_statement(fleet, select(Account).where(Account.id == 3)).sent[0].parameters
    assert list(values.values()) == [3]


def test_what_a_session_refuses_is_refused(fleet: Fleet) -> None:
    for statement, error in (
        (select(Account.id, func.rank().over(order_by=Account.id)), QueryRefused),
        (select(Account.id, Shop.id).join(Shop, Shop.size == Account.tier), QueryRefused),
        (select(Account.id).where(Account.id == 3, Account.tier.in_(select(Shop.size))), QueryRefused),
        (update(Account).where(Account.tier.in_(select(Shop.size))).values(tier=1), QueryRefused),
        (insert(Item.__table__).values(id=1, account_id=1), NoPlacement),
    ):
        with pytest.raises(error) as ran, fleet.session() as session:
            session.execute(statement)
        with sent(fleet) as before, pytest.raises(error) as shown:
            explain_statement(fleet, statement)
        assert before == {}
        assert shown.value.message == ran.value.message


def test_the_reason_names_condition_strategy_and_shard(fleet: Fleet) -> None:
    home = HASH.place((3,))
    with bound({"n": 3}):
        found = explain(fleet, "SELECT name FROM accounts WHERE id = :n", shards=list(fleet.shards.values()))
    assert (found.route, found.shard_ids, found.candidates) == ("direct", (home,), len(fleet.shards))
    assert found.why == f"id = 3 -> hash -> {home}"
    assert found.sent[0].parameters == {"n": 3}
    everywhere = explain(
        fleet, "SELECT name FROM accounts WHERE id = 3", shards=list(fleet.shards.values()), everywhere=True
    )
    assert everywhere.why == "all are asked, whatever the sharding key says"
    assert explain(fleet, "SELECT name FROM accounts", shards=list(fleet.shards.values())).why == (
        "no condition on a sharding key rules one out"
    )
