"""The project's revisions, loaded once, and where a live shard stands among them."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, column, inspect, select, table

from shardctl.errors import ConfigError, UnknownName
from shardctl.schema.goals import UPGRADE_TO_HEADS, Direction, Goal, heads_after
from shardctl.schema.history import JOURNAL, OWN_TABLES
from shardctl.schema.settings import Settings, find_settings
from shardctl.schema.steps import Step, revision_of, steps_to

DEFAULT_VERSION_TABLE = "alembic_version"


class Standing(StrEnum):
    """Where a shard stands among the project's revisions."""

    EMPTY = "empty"
    UNVERSIONED = "unversioned"
    BEHIND = "behind"
    AT_HEAD = "at head"
    UNKNOWN = "unknown revision"


@dataclass(frozen=True, slots=True)
class ShardRevision:
    """The revisions that a shard's version table names, and what they mean."""

    revisions: tuple[str, ...]
    standing: Standing
    pending: tuple[str, ...] = ()
    """The revisions that lead from here to the head, first to last."""
    tables: tuple[str, ...] = ()
    """The shard's tables, without the version table and shardctl's own."""
    own_tables: frozenset[str] = field(default=frozenset(), compare=False)
    """Those of shardctl's own tables that are there."""

    def __str__(self) -> str:
        return ", ".join(self.revisions)


@dataclass(frozen=True, slots=True)
class Scripts:
    """A migrations directory with its revisions, read once and then shared by all threads."""

    settings: Settings
    directory: ScriptDirectory
    known: frozenset[str] = frozenset()
    env_py: str = ""
    """Its text."""
    version_tables: dict[str, str] = field(default_factory=dict)
    """By shard, where an env.py chose another name than Alembic's."""

    @property
    def folder(self) -> Path:
        return self.settings.folder

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(sorted(self.directory.get_heads()))

    def resolve(self, target: str) -> tuple[str, ...]:
        """Return the full ids of a target such as `head`, `heads`, an id or its beginning.

        Raises:
            ConfigError: There is no such revision, or `head` is ambiguous.
        """
        if target in {"head", "heads"}:
            if target == "head" and len(self.heads) > 1:
                raise ConfigError(
                    f"{self.folder.name}: {len(self.heads)} heads: {_quoted(self.heads)}",
                    hint="`shardctl migrate --to heads` brings shards to all of them; "
                    f"`{self.settings.alembic_command('merge heads')}` makes them one",
                )
            return self.heads
        try:
            found = self.directory.get_revisions(target)
        except CommandError:
            found = ()
        if not found or any(script is None for script in found):
            raise UnknownName(f"{self.folder.name}: no revision `{target}`", name=target, known=self.known)
        return tuple(script.revision for script in found)

    def check(self, goal: Goal) -> None:
        """Refuse a target that no shard can be brought to.

        Raises:
            ConfigError: There is no such revision, or `head` is ambiguous.
        """
        if goal.is_base and goal.direction is Direction.UPGRADE:
            raise ConfigError(
                "no upgrade leads to `base`", hint="`shardctl migrate downgrade base` takes revisions back"
            )
        if goal.is_count:
            _check_count(goal)
        if not goal.is_base and (goal.purges or not goal.is_relative):
            self.resolve(goal.target)

    def steps(self, goal: Goal, revisions: tuple[str, ...]) -> list[Step]:
        """Return what Alembic runs to bring a shard from its revisions to a goal.

        Raises:
            ConfigError: There is no such revision.
            Refused: It cannot be reached from there.
        """
        wanted = None
        if goal.is_base or not goal.is_relative or goal.purges:
            wanted = () if goal.is_base else self.resolve(goal.target)
        return steps_to(self.directory, goal, wanted, revisions)

    def lineage(self, revisions: tuple[str, ...]) -> frozenset[str]:
        """Return these revisions and all that they build on."""
        if not revisions:
            return frozenset()
        return frozenset(script.revision for script in self.directory.iterate_revisions(revisions, "base"))

    def after(self, goal: Goal, revisions: tuple[str, ...]) -> tuple[str, ...]:
        """Return the revisions of a shard once it is brought to a goal."""
        return heads_after(self.steps(goal, revisions), revisions)

    def pending(self, goal: Goal, revisions: tuple[str, ...]) -> tuple[str, ...]:
        """Return the ids of the revisions between a shard's and a goal, in the order in which they run."""
        return tuple(revision_of(step) for step in self.steps(goal, revisions))


