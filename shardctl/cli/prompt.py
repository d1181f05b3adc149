"""The prompt of `shardctl query`: statements over several lines, history, completion, and a pager for long results."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output

from shardctl.cli import diagnostics, output
from shardctl.errors import ConfigError, ShardctlError

if TYPE_CHECKING:
    from shardctl.cli.asking import Asking
    from shardctl.fleet import Fleet

KEYWORDS = tuple(
    (
        "SELECT DISTINCT FROM WHERE AND OR NOT IN BETWEEN LIKE IS NULL JOIN LEFT ON GROUP BY HAVING ORDER ASC DESC "
        "LIMIT OFFSET UNION ALL CASE WHEN THEN ELSE END CAST AS count sum min max avg"
    ).split()
)
HELP = r"""\d             the rows of each table on each shard
\d TABLE       the columns of a table
\explain SQL   what would be done for a statement
\shard NAME    ask this shard only; several names, or `all`
\?             this help
\q             leave, as Ctrl-D does
@NAME          a named query of the shard map
A statement ends with `;` or an empty line; Ctrl-C stops what runs, or forgets what is typed."""


class Leave(Exception):
    """The user wants to leave."""


def run_prompt(asking: Asking) -> None:
    """Read statements and answer them until the user leaves; an error ends a statement, not the prompt."""
    session: PromptSession[str] = PromptSession(
        "shardctl> ",
        history=_history(),
        completer=WordCompleter(_words(asking.fleet), ignore_case=True, pattern=re.compile(r"[\w.@\\]+")),
        complete_while_typing=False,
        multiline=True,
        prompt_continuation="       -> ",
        key_bindings=_keys(),
        output=create_output(stdout=sys.stderr),
    )
    diagnostics.say(r"\? shows what can be typed, \q leaves")
    prompt = Prompt(asking)
    while True:
        try:
            prompt.obey(session.prompt())
        except KeyboardInterrupt:
            continue
        except (EOFError, Leave):
            return
        except ShardctlError as error:
            diagnostics.error(error)


class Prompt:
    r"""What is typed -> what is done; `\shard` changes who is asked from then on."""

    def __init__(self, asking: Asking) -> None:
        self._all = asking
        self._asking = asking
        self._commands: dict[str, Callable[[str], None]] = {
            "\\d": self._describe,
            "\\explain": self._explain,
            "\\shard": self._choose,
            "\\?": lambda _: diagnostics.say(HELP),
        }

    def obey(self, typed: str) -> None:
        """Do what was typed.

        Raises:
            Leave: The user wants to leave.
            ShardctlError: It cannot be done.
        """
        text = typed.strip().rstrip(";").strip()
        if text in ("\\q", "exit", "quit"):
            raise Leave
        if text.startswith("\\"):
            name, _, argument = text.partition(" ")
            command = self._commands.get(name)
            if command is None:
                raise ConfigError(f"no command `{name}`", hint=r"`\?` lists them")
            command(argument.strip())
        elif text:
            asking = self._asking
            with output.paged():
                asking.answer(asking.statement(text))

    def _describe(self, table: str) -> None:
        if not table:
            self._asking.overview()
            return
        from shardctl.errors import UnknownName

        models = self._asking.fleet.models
        found = models.tables.get(table)
        if found is None and table in models.mappers:
            found = models.tables.get(str(models.mappers[table].local_table))
        if found is None:
            raise UnknownName(f"no table `{table}`", name=table, known=[*models.mappers, *models.tables])
        rows = [[column.name, str(column.type), "yes" if column.nullable else "no"] for column in found.columns]
        output.emit(["column", "type", "nullable"], rows, output.Format.TABLE)

    def _explain(self, sql: str) -> None:
        if not sql:
            raise ConfigError(r"`\explain` goes before a statement")
        self._asking.explain(self._asking.statement(sql))

    def _choose(self, names: str) -> None:
        wanted = names.replace(",", " ").split()
        if wanted and wanted != ["all"]:
            shards = [self._all.fleet.shard(name) for name in wanted]
            barred = [live.shard_id for live in shards if live not in self._all.shards]
            if barred:
                raise ConfigError(f"`{barred[0]}` was left out when the prompt was opened")
            self._asking = replace(self._all, shards=shards)
        elif wanted:
            self._asking = self._all
        diagnostics.say(f"asking {diagnostics.listed([live.shard_id for live in self._asking.shards])}")


def is_whole(text: str) -> bool:
    """Say whether Enter ends what is typed: a command, a statement with its semicolon, or an empty last line."""
    stripped = text.strip()
    is_command = stripped.startswith(("\\", "@")) or stripped in ("", "exit", "quit")
    return is_command or stripped.endswith(";") or text.endswith("\n") or ("\n" not in text and _is_short(stripped))


def _is_short(text: str) -> bool:
    """Say whether one line is all: the name of a class or table."""
    return re.fullmatch(r"[A-Za-z_][\w.]*", text) is not None


def _keys() -> KeyBindings:
    bindings = KeyBindings()

    @bindings.add("enter", filter=Condition(_is_whole_now))
    def end(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return bindings


def _is_whole_now() -> bool:
    from prompt_toolkit.application import get_app

    document: Document = get_app().current_buffer.document
    return document.is_cursor_at_the_end and is_whole(document.text)


def _words(fleet: Fleet) -> list[str]:
    """Return what completion offers."""
    named = [f"@{name}" for name in fleet.shard_map.queries]
    fixed: Iterable[str] = [*KEYWORDS, "\\d", "\\explain", "\\shard", *named, *fleet.shards]
    try:
        models = fleet.models
    except ConfigError:
        return list(fixed)
    columns = {column.name for table in models.tables.values() for column in table.columns}
    return [*fixed, *models.mappers, *models.tables, *sorted(columns)]


def _history() -> History:
    """Return the history of earlier sessions, or a forgetful one where it cannot be kept."""
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "shardctl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history").touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(folder / "history"))
