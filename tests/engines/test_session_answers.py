"""A session over three shards answers as a plain session on one database with all rows does, or refuses."""

from __future__ import annotations

import datetime
import decimal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import (
    ForeignKey,
    NullPool,
    Numeric,
    String,
    and_,
    case,
    create_engine,
    delete,
    distinct,
    event,
    exists,
    func,
    inspect,
    select,
    text,
    union,
    union_all,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

import shardctl
from shardctl.errors import QueryRefused
from shardctl.fleet import Fleet


class Base(DeclarativeBase):
    type_annotation_map = {str: String(40), decimal.Decimal: Numeric(10, 2)}  # noqa: RUF012  # SQLAlchemy's own form


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str | None]
    born: Mapped[datetime.date | None]
    is_active: Mapped[bool]
    orders: Mapped[list[Order]] = relationship(back_populates="customer", order_by="Order.amount, Order.id")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    amount: Mapped[decimal.Decimal | None]
    weight: Mapped[float]
    customer: Mapped[Customer] = relationship(back_populates="orders")


class Country(Base):
    __tablename__ = "countries"
    code: Mapped[str] = mapped_column(primary_key=True)


NAMES = ["ann", "Bob", "bob", "Émile", "zoe", None, "Zoe", "Ann", "bob", None]


def rows() -> Iterator[Customer]:
    for number, name in enumerate(NAMES):
        born = datetime.date(1990, 1 + number % 3, 1) if number % 4 else None
        customer = Customer(id=number, name=name, born=born, is_active=bool(number % 2))
        for line in range(number % 4):
            amount = None if line == 2 else decimal.Decimal(number * 7 % 5) + decimal.Decimal("0.25")
            order = Order(id=number * 10 + line, amount=amount, weight=line + 0.5)
            customer.orders.append(order)
        yield customer


@dataclass
class Both:
    """One database, and the same rows on three shards."""

    one: Session
    fleet: Fleet
    three: Session


def both_of(databases: Any, folder: Any) -> Iterator[Both]:
    urls = {name: databases.create(name) for name in ("one", "a", "b", "c")}
    shards = "".join(f'[shards.{name}]\nurl = "{urls[name]}"\n' for name in "abc")
    file = folder / "shardctl.toml"
    file.write_text(
        f'models = "{__name__}:Base"\n{shards}'
        '[tables.Customer]\nstrategy = "hash"\nkey = "id"\nshards = ["a", "b", "c"]\n'
        '[tables.Order]\nstrategy = "follow"\nparent = "customer"\n[tables.Country]\nstrategy = "reference"\n'
    )
    engine = create_engine(urls["one"], poolclass=NullPool)
    Base.metadata.create_all(engine)
    with shardctl.open(file) as fleet, Session(engine) as one, fleet.session() as three:
        for shard in fleet.shards.values():
            Base.metadata.create_all(shard.bind)
            with shard.connect(read_only=False) as connection:
                connection.execute(Country.__table__.insert(), [{"code": "DE"}, {"code": "JP"}])
                connection.commit()
        one.add_all([*rows(), Country(code="DE"), Country(code="JP")])
        three.add_all(rows())
        one.commit()
        three.commit()
        yield Both(one, fleet, three)


@pytest.fixture
def both(databases, tmp_path) -> Iterator[Both]:
    yield from both_of(databases, tmp_path)


def plain(value: Any) -> Any:
    if isinstance(value, Base):
        return {column.key: getattr(value, column.key) for column in inspect(value).mapper.column_attrs}
    return value


def answer(session: Session, ask: Callable[[Session], Any]) -> list[Any]:
    found = ask(session)
    listed = list(found) if not isinstance(found, int | str | float | type(None) | decimal.Decimal | bool) else [found]
    return [tuple(map(plain, row)) if hasattr(row, "_mapping") else plain(row) for row in listed]


