"""The measures of unevenness."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardctl.rows.skew import skew_of

NUMBERS = st.lists(st.integers(0, 10**9), min_size=1, max_size=50)


@given(st.integers(1, 10**9), st.integers(1, 50))
def test_alike_is_even(number: int, count: int) -> None:
    skew = skew_of([number] * count)
    assert skew.max_over_mean == pytest.approx(1)
    assert skew.gini == pytest.approx(0)


@given(st.integers(1, 10**9), st.integers(1, 50), st.data())
def test_all_on_one(number: int, count: int, data: st.DataObject) -> None:
    numbers = [0] * count
    numbers[data.draw(st.integers(0, count - 1))] = number
    skew = skew_of(numbers)
    assert skew.max_over_mean == pytest.approx(count)
    assert skew.gini == pytest.approx(1 - 1 / count)


@given(NUMBERS.filter(any))
def test_the_gini_coefficient_is_half_the_relative_mean_difference(numbers: list[int]) -> None:
    """The definition of the same source, by all pairs."""
    n, mean = len(numbers), sum(numbers) / len(numbers)
    difference = sum(abs(one - other) for one in numbers for other in numbers) / n**2
    assert skew_of(numbers).gini == pytest.approx(difference / (2 * mean), abs=1e-9)


@given(NUMBERS.filter(any), st.integers(2, 100))
def test_only_proportions_count(numbers: list[int], factor: int) -> None:
    skew, larger = skew_of(numbers), skew_of([number * factor for number in numbers])
    assert skew.gini == pytest.approx(larger.gini)
    assert skew.max_over_mean == pytest.approx(larger.max_over_mean)


@pytest.mark.parametrize("numbers", [[], [0], [0, 0]])
def test_nothing_has_no_skew(numbers: list[int]) -> None:
    assert skew_of(numbers) is None
