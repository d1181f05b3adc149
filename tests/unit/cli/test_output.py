"""How tables are cut to a terminal."""

from __future__ import annotations

import pytest

from shardctl.cli.tables import fitted


@pytest.mark.parametrize(
    ("widths", "room", "expected"),
    [
        ([5, 10], 80, [5, 10]),
        ([5, 300], 80, [5, 72]),  # the wide one is cut, never the short one
        ([13, 13, 6, 9, 10, 8, 6, 44], 80, [13, 13, 6, 9, 10, 8]),  # `shardctl shards`: its last columns are left out
        ([2, 300, 300], 80, [2, 36, 36]),
        ([8] * 40, 80, [8] * 7),
        ([10_000_000], 80, [80]),
        ([20, 20], 16, [5, 8]),
        ([20, 20], 4, [1]),
        ([], 80, []),
    ],
)
def test_columns_are_fitted_to_the_terminal(widths: list[int], room: int, expected: list[int]) -> None:
    assert fitted(widths, room) == expected
