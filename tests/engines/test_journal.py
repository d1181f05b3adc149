"""Revisions that MySQL leaves in the middle: they go on behind what is done, or say that they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from shardctl.errors import Refused
from shardctl.fleet import LiveShard
from shardctl.schema.apply import upgrade
from shardctl.schema.events import Event, RevisionResumed
from shardctl.schema.goals import Direction, Goal
from shardctl.schema.history import JOURNAL
from shardctl.schema.journal import HalfApplied
from shardctl.schema.results import MigrationFailed
from tests.fixtures.engines import Databases
from tests.fixtures.projects import Project, create_places, in_shard, place_shards

CREATE = """
cities = op.create_table(
    "cities", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("number", sa.Integer())
)
"""
FAIL = 'op.execute("insert into nowhere values (1)")'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write_env()
    return made


@pytest.fixture
def asia(project: Project, mysql: Databases) -> LiveShard:
    place_shards(project, "mysql databases", mysql, ["asia"])
    fleet = project.open()
    create_places(fleet, mysql)
    return fleet.shards["asia"]


def fail(project: Project, asia: LiveShard, body: str) -> MigrationFailed:
    """Run a first revision that does not end."""
    project.write_revision("r1", None, f"{CREATE}{body}\n{FAIL}")
    with pytest.raises(MigrationFailed) as caught:
        upgrade(asia, project.scripts())
    return caught.value


def go_on(project: Project, asia: LiveShard, body: str) -> list[Event]:
    """Run the revision again, without what it failed at; return what was told."""
    project.write_revision("r1", None, CREATE + body)
    seen: list[Event] = []
    assert upgrade(asia, project.scripts(), on_event=seen.append).to == ("r1",)
    with asia.engine.connect() as connection:
        assert connection.execute(select(JOURNAL)).all() == []
    return seen


def test_goes_on_behind_what_is_done(project: Project, asia: LiveShard) -> None:
    body = """
op.bulk_insert(cities, [{"id": n, "number": n} for n in (1, 2)])
op.execute("update cities set number = number * 10")
op.create_index("ix", "cities", ["number"])
"""
    error = fail(project, asia, body)
    assert error.facts[-1] == (
        "the first 4 statements are done, and the next run of `r1` goes on behind; still at no revision"
    )
    seen = go_on(project, asia, body)
    assert [event.statements for event in seen if isinstance(event, RevisionResumed)] == [4]
    assert in_shard(asia, "select id, number from cities order by id") == [(1, 10), (2, 20)]


def test_what_no_schema_change_committed_is_rolled_back(project: Project, asia: LiveShard) -> None:
    body = 'op.execute("insert into cities values (1, 1)")\n'
    assert fail(project, asia, body).facts[-1].startswith("the first statement is done")
    assert in_shard(asia, "select * from cities") == []
    go_on(project, asia, body)
    assert in_shard(asia, "select * from cities") == [(1, 1)]


def test_skipped_statements_answer_as_they_did(project: Project, asia: LiveShard) -> None:
    body = """
bind = op.get_bind()
first = bind.execute(sa.insert(cities).values(number=5)).inserted_primary_key[0]
second = bind.execute(sa.text("insert into cities (number) values (6)")).lastrowid
count = bind.execute(sa.text("update cities set number = number + 1")).rowcount
assert (first, second, count) == (1, 2, 2), (first, second, count)
op.create_index("ix", "cities", ["number"])
op.execute(f"insert into cities (id, number) values ({first + second + count + 5}, {count})")
"""
    fail(project, asia, body)
    go_on(project, asia, body)
    assert in_shard(asia, "select id, number from cities order by id") == [(1, 6), (2, 7), (10, 2)]


def test_orm_sessions_are_journaled(project: Project, asia: LiveShard) -> None:
    body = """
from sqlalchemy.orm import Session, registry
class City:
    pass
registry().map_imperatively(City, cities)
with Session(op.get_bind()) as session:
    for number in (1, 2):
        city = City()
        city.number = number
        session.add(city)
        session.flush()
        assert city.id == number, city.id
    session.commit()
op.create_index("ix", "cities", ["number"])
"""
    fail(project, asia, body)
    go_on(project, asia, body)
    assert in_shard(asia, "select id, number from cities order by id") == [(1, 1), (2, 2)]


def test_rolled_back_savepoints_are_not_taken_for_done(project: Project, asia: LiveShard) -> None:
    body = """
