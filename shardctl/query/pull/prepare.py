"""What gathering has to know of the shards before it is planned: the shapes of tables, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from shardctl.errors import QueryRefused, ShardError
from shardctl.query.gatherers import GATHERERS, TableShape
from shardctl.query.here.describing import described
from shardctl.query.here.kinds import NotListed, not_listed
from shardctl.query.here.place import is_installed
from shardctl.query.here.translate import translate
from shardctl.query.holders import Holders
from shardctl.query.parse import Statement
from shardctl.query.plan import Gathering, QueryPlan, Route
from shardctl.query.probes import ask
from shardctl.query.pull.checks import check_gatherable, functions, names_in
from shardctl.query.pull.keys import doubtful_keys
from shardctl.query.pull.places import gathering_place, refuse_without_place
from shardctl.query.pull.plan import Pulls, plan_key_scan, plan_scans
from shardctl.query.refusals import REFUSALS
from shardctl.query.scan import run_on

if TYPE_CHECKING:
    from shardctl.fleet import Fleet, LiveShard

Settings = Mapping[str, str]


def plan_gathering(
    fleet: Fleet,
    statement: Statement,
    holders: Holders,
    refusal: QueryRefused,
    *,
    timeout_s: float | None,
    not_here: NotListed | None = None,
) -> QueryPlan:
    """Plan to gather what cannot be merged.

    Args:
        fleet: The fleet.
        statement: The statement, with class names resolved.
        holders: Which shards hold its tables.
        refusal: Why it cannot be merged.
        timeout_s: Seconds for a shard to show its tables.
        not_here: Why DuckDB did not answer it, if it was tried.

    Raises:
        QueryRefused: It cannot be gathered either, or there is no place to gather in.
        ShardError: A shard failed, or does not have a table.
    """
    check_gatherable(statement, {}, is_known=False)
    place = gathering_place(fleet, statement.engine)
    may_be_here = not_here is None and statement.engine != "sqlite" and is_installed()
    if place is None and not may_be_here:
        raise refuse_without_place(fleet, statement.engine, refusal, not_here) from refusal
    each = holders.each()
    read = {shard_id for shard_ids in each.values() for shard_id in shard_ids}
    checks = [
        replace(check, shard_ids=chosen)
        for check in doubtful_keys(fleet, holders.models, statement)
        if (chosen := tuple(shard_id for shard_id in check.shard_ids if shard_id in read))
    ]
    first = {check.table: check.shard_ids[0] for check in checks} | {key: found[0] for key, found in each.items()}
    shapes, settings = _read(fleet, statement, first, timeout_s)
    homes = {key: [shard.shard_id for shard in shards] for key, shards in holders.by_table.items()}
    pulls = plan_scans(statement, {key: shapes[key] for key in each if key in shapes}, each, holders.placed, homes)
    if not pulls.scans:
        raise refusal
    scans = pulls.scans + tuple(plan_key_scan(check, shapes[check.table], statement.engine) for check in checks)
    asked = {shard_id for scan in scans for shard_id in scan.shard_ids}
    gathering = Gathering(
        sql=pulls.statement.sql,
        scans=scans,
        settings=tuple(sorted(settings.items())),
        functions=functions(statement, shapes),
        words=names_in(statement),
        place="" if place is None else _named(place),
        seen=tuple((first[key], shape) for key, shape in shapes.items()),
    )
    if may_be_here:
        try:
            gathering = _here(fleet, statement, pulls, gathering, timeout_s)
        except NotListed as reason:
            if place is None:
                raise refuse_without_place(fleet, statement.engine, refusal, reason) from refusal
    return QueryPlan(
        route=Route.GATHER,
        engine=statement.engine,
        shard_ids=tuple(shard_id for shard_id in fleet.shards if shard_id in asked),
        shard_sql=gathering.sql,
        reason=f"not merged: {refusal.message}",
        gathering=gathering,
        pruned=holders.pruned(asked),
    )


def _here(
    fleet: Fleet,
    statement: Statement,
    pulls: Pulls,
    gathering: Gathering,
    timeout_s: float | None,
) -> Gathering:
    """Return what is brought to DuckDB instead; NotListed if it does not answer alike."""
    here, scans = translate(pulls.statement, pulls.shapes, gathering.scans, dict(gathering.settings))
    holding = [set(scan.shard_ids) for scan in scans]
    together = [shard for shard_id, shard in fleet.shards.items() if all(shard_id in ids for ids in holding)]
    if not together:
        raise not_listed("a statement over tables that are on no shard together")

    def read(shard: LiveShard) -> tuple[str, ...]:
        with shard.connect(keep=True) as connection:
            return described(connection, statement, here.kinds)

    names = run_on(fleet, together[:1], read, timeout_s=timeout_s)[0]
    return replace(gathering, scans=scans, here=replace(here, names=names), place="in DuckDB here")


def _named(place: LiveShard) -> str:
    return "in SQLite here" if place.backend.name == "sqlite" else f"on database `{place.engine.url.database}`"


def _read(
    fleet: Fleet, statement: Statement, first: Mapping[str, str], timeout_s: float | None
) -> tuple[dict[str, TableShape], Settings]:
    """Return the tables' shapes, each from the first shard that holds it, and the first shard's settings."""
    gatherer = GATHERERS[statement.engine]
    called = functions(statement, {})

    def read(shard: LiveShard) -> tuple[dict[str, TableShape | None], Settings]:
        own = [key for key, shard_id in first.items() if shard_id == shard.shard_id]
        is_own = fleet.shard_map.app is None
        probes = (gatherer.settings(), gatherer.foreign(called, is_own=is_own), gatherer.shapes(own))
        settings, foreign, found = shard.read(lambda connection: ask(connection, *probes, ends=True))
        if foreign:
            REFUSALS["function"].refuse(None, foreign[0])
        return dict(zip(own, found, strict=True)), settings

    shards = [fleet.shards[shard_id] for shard_id in dict.fromkeys(first.values())]
    found: dict[str, TableShape] = {}
    settings: Settings = {}
    for shard, (shapes, own_settings) in zip(shards, run_on(fleet, shards, read, timeout_s=timeout_s), strict=True):
        settings = settings or own_settings
        for key, shape in shapes.items():
            if shape is not None:
                found[key] = shape
            elif not _may_be_cte(statement, key):
                raise ShardError(f"the query failed on `{shard.shard_id}`", facts=[f"there is no table `{key}`"])
    return {key: found[key] for key in first if key in found}, settings


def _may_be_cte(statement: Statement, key: str) -> bool:
    """Whether a WITH gives this name somewhere in the statement."""
    return key.lower() in {name.lower() for name in statement.cte_names}
