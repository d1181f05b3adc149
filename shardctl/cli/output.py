"""stdout: the data of a command, as a table or for a machine.

Whatever else a run prints (an application that is imported, a migration) is sent to stderr by `protect`.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TextIO

from shardctl.errors import ShardctlError

JSON_VERSION = 1

_GAP = 3  # between two columns
_NARROW = 8  # no column is cut below this, as long as others can be left out
_MORE = "..."  # stands for the columns that are left out

Row = Sequence[Any]


class Format(StrEnum):
    """How data is written."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    MARKDOWN = "markdown"


class _Stdout:
    """The process's standard output, kept while `sys.stdout` may be lent to others."""

    stream: TextIO | None = None


@contextmanager
def owned() -> Iterator[None]:
    """Keep standard output for data until the command is over."""
    # A stream that was closed before the start is None, which would let `print` write to the other one.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    _Stdout.stream = original = sys.stdout
    try:
        yield
    finally:
        sys.stdout = original
        _Stdout.stream = None


def protect() -> None:
    """From now on, send what others print to stderr."""
    sys.stdout = sys.stderr


def write(text: str) -> None:
    """Write text to standard output, at once; a reader that has gone away is no error.

    Raises:
        ShardctlError: It cannot be written, as on a full disk.
    """
    stream = _stream()
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError as error:
        char = error.object[error.start]
        raise ShardctlError(
            f"standard output is `{error.encoding}`, which has no `{char.encode('unicode_escape').decode()}`",
            hint="set `PYTHONIOENCODING=utf-8`, or pass `--format json`, which escapes it",
        ) from error
    except BrokenPipeError:
        _discard(stream)
    except OSError as error:
        _discard(stream)
        raise ShardctlError(f"cannot write to standard output: {error.strerror}") from error


def is_terminal() -> bool:
    """Say whether a person reads standard output."""
    return _stream().isatty()


def _stream() -> TextIO:
    return _Stdout.stream or sys.stdout


def _can_write(text: str) -> bool:
    """Say whether standard output's encoding has these characters; in an old locale it may have ASCII only."""
    return _as_written(text) == text


def _as_written(text: str) -> str:
    """Escape the characters that standard output's encoding does not have."""
    encoding = _stream().encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def emit(
    columns: Sequence[str],
    rows: Sequence[Row],
    format_: Format,
    *,
    null: str = "",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write rows.

    Args:
        columns: Their names.
        rows: The values, as many in each as there are columns.
        format_: How.
        null: What stands for None in a table.
        extra: Further members of the JSON object.
    """
    match format_:
        case Format.TABLE:
            write(_as_written(_table(columns, rows, null)))
        case Format.JSON:
            names = _unique(columns)
            head = {"version": JSON_VERSION, **(extra or {}), "columns": names}
            members = [f"  {_dumps(key)}: {_dumps(value)}" for key, value in head.items()]
            objects = [f"    {_object(names, row)}" for row in rows]
            listed = "[\n" + ",\n".join(objects) + "\n  ]" if objects else "[]"
            write("{\n" + ",\n".join([*members, f'  "rows": {listed}']) + "\n}\n")
        case Format.NDJSON:
            names = _unique(columns)
            for row in rows:
                write(_object(names, row) + "\n")
        case Format.CSV:
            buffer = io.StringIO()
            writer = csv.writer(buffer, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([[to_text(value, null="") for value in row] for row in rows])
            write(buffer.getvalue())
        case Format.MARKDOWN:
            write(_as_written(_markdown(columns, rows, null)))


def to_json(value: Any) -> Any:
    """Return a value that JSON has; numbers that JSON would round stay text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value == value and abs(value) != float("inf") else str(value)
        case dict():
            return {str(key): to_json(item) for key, item in value.items()}
        case list() | tuple() | set():
            return [to_json(item) for item in value]
    return to_text(value)


def to_text(value: Any, *, null: str = "") -> str:
    """Return a value as people read it."""
    match value:
        case None:
            return null
        case bool():
            return "true" if value else "false"
        case bytes() | bytearray() | memoryview():
            return "0x" + bytes(value).hex()
        case datetime.datetime():
            return value.isoformat(sep=" ")
        case decimal.Decimal():
            return format(value, "f") if value.is_finite() else str(value)
        case dict() | list():
            return json.dumps(to_json(value), ensure_ascii=False)
    return str(value)


def printable(text: str) -> str:
    """Escape what would move the cursor or break the line."""
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") else char
        for char in text
    )


