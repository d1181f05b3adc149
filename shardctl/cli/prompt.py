"""The prompt of `shardctl query`: history, and completion of classes, tables, columns and keywords."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import create_output

from shardctl.cli import diagnostics
from shardctl.errors import ConfigError, ShardctlError

if TYPE_CHECKING:
    from shardctl.cli.asking import Asking
    from shardctl.fleet import Fleet

KEYWORDS = tuple(
    (
        "SELECT DISTINCT FROM WHERE AND OR NOT IN BETWEEN LIKE IS NULL JOIN LEFT ON GROUP BY ORDER ASC DESC LIMIT "
        "OFFSET count sum min max avg"
    ).split()
)
HELP = r"\d counts the rows of each table, \q or Ctrl-D leaves, Ctrl-C stops a statement"


def run_prompt(asking: Asking) -> None:
    """Read statements and answer them until the user leaves; an error ends a statement, not the prompt."""
    session: PromptSession[str] = PromptSession(
        "shardctl> ",
        history=_history(),
        completer=WordCompleter(_words(asking.fleet), ignore_case=True),
        complete_while_typing=False,
        output=create_output(stdout=sys.stderr),
    )
    diagnostics.say(HELP)
    while True:
        try:
            text = session.prompt().strip().removesuffix(";").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text in ("\\q", "exit", "quit"):
            return
        try:
            if text == "\\d":
                asking.overview()
            elif text.startswith("\\"):
                diagnostics.say(HELP)
            elif text:
                asking.answer(text)
        except ShardctlError as error:
            diagnostics.error(error)


def _words(fleet: Fleet) -> list[str]:
    """Return what completion offers."""
    try:
        models = fleet.models
    except ConfigError:
        return list(KEYWORDS)
    columns = {column.name for table in models.tables.values() for column in table.columns}
    return [*KEYWORDS, *models.mappers, *models.tables, *sorted(columns)]


def _history() -> History:
    """Return the history of earlier sessions, or a forgetful one where it cannot be kept."""
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "shardctl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "history").touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(folder / "history"))
