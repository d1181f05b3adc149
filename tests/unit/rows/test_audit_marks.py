"""What an audit keeps of itself comes back as it was, or not at all."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from shardctl.errors import ConfigError
from shardctl.rows.audit.marks import Marks, from_saved, marks_of, to_saved
from shardctl.rows.audit.tally import Tally
from shardctl.topology.model import ShardMap

VALUES = [
    None,
    -5,
    2**70,
    True,
    1.5,
    "tëxt",
    b"\x00\xff",
    decimal.Decimal("1.50"),
    uuid.UUID(int=7),
    datetime.date(2026, 1, 2),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC),
    datetime.time(1, 2, 3),
    datetime.timedelta(days=-1, microseconds=5),
    (1, ("a", None)),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_of_keys_come_back(value: Any) -> None:
    found = from_saved(json.loads(json.dumps(to_saved(value))))
    assert (found, type(found)) == (value, type(value))


@pytest.fixture
def shard_map(tmp_path: Path) -> ShardMap:
    source = tmp_path / "shardctl.toml"
    source.write_text("")
    return ShardMap(shards={}, source=source)


def test_marks_are_for_the_same_options_and_shard_map(shard_map: ShardMap) -> None:
    marks = marks_of(shard_map, {"sample": None, "checks": ["placement"]})
    marks.put("placement", "City", {"rows": 7})
    marks.write()
    again = marks_of(shard_map, {"sample": None, "checks": ["placement"]})
    again.read()
    assert again.get("placement", "City") == {"rows": 7}
    with pytest.raises(ConfigError) as raised:
        marks_of(shard_map, {"sample": "1%", "checks": []}).read()
    assert raised.value.facts == ("sample: none then, 1% now", "checks: placement then, none now")
    assert shard_map.source is not None
    shard_map.source.write_text("# changed")
    with pytest.raises(ConfigError) as raised:
        marks_of(shard_map, {"sample": None, "checks": ["placement"]}).read()
    assert [fact.partition(":")[0] for fact in raised.value.facts] == ["shard map"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"options": 1, "states": 2}'])
def test_a_file_that_is_not_one_is_none(shard_map: ShardMap, text: str) -> None:
    marks = marks_of(shard_map, {})
    marks.write()
    (file,) = (Path(shard_map.source or "").parent / ".shardctl").rglob("*.json")
    file.write_text(text)
    with pytest.raises(ConfigError, match="no interrupted audit"):
        marks_of(shard_map, {}).read()


def test_a_check_that_is_over_needs_no_tables() -> None:
    marks = Marks()
    marks.put("placement", "City", {"rows": 7})
    marks.put("duplicates", "City", {"rows": 8})
    marks.finish("placement", {"items": []})
    assert marks.get("placement", "City") is None
    assert marks.get("placement") == {"items": []}
    assert marks.get("duplicates", "City") == {"rows": 8}


def test_a_tally_comes_back() -> None:
    tally = Tally("placement", "City", 2)
    assert tally.add("misplaced", ["a"], "belong on b", 3, [(1,), (2,)])
    assert not tally.add("misplaced", ["b"], "belong on a", 9, [(number,) for number in range(9)])
    assert not tally.add("no placement", ["a"], "left out", 4)
    restored = Tally("placement", "City", 2)
    restored.restore(json.loads(json.dumps(tally.saved())))
    assert list(restored.results(is_exact=True)) == list(tally.results(is_exact=True))
    found = [item.count for item in restored.results(is_exact=True) if hasattr(item, "count")]
    assert found == [3, 9]
