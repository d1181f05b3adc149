"""Primary keys from wherever they are: arguments, standard input, or a CSV file."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from shardctl.errors import ConfigError

if TYPE_CHECKING:
    from shardctl.rows.identities import Identity, Target

STDIN = Path("-")


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where keys are given: one of these."""

    words: Sequence[str] = ()
    lines_of_stdin: bool = False
    """One key in each line of standard input; keys of several columns as CSV."""
    file: Path | None = None
    """A CSV file; `-` is standard input."""

    def read(self, target: Target) -> Iterator[Identity]:
        """Return primary keys: those of arguments are read at once, others as they are wanted.

        Raises:
            ConfigError: The file cannot be read, is empty, or a value is not of its column's type.
        """
        from shardctl.rows.identities import key_columns, read_identities

        if self.file is not None:
            return _read(target, self.file, is_csv=True)
        if self.lines_of_stdin:
            return _read(target, STDIN, is_csv=len(key_columns(target)) > 1)
        return iter(read_identities(target, self.words))


def _read(target: Target, file: Path, *, is_csv: bool) -> Iterator[Identity]:
    where = "standard input" if file == STDIN else f"`{file}`"
    keys = _KeyFile(target, where)
    is_empty = True
    try:
        with _opened(file) as stream:
            for identity in keys.of_rows(stream) if is_csv else keys.of_lines(stream):
                is_empty = False
                yield identity
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {where}: {error.strerror}") from None
    if is_empty:
        raise ConfigError(f"{where} has no keys", hint="one in each line, or a CSV file with the key's columns")


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    if file != STDIN:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
        return
    if sys.stdin is None:
        raise ConfigError("standard input is closed")
    wrapper = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
    try:
        yield wrapper
    finally:
        wrapper.detach()  # which leaves the stream to its owner


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where in a line the key is."""

    positions: Sequence[int]
    has_header: bool

    def fits(self, row: Sequence[str]) -> bool:
        return len(row) > max(self.positions) if self.has_header else len(row) == len(self.positions)


@dataclass(frozen=True, slots=True)
class _KeyFile:
    """A text with keys: one in each line, or CSV with a header that names their columns, or with nothing but keys."""

    target: Target
    where: str

    def of_lines(self, stream: TextIO) -> Iterator[Identity]:
        """Read keys of one column."""
        for number, line in enumerate(stream, start=1):
            word = line.rstrip("\r\n")
            if word.strip():
                yield self._identity(number, [word])

    def of_rows(self, stream: TextIO) -> Iterator[Identity]:
        """Read CSV, separated by tabs, commas or semicolons, whichever the first line has."""
        layout: _Layout | None = None
        for number, row in self._rows(stream):
            if layout is None:
                layout = self._layout(row)
                if layout.has_header:
                    continue
            if not layout.fits(row):
                raise self._misfit(number, row, layout)
            yield self._identity(number, [row[position] for position in layout.positions])

    def _rows(self, stream: TextIO) -> Iterator[tuple[int, list[str]]]:
        """Yield rows that are not blank, each with the number of its last line."""
        head = []
        for line in stream:
            head.append(line)
            if line.strip():
                break
        reader = csv.reader(chain(head, stream), delimiter=_delimiter("".join(head[-1:])), strict=True)
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, row
        except csv.Error as error:
            raise ConfigError(f"{self.where}, line {reader.line_num}: {error}") from None

    def _layout(self, row: Sequence[str]) -> _Layout:
        """Read the first row: a header names each column of the key.

        Raises:
            ConfigError: It names some of them only.
        """
        from shardctl.rows.identities import key_names

        names = key_names(self.target)
        cells = [cell.strip() for cell in row]
        found = [next((cells.index(name) for name in known if name in cells), None) for known in names]
        positions = [position for position in found if position is not None]
        if positions and len(positions) < len(names):
            lacking = names[found.index(None)][0]
            raise ConfigError(f"{self.where}: the header has no column `{lacking}`, which is part of the key")
        return _Layout(positions, has_header=True) if positions else _Layout(range(len(names)), has_header=False)

    def _misfit(self, number: int, row: Sequence[str], layout: _Layout) -> ConfigError:
        from shardctl.rows.identities import key_names

        columns = ", ".join(f"`{known[0]}`" for known in key_names(self.target))
        given = "1 value" if len(row) == 1 else f"{len(row)} values"
        hint = None if layout.has_header else f"a first line that names {columns} lets other columns be there too"
        return ConfigError(f"{self.where}, line {number}: {given}, and the key is {columns}", hint=hint)

    def _identity(self, number: int, words: Sequence[str]) -> Identity:
        from shardctl.rows.identities import read_identity

        try:
            return read_identity(self.target, words)
        except ConfigError as error:
            raise ConfigError(f"{self.where}, line {number}: {error.message}", hint=error.hint) from None


def _delimiter(line: str) -> str:
    return next((char for char in "\t,;" if char in line), ",")