N, A = Customer.name, Order.amount
LAST = select(func.max(Order.id)).scalar_subquery()
REST = (Order.id % 3).label("rest")
big = aliased(Order)
per_customer = select(Order.customer_id, func.count().label("n")).group_by(Order.customer_id).subquery()

ORDERED: dict[str, Callable[[Session], Any]] = {
    "text and NULLs": lambda s: s.execute(select(N, Customer.id).order_by(N, Customer.id)),
    "text, descending": lambda s: s.scalars(select(Customer).order_by(N.desc(), Customer.id.desc()).limit(4)),
    "by a function": lambda s: s.scalars(select(N).order_by(func.lower(N), Customer.id).limit(3).offset(2)),
    "by a hidden date": lambda s: s.scalars(select(Customer.id).order_by(Customer.born, Customer.id)),
    "by a number": lambda s: s.execute(select(Order.id, A).order_by(A.desc(), Order.id)),
    "by a boolean": lambda s: s.scalars(select(Customer.id).order_by(Customer.is_active, Customer.id)),
    "by an expression": lambda s: s.scalars(select(Order.id).order_by(Order.weight * 2, Order.id).limit(5)),
    "by a case": lambda s: s.scalars(select(Order.id).order_by(case((A > 2, 0), else_=1), Order.id)),
    "by a label": lambda s: s.execute(select(N.label("x"), Customer.id).order_by("x", Customer.id).limit(3)),
    "a legacy query": lambda s: s.query(Customer).order_by(N, Customer.id).offset(3).limit(3),
    "first of a legacy query": lambda s: [s.query(Customer.id).order_by(Customer.id.desc()).first()],
    "a join": lambda s: s.execute(select(N, Order.id).join(Customer.orders).order_by(Order.id.desc()).limit(4)),
    "an outer join": lambda s: s.execute(
        select(Customer.id, Order.id).outerjoin(Customer.orders).order_by(Customer.id, Order.id)
    ),
    "an eager join": lambda s: [
        (customer.id, [order.id for order in customer.orders])
        for customer in s.scalars(
            select(Customer).options(joinedload(Customer.orders)).order_by(Customer.id.desc()).limit(4)
        ).unique()
    ],
    "an eager select": lambda s: [
        (customer.id, [order.id for order in customer.orders])
        for customer in s.scalars(select(Customer).options(selectinload(Customer.orders)).order_by(Customer.id))
    ],
    "lazy": lambda s: [[order.id for order in c.orders] for c in s.scalars(select(Customer).order_by(Customer.id))],
    "a table": lambda s: s.execute(select(Order.__table__).order_by(Order.__table__.c.id).limit(3)),
    "count": lambda s: s.scalar(select(func.count()).select_from(Customer)),
    "count of a column": lambda s: s.scalar(select(func.count(N))),
    "count of a legacy query": lambda s: s.query(Customer).filter(N.is_not(None)).count(),
    "count after LIMIT": lambda s: s.query(Customer).limit(4).count(),
    "count of distinct rows": lambda s: s.query(Customer.born).distinct().count(),
    "count of groups": lambda s: s.query(Customer.born).group_by(Customer.born).count(),
    "count where": lambda s: s.scalar(select(func.count()).select_from(Order).where(A > 2)),
    "all aggregates": lambda s: s.execute(
        select(func.count(A), func.sum(A), func.min(A), func.max(A), func.avg(A), func.sum(Order.weight))
    ),
    "none": lambda s: s.execute(select(func.count(A), func.sum(A), func.max(A)).where(A > 1000)),
    "dates": lambda s: s.execute(select(func.min(Customer.born), func.max(Customer.born))),
    "text": lambda s: s.execute(select(func.count(distinct(func.lower(N))))),
    "distinct": lambda s: s.execute(select(func.count(distinct(A)), func.sum(distinct(A)))),
    "of integers": lambda s: s.execute(select(func.sum(Order.id), func.sum(Order.id) * 2 + 1, func.max(Order.id))),
    "around": lambda s: s.execute(select(func.coalesce(func.sum(A), 0) + 1, func.count() + 100)),
    "groups": lambda s: s.execute(
        select(Customer.born, func.count(), func.max(Customer.id)).group_by(Customer.born).order_by(Customer.born)
    ),
    "groups in descending order": lambda s: s.execute(
        select(Customer.born, func.count()).group_by(Customer.born).order_by(Customer.born.desc()).limit(2)
    ),
    "groups of an alias": lambda s: s.execute(
        select(big.amount, func.count()).group_by(big.amount).order_by(big.amount.desc())
    ),
    "DISTINCT in descending order": lambda s: s.execute(
        select(Customer.is_active, Customer.born).distinct().order_by(Customer.born.desc(), Customer.is_active)
    ),
    "groups of an expression": lambda s: s.execute(select(REST, func.sum(A)).group_by(REST).order_by(REST)),
    "groups of a join": lambda s: s.execute(
        select(Customer.is_active, func.count(Order.id), func.avg(A))
        .join(Customer.orders)
        .group_by(Customer.is_active)
        .having(func.count(Order.id) > 1)
        .order_by(func.count(Order.id).desc())
    ),
    "groups by a label": lambda s: s.execute(
        select(Customer.born.label("day"), func.count().label("n")).group_by("day").order_by("n", "day").limit(2)
    ),
    "groups that are objects": lambda s: s.execute(
        select(Customer, func.count(Order.id))
        .join(Customer.orders)
        .group_by(Customer.id, N, Customer.born, Customer.is_active)
        .order_by(func.count(Order.id).desc(), Customer.id)
        .limit(3)
    ),
    "DISTINCT": lambda s: s.scalars(select(Customer.born).distinct().order_by(Customer.born).limit(3)),
    "DISTINCT objects": lambda s: s.scalars(
        select(Customer).join(Customer.orders).distinct().order_by(Customer.id).limit(3)
    ),
    "IN": lambda s: s.scalars(
        select(Customer.id).where(Customer.id.in_(select(Order.customer_id).where(A > 2))).order_by(Customer.id)
    ),
    "any": lambda s: s.scalars(select(Customer.id).where(Customer.orders.any(A > 2)).order_by(Customer.id)),
    "a subquery that counts": lambda s: s.execute(
        select(Customer.id, per_customer.c.n)
        .join(per_customer, per_customer.c.customer_id == Customer.id)
        .order_by(Customer.id)
    ),
    "a correlated subquery": lambda s: s.execute(
        select(Customer.id, select(func.max(A)).where(Order.customer_id == Customer.id).scalar_subquery()).order_by(
            Customer.id
        )
    ),
    "one shard, and what lives with its rows": lambda s: s.execute(
        select(N, Order.id).join(Customer.orders).where(Customer.id == 7).order_by(Order.id)
    ),
    "one shard, and rows that are all there": lambda s: s.execute(
        select(Customer.id, big.id).where(Customer.id == 7, big.customer_id == Customer.id).order_by(big.id)
    ),
    "LIMIT in a subquery of one shard": lambda s: s.execute(
        select(select(Customer.id).where(Customer.id.in_([7])).order_by(Customer.id).limit(1).subquery().c.id)
    ),
    "siblings": lambda s: s.execute(
        select(Order.id, big.id)
        .join(big, big.customer_id == Order.customer_id)
        .where(Order.id < big.id)
        .order_by(Order.id, big.id)
    ),
    "EXISTS": lambda s: s.query(exists().where(N == "zoe")).scalar(),
    "not EXISTS": lambda s: s.query(exists().where(N == "nobody")).scalar(),
    "no table": lambda s: s.scalar(select(func.count())),
    "a reference table": lambda s: s.scalars(select(Country.code).order_by(Country.code.desc())),
    "a reference table's count": lambda s: s.query(Country).count(),
    "UNION ALL": lambda s: sorted(s.scalars(union_all(select(Customer.id), select(Order.id)))),
    "SQL text": lambda s: sorted(s.scalars(text("select id from orders where id > :least"), {"least": 20})),
    "parameters": lambda s: s.scalars(select(Customer.id).where(Customer.id > 3).order_by(Customer.id)),
}


