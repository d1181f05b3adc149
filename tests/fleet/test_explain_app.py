"""Where an application's statements go, by its own choosers and listeners: nothing is sent."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, event, select, update

from shardctl.errors import ShardctlError
from shardctl.query.orm.explain import explain_statement

BY_SIDE = """
from sqlalchemy.sql import operators, visitors

def sides(context):
    for part in visitors.iterate(context.statement.whereclause) if context.statement.whereclause is not None else ():
        if getattr(part, "operator", None) is operators.eq and part.left.name == "side":
            return [part.right.value]
    return list(shards)

made = sessionmaker(class_=ShardedSession, shards=shards, **(choosers | {"execute_chooser": sides}))
"""
LISTENS = (
    BY_SIDE
    + """
from sqlalchemy import event
from sqlalchemy.orm import with_loader_criteria

class Own(ShardedSession):
    pass

@event.listens_for(Own, "do_orm_execute")
def only_west(context):
    if context.is_select:
        context.statement = context.statement.where(City.side == "west")

made = sessionmaker(class_=Own, shards=shards, **(choosers | {"execute_chooser": sides}))
"""
)


def counted(fleet):
    found = []
    for shard in fleet.shards.values():
        event.listen(shard.bind, "before_cursor_execute", lambda *call: found.append(call[2]))
    return found


def test_the_applications_chooser_decides(open_app):
    fleet = open_app(BY_SIDE)
    city = fleet.models.mappers["City"].class_
    sent = counted(fleet)
    for make in (select, update, delete):
        statement = make(city).values(side="x") if make is update else make(city)
        found = explain_statement(fleet, statement.where(city.side == "east"))
        assert (found.route, found.shard_ids) == ("direct", ("east",))
        assert found.why == "execute_chooser `the_app.sides` -> east"
        both = explain_statement(fleet, statement)
        assert both.shard_ids == ("east", "west")
        assert bool(both.merged) is (make is select)
    assert sent == []


def test_the_applications_listeners_have_their_say(open_app):
    fleet = open_app(LISTENS)
    city = fleet.models.mappers["City"].class_
    sent = counted(fleet)
    found = explain_statement(fleet, select(city))
    assert found.shard_ids == ("west",)
    assert "WHERE cities.side = ?" in found.sent[0].sql
    assert explain_statement(fleet, select(city).execution_options(_sa_shard_id="east")).shard_ids == ("east",)
    assert sent == []


@pytest.mark.parametrize(
    ("chooser", "message"),
    [
        ("lambda context: 1 / 0", "the session cannot execute this: ZeroDivisionError: division by zero"),
        ("lambda context: []", "execute_chooser `the_app.<lambda>` chose no shard"),
        ("lambda context: ['north']", "the session chose `north`, which is none of its shards"),
    ],
)
def test_choosers_that_fail_are_said_to(open_app, chooser, message):
    fleet = open_app(
        f"made = sessionmaker(class_=ShardedSession, shards=shards, **(choosers | {{'execute_chooser': {chooser}}}))"
    )
    with pytest.raises(ShardctlError) as caught:
        explain_statement(fleet, select(fleet.models.mappers["City"].class_))
    assert caught.value.message == message


def test_a_listener_that_answers_is_said_to(open_app):
    source = """
    from sqlalchemy import IteratorResult, event
    from sqlalchemy.engine.result import SimpleResultMetaData

    class Own(ShardedSession):
        pass

    event.listen(Own, "do_orm_execute", lambda context: IteratorResult(SimpleResultMetaData(["x"]), iter([])))
    made = sessionmaker(class_=Own, shards=shards, **choosers)
    """
    fleet = open_app(source)
    with pytest.raises(ShardctlError, match="a listener of the application's answers this statement"):
        explain_statement(fleet, select(fleet.models.mappers["City"].class_))
