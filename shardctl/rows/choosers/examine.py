"""The checks of one class: where its objects belong, where its identities are looked for, where statements go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Executable, Table, delete, inspect, select, update
from sqlalchemy.ext.horizontal_shard import ShardedSession
from sqlalchemy.orm import Mapper

from shardctl.fleet import Fleet
from shardctl.fleet.choosers import ask_execute_chooser, ask_identity_chooser, ask_shard_chooser, ask_where_sent
from shardctl.fleet.rules import Follow, Reference, Sharded, columns_of
from shardctl.rows.choosers.questions import Ask, Interview, Question
from shardctl.rows.choosers.report import Report
from shardctl.rows.choosers.watched import Watched
from shardctl.topology.strategies import Directory

MANY = 5
"""So many generated objects say something about a class; and so many stored rows are asked about by statements."""

_SILENT_LOADERS = ("raise", "raise_on_sql", "noload", "dynamic", "write_only")
"""Relationships that load nothing when they are touched."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A class, and objects of it."""

    mapper: Mapper[Any]
    generated: Sequence[Any]
    stored: Sequence[Any]
    """Loaded from shards; they belong to no session."""

    @property
    def name(self) -> str:
        return self.mapper.class_.__name__


class Examination:
    """The checks of one class, in sessions of their own.

    Args:
        fleet: Whose choosers.
        watched: Makes the sessions.
        report: What is found goes there.
        subject: The class.
    """

    def __init__(self, fleet: Fleet, watched: Watched, report: Report, subject: Subject) -> None:
        self._fleet = fleet
        self._watched = watched
        self._report = report
        self._subject = subject
        self._known = tuple(fleet.shards)
        self._interview = Interview(watched, report, self._known)
        rule = fleet.placement.rule(subject.mapper) if fleet.placement is not None else None
        self._is_reference = isinstance(rule, Reference)
        self._may_read = self._is_in_directory(rule)
        self._misplaced: set[int] = set()
        """Stored rows that shard_chooser would have elsewhere: then it is not for the other choosers to find them."""
        self.placed: Counter[str] = Counter()
        """How many objects each shard was chosen for."""

    def run(self) -> None:
        """Ask the choosers, and report what is wrong."""
        self._check_loads()  # first: what is loaded stays loaded
        if not self._is_reference:  # a row of it is no object of one shard
            self._check_homes()
        self._check_identities()
        self._check_statements()

    # -- where objects belong ------------------------------------------------------------------------------------------

    def _check_homes(self) -> None:
        answered: Counter[str] = Counter()
        is_refused, last = False, ""
        with self._sessions() as sessions:
            for instance in self._subject.generated:
                sessions[0].add(instance)  # as a new object is in one when a flush asks
                question = replace(
                    self._question("shard_chooser", described(instance), may_fail=True, may_read=self._may_read),
                    made_up=frozenset(_texts(instance)),
                )
                answer = self._interview.ask(question, self._home_of(instance), sessions)
                answered.update(answer.shard_ids if answer else ())
                is_refused = is_refused or self._interview.is_refused
                last = question.example
        if not is_refused:  # by the state of a shard, so that others have all
            self._check_some_home(answered, last)
        for instance in self._subject.stored:
            with self._sessions() as sessions:
                sessions[0].add(instance)
                question = self._question("shard_chooser", described(instance), may_read=True)  # of what is not loaded
                answer = self._interview.ask(question, self._home_of(instance), sessions)
                answered.update(answer.shard_ids if answer else ())
                if answer is not None and answer.shard_ids[0] != shard_of(instance):
                    what = "would place stored rows elsewhere; `shardctl audit placement` counts them"
                    self._interview.report("C204", question, what, f": {answer}")
                    self._misplaced.add(id(instance))
        self.placed = answered

    def _home_of(self, instance: Any) -> Ask:
        return lambda session: ask_shard_chooser(session, inspect(instance).mapper, instance, self._known)

    def _check_some_home(self, answered: Counter[str], example: str) -> None:
        subject, generated = self._subject, len(self._subject.generated)
        if not generated or self._may_read or self._report.is_blamed(subject.name, "shard_chooser"):
            return  # a directory knows what is in it only
        question = self._question("shard_chooser", example)
        if not answered:
            outcome = f": {self._interview.last}"
            self._interview.report("C201", question, f"places none of {generated} generated objects", outcome)
            return
        here = set(self._fleet.shard_ids(subject.mapper)) | {shard_of(row) for row in subject.stored}
        if len(answered) == 1 and answered.total() >= MANY and len(here) > 1:
            home = next(iter(answered))
            what = f'places all on `{home}`; if it belongs there, say so: `Table.info["shards"] = ["{home}"]`'
            self._interview.report("C202", question, what)

    # -- where they are looked for -------------------------------------------------------------------------------------

    def _check_identities(self) -> None:
        mapper = self._subject.mapper
        with self._sessions() as sessions:
            failed = []
            for instance in (*self._subject.generated, *self._subject.stored):
                key = tuple(mapper.primary_key_from_instance(instance))
                if None in key:
                    continue
                home = shard_of(instance)
                failed.append(not self._check_identity(key, home, instance, sessions))
            if failed and all(failed):
                question = self._question("identity_chooser", f"{self._subject.name} {key!r}")
                ask = self._by_key(key)
                self._interview.ask(question, ask, sessions)

    def _by_key(self, key: tuple[Any, ...]) -> Ask:
        return lambda session: ask_identity_chooser(session, self._subject.mapper, key, self._known)

    def _check_identity(
        self, key: tuple[Any, ...], home: str | None, instance: Any, sessions: Sequence[ShardedSession]
    ) -> bool:
        """Check one primary key, and say whether it was answered."""
        mapper = self._subject.mapper
        text = f"{self._subject.name} {key!r}" if home is None else described(instance)
        may_fail = home is None
        loaded = self._interview.ask(
            self._question("identity_chooser", text, may_fail=may_fail), self._by_key(key), sessions
        )
        if loaded is None:
            return False
        question = self._question("execute_chooser", f"get({text})", may_fail=may_fail)
        asked = self._interview.ask(
            question, lambda session: ask_where_sent(session, lambda: session.get(mapper, key), self._known), sessions
        )
        if asked is None or self._is_reference:
            return True
        beyond = sorted(set(loaded.shard_ids) - set(asked.shard_ids))
        if beyond:
            outcome = f": {loaded}; `get()` asks {asked}"
            self._interview.report("C301", question, "does not ask all that identity_chooser names", outcome)
        if home is not None and id(instance) not in self._misplaced:
            if home not in loaded.shard_ids:
                question_ = self._question("identity_chooser", text)
                self._interview.report("C302", question_, "leaves out the row's own shard", f": {loaded}")
            if home not in asked.shard_ids:
                self._interview.report("C303", question, "leaves out the row's own shard", f": {asked}")
        return True

    # -- where statements go -------------------------------------------------------------------------------------------

    def _check_statements(self) -> None:
        subject = self._subject
        holding = dict.fromkeys(str(shard_of(row)) for row in subject.stored)
        with self._sessions() as sessions:
            for code, text, statement in self._statements(()):
                self._check_statement(code, text, statement, list(holding), sessions)
            for instance in subject.stored[:MANY]:
                if id(instance) in self._misplaced:
                    continue
                key = subject.mapper.primary_key_from_instance(instance)
                where = [column == value for column, value in zip(subject.mapper.primary_key, key, strict=True)]
                for code, text, statement in self._statements(where):
                    home = str(shard_of(instance))
                    self._check_statement(code, f"{text} {key}", statement, [home], sessions)

    def _check_statement(
        self, code: str, text: str, statement: Executable, homes: list[str], sessions: Sequence[ShardedSession]
    ) -> None:
        question = self._question("execute_chooser", text)
        answer = self._interview.ask(
            question, lambda session: ask_execute_chooser(session, statement, self._known), sessions
        )
        missing = [home for home in homes if answer is not None and home not in answer.shard_ids]
        if missing and not self._is_reference:
            self._interview.report(
                code, question, f"leaves out `{'`, `'.join(missing)}`, which has rows", f": {answer}"
            )

    def _statements(self, where: Sequence[Any]) -> Iterator[tuple[str, str, Executable]]:
        """Yield statements on the class, each with the code for a shard that it is not sent to."""
        mapper = self._subject.mapper
        class_, name = mapper.class_, self._subject.name
        by_key = " by primary key" if where else ""
        yield ("C303" if where else "C304"), f"select({name}){by_key}", select(class_).where(*where)
        if not isinstance(mapper.local_table, Table):
            return
        columns = columns_of(mapper).items()
        own = [key for key, column in columns if column in set(mapper.local_table.c) and not column.primary_key]
        if own:
            values = {own[0]: getattr(class_, own[0])}
            changed = update(class_).where(*where).values(values).execution_options(synchronize_session=False)
            yield "C305", f"update({name}){by_key}", changed
        gone = delete(class_).where(*where).execution_options(synchronize_session=False)
        yield "C305", f"delete({name}){by_key}", gone

    def _check_loads(self) -> None:
        """Touch the relationships of stored rows."""
        for instance in self._subject.stored[:MANY]:
            for relationship in inspect(instance).mapper.relationships:
                if relationship.lazy in _SILENT_LOADERS or relationship.key in inspect(instance).dict:
                    continue
                name = f"{self._subject.name}.{relationship.key}"
                question = self._question("execute_chooser", f"load of {name} of {described(instance)}")
                with self._sessions() as sessions:
                    sessions[0].add(instance)
                    self._interview.ask(question, self._touching(instance, relationship.key), sessions[:1])

    def _touching(self, instance: Any, key: str) -> Ask:
        return lambda session: ask_where_sent(session, lambda: getattr(instance, key), self._known)

    # -- what they share -----------------------------------------------------------------------------------------------

    def _question(self, chooser: str, example: str, *, may_fail: bool = False, may_read: bool = False) -> Question:
        return Question(self._subject.name, chooser, example, may_fail=may_fail, may_read=may_read)

    def _sessions(self) -> _Sessions:
        return _Sessions(self._watched.session)

    def _is_in_directory(self, rule: Any) -> bool:
        """Say whether the shard map itself has homes looked for in a table."""
        while isinstance(rule, Follow) and self._fleet.placement is not None:
            rule = self._fleet.placement.rule(rule.parent)
        return isinstance(rule, Sharded) and isinstance(rule.strategy, Directory)


