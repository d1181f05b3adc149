"""Pictures of rows by shard: right, escaped, and of nothing but themselves."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from shardctl.cli.stats_listing import Listing
from shardctl.cli.stats_picture import MOST_BARS, html, svg
from shardctl.rows.sizes import Known, ShardSize, TableSize
from shardctl.rows.stats import Kind, Meant, table_stats, total_of

EVIL = '</text><script>alert("1")</script>&'


def listing(numbers: dict[str, int | None], *, known: Known = Known.EXACT, kind: Kind = Kind.SHARDED) -> Listing:
    sizes = {name: ShardSize({"t <b>": TableSize(rows, known, 4096, known)}) for name, rows in numbers.items()}
    tables = table_stats(sizes, {"t <b>": Meant(kind, tuple(numbers))})
    return Listing("a & b", tables, total_of(tables), None, sizes, [EVIL])


def bars(text: str) -> list[float]:
    return [float(width) for width in re.findall(r'class="bar" .*?width="([\d.]+)"', text)]


def texts(text: str) -> list[str]:
    root = ElementTree.fromstring(text)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_bars_are_as_long_as_rows_are_many() -> None:
    long, short = bars(svg(listing({"a": 400, "b": 100, "c": 0})))
    assert long == pytest.approx(4 * short)


def test_numbers_are_written_beside_the_bars() -> None:
    found = texts(svg(listing({"a": 3000, "b": 1000}, known=Known.ESTIMATE)))
    assert "~3,000 (75.0%)" in found
    assert "~4,000 rows; largest 1.50 times the mean, Gini 0.25" in found


def test_copies_and_what_is_not_known_have_no_share() -> None:
    assert "a copy on each shard" in texts(svg(listing({"a": 1, "b": 1}, kind=Kind.COPY)))
    found = texts(svg(listing({"a": 1, "b": None})))
    assert "not known of each shard" in found
    assert "unknown" in found


@pytest.mark.parametrize("draw", [svg, html])
def test_names_are_escaped_and_nothing_is_loaded(draw: object) -> None:
    text = draw(listing({EVIL: 5, "b": 1}))  # type: ignore[operator]
    assert "<script" not in text
    assert "t <b>" not in text
    assert "a & b" not in text
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme: dark" in text


def test_the_picture_is_xml_and_long_names_are_cut_with_their_whole_name_beside() -> None:
    name = "a_shard_with_a_name_that_is_much_too_long"
    text = svg(listing({name: 5, EVIL: 2}))
    root = ElementTree.fromstring(text)
    titles = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert name in titles
    assert EVIL in titles


def test_more_shards_than_can_be_read_are_summed_up() -> None:
    found = svg(listing({f"n{number}": number + 1 for number in range(MOST_BARS + 3)}))
    assert len(bars(found)) == MOST_BARS
    assert "and 3 more with 6 rows" in texts(found)


def test_the_page_has_the_numbers() -> None:
    page = html(listing({"a": 3000, "b": 1000}))
    assert re.search(r"<td>b</td><td class=\"n\">1,000</td><td>exact</td><td class=\"n\">4.1 kB</td>", page)
    assert '<tr class="all"><td>t &lt;b&gt;</td><td>all</td><td class="n">4,000</td>' in page


def test_no_rows_at_all() -> None:
    assert bars(svg(listing({"a": 0, "b": 0}))) == []
