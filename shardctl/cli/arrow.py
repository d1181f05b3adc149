"""Rows as Parquet or Arrow's stream, with exact types: pyarrow writes them.

Both begin with the types of the columns, which are known once the last row is. Until then rows are kept in a temporary
file, in Arrow's own form: memory does not grow with them.
"""

from __future__ import annotations

import datetime
import decimal
import io
import json
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

from shardctl.cli import output
from shardctl.cli.options import RowFormat
from shardctl.cli.pieces import Row
from shardctl.cli.values import to_json, unique
from shardctl.errors import ConfigError, ShardctlError

_ROWS_AT_ONCE = 20_000
_GROUP_BYTES = 8 << 20
"""What a row group of Parquet takes in memory at most, but for its last rows."""
_DIGITS_OF_INT64 = 19
_MOST_DIGITS = 38
"""Of Arrow's smaller type of decimals."""
_MIXED: tuple[set[type], ...] = ({int, float}, {int, decimal.Decimal})
"""Types of Python whose values one type of Arrow holds."""


def check_installed() -> None:
    """Refuse at once what could not be written at the end.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "this format is written by pyarrow, which is not installed", hint="pip install 'shardctl[arrow]'"
        ) from error


def emit(columns: Sequence[str], rows: Iterable[Row], format_: RowFormat) -> None:
    """Write rows, once the last one is there.

    Raises:
        ShardctlError: A column has values of several types, or of one that Arrow has not.
    """
    import pyarrow
    import pyarrow.parquet

    with closing(_Kept(columns)) as kept:
        rows = iter(rows)
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            kept.add(batch)
        schema = kept.schema()
        sink = pyarrow.PythonFile(_Stdout(), mode="w")
        if format_ is RowFormat.PARQUET:
            with pyarrow.parquet.ParquetWriter(sink, schema) as writer:
                for table in _groups(kept.tables(schema)):
                    writer.write_table(table)
        else:
            with pyarrow.ipc.new_stream(sink, schema) as writer:
                for table in kept.tables(schema):
                    writer.write_table(table)


class _Stdout(io.RawIOBase):
    """Standard output, or the file in its place, as pyarrow writes to a file."""

    def __init__(self) -> None:
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        output.write_bytes(bytes(data))
        self._written += len(data)
        return len(data)


class _Kept:
    """Rows in a temporary file: one stream of Arrow's for all that follow one another with the same types."""

    def __init__(self, columns: Sequence[str]) -> None:
        import pyarrow

        self._names = unique(columns)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._types: list[Any] = [pyarrow.null() for _ in columns]
        self._kinds: list[set[type]] = [set() for _ in columns]
        self._writer: Any = None
        self._written: Any = None  # the types of what the writer writes

    def close(self) -> None:
        self._file.close()

    def add(self, rows: Sequence[Row]) -> None:
        """Keep rows.

        Raises:
            ShardctlError: A value fits no type, or there is no room.
        """
        import pyarrow

        arrays = [self._array(number, [row[number] for row in rows]) for number in range(len(self._names))]
        table = pyarrow.Table.from_arrays(arrays, names=self._names)
        try:
            if self._writer is None or self._written != table.schema:
                self._end_stream()
                self._writer, self._written = pyarrow.ipc.new_stream(self._file, table.schema), table.schema
            self._writer.write_table(table)
        except OSError as error:
            raise ShardctlError(
                f"the rows do not fit into a temporary file: {error.strerror or error}",
                hint="name a folder with room: `TMPDIR=/somewhere`",
            ) from error

    def schema(self) -> Any:
        """Return the types of all rows."""
        import pyarrow

        return pyarrow.schema(list(zip(self._names, self._types, strict=True)))

    def tables(self, schema: Any) -> Iterator[Any]:
        """Yield the rows that were kept, in their order."""
        import pyarrow

        self._end_stream()
        end = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        source = pyarrow.PythonFile(self._file, mode="r")
        while source.tell() < end:
            for batch in pyarrow.ipc.open_stream(source):
                arrays = [self._cast(number, batch.column(number)) for number in range(len(self._names))]
                yield pyarrow.Table.from_arrays(arrays, schema=schema)

    def _end_stream(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _array(self, number: int, values: list[Any]) -> Any:
        import pyarrow

        values = [_value(value) for value in values]
        own = {type(value) for value in values} - {type(None)}
        kinds = self._kinds[number]
        kinds |= own
        try:
            if len(own) > 1 and own not in _MIXED:  # pyarrow would make one of them: a date of a datetime
                first = {type(value): value for value in reversed(values) if value is not None}
                raise TypeError("for example: " + " and ".join(repr(first[kind]) for kind in sorted(own, key=str)))
            if datetime.datetime in own and len({value.tzinfo is None for value in values if value is not None}) > 1:
                raise TypeError("some have a time zone, and some have none")
            if own == {int, decimal.Decimal}:  # of which pyarrow reserves too few digits
                values = [decimal.Decimal(value) if type(value) is int else value for value in values]
            array = pyarrow.array(values)
            self._types[number] = _common(self._types[number], array.type)
        except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise self._refusal(number, error) from error
        return array

    def _cast(self, number: int, array: Any) -> Any:
        import pyarrow

        try:
            return array.cast(self._types[number])
        except (pyarrow.ArrowException, ValueError) as error:
            raise self._refusal(number, error) from error

    def _refusal(self, number: int, error: Exception) -> ShardctlError:
        kinds = ", ".join(sorted(kind.__name__ for kind in self._kinds[number]))
        return ShardctlError(
            f"the column `{self._names[number]}` has values that no type of Arrow holds: {kinds}",
            facts=[str(error).splitlines()[0]],
            hint="cast it in the statement, or choose `--format ndjson`",
        )


def _common(one: Any, other: Any) -> Any:
    """Return the type that holds the values of two.

    Raises:
        TypeError: There is none.
    """
    from pyarrow import decimal128, decimal256, float64, types

    if types.is_null(one) or one == other:
        return other
    if types.is_null(other) or (types.is_timestamp(one) and types.is_timestamp(other) and one.tz and other.tz):
        return one
    if all(types.is_floating(kind) or types.is_integer(kind) for kind in (one, other)):
        return float64()
    if all(types.is_decimal(kind) or types.is_integer(kind) for kind in (one, other)):
        scale = max(kind.scale if types.is_decimal(kind) else 0 for kind in (one, other))
        whole = max(
            kind.precision - kind.scale if types.is_decimal(kind) else _DIGITS_OF_INT64 for kind in (one, other)
        )
        return (decimal128 if whole + scale <= _MOST_DIGITS else decimal256)(whole + scale, scale)
    raise TypeError(f"they are {one} and {other}")


def _groups(tables: Iterable[Any]) -> Iterator[Any]:
    """Put tables together until they are large enough for a row group."""
    import pyarrow

    waiting: list[Any] = []
    size = 0
    for table in tables:
        waiting.append(table)
        size += table.nbytes
        if size >= _GROUP_BYTES:
            yield pyarrow.concat_tables(waiting)
            waiting, size = [], 0
    if waiting:
        yield pyarrow.concat_tables(waiting)


def _value(value: Any) -> Any:
    """Return a value that Arrow has: JSON and UUIDs become text."""
    if isinstance(value, dict | list):
        return json.dumps(to_json(value), ensure_ascii=False)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return str(value) if isinstance(value, uuid.UUID) else value
