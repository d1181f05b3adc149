"""A statement from wherever it is: the command line, a file, standard input, or the shard map's named queries."""

from __future__ import annotations

import sys
from pathlib import Path

from shardctl.errors import ConfigError


def read_statement(statement: str | None, file: Path | None) -> str | None:
    """Return the statement, or None if there is none.

    Args:
        statement: As given on the command line; `-` is standard input.
        file: Where else it is; `-` is standard input too.

    Raises:
        ConfigError: It is given twice, cannot be read, or is empty.
    """
    if statement is not None and file is not None:
        raise ConfigError("give either a statement or `--file`, not both")
    try:
        if statement == "-" or (file is not None and str(file) == "-"):
            if sys.stdin is None:
                raise ConfigError("standard input is closed")
            statement = sys.stdin.read()
        elif file is not None:
            statement = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"`{file or 'stdin'}` is not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise ConfigError(f"cannot read `{file}`: {error.strerror}") from None
    if statement is None:
        return None
    statement = statement.strip()
    if not statement:
        raise ConfigError("the statement is empty", hint='for example `shardctl query "SELECT count(*) FROM …"`')
    return statement
