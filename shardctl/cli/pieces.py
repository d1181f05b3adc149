"""Rows -> text in pieces, so that memory stays the same however many rows there are."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from shardctl.cli.values import to_text

_LINES_AT_ONCE = 1_000
_WRITTEN_AS_IS = frozenset({str, int, float, type(None), datetime.datetime, datetime.date, datetime.time})
"""Types whose values the csv module writes as `to_text` would."""

Row = Sequence[Any]


def in_pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield lists of some rows each."""
    rows = iter(rows)
    return iter(lambda: list(islice(rows, _LINES_AT_ONCE)), [])


def csv_pieces(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Yield CSV, with a first line of the columns' names."""
    from uuid import UUID

    as_is = _WRITTEN_AS_IS | {UUID}
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for piece in in_pieces(chain([columns], rows)):
        if as_is.issuperset(map(type, chain.from_iterable(piece))):
            writer.writerows(piece)
        else:
            for row in piece:
                writer.writerow([value if type(value) in as_is else to_text(value) for value in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