@pytest.mark.parametrize("name", ORDERED)
def test_same_answer(both_of_module, name):
    ask = ORDERED[name]
    expected = answer(both_of_module.one, ask)
    assert answer(both_of_module.three, ask) == expected


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mysql"])
def both_of_module(request, tmp_path_factory) -> Iterator[Both]:
    """Made once: the statements only read."""
    from tests.fixtures.engines import Databases, server_url

    databases = Databases(request.param, tmp_path_factory.mktemp("answers"))
    if databases.engine != "sqlite":
        server_url(databases.engine)
    yield from both_of(databases, databases.folder)
    databases.drop_all()


REFUSED: dict[str, tuple[Callable[[Session], Any], str]] = {
    "a window": (lambda s: s.execute(select(func.row_number().over(order_by=N))), "row_number"),
    "a join on nothing": (lambda s: s.execute(select(N, A).where(Customer.id == Order.id)), "orders"),
    "a subquery": (
        lambda s: s.execute(select(N).where(Customer.id == select(func.max(Order.id)).scalar_subquery())),
        "",
    ),
    "IN of other rows": (lambda s: s.execute(select(N).where(Customer.id.in_(select(Order.id)))), "orders.id"),
    "UNION": (lambda s: s.execute(union(select(N), select(N))), "UNION"),
    "a bare column": (lambda s: s.execute(select(N, func.count())), "customers.name"),
    "SQL text": (lambda s: s.execute(text("select count(*) from orders")), "COUNT(*)"),
    "SQL text, ordered": (lambda s: s.execute(text("select id from orders order by id")), "order by"),
    "text in ORDER BY": (lambda s: s.execute(select(N).order_by(text("name desc"))), "name desc"),
    "a group in a subquery": (
        lambda s: s.execute(select(select(A, func.count().label("n")).group_by(A).subquery().c.n)),
        "GROUP BY",
    ),
    "LIMIT in a subquery": (lambda s: s.execute(select(select(N).limit(2).subquery().c.name)), "LIMIT"),
    "rows that are not on the one shard": (
        lambda s: s.execute(select(N).where(Customer.id == 7, Customer.id.in_(select(Order.id)))),
        "orders.id",
    ),
    "a number of rows that are not on the one shard": (
        lambda s: s.execute(select(N).where(Customer.id == 7, select(func.count(Order.id)).scalar_subquery() > 3)),
        "count(orders.id)",
    ),
    "copies that may have rows on other shards": (
        lambda s: s.execute(select(Country.code).where(exists().where(Country.code == N))),
        "countries",
    ),
    "copies beside rows": (lambda s: s.execute(union_all(select(N), select(Country.code))), "countries"),
    "an outer join that ties others": (
        lambda s: s.execute(
            select(N)
            .join(Order, Order.id > 0)
            .outerjoin(big, and_(big.customer_id == Customer.id, big.customer_id == Order.customer_id))
        ),
        "orders",
    ),
    "distinct objects, or none": (
        lambda s: s.execute(select(Order).select_from(Customer).outerjoin(Customer.orders).distinct()),
        "Order",
    ),
    "an outer join from copies": (
        lambda s: s.execute(select(Country.code, N).outerjoin(Customer, Customer.name == Country.code)),
        "countries",
    ),
}


