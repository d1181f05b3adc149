"""Primary keys from text: lines, CSV with and without a header, and what is wrong with them."""

from __future__ import annotations

import io
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Column, Date, Integer, MetaData, String, Table, Uuid
from sqlalchemy.orm import registry

from shardctl.cli.locate_keys import STDIN, KeySource
from shardctl.errors import ConfigError
from tests.fixtures.shop import Cell, Customer, Product

DAYS = Table("days", MetaData(), Column("day", Date, primary_key=True))
IDS = Table("ids", MetaData(), Column("id", Uuid, primary_key=True))


def of_file(target: Any, text: str | bytes, folder: Path) -> list[Any]:
    file = folder / "keys.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(KeySource(file=file).read(target))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("1\n2\n", [1, 2]),
        ("1\r\n2", [1, 2]),
        ("\ufeff1\n\n  \n 2 \n", [1, 2]),
        ("id\n1\n", [1]),
        ("\n\nname,id,more\nx,1,\ny,2\n", [1, 2]),
        ('name;id\n"a;\nb";1\n', [1]),
        ("name\tid\nx, y\t1\n", [1]),
        ("id,id\n1,2\n", [1]),
        ('"1"\n"2"\n', [1, 2]),
        ("-4\n", [-4]),
    ],
)
def test_csv(text: str, keys: list[int], tmp_path: Path) -> None:
    assert of_file(Customer.__mapper__, text, tmp_path) == [(key,) for key in keys]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("x,1\ny,2\n", [("x", 1), ("y", 2)]),
        ("x\t1\n", [("x", 1)]),
        ("number,tenant\n1,x\n", [("x", 1)]),
        ('" x, y ",1\n', [(" x, y ", 1)]),
    ],
)
def test_keys_of_several_columns(text: str, keys: list[Any], tmp_path: Path) -> None:
    assert of_file(Cell.__mapper__, text, tmp_path) == keys


def test_values_are_typed_from_the_columns(tmp_path: Path) -> None:
    own = uuid.uuid4()
    assert of_file(IDS, f"id\n{own}\n {own.hex} \n", tmp_path) == [(own,), (own,)]
    assert str(of_file(DAYS, "2026-01-31\n", tmp_path)[0][0]) == "2026-01-31"


def test_a_header_may_have_the_names_of_attributes_or_of_columns(tmp_path: Path) -> None:
    table = Table("things", MetaData(), Column("THING_ID", Integer, primary_key=True), Column("name", String(9)))
    mapper = registry().map_imperatively(type("Thing", (), {}), table, properties={"own": table.c.THING_ID})
    for header in ("own", "THING_ID"):
        assert of_file(mapper, f"name,{header}\nx,7\n", tmp_path) == [(7,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\nx\n", "`{}`, line 2: `x` is not an int, as id is"),
        ("name,id\na,1\nb,\n", "`{}`, line 3: `` is not an int, as id is"),
        ("name,id\na,1\nb\n", "`{}`, line 3: 1 value, and the key is `id`"),
        ("1,2\n", "`{}`, line 1: 2 values, and the key is `id`"),
        ('id\n"1\n2\n', "`{}`, line 3: unexpected end of data"),
        ('id\n"1"x\n', "`{}`, line 2: ',' expected after '\"'"),
        ("", "`{}` has no keys"),
        ("\n \n", "`{}` has no keys"),
        ("id,name\n", "`{}` has no keys"),
        (b"id\n\xff\n", "`{}` is not UTF-8 text: invalid start byte"),
    ],
)
def test_what_is_no_key(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        of_file(Customer.__mapper__, text, tmp_path)
    assert refusal.value.message == message.format(tmp_path / "keys.csv")


def test_half_of_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        of_file(Cell.__mapper__, "tenant,text\nx,y\n", tmp_path)
    assert refusal.value.message.endswith("the header has no column `number`, which is part of the key")
    with pytest.raises(ConfigError) as refusal:
        of_file(Cell.__mapper__, "x\n", tmp_path)
    assert refusal.value.hint == "a first line that names `tenant`, `number` lets other columns be there too"


@pytest.mark.parametrize(("name", "reason"), [("none.csv", "No such file or directory"), ("", "Is a directory")])
def test_a_file_that_cannot_be_read(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"cannot read `.*`: {reason}"):
        list(KeySource(file=tmp_path / name).read(Customer.__mapper__))


def feed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))


def test_lines_of_standard_input_are_keys_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, '\ufeffa,b\r\n"c"\n\n d\n')
    keys = list(KeySource(lines_of_stdin=True).read(Product.__mapper__))
    assert keys == [("a,b",), ('"c"',), (" d",)]
    feed(monkeypatch, "x\t1\ny\t2\n")
    assert list(KeySource(lines_of_stdin=True).read(Cell.__mapper__)) == [("x", 1), ("y", 2)]
    feed(monkeypatch, "id,name\n1,x\n")
    assert list(KeySource(file=STDIN).read(Customer.__mapper__)) == [(1,)]
    feed(monkeypatch, "1\nx\n")
    with pytest.raises(ConfigError, match="standard input, line 2: `x` is not an int"):
        list(KeySource(lines_of_stdin=True).read(Customer.__mapper__))
    feed(monkeypatch, "")
    with pytest.raises(ConfigError, match="standard input has no keys"):
        list(KeySource(lines_of_stdin=True).read(Customer.__mapper__))


def test_keys_are_read_as_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, "1\n2\nx\n")
    keys = KeySource(lines_of_stdin=True).read(Customer.__mapper__)
    assert [next(keys), next(keys)] == [(1,), (2,)]
    assert list(KeySource(words=["1", "2"]).read(Customer.__mapper__)) == [(1,), (2,)]