class _Sessions:
    """Two sessions, which give up their objects and connections at the end, and write nothing."""

    def __init__(self, make: Callable[[], ShardedSession]) -> None:
        self._sessions = (make(), make())

    def __enter__(self) -> Sequence[ShardedSession]:
        return self._sessions

    def __exit__(self, *exc_info: object) -> None:
        for session in self._sessions:
            session.expunge_all()
            session.close()


def shard_of(instance: Any) -> str | None:
    """Return the shard that an object was loaded from; None if it was not."""
    key = inspect(instance).key
    return None if key is None else str.__str__(key[2])


def _texts(instance: Any) -> Iterator[str]:
    """Yield the texts in a generated object, and in its parents."""
    state = inspect(instance)
    yield from (value for value in state.dict.values() if isinstance(value, str))
    for relationship in state.mapper.relationships:
        if state.dict.get(relationship.key) is not None:
            yield from _texts(state.dict[relationship.key])


def described(instance: Any) -> str:
    """Return an object in a few words: its primary key and its shard if it is stored, else its first values."""
    state = inspect(instance)
    name = type(instance).__name__
    if state.key is not None:
        return f"{name} {tuple(state.key[1])!r} on {state.key[2]}"
    values = ", ".join(f"{key}={value!r}" for key, value in state.dict.items() if key in state.mapper.column_attrs)
    return f"{name}({values if len(values) <= 60 else values[:59] + '…'})"
