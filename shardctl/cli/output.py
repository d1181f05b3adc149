"""stdout: the data of a command, as a table or for a machine.

Whatever else a run prints (an application that is imported, a migration) is sent to stderr by `protect`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, TextIO

from shardctl.cli.pieces import Row, csv_pieces, in_pieces
from shardctl.cli.values import to_json, unique
from shardctl.errors import ConfigError, ShardctlError

JSON_VERSION = 1


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
    written = 0
    """Bytes of data, since the command began."""
    is_gone = False
    """Whether the reader has left."""
    is_paged = False
    """Whether what is longer than the terminal goes through a pager."""


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
    if _Stdout.is_paged and stream.isatty() and text.count("\n") >= shutil.get_terminal_size().lines:
        from shardctl.cli.pager import page

        _Stdout.written += len(text.encode())
        page(text, stream)
        return
    _Stdout.written += len(text.encode(stream.encoding or "utf-8", "backslashreplace"))
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


@contextmanager
def paged() -> Iterator[None]:
    """Show what is longer than the terminal in a pager: `$PAGER`, or `less`."""
    _Stdout.is_paged = True
    try:
        yield
    finally:
        _Stdout.is_paged = False


def write_bytes(data: bytes) -> None:
    """Write what is no text.

    Raises:
        ConfigError: Standard output is a terminal.
        ShardctlError: It cannot be written.
    """
    if is_terminal():
        raise ConfigError("this format is not for a terminal", hint="name a file with `-o FILE`")
    stream = _stream()
    _Stdout.written += len(data)
    try:
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()
    except BrokenPipeError:
        _discard(stream)
    except OSError as error:
        _discard(stream)
        raise ShardctlError(f"cannot write to standard output: {error.strerror}") from error


def write_drawn(draw: Callable[[TextIO, bool], str]) -> None:
    """Write what is drawn for standard output: `draw` is given the stream, and whether it has ASCII only."""
    write(_as_written(draw(_stream(), not _can_write("\u2500\u2026"))))


def write_object(members: Mapping[str, Any]) -> None:
    """Write an object of JSON, with the version of its contract first."""
    document = {"version": JSON_VERSION, **members}
    text = json.dumps(document, ensure_ascii=False, indent=2)
    write((text if _can_write(text) else json.dumps(document, indent=2)) + "\n")


def bytes_written() -> int:
    """Return how many bytes of data were written."""
    return _Stdout.written


@contextmanager
def into(file: Path | None) -> Iterator[None]:
    """Write to a file in place of standard output; it is there once it is whole, and not before.

    Raises:
        ConfigError: The file cannot be made.
        ShardctlError: It cannot be written.
    """
    if file is None:
        yield
        return
    if file.is_dir():
        raise ConfigError(f"`{file}` is a folder")
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    original = _Stdout.stream
    try:
        with partial.open("w", encoding="utf-8", newline="") as stream:
            _Stdout.stream = stream
            yield
        partial.replace(file)
    except OSError as error:
        raise ConfigError(f"cannot write `{file}`: {error.strerror}") from error
    finally:
        _Stdout.stream = original
        partial.unlink(missing_ok=True)


def terminal() -> TextIO:
    """Return standard output, for what is drawn over again."""
    return _stream()


def is_terminal() -> bool:
    """Say whether a person reads standard output."""
    return _stream().isatty()


def is_plain() -> bool:
    """Say whether standard output has ASCII only."""
    return not _can_write("\u2500\u2026\u2588")


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
    rows: Iterable[Row],
    format_: Format,
    *,
    null: str = "",
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write rows.

    Args:
        columns: Their names.
        rows: The values, as many in each as there are columns; CSV and NDJSON are written as they come.
        format_: How.
        null: What stands for None in a table.
        extra: Further members of the JSON object.
    """
    match format_:
        case Format.TABLE:
            from shardctl.cli.tables import table

            write(_as_written(table(columns, list(rows), null, _stream(), is_plain=not _can_write("\u2500\u2026"))))
        case Format.JSON:
            names = unique(columns)
            head = {"version": JSON_VERSION, **(extra or {}), "columns": names}
            members = [f"  {_dumps(key)}: {_dumps(value)}" for key, value in head.items()]
            objects = [f"    {_object(names, row)}" for row in rows]
            listed = "[\n" + ",\n".join(objects) + "\n  ]" if objects else "[]"
            write("{\n" + ",\n".join([*members, f'  "rows": {listed}']) + "\n}\n")
        case Format.NDJSON:
            _write_in_pieces(_ndjson_pieces(columns, rows))
        case Format.CSV:
            _write_in_pieces(csv_pieces(columns, rows))
        case Format.MARKDOWN:
            from shardctl.cli.tables import markdown

            write(_as_written(markdown(columns, list(rows), null)))


def _ndjson_pieces(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    names = unique(columns)
    heads = [f"{', ' if i else ''}{_dumps(name)}: " for i, name in enumerate(names)]
    for piece in in_pieces(rows):
        text = "".join(
            [f"{{{''.join([head + _json(value) for head, value in zip(heads, row, strict=True)])}}}\n" for row in piece]
        )
        yield text if _can_write(text) else "".join(_object(names, row) + "\n" for row in piece)


def _json(value: object) -> str:
    """Return what `_dumps` does, sooner for the types that most values have."""
    kind = type(value)
    if kind is str:
        return encode_basestring(value)  # type: ignore[arg-type]
    if kind is int:
        return str(value)
    return json.dumps(to_json(value), ensure_ascii=False)


def _write_in_pieces(pieces: Iterable[str]) -> None:
    """Write what comes, until nobody reads it any more."""
    for piece in pieces:
        write(piece)
        if _Stdout.is_gone:
            return


def _object(names: Sequence[str], row: Row) -> str:
    return _dumps(dict(zip(names, map(to_json, row), strict=True)))


def _dumps(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if _can_write(text) else json.dumps(value)


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _discard(stream: TextIO) -> None:
    """Let the rest go nowhere, so that nothing fails again when the interpreter flushes at exit."""
    _Stdout.is_gone = True
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
    os.close(devnull)
