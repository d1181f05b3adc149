"""Rows as Arrow has them: batch by batch what they are all at once, in memory that does not grow with them."""

from __future__ import annotations

import datetime
import io
import tracemalloc
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from shardctl.cli import arrow, output
from shardctl.cli.options import RowFormat
from shardctl.errors import ShardctlError

DAY = datetime.datetime(2026, 1, 2, 3, 4)
UTC = datetime.UTC
COLUMNS: dict[str, tuple[list[Any], pyarrow.DataType]] = {
    "numbers": ([1, 2, 3, 4], pyarrow.int64()),
    "nothing at first": ([None, None, None, "x"], pyarrow.string()),
    "nothing": ([None] * 4, pyarrow.null()),
    "decimals that grow": ([Decimal("1.5"), Decimal("0.001"), None, Decimal("123.4")], pyarrow.decimal128(6, 3)),
    "long decimals": ([Decimal("1." + "0" * 30), Decimal("9" * 30)] * 2, pyarrow.decimal256(60, 30)),
    "integers, then floats": ([1, 2, 2.5, None], pyarrow.float64()),
    "integers, then decimals": ([2**62, 1, Decimal("0.5"), 1], pyarrow.decimal128(20, 1)),
    "times": ([DAY, None, DAY, DAY], pyarrow.timestamp("us")),
    "times of a zone": ([DAY.replace(tzinfo=UTC)] * 4, pyarrow.timestamp("us", tz="UTC")),
    "documents": ([{"a": 1}, [1], None, {}], pyarrow.string()),
    "uuids": ([uuid.UUID(int=1)] * 4, pyarrow.string()),
    "bytes": ([b"\x00", bytearray(b"x"), memoryview(b"y"), None], pyarrow.binary()),
}
READ = {
    RowFormat.PARQUET: lambda data: pyarrow.parquet.read_table(io.BytesIO(data)),
    RowFormat.ARROW: lambda data: pyarrow.ipc.open_stream(data).read_all(),
}


def written(columns: list[str], rows: Any, format_: RowFormat, folder: Path) -> bytes:
    file = folder / "rows"
    with output.into(file):
        arrow.emit(columns, rows, format_)
    return file.read_bytes()


@pytest.mark.parametrize("format_", READ)
@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_types_are_those_of_all_rows(format_, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "_ROWS_AT_ONCE", at_once)
    monkeypatch.setattr(arrow, "_GROUP_BYTES", 20)
    names = list(COLUMNS)
    rows = list(zip(*(values for values, _ in COLUMNS.values()), strict=True))
    found = READ[format_](written(names, iter(rows), format_, tmp_path))
    for name, (values, type_) in COLUMNS.items():
        if name != "integers, then decimals" or at_once == 1:  # for integers alone, room is left for larger ones
            assert found.schema.field(name).type == type_, name
        expected = [arrow._value(value) for value in values]
        assert found.column(name).to_pylist() == expected, name


@pytest.mark.parametrize("format_", READ)
def test_no_rows(format_, tmp_path):
    found = READ[format_](written(["a", "a"], [], format_, tmp_path))
    assert (found.num_rows, found.column_names) == (0, ["a", "a_2"])


@pytest.mark.parametrize(
    "values",
    [
        [1, "x"],
        [True, 2],
        ["x", b"x"],
        [DAY, DAY.date()],
        [DAY.date(), DAY],
        [DAY, DAY.replace(tzinfo=UTC)],
        [1.5, Decimal(1)],
        [2**64, 1],
        [2**60 + 1, 0.5],
        [1, NotImplemented],
    ],
    ids=repr,
)
@pytest.mark.parametrize("at_once", [1, 2])
def test_values_of_several_types_are_refused(values, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(arrow, "_ROWS_AT_ONCE", at_once)
    with pytest.raises(ShardctlError, match="the column `odd` has values that no type of Arrow holds"):
        written(["odd"], [[value] for value in values], RowFormat.PARQUET, tmp_path)
    assert not (tmp_path / "rows").exists()


@pytest.mark.slow
@pytest.mark.parametrize("format_", READ)
def test_many_rows_take_no_more_memory(format_, tmp_path):
    count = 500_000
    rows = ((i, f"city {i}") for i in range(count))
    before = pyarrow.default_memory_pool().max_memory()
    tracemalloc.start()
    try:
        with output.into(tmp_path / "rows"):
            arrow.emit(["id", "city"], rows, format_)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "rows").stat().st_size > count
    assert peak < 30_000_000  # a list of their tuples takes twice as much and more
    assert pyarrow.default_memory_pool().max_memory() < before + (128 << 20)
