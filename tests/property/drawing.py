"""Drawing choices by their number: cheap for Hypothesis to make and to shrink; the first option is the simplest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


@cache
def _up_to(most: int) -> st.SearchStrategy[int]:
    return st.integers(0, most)


class Choices:
    """What a composite strategy draws with.

    Args:
        draw: As `st.composite` gives it.
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def number(self, least: int, most: int) -> int:
        return least + self._draw(_up_to(most - least))

    def pick(self, options: Sequence[T]) -> T:
        return options[self._draw(_up_to(len(options) - 1))] if len(options) > 1 else options[0]

    def one_in(self, count: int) -> bool:
        """Draw a yes, once in so many times."""
        return self._draw(_up_to(count - 1)) == count - 1

    def some(self, options: Sequence[T], least: int, most: int) -> list[T]:
        """Draw several different options, in any order."""
        left = list(options)
        count = min(self.number(least, most), len(left))
        return [left.pop(self._draw(_up_to(len(left) - 1))) for _ in range(count)]
