"""In which order a run goes over shards, in which waves, and which part of them is this machine's: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shardctl.errors import ConfigError, UnknownName
from shardctl.topology.model import Shard


@dataclass(frozen=True, slots=True)
class WaveSize:
    """How many shards one wave has: a number of them, or a share of all."""

    number: int
    is_percent: bool = False

    def of(self, total: int) -> int:
        """Return the number of shards; at least one."""
        return max(1, -(-total * self.number // 100)) if self.is_percent else self.number


@dataclass(frozen=True, slots=True)
class Part:
    """One of the equal parts of a run that several machines share."""

    number: int
    of: int


class OrderBy(StrEnum):
    """What shards are sorted by."""

    MAP = "map"
    NAME = "name"
    LABEL = "label"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Order:
    """What shards are sorted by; the shard map's own order where it says no more."""

    by: OrderBy = OrderBy.MAP
    label: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """How shards become waves."""

    canaries: frozenset[str] = frozenset()
    """The shards of the first wave."""
    size: WaveSize | None = None
    """Of the waves after it; None: all the others are one wave."""
    order: Order = field(default_factory=Order)


@dataclass(frozen=True, slots=True)
class Wave:
    """Shards that run before the next ones may."""

    number: int
    shard_ids: tuple[str, ...]
    is_canary: bool = False

    @property
    def name(self) -> str:
        return f"wave {self.number} (canary)" if self.is_canary else f"wave {self.number}"


def parse_wave_size(text: str) -> WaveSize:
    """Read `10` or `25%`.

    Raises:
        ConfigError: It is neither.
    """
    found = re.fullmatch(r"(\d+)(%?)", text.strip())
    number = int(found[1]) if found else 0
    if found is None or number < 1 or (found[2] and number > 100):
        raise ConfigError(
            f"`--wave-size {text}` is neither a number of shards nor a share of them",
            hint="for example `--wave-size 10` or `--wave-size 25%`",
        )
    return WaveSize(number, bool(found[2]))


def parse_part(text: str) -> Part:
    """Read `1/3`.

    Raises:
        ConfigError: It is no such fraction.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(
            f"`--part {text}` is no part of a whole",
            hint="three machines take `--part 1/3`, `--part 2/3` and `--part 3/3`",
        )
    return Part(int(found[1]), int(found[2]))


def parse_order(text: str) -> Order:
    """Read `map`, `name`, `size` or `label:KEY`.

    Raises:
        UnknownName: It is none of these.
    """
    by, separator, label = text.strip().partition(":")
    if by == OrderBy.LABEL and label:
        return Order(OrderBy.LABEL, label)
    if by in {OrderBy.MAP, OrderBy.NAME, OrderBy.SIZE} and not separator:
        return Order(OrderBy(by))
    raise UnknownName(
        f"`--order {text}` is no order",
        name=by,
        known=["map", "name", "size", "label:KEY"],
        hint="use `name`, `map`, `size` (smallest first) or `label:KEY`",
    )


def part_of(shard_ids: Iterable[str], part: Part) -> frozenset[str]:
    """Return the shards that are one machine's.

    The parts are disjoint, contain every shard, and differ by at most one in size; they depend on the names only, so
    that each machine may see the shards in another order or at other revisions.
    """
    return frozenset(
        shard_id for index, shard_id in enumerate(sorted(set(shard_ids))) if index % part.of == part.number - 1
    )


def ordered(shards: Iterable[Shard], order: Order, sizes: Mapping[str, int] | None = None) -> list[Shard]:
    """Sort shards; those without the label, or of unknown size, come last.

    Args:
        shards: In the order of the shard map.
        order: What to sort by.
        sizes: Bytes, by shard.

    Raises:
        ConfigError: No shard has the label.
    """
    shards = list(shards)
    match order.by:
        case OrderBy.MAP:
            return shards
        case OrderBy.NAME:
            return sorted(shards, key=lambda shard: _natural(shard.shard_id))
        case OrderBy.SIZE:
            known = sizes or {}
            return sorted(shards, key=lambda shard: (shard.shard_id not in known, known.get(shard.shard_id, 0)))
    return sorted(
        shards, key=lambda shard: (order.label not in shard.labels, _natural(shard.labels.get(order.label, "")))
    )


def check_label(shards: Iterable[Shard], order: Order) -> None:
    """Refuse to sort by a label that no shard has.

    Raises:
        UnknownName: No shard has it.
    """
    known = {label for shard in shards for label in shard.labels}
    if order.by is OrderBy.LABEL and order.label not in known:
        raise UnknownName(f"no shard has a label `{order.label}` to order by", name=order.label, known=known)


def canaries_of(shards: Sequence[Shard], canary: Iterable[str]) -> frozenset[str]:
    """Return the shards of the first wave.

    Args:
        shards: The shards of the run.
        canary: Names, or `key=value`.

    Raises:
        UnknownName: None of these shards has the name, or the label.
    """
    found: set[str] = set()
    for entry in canary:
        key, is_label, value = entry.partition("=")
        named = {
            shard.shard_id
            for shard in shards
            if (shard.labels.get(key) == value if is_label else shard.shard_id == entry)
        }
        if not named:
            raise UnknownName(
                f"`--canary {entry}`: none of the shards of this run "
                + (f"has the label `{entry}`" if is_label else f"is named `{entry}`"),
                name=entry,
                known={f"{key}={value}" for shard in shards for key, value in shard.labels.items()}
                if is_label
                else {shard.shard_id for shard in shards},
            )
        found |= named
    return frozenset(found)


def split(shard_ids: Sequence[str], canaries: frozenset[str], size: WaveSize | None) -> tuple[Wave, ...]:
    """Divide shards into waves: the canaries first, then the others in their order.

    Args:
        shard_ids: The shards to run, in order.
        canaries: Those of the first wave; it is left out if none of them is to run.
        size: Of the other waves; a percentage is of all the shards to run.
    """
    first = tuple(shard_id for shard_id in shard_ids if shard_id in canaries)
    others = tuple(shard_id for shard_id in shard_ids if shard_id not in canaries)
    step = size.of(len(shard_ids)) if size is not None else max(1, len(others))
    waves = [first] if first else []
    waves += [others[start : start + step] for start in range(0, len(others), step)]
    return tuple(
        Wave(number, members, is_canary=number == 1 and bool(first)) for number, members in enumerate(waves, 1)
    )


def _natural(text: str) -> str:
    """Return what sorts `eu_10` behind `eu_2`."""
    return re.sub(r"\d+", lambda digits: digits[0].zfill(20), text)
