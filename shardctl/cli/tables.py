"""Rows as tables for people: on a terminal, in a pipe, in Markdown."""

from __future__ import annotations

import decimal
import io
from collections.abc import Collection, Sequence
from typing import Any, Literal, TextIO

from shardctl.cli.pieces import Row
from shardctl.cli.values import printable, to_text

_GAP = 3  # between two columns
_NARROW = 8  # no column is cut below this, as long as others can be left out
_MORE = "..."  # stands for the columns that are left out


def table(columns: Sequence[str], rows: Sequence[Row], null: str, stream: TextIO, *, is_plain: bool) -> str:
    """Draw rows; on a terminal, cut to its width.

    Args:
        columns: Their names.
        rows: The values.
        null: What stands for None.
        stream: What it is drawn for.
        is_plain: Whether only ASCII can be written there.
    """
    lines = [[printable(column) for column in columns]]
    lines += [[printable(to_text(value, null=null)) for value in row] for row in rows]
    are_numbers = [
        any(isinstance(row[index], int | float | decimal.Decimal) for row in rows) for index in range(len(columns))
    ]
    draw = _on_terminal if stream.isatty() else _piped
    return draw(lines, are_numbers, stream, is_plain)


def _piped(lines: Sequence[Sequence[str]], are_numbers: Sequence[bool], stream: TextIO, is_plain: bool) -> str:
    """Draw a table whole, and without Rich."""
    from rich.cells import cell_len

    def aligned(text: str, width: int, is_number: bool) -> str:
        gap = " " * (width - cell_len(text))
        return gap + text if is_number else text + gap

    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    head, *body = [(" " * _GAP).join(map(aligned, line, widths, are_numbers)).rstrip() for line in lines]
    rule = ("-" if is_plain else "\u2500") * (sum(widths) + _GAP * (len(widths) - 1))
    return "".join(f"{line}\n" for line in (head, rule, *body))


def _on_terminal(lines: Sequence[Sequence[str]], are_numbers: Sequence[bool], stream: TextIO, is_plain: bool) -> str:
    """Draw a table as wide as the terminal at most."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    terminal = Console(file=stream)
    shown = fitted(widths, terminal.width)
    rule = box.Box("\n".join(["    ", "    ", " -- ", *["    "] * 5, ""]), ascii=True) if is_plain else box.SIMPLE_HEAD
    drawn = Table(box=rule, pad_edge=False, show_edge=False, header_style="bold")
    for index, width in enumerate(shown):
        drawn.add_column(
            Text(lines[0][index]),
            justify="right" if are_numbers[index] else "left",
            overflow="crop" if is_plain else "ellipsis",
            no_wrap=True,
            width=width,
        )
    is_cut = len(shown) < len(widths)
    if is_cut:
        drawn.add_column(_MORE)
    for line in lines[1:]:
        drawn.add_row(*map(Text, line[: len(shown)]), *([_MORE] if is_cut else []))
    buffer = io.StringIO()
    colors: Literal["auto"] | None = "auto" if terminal.color_system else None
    console = Console(file=buffer, force_terminal=True, width=sum(widths) + 4 * len(widths) + 80, color_system=colors)
    console.print(drawn)
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


def right_aligned(columns: list[str], rows: Sequence[list[Any]], numbers: Collection[str]) -> None:
    """Pad text that stands for numbers, so that it ends where its column does.

    Args:
        columns: Their names, which are padded too.
        rows: The values: text or None.
        numbers: The names of columns whose text stands for numbers.
    """
    for index, column in enumerate(columns):
        if column in numbers:
            width = max([len(column), *(len(row[index] or "") for row in rows)])
            columns[index] = column.rjust(width)
            for row in rows:
                row[index] = (row[index] or "").rjust(width)


def markdown(columns: Sequence[str], rows: Sequence[Row], null: str) -> str:
    """Write rows as a table of Markdown."""

    def line(values: Sequence[str]) -> str:
        return "| " + " | ".join(printable(value).replace("|", "\\|") for value in values) + " |\n"

    head = line(columns) + "|" + " --- |" * len(columns) + "\n"
    return head + "".join(line([to_text(value, null=null) for value in row]) for row in rows)
