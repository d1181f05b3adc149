"""What the text of a SQLite table says, however it is written."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import create_engine

from shardctl.schema.catalogue import Objects
from shardctl.schema.catalogue.sqlite import SQLITE
from shardctl.schema.catalogue.sqlite_ddl import normalised, read_table_text


def objects(*statements: str) -> Objects:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
        read = SQLITE.read(connection, ["main"])["main"]
    engine.dispose()
    return dict(read)


def test_reads_checks_collations_and_names() -> None:
    text = read_table_text(
        """CREATE TABLE "o" ( -- orders, (of customers)
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            [name] varchar(9) COLLATE NOCASE CONSTRAINT "ck_name" CHECK (length(name) > 1),
            total int GENERATED ALWAYS AS (id + (1)) STORED, twice AS (id * 2),
            other int CONSTRAINT fk_other REFERENCES others(id) DEFERRABLE INITIALLY DEFERRED,
            CONSTRAINT uq UNIQUE (name, `total`), CHECK (name IN ('a,b', 'C)')),
            FOREIGN KEY (id, total) REFERENCES pairs
        ) STRICT, WITHOUT ROWID"""
    )
    assert text.checks == [("ck_name", "length(name) > 1"), ("", "name in('a,b', 'C)')")]
    assert text.collations == {"name": "nocase"}
    assert text.generated == {"total": "(id + (1)) stored", "twice": "(id * 2)"}
    assert text.uniques == {("name", "total"): "uq"}
    assert text.foreign_keys == {("other",): ("fk_other", "deferred"), ("id", "total"): ("", "")}
    assert text.is_autoincrement
    assert text.options == "strict, without rowid"


def test_altered_tables_are_equal_to_created_ones() -> None:
    created = objects('CREATE TABLE "o" (id INTEGER PRIMARY KEY, a VARCHAR(3) DEFAULT \'x\' NOT NULL, "b" int)')
    altered = objects(
        "create table p (id integer not null default 1, a varchar(3) not null default 'x', primary key (id))",
        "drop table p",
        "create table q (b int, id integer primary key)",
        "alter table q add column a varchar(3) not null default 'x'",
        "alter table q rename to o",
    )
    assert created == altered


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('create  index "ix" ON "o" ("a",b)', "CREATE INDEX ix on o(a , b)"),
        ("select 'A  b'  from t -- comment", "SELECT 'A  b' FROM t"),
    ],
)
def test_normalises_all_but_strings(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    assert normalised("select 'A'") != normalised("select 'a'")


def test_virtual_tables_and_their_kind_do_no_harm() -> None:
    if ("ENABLE_FTS5",) not in sqlite3.connect(":memory:").execute("pragma compile_options").fetchall():
        pytest.skip("this SQLite has no full-text search")
    assert "notes" in {object_.table for object_ in objects("create virtual table notes using fts5(body)")}