def load_scripts(folder: Path | None, *, where: str) -> Scripts:
    """Read a migrations directory: its settings, and every revision.

    Args:
        folder: The directory with env.py; an alembic.ini is looked for in it, and beside it.
        where: What names the directory, for messages.

    Raises:
        ConfigError: There is none, it has no env.py, or a revision cannot be loaded.
    """
    if folder is None:
        raise ConfigError(f"{where}: no `migrations`", hint='name Alembic\'s directory: `migrations = "migrations"`')
    if not (folder / "env.py").is_file():
        what = "there is no directory" if not folder.is_dir() else "no `env.py` in"
        raise ConfigError(f"{where}: {what} `{folder}`", hint=f"`alembic init {folder.name}` makes one")
    settings = find_settings(folder.absolute())
    with _loading(settings.folder):
        directory = _script_directory(settings)
        known = frozenset(script.revision for script in directory.walk_revisions())
        directory.get_heads()
    env_py = (settings.folder / "env.py").read_text(encoding="utf-8", errors="replace")
    return Scripts(settings, directory, known, env_py)


def messages_of(scripts: Scripts) -> dict[str, str]:
    """Return the first line of each revision's docstring."""
    documented = ((script.revision, script.doc.strip()) for script in scripts.directory.walk_revisions())
    return {revision: text.splitlines()[0] if text else "" for revision, text in documented}


def read_revisions(connection: Connection, version_table: str = DEFAULT_VERSION_TABLE) -> tuple[str, ...]:
    """Return the revisions that a shard's version table names; none if it has no such table."""
    if not inspect(connection).has_table(version_table):
        return ()
    return tuple(sorted(connection.scalars(select(column("version_num")).select_from(table(version_table)))))


def read_standing(
    connection: Connection, scripts: Scripts, version_table: str = DEFAULT_VERSION_TABLE, goal: Goal = UPGRADE_TO_HEADS
) -> ShardRevision:
    """Return where a shard stands, read through its own connection."""
    revisions = read_revisions(connection, version_table)
    return standing_of(scripts, revisions, inspect(connection).get_table_names(), version_table, goal)


def standing_of(
    scripts: Scripts,
    revisions: tuple[str, ...],
    tables: Iterable[str],
    version_table: str = DEFAULT_VERSION_TABLE,
    goal: Goal = UPGRADE_TO_HEADS,
) -> ShardRevision:
    """Return where a shard with these revisions and tables stands."""
    own = OWN_TABLES.intersection(tables)
    tables = tuple(sorted(set(tables) - own - {version_table}))
    is_known = set(revisions) <= scripts.known
    pending = scripts.pending(goal, revisions) if is_known or goal.purges else ()
    if not is_known:
        return ShardRevision(revisions, Standing.UNKNOWN, pending, tables, own)
    if revisions:
        standing = Standing.BEHIND if pending else Standing.AT_HEAD
    else:
        # With a journal, they may be those of a first revision that was left in the middle.
        standing = Standing.UNVERSIONED if tables and JOURNAL.name not in own else Standing.EMPTY
    return ShardRevision(revisions, standing, pending, tables, own)


def _script_directory(settings: Settings) -> ScriptDirectory:
    """Load the directory by its settings.

    Alembic puts `prepend_sys_path` in front of sys.path on each call, relative to the working directory.
    """
    before = list(sys.path)
    directory = ScriptDirectory.from_config(settings.new_config())
    added = sys.path[: len(sys.path) - len(before)] if settings.is_found else ["."]
    wanted = [str((settings.base / entry).resolve()) for entry in added]
    sys.path[:] = [*(entry for entry in wanted if entry not in before), *before]
    return directory


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of settings: it is Alembic's to tell their owner
        # A revision that is missing or there twice is only a warning to Alembic.
        warnings.filterwarnings("error", category=UserWarning, module=r"alembic\.script")
        try:
            yield
        except (Exception, SystemExit) as error:
            raise _load_error(folder, error) from error


def _load_error(folder: Path, error: BaseException) -> ConfigError:
    if isinstance(error, CommandError | UserWarning):
        return ConfigError(f"{folder.name}: {_first_line(error)}")
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        files.append(error.filename)
    revision = next((Path(file) for file in reversed(files) if Path(file).is_relative_to(folder)), None)
    module = getattr(getattr(error, "obj", None), "__file__", None)
    if revision is None and isinstance(error, AttributeError) and module and Path(module).is_relative_to(folder):
        place = f"{folder.name}: `{Path(module).name}` is no revision"
        return ConfigError(f"{place}: it has no `{error.name}`", hint="give it one, or move it out of the directory")
    place = f"{folder.name}: `{revision.name}` cannot be loaded" if revision else f"{folder.name}: cannot be loaded"
    return ConfigError(f"{place}: {type(error).__name__}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _check_count(goal: Goal) -> None:
    if goal.direction is Direction.STAMP:
        raise ConfigError(
            f"a stamp runs nothing, and takes no `{goal.target}`",
            hint="name the revision: `shardctl migrate log` lists them",
        )
    if (goal.direction is Direction.UPGRADE) is ("-" in goal.target):
        other = "downgrade " if goal.direction is Direction.UPGRADE else "--to "
        raise ConfigError(
            f"no {goal.direction} leads to `{goal.target}`", hint=f"`shardctl migrate {other}{goal.target}` does"
        )


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
