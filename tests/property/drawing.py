"""Choices by their number, out of bytes that Hypothesis draws at once; the first option is the simplest.

Drawn one by one, it would copy them from place to place after each example: half of the statements differed only in a
constant from one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

MOST_CHOICES = 2000


class Choices:
    """What a composite strategy draws with; the simplest, once all bytes are used.

    Args:
        draw: As `st.composite` gives it.
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self._drawn = iter(draw(st.binary(min_size=MOST_CHOICES, max_size=MOST_CHOICES)))

    def number(self, least: int, most: int) -> int:
        count = most - least + 1
        drawn = bytes(islice(self._drawn, count.bit_length() // 8 + 1))
        return least + int.from_bytes(drawn, "big") % count

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(0, len(options) - 1)] if len(options) > 1 else options[0]

    def one_in(self, count: int) -> bool:
        """Draw a yes, once in so many times."""
        return self.number(0, count - 1) == count - 1

    def some(self, options: Sequence[T], least: int, most: int) -> list[T]:
        """Draw several different options, in any order."""
        left = list(options)
        count = min(self.number(least, most), len(left))
        return [left.pop(self.number(0, len(left) - 1)) for _ in range(count)]
