"""A shard's rows -> Arrow, with the types that DuckDB is to have them in; a value that does not fit is refused."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from shardctl.errors import QueryRefused, ShardError
from shardctl.fleet.live_shard import driver_line
from shardctl.query.engines.copying import copied
from shardctl.query.here.kinds import Kind, NotListed

if TYPE_CHECKING:
    from sqlalchemy import Connection

_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 20_000


@contextmanager
def arrow_batches(
    connection: Connection, sql: str, columns: Sequence[tuple[str, Kind]]
) -> Iterator[Iterator[tuple[int, Any]]]:
    """Read a SELECT's rows: how many, and an Arrow table, each time.

    Raises:
        QueryRefused: A value is none that DuckDB could hold, or the driver is not known.
        ShardError: The shard failed.
    """
    read = {"psycopg": _copied, "pymysql": _fetched}.get(connection.dialect.driver)
    if read is None:
        raise QueryRefused(f"rows cannot be gathered through the driver `{connection.dialect.driver}` yet")
    try:
        with closing(read(connection, sql, columns)) as batches:  # a COPY that is not read to its end is to be ended
            yield batches
    except connection.dialect.loaded_dbapi.Error as error:
        raise ShardError(driver_line(error)) from error


def arrow_type(kind: Kind) -> Any:
    """Return the Arrow type of values that arrive as text."""
    import pyarrow as pa

    if kind.name == "numeric":
        return pa.decimal128(kind.digits, kind.scale)
    types = {
        "bool": pa.bool_(),
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "uint8": pa.uint64(),
        "float8": pa.float64(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us"),
    }
    return types.get(kind.name, pa.string())


def read_as(name: str, kind: Kind, engine: str) -> str:
    """Return what a shard selects for a column whose own text would not do; nothing if it would."""
    if engine == "postgresql" and kind.name == "timestamptz":
        return f"({name} AT TIME ZONE 'UTC')"
    return (
        f"hex({name})"
        if engine == "mysql" and kind.name == "bytea"
        else (f"encode({name}, 'hex')" if kind.name == "bytea" else "")
    )


def _copied(
    connection: Connection, sql: str, columns: Sequence[tuple[str, Kind]]
) -> Generator[tuple[int, Any], None, None]:
    """Read PostgreSQL's CSV, in which NULL is nothing and text is in quotes where it would look like that."""
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor, cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv, ENCODING 'UTF8')"):
        buffer = BytesIO()
        for rows in copied(raw):
            buffer.writelines(rows)
            if buffer.tell() >= _BATCH_BYTES:
                yield _parsed(buffer, columns)
                buffer = BytesIO()
        if buffer.tell():
            yield _parsed(buffer, columns)


def _parsed(buffer: BytesIO, columns: Sequence[tuple[str, Kind]]) -> tuple[int, Any]:
    import pyarrow as pa
    from pyarrow import csv

    names = [f"b{i}" for i in range(len(columns))]
    size = buffer.tell()
    buffer.seek(0)
    try:
        table = csv.read_csv(
            buffer,
            csv.ReadOptions(column_names=names, use_threads=False, block_size=size + 1),
            csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types={name: arrow_type(kind) for name, (_, kind) in zip(names, columns, strict=True)},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
    except pa.ArrowInvalid as error:
        raise NotListed("DuckDB has no such value", facts=[str(error).splitlines()[0]]) from error
    return table.num_rows, table


def _fetched(
    connection: Connection, sql: str, columns: Sequence[tuple[str, Kind]]
) -> Generator[tuple[int, Any], None, None]:
    from pymysql.cursors import SSCursor

    raw: Any = connection.connection.driver_connection
    with raw.cursor(SSCursor) as cursor:
        cursor.execute(sql)
        while rows := cursor.fetchmany(_BATCH_ROWS):
            yield len(rows), _converted(rows, columns)


def _converted(rows: Sequence[Sequence[Any]], columns: Sequence[tuple[str, Kind]]) -> Any:
    import pyarrow as pa

    arrays = []
    for i, (name, kind) in enumerate(columns):
        texts = pa.array([row[i] for row in rows], pa.string())
        try:
            arrays.append(texts.cast(arrow_type(kind)))
        except pa.ArrowInvalid as error:
            raise NotListed(f"DuckDB has no such value in `{name}`", facts=[str(error).splitlines()[0]]) from error
    return pa.table(arrays, [f"b{i}" for i in range(len(columns))])


def load_sql(columns: Sequence[tuple[str, Kind]]) -> str:
    """Return what DuckDB selects of a batch."""
    listed: Mapping[str, str] = {"bytea": "unhex({})", "uuid": "CAST({} AS UUID)"}
    return ", ".join(listed.get(kind.name, "{}").format(f"b{i}") for i, (_, kind) in enumerate(columns))
