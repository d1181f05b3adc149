"""How evenly rows are spread over shards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skew:
    """How uneven some numbers are; both measures say nothing of a sum of 0, which has none."""

    max_over_mean: float
    """1: all alike; n: everything is on one of n."""
    gini: float
    """0: all alike; 1 - 1/n: everything is on one of n."""


def skew_of(numbers: Iterable[int]) -> Skew | None:
    """Return how uneven numbers are, one for each shard; None if they sum up to 0.

    The Gini coefficient is that of C. Damgaard and J. Weiner, "Describing inequality in plant size or fecundity",
    Ecology 81 (2000), pages 1139-1142: with n numbers in ascending order, sum((2i - n - 1) * x_i) / (n * sum(x_i)).
    """
    ascending = sorted(numbers)
    total, n = sum(ascending), len(ascending)
    if total <= 0:
        return None
    weighed = sum((2 * i - n - 1) * number for i, number in enumerate(ascending, start=1))
    return Skew(ascending[-1] * n / total, weighed / (n * total))
