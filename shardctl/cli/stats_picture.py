"""The rows of each table by shard as a picture (SVG), or a page (HTML) with the numbers: neither needs other files."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from shardctl.cli.stats_listing import COLUMNS, NUMBERS, placed_text, rows_of

if TYPE_CHECKING:
    from shardctl.cli.stats_listing import Listing
    from shardctl.rows.stats import Part, TableStats

MOST_BARS = 40
"""Of more shards, the largest are drawn, and the others summed up."""

_WIDTH, _MARGIN, _LABEL, _VALUE = 820, 24, 170, 150
_ROOM = _WIDTH - 2 * _MARGIN - _LABEL - _VALUE
_ROW, _BAR = 26, 16
_LONGEST = 24  # letters of a shard's name

_STYLE = """
.surface { fill: #ffffff } .bar { fill: #2f6fb7 } .track { fill: #eef1f5 } .mean { stroke: #b4540a; stroke-width: 2 }
text { font: 13px system-ui, sans-serif; fill: #1d2733 } .title { font-size: 18px; font-weight: 600 }
.table { font-size: 15px; font-weight: 600 } .note { fill: #5b6775 } .end { text-anchor: end }
@media (prefers-color-scheme: dark) {
.surface { fill: #14181d } .bar { fill: #6aa5e8 } .track { fill: #232a32 } .mean { stroke: #f0a35e }
text { fill: #e6eaee } .note { fill: #9aa6b2 }
}
"""

_PAGE = """
:root { color-scheme: light dark }
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; font: 14px/1.5 system-ui, sans-serif;
  color: #1d2733; background: #ffffff }
svg { max-width: 100%; height: auto } table { border-collapse: collapse; margin-top: 1rem; width: 100% }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #dde3ea }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } tr.all td { font-weight: 600 }
@media (prefers-color-scheme: dark) {
body { color: #e6eaee; background: #14181d } th, td { border-color: #2c343d }
}
"""


def svg(listing: Listing) -> str:
    """Draw the rows of each table by shard."""
    parts: list[str] = []
    y = _MARGIN + 18
    parts.append(_text(_MARGIN, y, f"{listing.name}: rows by shard", "title"))
    parts.append(_text(_MARGIN, y + 22, f"{_now()} UTC; dashed: the mean; ~: the engine's estimate", "note"))
    y += 58
    for table in listing.tables:
        parts.extend(_panel(table, y))
        y += 28 + _ROW * (min(len(table.parts), MOST_BARS) + (len(table.parts) > MOST_BARS)) + 26
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" height="{y}" '
        f'role="img" aria-label="{escape(listing.name)}: rows by shard">\n'
        f"<title>{escape(listing.name)}: rows by shard</title>\n<style>{_STYLE}</style>\n"
    )
    surface = f'<rect class="surface" width="{_WIDTH}" height="{y}"/>\n'
    return head + surface + "\n".join(parts) + "\n</svg>\n"


def html(listing: Listing) -> str:
    """Return a page with the picture, and the numbers below it."""
    title = f"{escape(listing.name)}: rows by shard"
    head = "".join(f"<th{_numeric(column)}>{column}</th>" for column in COLUMNS if column)
    lines = "\n".join(_line(cells) for table in listing.tables for cells in rows_of(listing, table))
    unread = f"<p>Not read: {escape(', '.join(listing.unread))}</p>\n" if listing.unread else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{title}</title>\n'
        f"<style>{_PAGE}</style>\n</head>\n"
        f"<body>\n{svg(listing)}{unread}<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>\n"
        "</body>\n</html>\n"
    )


def _panel(table: TableStats, y: int) -> Iterator[str]:
    """Draw one table: its name with its skew, and a bar for each shard."""
    yield _text(_MARGIN, y, table.name, "table")
    yield _text(_WIDTH - _MARGIN, y, _caption(table), "note end")
    parts, rest = table.parts, []
    if len(parts) > MOST_BARS:
        ordered = sorted(parts, key=lambda part: -(part.rows or 0))
        parts, rest = tuple(ordered[:MOST_BARS]), ordered[MOST_BARS:]
    most = max((part.rows or 0 for part in table.parts), default=0)
    top = y + 14
    for index, part in enumerate(parts):
        yield from _bar(table, part, top + index * _ROW, most)
    if rest:
        text = f"and {len(rest)} more with {sum(part.rows or 0 for part in rest):,} rows"
        yield _text(_MARGIN, top + len(parts) * _ROW + 17, text, "note")
    if table.rows and most and table.skew:
        x = _MARGIN + _LABEL + _ROOM / table.skew.max_over_mean
        yield (
            f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{top + len(parts) * _ROW}" '
            'stroke-dasharray="3 3"><title>mean</title></line>'
        )


def _caption(table: TableStats) -> str:
    if table.rows is None:
        return "a copy on each shard" if placed_text(table) == "reference" else "not known of each shard"
    approximately = "~" if table.rows_are == "estimate" else ""
    skew = f"; largest {table.skew.max_over_mean:.2f} times the mean, Gini {table.skew.gini:.2f}" if table.skew else ""
    return f"{approximately}{table.rows:,} rows{skew}"


def _bar(table: TableStats, part: Part, y: int, most: int) -> Iterator[str]:
    shown = part.shard_id if len(part.shard_id) <= _LONGEST else part.shard_id[: _LONGEST - 1] + "…"
    x, middle = _MARGIN + _LABEL, y + 17
    yield _text(_MARGIN + _LABEL - 12, middle, shown, "end", title=part.shard_id)
    yield f'<rect class="track" x="{x}" y="{y + 5}" width="{_ROOM}" height="{_BAR}" rx="3"/>'
    if part.rows and most:
        width = max(_ROOM * part.rows / most, 2)
        yield f'<rect class="bar" x="{x}" y="{y + 5}" width="{width:.1f}" height="{_BAR}" rx="3"/>'
    share = table.share(part)
    value = part.rows_are if part.rows is None else ("~" if part.rows_are == "estimate" else "") + f"{part.rows:,}"
    yield _text(_WIDTH - _MARGIN, middle, value + ("" if share is None else f" ({share:.1%})"), "end")


def _text(x: float, y: float, text: str, kind: str, *, title: str = "") -> str:
    more = f"<title>{escape(title)}</title>" if title else ""
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}{more}</text>'


def _line(cells: list[str | None]) -> str:
    shown = [(column, cell or "") for column, cell in zip(COLUMNS, cells, strict=True) if column]
    written = "".join(f"<td{_numeric(column)}>{escape(cell)}</td>" for column, cell in shown)
    return f'<tr class="all">{written}</tr>' if cells[1] == "all" else f"<tr>{written}</tr>"


def _numeric(column: str) -> str:
    return ' class="n"' if column in NUMBERS else ""


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S}"
