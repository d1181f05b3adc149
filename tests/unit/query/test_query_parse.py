"""SQL text -> one statement that only reads."""

from __future__ import annotations

import pytest

from shardctl.errors import ExitCode, QueryRefused, UnreadableStatement
from shardctl.query.clauses import cut
from shardctl.query.parse import parse


def test_the_text_is_kept() -> None:
    assert parse("\n -- first\n select 1 ; ; ", "sqlite").sql == "select 1"


@pytest.mark.parametrize(
    ("sql", "message", "fact"),
    [
        ("", "there is no statement", None),
        ("select 1; select 2", "there are 2 statements, `query` takes one", None),
        ("update t set a = 1", "`query` only reads, and this is an `UPDATE` statement", None),
        ("create table t (a int)", "`query` only reads, and this is a `CREATE` statement", None),
        ("select a into b from c", "`query` only reads, and a part of this statement is `INTO`", "in: INTO b"),
        ("select * from t for share", "`query` only reads: it takes no row locks", None),
        ("select from where", "the statement cannot be read", None),
    ],
)
def test_what_does_not_read_is_refused(sql: str, message: str, fact: str | None) -> None:
    with pytest.raises(QueryRefused) as caught:
        parse(sql, "postgresql")
    assert caught.value.message == message
    is_unread = isinstance(caught.value, UnreadableStatement)
    assert is_unread == (message in {"there is no statement", "the statement cannot be read"})
    assert caught.value.exit_code is (ExitCode.USAGE if is_unread else ExitCode.REFUSED)
    if fact is not None:
        assert caught.value.facts == (fact,)


def test_mysql_comments_that_run_are_refused() -> None:
    for sql in ("select 1 /*! , 2 */", "select /*!50000 2 */ + 1", "select 1 /*M! , 2 */ from t"):
        with pytest.raises(QueryRefused, match="would run what is in this comment"):
            parse(sql, "mysql")
    assert parse("select '/*! x */' /* y */", "mysql").sql == "select '/*! x */'"
    assert parse("select 1 /*! , 2 */", "sqlite").sql == "select 1"


def test_clauses_are_pieces_of_the_text() -> None:
    clauses = cut(
        parse(
            "SELECT DISTINCT a  AS x, f(b, ',') y, 'from' FROM t JOIN u ON t.a IS DISTINCT FROM u.a"
            " WHERE (SELECT 1 FROM v) = 1 GROUP BY a, g(a, b) HAVING  count(*)>1"
            " ORDER BY x DESC NULLS LAST, 2 LIMIT 3 OFFSET 4",
            "postgresql",
        )
    )
    assert [(item.text, item.alias) for item in clauses.items] == [("a", "x"), ("f(b, ',')", "y"), ("'from'", None)]
    assert clauses.source == "FROM t JOIN u ON t.a IS DISTINCT FROM u.a"
    assert clauses.where == "WHERE (SELECT 1 FROM v) = 1"
    assert [item.text for item in clauses.group] == ["a", "g(a, b)"]
    assert [(item.text, item.tail, item.desc, item.nulls_first) for item in clauses.order] == [
        ("x", "DESC NULLS LAST", True, False),
        ("2", "", False, None),
    ]
    assert (clauses.limit, clauses.offset, clauses.distinct) == (3, 4, True)


def test_mysql_limits_with_a_comma() -> None:
    clauses = cut(parse("SELECT a FROM t LIMIT 5, 10", "mysql"))
    assert (clauses.limit, clauses.offset) == (10, 5)
