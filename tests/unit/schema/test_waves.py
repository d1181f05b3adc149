"""Waves: every shard in exactly one, in the order that was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardctl.errors import ConfigError, UnknownName
from shardctl.schema.waves import (
    Order,
    OrderBy,
    Part,
    WaveSize,
    canaries_of,
    check_label,
    ordered,
    parse_order,
    parse_part,
    parse_wave_size,
    part_of,
    split,
)
from shardctl.topology.model import Shard

names = st.lists(st.text("abc_019", min_size=1, max_size=6), unique=True, max_size=40)
sizes = st.one_of(
    st.none(),
    st.builds(WaveSize, st.integers(1, 50)),
    st.builds(WaveSize, st.integers(1, 100), st.just(True)),
)


def shard(name: str, **labels: str) -> Shard:
    return Shard(name, f"sqlite:///{name}.db", labels=labels)


@given(names, st.data(), sizes)
def test_every_shard_is_in_one_wave_in_its_order(
    shard_ids: list[str], data: st.DataObject, size: WaveSize | None
) -> None:
    canaries = frozenset(data.draw(st.sets(st.sampled_from(shard_ids)))) if shard_ids else frozenset()
    waves = split(shard_ids, canaries, size)
    in_waves = [name for wave in waves for name in wave.shard_ids]
    assert sorted(in_waves) == sorted(shard_ids)
    assert [name for name in in_waves if name in canaries] == [name for name in shard_ids if name in canaries]
    assert [name for name in in_waves if name not in canaries] == [name for name in shard_ids if name not in canaries]
    assert [wave.number for wave in waves] == list(range(1, len(waves) + 1))
    assert all(wave.shard_ids for wave in waves)
    assert [wave.is_canary for wave in waves] == [bool(canaries) and number == 0 for number in range(len(waves))]
    if canaries:
        assert set(waves[0].shard_ids) == canaries


@given(names.filter(bool), sizes.filter(lambda size: size is not None))
def test_waves_are_full_but_for_the_last(shard_ids: list[str], size: WaveSize) -> None:
    lengths = [len(wave.shard_ids) for wave in split(shard_ids, frozenset(), size)]
    assert set(lengths[:-1]) <= {size.of(len(shard_ids))}
    assert 1 <= lengths[-1] <= size.of(len(shard_ids))
    if size.is_percent:
        assert len(lengths) <= -(-100 // size.number)


@given(names, st.integers(1, 7), st.randoms())
def test_parts_are_disjoint_complete_even_and_stable(shard_ids: list[str], number: int, random: object) -> None:
    parts = [part_of(shard_ids, Part(index, number)) for index in range(1, number + 1)]
    assert sorted(name for part in parts for name in part) == sorted(shard_ids)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    shuffled = list(shard_ids)
    random.shuffle(shuffled)
    assert [part_of(shuffled, Part(index, number)) for index in range(1, number + 1)] == parts


@given(names, st.dictionaries(st.text("abc_019", min_size=1, max_size=6), st.integers(0, 9)))
def test_an_order_loses_no_shard(shard_ids: list[str], found: dict[str, int]) -> None:
    shards = [shard(name) for name in shard_ids]
    assert [entry.shard_id for entry in ordered(shards, Order())] == shard_ids
    for order in (Order(OrderBy.NAME), Order(OrderBy.SIZE), Order(OrderBy.LABEL, "region")):
        assert sorted(entry.shard_id for entry in ordered(shards, order, found)) == sorted(shard_ids)
    by_size = [found.get(entry.shard_id, 10) for entry in ordered(shards, Order(OrderBy.SIZE), found)]
    assert by_size == sorted(by_size)


def test_orders() -> None:
    shards = [shard("eu_10", step="b"), shard("eu_2", step="a"), shard("asia"), shard("eu_1", step="b")]
    assert [entry.shard_id for entry in ordered(shards, parse_order("name"))] == ["asia", "eu_1", "eu_2", "eu_10"]
    by_label = [entry.shard_id for entry in ordered(shards, parse_order("label:step"))]
    assert by_label == ["eu_2", "eu_10", "eu_1", "asia"]
    check_label(shards, parse_order("label:step"))
    with pytest.raises(UnknownName, match="no shard has a label `stp`") as caught:
        check_label(shards, parse_order("label:stp"))
    assert "did you mean `step`?" in str(caught.value.hint)


def test_canaries_are_names_or_labels() -> None:
    shards = [shard("asia", wave="canary"), shard("europe", wave="1"), shard("africa", wave="canary")]
    assert canaries_of(shards, ["wave=canary"]) == {"asia", "africa"}
    assert canaries_of(shards, ["europe", "asia"]) == {"asia", "europe"}
    with pytest.raises(UnknownName, match="is named `asai`") as caught:
        canaries_of(shards, ["asai"])
    assert caught.value.hint == "did you mean `asia`?"
    with pytest.raises(UnknownName, match="has the label `wave=canry`") as caught:
        canaries_of(shards, ["wave=canry"])
    assert caught.value.hint == "did you mean `wave=canary`?"


def test_what_is_read_from_the_command_line() -> None:
    assert (parse_wave_size("10"), parse_wave_size("25%")) == (WaveSize(10), WaveSize(25, is_percent=True))
    assert (parse_part("1/3"), parse_part("3/3")) == (Part(1, 3), Part(3, 3))
    assert WaveSize(25, is_percent=True).of(3) == 1


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-1", "1.5", "ten", "10 %%"])
def test_wrong_wave_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match="--wave-size"):
        parse_wave_size(text)


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "1", "1/0", "a/b", "1/3/5", "-1/3"])
def test_wrong_parts(text: str) -> None:
    with pytest.raises(ConfigError, match="--part"):
        parse_part(text)


@pytest.mark.parametrize("text", ["", "label", "label:", "name:x", "random"])
def test_wrong_orders(text: str) -> None:
    with pytest.raises(ConfigError, match="--order"):
        parse_order(text)
