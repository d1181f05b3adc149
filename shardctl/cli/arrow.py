"""Rows as Parquet or Arrow's stream, with exact types: pyarrow writes them."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Sequence
from typing import Any

from shardctl.cli import output
from shardctl.cli.options import RowFormat
from shardctl.cli.output import Row
from shardctl.cli.values import to_json, unique
from shardctl.errors import ConfigError, ShardctlError


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


def emit(columns: Sequence[str], rows: Sequence[Row], format_: RowFormat) -> None:
    """Write rows.

    Raises:
        ShardctlError: A column has values of several types, or of one that Arrow has not.
    """
    import pyarrow
    import pyarrow.parquet

    arrays = [_array(name, [row[number] for row in rows]) for number, name in enumerate(columns)]
    table = pyarrow.Table.from_arrays(arrays, names=unique(columns))
    buffer = io.BytesIO()
    if format_ is RowFormat.PARQUET:
        pyarrow.parquet.write_table(table, buffer)
    else:
        with pyarrow.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
    output.write_bytes(buffer.getvalue())


def _array(name: str, values: list[Any]) -> Any:
    import pyarrow

    try:
        return pyarrow.array([_value(value) for value in values])
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError) as error:
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        raise ShardctlError(
            f"the column `{name}` has values that no type of Arrow holds: {', '.join(kinds)}",
            facts=[str(error).splitlines()[0]],
            hint="cast it in the statement, or choose `--format ndjson`",
        ) from error


def _value(value: Any) -> Any:
    """Return a value that Arrow has: JSON and UUIDs become text."""
    if isinstance(value, dict | list):
        return json.dumps(to_json(value), ensure_ascii=False)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return str(value) if isinstance(value, uuid.UUID) else value