@pytest.mark.parametrize(
    "write",
    [
        update(Customer).where(Customer.id.in_(select(Order.id))).values(name="x"),
        update(Customer).where(Customer.id == 3).values(name=select(func.max(Order.id)).scalar_subquery()),
        delete(Country).where(exists().where(Country.code == N)),
    ],
    ids=["rows of others", "a value of others", "copies"],
)
def test_a_write_that_needs_rows_of_other_shards_is_refused(both_of_module, write):
    with pytest.raises(QueryRefused, match="one shard's"):
        both_of_module.three.execute(write, execution_options={"synchronize_session": False})


def test_a_write_by_what_lives_with_its_rows_is_one_databases(both):
    write = update(Customer).where(Customer.orders.any(Order.amount > 2)).values(name="rich")
    names = select(N).order_by(Customer.id)
    for session in (both.one, both.three):
        session.execute(write, execution_options={"synchronize_session": False})
    assert both.three.scalars(names).all() == both.one.scalars(names).all()
    assert "rich" in both.one.scalars(names).all()


@pytest.mark.parametrize("name", REFUSED)
def test_refused(both_of_module, name):
    ask, part = REFUSED[name]
    with pytest.raises(QueryRefused) as refused:
        ask(both_of_module.three)
    assert part.lower() in " ".join(refused.value.facts).lower()
    assert any(word in str(refused.value.hint) for word in ("bind_arguments", "expression", "select its columns"))