def _object(names: Sequence[str], row: Row) -> str:
    return _dumps(dict(zip(names, map(to_json, row), strict=True)))


def _dumps(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if _can_write(text) else json.dumps(value)


def _unique(columns: Sequence[str]) -> list[str]:
    """Number repeated names, which an object could hold only once."""
    seen: Counter[str] = Counter()
    names = []
    for column in columns:
        seen[column] += 1
        names.append(column if seen[column] == 1 else f"{column}_{seen[column]}")
    return names


def _table(columns: Sequence[str], rows: Sequence[Row], null: str) -> str:
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [[printable(column) for column in columns]]
    lines += [[printable(to_text(value, null=null)) for value in row] for row in rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    terminal = Console(file=_stream()) if is_terminal() else None
    shown = fitted(widths, terminal.width) if terminal else widths  # what is piped is never cut
    is_plain = not _can_write("\u2500\u2026")
    rule = box.Box("\n".join(["    ", "    ", " -- ", *["    "] * 5, ""]), ascii=True) if is_plain else box.SIMPLE_HEAD
    table = Table(box=rule, pad_edge=False, show_edge=False, header_style="bold")
    for index, width in enumerate(shown):
        is_number = any(isinstance(row[index], int | float | decimal.Decimal) for row in rows)
        table.add_column(
            Text(lines[0][index]),
            justify="right" if is_number else "left",
            overflow="crop" if is_plain else "ellipsis",
            no_wrap=True,
            width=width,
        )
    is_cut = len(shown) < len(widths)
    if is_cut:
        table.add_column(_MORE)
    for line in lines[1:]:
        table.add_row(*map(Text, line[: len(shown)]), *([_MORE] if is_cut else []))
    buffer = io.StringIO()
    colors: Literal["auto"] | None = "auto" if terminal and terminal.color_system else None
    console = Console(
        file=buffer, force_terminal=bool(terminal), width=sum(widths) + 4 * len(widths) + 80, color_system=colors
    )
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Return how wide each column is on a terminal.

    The widest are cut first, and the last ones left out if need be; the first, which names the row, is kept whole
    unless it takes more than a third.

    Args:
        widths: Of the columns, uncut.
        room: The terminal's width.
    """
    least = [min(width, room // 3 if index == 0 else _NARROW) for index, width in enumerate(widths)]
    count = len(widths)

    def free() -> int:
        return room - _GAP * (count - 1) - (0 if count == len(widths) else _GAP + len(_MORE))

    def cut(most: int) -> list[int]:
        return [max(low, min(width, most)) for low, width in zip(least[:count], widths[:count], strict=True)]

    while count > 1 and sum(least[:count]) > free():
        count -= 1
    most = max(widths[:count], default=0)
    while most > 1 and sum(cut(most)) > free():
        most = min(most - 1, max(free(), 1))
    return cut(most)


def _markdown(columns: Sequence[str], rows: Sequence[Row], null: str) -> str:
    def line(values: Sequence[str]) -> str:
        return "| " + " | ".join(printable(value).replace("|", "\\|") for value in values) + " |\n"

    head = line(columns) + "|" + " --- |" * len(columns) + "\n"
    return head + "".join(line([to_text(value, null=null) for value in row]) for row in rows)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _discard(stream: TextIO) -> None:
    """Let the rest go nowhere, so that nothing fails again when the interpreter flushes at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
