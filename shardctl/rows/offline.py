"""Which shards can hold a row, by the rules alone: no connection is opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.orm import Mapper

from shardctl.errors import NoPlacement
from shardctl.fleet import Fleet
from shardctl.fleet.choosers import Answer, ask_execute_chooser, ask_identity_chooser
from shardctl.fleet.placement import Placement
from shardctl.fleet.rules import Follow, Reference, Sharded, fits
from shardctl.fleet.statement_routing import StatementRouter
from shardctl.rows.homes import Home, attribute_of, local_of, remote_of
from shardctl.rows.identities import Identity, Target, key_columns
from shardctl.topology.routing import And, Compare
from shardctl.topology.strategies import Directory


class _Undecided(Exception):
    """What is known of a row leaves all shards possible."""


def possible_homes(fleet: Fleet, target: Target, identities: Iterable[Identity]) -> Iterator[tuple[Identity, Home]]:
    """Yield primary keys with the shards that can hold them, and why these."""
    if fleet.placement is not None:
        names = [attribute_of(target, column) for column in key_columns(target)]
        for identity in identities:
            yield identity, possible_home(fleet, target, dict(zip(names, identity, strict=True)))
    elif isinstance(target, Table):
        for identity in identities:
            yield identity, _unknown(fleet, target)
    else:
        with fleet.session() as session:
            for identity in identities:
                where = [column == value for column, value in zip(key_columns(target), identity, strict=True)]
                by_identity = ask_identity_chooser(session, target, identity, fleet.shards)
                by_statement = ask_execute_chooser(session, select(target).where(*where), fleet.shards)
                yield identity, _said(fleet, target, identity_chooser=by_identity, execute_chooser=by_statement)


def possible_home(fleet: Fleet, target: Target, known: Mapping[str, Any]) -> Home:
    """Return the shards that can hold a row of which some attributes are known, and why these."""
    if fleet.placement is None:
        if isinstance(target, Table):
            return _unknown(fleet, target)
        with fleet.session() as session:
            where = [getattr(target.class_, name) == value for name, value in known.items()]
            answer = ask_execute_chooser(session, select(target).where(*where), fleet.shards)
        return _said(fleet, target, execute_chooser=answer)
    everywhere = _everywhere(fleet, target)
    try:
        return _Rules(fleet, fleet.placement).home(target, known)
    except _Undecided as undecided:
        return Home(everywhere, f"any of {len(everywhere)}: {undecided}")
    except NoPlacement as error:
        return Home((), error.message)


def _everywhere(fleet: Fleet, target: Target) -> tuple[str, ...]:
    having = fleet.shard_ids(target)
    return tuple(shard_id for shard_id in fleet.shards if shard_id in having)


def _unknown(fleet: Fleet, table: Table) -> Home:
    everywhere = _everywhere(fleet, table)
    return Home(everywhere, f"any of {len(everywhere)}: an application places mapped classes only")


def _said(fleet: Fleet, mapper: Mapper[Any], **answers: Answer) -> Home:
    """Return the shards that all choosers which answered name."""
    everywhere = _everywhere(fleet, mapper)
    reasons = [f"{name} {answer.problem}" if answer.problem else name for name, answer in answers.items()]
    known = [set(answer.shard_ids) for answer in answers.values() if not answer.problem]
    possible = set.intersection(*known) if known else set(everywhere)
    return Home(tuple(shard_id for shard_id in everywhere if shard_id in possible), ", ".join(reasons))


class _Rules:
    """The rules of a shard map."""

    def __init__(self, fleet: Fleet, placement: Placement) -> None:
        self._fleet = fleet
        self._placement = placement
        self._router = StatementRouter(fleet.shard_map, placement)

    def home(self, target: Target, known: Mapping[str, Any]) -> Home:
        """Return the shards that can hold a row.

        Raises:
            _Undecided: Any shard can.
            NoPlacement: None can, by the rules.
        """
        match self._placement.rule(target):
            case Reference(shard_ids=shard_ids):
                return Home(shard_ids, "reference table: every copy")
            case Sharded() as rule:
                return self._by_key(target, rule, known)
            case Follow() as rule:
                return self._by_parent(target, rule, known)
        raise _Undecided(f"{self._fleet.shard_map.where} has no placement for it")

    def _by_key(self, target: Target, rule: Sharded, known: Mapping[str, Any]) -> Home:
        names = {name: attribute_of(target, column) for name, column in zip(rule.attributes, rule.columns, strict=True)}
        unset = [name for name, own in names.items() if own not in known]
        if unset:
            raise _Undecided(f"the sharding key `{', '.join(unset)}` is not given")
        strategy = rule.strategy
        if isinstance(strategy, Directory):
            raise _Undecided(
                f"the directory `{strategy.table}` on shard `{strategy.on}` says it, which needs a connection"
            )
        key = SimpleNamespace(**{name: known[own] for name, own in names.items()})
        home = self._placement.place_by_key(rule, key)
        stored = self._placement.key_of(rule, key)
        reason = f"{', '.join(rule.attributes)}: {strategy.explain(stored)}"
        if not all(fits(known[own], column) for own, column in zip(names.values(), rule.columns, strict=True)):
            return Home((home,), reason)
        compared = And(tuple(Compare(rule.name, n, "=", (value,)) for n, value in zip(names, stored, strict=True)))
        everywhere = list(_everywhere(self._fleet, target))
        possible = self._router.answer(compared, [rule], everywhere).shard_ids | {home}
        if len(possible) > 1:
            reason += ", or where databases hold another spelling equal"
        return Home(tuple(shard_id for shard_id in everywhere if shard_id in possible), reason)

    def _by_parent(self, target: Target, rule: Follow, known: Mapping[str, Any]) -> Home:
        """Answer by the parent's key, as far as the row itself has it."""
        locals_ = [attribute_of(target, column) for column in local_of(rule.relationship)]
        unset = [name for name in locals_ if name not in known]
        if unset:
            raise _Undecided(f"it follows {rule.relationship.key}, and `{', '.join(unset)}` is not given")
        remotes = [attribute_of(rule.parent, column) for column in remote_of(rule.relationship)]
        of_parent = dict(zip(remotes, (known[name] for name in locals_), strict=True))
        try:
            home = self.home(rule.parent, of_parent)
        except _Undecided as undecided:
            raise _Undecided(f"it follows {rule.relationship.key}: {undecided}") from None
        return Home(home.shard_ids, f"follows {rule.relationship.key}: {home.reason}")
