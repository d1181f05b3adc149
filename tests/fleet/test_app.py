"""An application's attribute is taken as it comes, or refused with a reason."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import inspect, select

import shardctl
from shardctl.errors import ConfigError, UnknownName
from tests.fixtures.apps import APP


@pytest.mark.parametrize(
    "source",
    [
        "made = Sharded",
        "made = scoped_session(Sharded)",
        "made = Sharded\nmade.configure(expire_on_commit=False)",
        "def made(): return Sharded()",
        "def made(): return Sharded",
        "def made(): return scoped_session(Sharded)",
        "made = lambda: ShardedSession(shards=shards, **choosers)",
        "import functools\nmade = functools.partial(ShardedSession, shards=shards, **choosers)",
        """
        class made(ShardedSession):
            def __init__(self):
                super().__init__(shards=shards, **choosers)
        """,
        """
        class Own(ShardedSession):
            pass
        made = sessionmaker(class_=Own, shards=shards, **choosers)
        """,
    ],
)
def test_factories_of_every_kind(open_app, source):
    fleet = open_app(source)

    assert list(fleet.shards) == ["east", "west"]
    assert set(fleet.models.mappers) == {"City", "Setting"}
    assert fleet.placement is None
    for shard_id, shard in fleet.shards.items():
        fleet.models.metadatas[0].create_all(shard.bind, tables=fleet.tables_on(shard_id))
    city = fleet.models.mappers["City"].class_
    with fleet.sessionmaker()() as session:
        session.add_all([city(side="east"), city(side="west")])
        session.commit()
        found = session.scalars(select(city)).all()
        assert [inspect(row).identity_token for row in found] == ["east", "west"]


def test_attribute_of_an_attribute(open_app):
    assert list(open_app("class database:\n    make = Sharded", "database.make").shards) == ["east", "west"]


def test_shards_bound_later_are_seen(open_app):
    source = """
    def made():
        session = Sharded()
        session.bind_shard("north", create_engine("sqlite:///north.db", poolclass=NullPool))
        return session
    """
    assert list(open_app(source).shards) == ["east", "west", "north"]


def test_shard_ids_of_an_enumeration(open_app):
    source = """
    import enum
    class Side(str, enum.Enum):
        EAST = "east"
        WEST = "west"
    made = sessionmaker(class_=ShardedSession, shards={Side(name): bind for name, bind in shards.items()}, **choosers)
    """
    assert list(open_app(source).shards) == ["east", "west"]


def test_deprecated_choosers(open_app):
    source = """
    import warnings
    def made():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ShardedSession(shards=shards, shard_chooser=choosers["shard_chooser"],
                id_chooser=lambda query, key: ["west"], query_chooser=lambda statement: ["east"])
    """
    from shardctl.fleet.choosers import ask_execute_chooser, ask_identity_chooser

    fleet = open_app(source)
    mapper = fleet.models.mappers["City"]
    with fleet.sessionmaker()() as session:
        assert ask_identity_chooser(session, mapper, (1,), fleet.shards).shard_ids == ("west",)
        assert ask_execute_chooser(session, select(mapper), fleet.shards).shard_ids == ("east",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("made = 5", "`the_app:made` is of type int, not a factory of ShardedSession"),
        ("made = Sharded()", "is one session"),
        ("made = sessionmaker(Session)", "makes Sessions, not ShardedSessions"),
        ("made = scoped_session(sessionmaker())", "makes Sessions, not ShardedSessions"),
        ("def made(): return Session()", "made a Session, not a ShardedSession"),
        ("def made(): return None", "made a NoneType, not a ShardedSession"),
        ("def made(): yield Sharded()", "made a generator, not a ShardedSession"),
        ("async def made(): return Sharded()", "makes asynchronous sessions"),
        ("def made(tenant): return Sharded()", "calling `the_app:made` failed: TypeError"),
        ("def made(): raise LookupError('no settings')", "failed: LookupError: no settings"),
        ("def made(): raise SystemExit(0)", "failed: SystemExit: 0"),
        ("made = sessionmaker(class_=ShardedSession, shards=shards)", "failed: TypeError"),
        ("made = sessionmaker(class_=ShardedSession, **choosers)", "has no shards"),
        ("made = sessionmaker(class_=ShardedSession, shards={}, **choosers)", "has no shards"),
        (
            "made = sessionmaker(class_=ShardedSession, shards={1: shards['east']}, **choosers)",
            "the shard id 1 is not text",
        ),
        (
            "made = sessionmaker(class_=ShardedSession, shards={'a': shards['east'].connect()}, **choosers)",
            "the bind of shard `a` is a Connection, not an Engine",
        ),
        (
            """
            from sqlalchemy.dialects import registry
            from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
            class Other(SQLiteDialect_pysqlite):
                name = "other"
                supports_statement_cache = True
            registry.impls["other"] = lambda: Other
            made = sessionmaker(class_=ShardedSession, shards={"a": create_engine("other://")}, **choosers)
            """,
            "shard `a` is on other, which shardctl does not know",
        ),
    ],
)
def test_what_is_no_factory_is_refused(open_app, source, message):
    with pytest.raises(ConfigError) as refusal:
        open_app(source)
    assert message in refusal.value.message


def test_asynchronous_sessionmakers_are_refused(open_app):
    pytest.importorskip("greenlet", reason="sqlalchemy.ext.asyncio needs greenlet")
    source = "from sqlalchemy.ext.asyncio import async_sessionmaker, AsyncSession\n"
    for made in ("made = async_sessionmaker(sync_session_class=ShardedSession)", "made = AsyncSession"):
        with pytest.raises(ConfigError, match="makes asynchronous sessions"):
            open_app(source + made)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("the_app", "`the_app` is not `module:attribute`"),
        ("the_app:", "is not `module:attribute`"),
        ("no_such_app:Session", "cannot import `no_such_app`"),
        ("the_app:Sessoin", "module `the_app` has no `Sessoin`"),
        ("the_app.db:Session", "cannot import `the_app.db`"),
        ("the_app:Sharded.nothing", "module `the_app` has no `Sharded.nothing`"),
    ],
)
def test_what_cannot_be_imported(open_app, target, message):
    open_app("", "Sharded")
    with pytest.raises(ConfigError) as refusal:
        shardctl.open(app=target)
    assert message in refusal.value.message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_library", "cannot import `the_app` for `the_app:made`: No module named 'no_such_library'"),
        ("1 / 0", "importing `the_app` for `the_app:made` failed: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)", "failed: SystemExit: 0"),
        ("def made(:", "failed: SyntaxError"),
    ],
)
def test_modules_that_fail(open_app, source, message):
    with pytest.raises(ConfigError) as refusal:
        open_app(source, base="")
    assert message in refusal.value.message


def test_what_a_module_prints_stays_out_of_the_data(tmp_path):
    (tmp_path / "the_app.py").write_text("print('hello from the application')\n" + APP)
    command = [sys.executable, "-m", "shardctl", "shards", "--app", "the_app:Sharded", "--format", "csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["shard", "east", "west"]
    assert "hello from the application" in done.stderr


def test_models_are_found_beside_the_choosers(open_app, tmp_path):
    (tmp_path / "the_app_models.py").write_text(APP)
    fleet = open_app("from the_app_models import Sharded as made", base="")

    assert set(fleet.models.mappers) == {"City", "Setting"}


def test_application_named_by_a_file(open_app, tmp_path):
    open_app("", "Sharded")
    file = tmp_path / "shardctl.toml"
    file.write_text('app = "the_app:Sharded"\nmodels = "the_app:Base"\ntimeout_s = 3\n')
    with shardctl.open() as fleet:
        assert (list(fleet.shards), set(fleet.models.mappers)) == (["east", "west"], {"City", "Setting"})
        assert fleet.shard_map.timeout_s == 3
    file.write_text('app = "the_app:Sharded"\n[tables.City]\nstrategy = "reference"\n')
    with pytest.raises(ConfigError, match=r"`app` and `\[tables\]` exclude each other"):
        shardctl.open()


def test_application_without_models_says_so_when_they_are_needed(open_app):
    head = APP.partition("class Base")[0] + "shards = " + APP.partition("shards = ")[2]
    fleet = open_app("", "Sharded", base=head)

    assert list(fleet.shards) == ["east", "west"]
    with pytest.raises(ConfigError, match="no mapped classes where `the_app:Sharded` is defined"):
        fleet.tables_on("east")


def test_tables_limited_to_shards(open_app):
    fleet = open_app("", "Sharded")

    assert [table.name for table in fleet.tables_on("east")] == ["cities"]
    assert [table.name for table in fleet.tables_on("west")] == ["cities", "settings"]
    fleet.models.tables["settings"].info["shards"] = ["wset"]
    with pytest.raises(UnknownName, match="no shard named `wset`"):
        fleet.tables_on("east")


def test_a_table_that_a_shard_need_not_have_is_not_missed(open_app):
    from shardctl.rows.locate import locate

    fleet = open_app("", "Sharded")
    for shard_id, shard in fleet.shards.items():
        fleet.models.metadatas[0].create_all(shard.bind, tables=fleet.tables_on(shard_id))
    with fleet.sessionmaker()() as session:
        session.add(fleet.models.mappers["Setting"].class_())
        session.commit()

    search = locate(fleet, fleet.models.find("Setting"), list(fleet.shards.values()), identities=[(1,)])

    assert [(row.shard_id, row.verdict) for row in search.found] == [("west", "ok")]
    assert not search.failed


def test_closing_the_fleet_leaves_the_applications_pools(open_app):
    source = """
    from sqlalchemy.pool import SingletonThreadPool
    memory = create_engine("sqlite://", poolclass=SingletonThreadPool)
    made = sessionmaker(class_=ShardedSession, shards={"east": memory}, **choosers)
    Base.metadata.create_all(memory)
    """
    with open_app(source) as fleet:
        memory = fleet.shards["east"].bind
    assert inspect(memory).has_table("cities")
    memory.dispose()
