"""Choosers may be anybody's: whatever they do becomes an answer or a sentence, and rows are found all the same."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, event, select
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import sessionmaker

from examples.weather.models import Base, Report, WeatherLocation
from shardctl.errors import NoPlacement
from shardctl.fleet import Fleet
from shardctl.fleet.app import live_shard
from shardctl.fleet.choosers import Answer, ask, ask_execute_chooser, ask_identity_chooser, ask_shard_chooser
from shardctl.fleet.models import collect
from shardctl.rows.locate import locate
from shardctl.topology.model import ShardMap

KNOWN = ("asia", "europe")


class Name(str, enum.Enum):  # noqa: UP042  # an application may have it so
    ASIA = "asia"


def failing(error: Exception) -> Callable[..., Any]:
    def chooser(*args: Any, **kw: Any) -> Any:
        raise error

    return chooser


def generator() -> Iterator[str]:
    yield "asia"
    raise LookupError("gone")


@pytest.mark.parametrize(
    ("said", "answer", "text"),
    [
        ("asia", Answer(("asia",)), "asia"),
        (["europe", "asia"], Answer(("europe", "asia")), "europe, asia"),
        (("asia",), Answer(("asia",)), "asia"),
        ({"europe", "asia"}, Answer(KNOWN), "asia, europe"),
        (frozenset(["europe"]), Answer(("europe",)), "europe"),
        (dict.fromkeys(KNOWN).keys(), Answer(KNOWN), "asia, europe"),
        ((name for name in KNOWN), Answer(KNOWN), "asia, europe"),
        (["asia", "asia"], Answer(("asia",)), "asia"),
        (Name.ASIA, Answer(("asia",)), "asia"),
        ([Name.ASIA], Answer(("asia",)), "asia"),
        ([], Answer(), "no shard"),
        ("atlantis", Answer(("atlantis",), "no such shard: atlantis"), "atlantis (no such shard: atlantis)"),
        ({"asia", "mu"}, Answer(("asia", "mu"), "no such shard: mu"), "asia, mu (no such shard: mu)"),
        ([None], Answer(("None",), "no such shard: None"), "None (no such shard: None)"),
        (None, Answer(problem="returned None"), "returned None"),
        (7, Answer(problem="returned 7"), "returned 7"),
        (generator(), Answer(problem="raised LookupError: gone"), "raised LookupError: gone"),
    ],
)
def test_what_choosers_return(said, answer, text):
    found = ask(lambda: said, KNOWN)

    assert found == answer
    assert str(found) == text


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (NotImplementedError(), "raised NotImplementedError"),
        (KeyError("Asia"), "raised KeyError: 'Asia'"),
        (ValueError("\nfirst line\nsecond line"), "raised ValueError: first line"),
        (NoPlacement("Report.location is not set"), "Report.location is not set"),
    ],
)
def test_what_choosers_raise(error, problem):
    assert ask(failing(error), KNOWN) == Answer(problem=problem)


@pytest.fixture
def make_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Makes a fleet of an application with these choosers: Tokyo on asia, London on europe, each with a report."""
    engines = {name: create_engine(f"sqlite:///{tmp_path / name}.db", poolclass=NullPool) for name in KNOWN}
    usual = {
        "shard_chooser": lambda mapper, instance, clause=None: "asia",
        "identity_chooser": lambda mapper, primary_key, **kw: list(KNOWN),
        "execute_chooser": lambda context: list(KNOWN),
    }
    for name, city in (("asia", "Tokyo"), ("europe", "London")):
        Base.metadata.create_all(engines[name])
        choosers = usual | {"shard_chooser": lambda mapper, instance, name=name: name}
        with ShardedSession(shards=engines, **choosers) as session:
            location = WeatherLocation(name, city)
            location.reports.append(Report(1.0))
            session.add(location)
            session.commit()

    def make(**choosers: Callable[..., Any]) -> Fleet:
        shards = {name: live_shard(name, engine, 30.0) for name, engine in engines.items()}
        factory = sessionmaker(class_=ShardedSession, shards=engines, **(usual | choosers))
        shard_map = ShardMap(shards={name: live.shard for name, live in shards.items()})
        return Fleet(shard_map, shards, collect([Base.registry]), factory)

    return make


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("asia", Answer(("asia",))),
        (["asia"], Answer(("asia",), "returned a list, not the name of one shard")),
        (("asia", "europe"), Answer(KNOWN, "returned a tuple, not the name of one shard")),
        ("atlantis", Answer(("atlantis",), "no such shard: atlantis")),
        (None, Answer(problem="returned None")),
    ],
)
def test_shard_chooser_has_to_name_one_shard(make_fleet, said, answer):
    with make_fleet(shard_chooser=lambda mapper, instance: said).sessionmaker()() as session:
        mapper = WeatherLocation.__mapper__
        assert ask_shard_chooser(session, mapper, WeatherLocation("Asia", "Edo"), KNOWN) == answer