bind = op.get_bind()
try:
    with bind.begin_nested():
        bind.execute(sa.text("insert into cities values (1, 1)"))
        raise LookupError
except LookupError:
    pass
bind.execute(sa.text("insert into cities values (2, 2)"))
op.create_index("ix", "cities", ["number"])
"""
    fail(project, asia, body)
    go_on(project, asia, body)
    assert in_shard(asia, "select id from cities") == [(2,)]


def test_a_revision_that_looks_first_may_leave_out_what_is_done(project: Project, asia: LiveShard) -> None:
    body = """
names = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("cities")}
if "tag" not in names:
    op.add_column("cities", sa.Column("tag", sa.String(9)))
op.execute("insert into cities values (1, 1, 'x')")
"""
    fail(project, asia, body)
    go_on(project, asia, body)
    assert in_shard(asia, "select * from cities") == [(1, 1, "x")]


@pytest.mark.parametrize(
    ("body", "number", "why"),
    [
        (
            "import uuid\nop.execute(f\"insert into cities values (1, conv('{uuid.uuid4().hex[:4]}', 16, 10))\")",
            2,
            "an earlier run did",
        ),
        (
            'bind = op.get_bind()\nnumber = len(bind.execute(sa.text("select * from cities")).all())\n'
            'bind.execute(sa.text("insert into cities (number) values (:n)"), {"n": number})',
            2,
            "an earlier run did",
        ),
        (
            'op.execute("create temporary table kept (id int)")\nop.execute("insert into cities values (1, 1)")',
            2,
            "it needs a temporary table",
        ),
        (
            'rows = op.get_bind().execute(sa.text("insert into cities values (1, 1) returning id")).all()',
            2,
            "the rows that it answered",
        ),
    ],
    ids=["random", "reads what it changes", "temporary table", "returning"],
)
def test_what_cannot_go_on_is_reported(body: str, number: int, why: str, project: Project, asia: LiveShard) -> None:
    body += '\nop.create_index("ix", "cities", ["number"])\n'
    fail(project, asia, body)
    project.write_revision("r1", None, CREATE + body)
    with pytest.raises(MigrationFailed) as caught:
        upgrade(asia, project.scripts())
    error = caught.value
    assert error.message.startswith(f"half-applied: revision `r1`, statement {number}: ")
    assert why in error.message
    assert error.facts[0].startswith("done: CREATE TABLE cities")
    assert "`shardctl migrate stamp r1 --shard asia`" in str(error.hint)
    assert error.is_half_done

    # The hint is true: by hand, and then stamped.
    upgrade(asia, project.scripts(), Goal(Direction.STAMP, "r1"))
    assert upgrade(asia, project.scripts()).outcome == "at head"
    assert in_shard(asia, "select count(*) from shardctl_journal") == [(0,)]


def test_what_a_session_has_lost_is_reported(project: Project, asia: LiveShard) -> None:
    body = """
op.execute("insert into cities (number) values (1)")
op.create_index("ix", "cities", ["number"])
"""
    fail(project, asia, body)
    project.write_revision(
        "r1", None, f'{CREATE}{body}op.execute("insert into cities (number) values (last_insert_id())")'
    )
    with pytest.raises(MigrationFailed, match="it needs what an earlier statement left in a session"):
        upgrade(asia, project.scripts())


def test_another_way_is_refused_while_a_revision_is_half_applied(project: Project, asia: LiveShard) -> None:
    project.write_revision("r1", None, CREATE)
    upgrade(asia, project.scripts())
    file = project.write_revision("r2", "r1", f"op.add_column('cities', sa.Column('tag', sa.Integer()))\n{FAIL}")
    with pytest.raises(MigrationFailed):
        upgrade(asia, project.scripts())
    with pytest.raises(HalfApplied, match="half-applied: revision `r2`, statement 1: an earlier run ended there"):
        upgrade(asia, project.scripts(), Goal(Direction.DOWNGRADE, "base"))
    file.write_text(file.read_text().replace(FAIL, "pass"))
    assert upgrade(asia, project.scripts()).to == ("r2",)


def test_tables_of_no_migration_are_left_alone_in_spite_of_a_journal(project: Project, asia: LiveShard) -> None:
    project.write_revision("r1", None, FAIL)
    with pytest.raises(MigrationFailed):
        upgrade(asia, project.scripts())
    in_shard(asia, "create table strange (id int)")
    with pytest.raises(Refused, match="the shard has 1 table and no revision"):
        upgrade(asia, project.scripts())
