"""Sizes, ages and bars in words and blocks."""

from __future__ import annotations

import pytest

from shardctl.cli.amounts import age_text, bar, latency_text, size_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (86_400, "1 d"), (9e6, "104 d")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (4096, "4.1 kB"), (5e6, "5.0 MB"), (2e12, "2000.0 GB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("latency_ms", "text"), [(0.04, "0.0 ms"), (9.9, "9.9 ms"), (10, "10 ms"), (999, "999 ms"), (1234, "1.2 s")]
)
def test_latencies(latency_ms: float, text: str) -> None:
    assert latency_text(latency_ms) == text


def test_bars() -> None:
    assert bar(1, 4, is_plain=False) == "████"
    assert bar(0.5, 4, is_plain=False) == "██"
    assert bar(0.4, 4, is_plain=False) == "█▋"
    assert bar(0, 4, is_plain=False) == bar(0, 4, is_plain=True) == ""
    assert bar(0.5, 4, is_plain=True) == "##"