def test_asking_sends_no_statement(make_fleet):
    fleet = make_fleet(execute_chooser=lambda context: {"europe"} if context.is_select else None)
    statements = []
    for shard in fleet.shards.values():
        event.listen(shard.bind, "before_cursor_execute", lambda *args: statements.append(args[2]))
    with fleet.sessionmaker()() as session:
        assert ask_execute_chooser(session, select(Report), KNOWN) == Answer(("europe",))
        assert ask_identity_chooser(session, Report.__mapper__, (1,), KNOWN) == Answer(KNOWN)
        assert statements == []
        session.execute(select(Report)).all()
        assert len(statements) == 1


def test_listeners_of_the_application_are_heard_first(make_fleet):
    fleet = make_fleet(execute_chooser=lambda context: [context.local_execution_options["tenant"]])
    factory = fleet.sessionmaker()

    def choose_tenant(context: Any) -> None:
        context.update_execution_options(tenant="europe")

    event.listen(factory, "do_orm_execute", choose_tenant)
    with factory() as session:
        assert ask_execute_chooser(session, select(Report), KNOWN) == Answer(("europe",))
    event.listen(factory, "do_orm_execute", failing(PermissionError("no tenant")))
    with factory() as session:
        assert ask_execute_chooser(session, select(Report), KNOWN) == Answer(
            problem="raised PermissionError: no tenant"
        )


BAD_CHOOSERS = [
    {"identity_chooser": failing(NotImplementedError())},
    {"execute_chooser": failing(AttributeError("'TextClause' object has no attribute 'whereclause'"))},
    {"identity_chooser": lambda *args, **kw: None, "execute_chooser": lambda context: None},
    {"identity_chooser": lambda *args, **kw: ("atlantis",), "execute_chooser": lambda context: ["mu"]},
    {"identity_chooser": lambda *args, **kw: iter(()), "execute_chooser": lambda context: set()},
    {"identity_chooser": lambda mapper: [], "execute_chooser": lambda: []},
]


@pytest.mark.parametrize("choosers", BAD_CHOOSERS)
@pytest.mark.parametrize("wanted", [{"identities": [(1,)]}, {"conditions": {"id": 1}}])
def test_locate_asks_every_shard_whatever_the_choosers_say(make_fleet, choosers, wanted):
    fleet = make_fleet(**choosers)

    for target in (WeatherLocation.__mapper__, Report.__mapper__):
        search = locate(fleet, target, list(fleet.shards.values()), with_routing=True, **wanted)
        assert [row.shard_id for row in search.found] == ["asia", "europe"]
        assert [row.verdict for row in search.found] == ["ok", "misplaced"]


@pytest.mark.parametrize(
    ("chooser", "reason"),
    [
        (failing(KeyError("Asia")), "shard_chooser raised KeyError: 'Asia'"),
        (lambda mapper, instance, clause=None: None, "shard_chooser returned None"),
        (lambda mapper, instance, clause=None: ["asia"], "shard_chooser returned a list, not the name of one shard"),
        (lambda mapper, instance, clause=None: "mu", "shard_chooser no such shard: mu"),
        (lambda mapper, instance, clause=None: instance.continent, "raised AttributeError"),
    ],
)
def test_locate_says_why_it_does_not_know_where_a_row_belongs(make_fleet, chooser, reason):
    fleet = make_fleet(shard_chooser=chooser)

    search = locate(fleet, Report.__mapper__, list(fleet.shards.values()), identities=[(1,)])

    assert [(row.shard_id, row.verdict) for row in search.found] == [("asia", "unknown"), ("europe", "unknown")]
    assert all(reason in row.reason for row in search.found)