def test_unknown_aggregates_are_refused(both_of_module):
    name = {"postgresql": "array_agg"}.get(both_of_module.one.bind.dialect.name, "group_concat")
    with pytest.raises(QueryRefused, match=name):
        both_of_module.three.execute(select(getattr(func, name)(N)))


def test_sql_text_for_a_class_sees_what_is_not_flushed(both):
    both.three.add_all([Customer(id=100 + n, name="new", is_active=True) for n in range(6)])
    named = select(Customer).from_statement(text(f"SELECT * FROM {Customer.__tablename__} WHERE name = 'new'"))
    assert {row.id for row in both.three.scalars(named)} == set(range(100, 106))


def test_uncommitted_changes_are_seen(both):
    both.three.add_all([Customer(id=100 + n, name="new", is_active=True) for n in range(6)])
    assert both.three.scalar(select(func.count()).where(N == "new")) == 6  # flushed, in the session's transactions
    both.three.execute(update(Customer).where(N == "new").values(name="newer"))
    newest = both.three.scalars(select(Customer).where(N == "newer").order_by(Customer.id.desc()).limit(1)).one()
    assert newest.id == 105
    with both.fleet.session() as other:
        assert other.scalar(select(func.count()).where(N == "newer")) == 0
    both.three.rollback()
    assert both.three.scalar(select(func.count()).where(N == "newer")) == 0


def test_identity_tokens_and_the_identity_map(both):
    found = both.three.scalars(select(Customer).order_by(Customer.id)).all()
    assert [both.fleet.placement.place(inspect(c).mapper, c) for c in found] == [
        inspect(c).identity_token for c in found
    ]
    assert both.three.get(Customer, 3) is found[3]
    assert both.three.scalars(select(Customer).order_by(Customer.id.desc()).limit(1)).one() is found[-1]


def test_shards_are_asked_at_the_same_time(both):
    """Each statement waits for the others: one after another they would wait for ever."""
    meeting = threading.Barrier(3)

    def wait(connection, cursor, statement, parameters, context, executemany):
        if "customers" in statement:
            meeting.wait(timeout=60)

    binds = [shard.bind for shard in both.fleet.shards.values()]
    for bind in binds:
        event.listen(bind, "before_cursor_execute", wait)
    with both.fleet.session() as session:
        assert len(session.scalars(select(Customer)).all()) == len(NAMES)
        assert session.scalar(select(func.count(Customer.id))) == len(NAMES)


def test_a_failing_shard_is_named_and_the_session_goes_on(both):
    shard = both.fleet.shards["b"]
    with shard.connect(read_only=False) as connection:
        connection.execute(text("drop table orders"))
        connection.commit()
    with pytest.raises(Exception, match="orders") as failed:
        both.three.scalar(select(func.count(Order.id)))
    assert failed.value.__notes__ == ["on shard `b`"]
    both.three.rollback()
    assert both.three.scalar(select(func.count(Customer.id))) == len(NAMES)
