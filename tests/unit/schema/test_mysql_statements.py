"""What MySQL's statements do, by their first words."""

from __future__ import annotations

import pytest

from shardctl.schema.mysql_statements import Kind, can_be_repeated, done_already, kind_of, needs_session


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("\n  -- first\n/* then */ (SELECT 1)", Kind.READ),
        ("select * from cities for update", Kind.READ),
        ("SET @x = 1", Kind.READ),
        ("WITH t AS (SELECT 1) SELECT * FROM t", Kind.READ),
        ("with t as (select 1 as id) update cities join t using (id) set n = 1", Kind.WRITE),
        ("insert into cities select 1", Kind.WRITE),
        ("REPLACE INTO cities VALUES (1)", Kind.WRITE),
        ("# why\nCREATE TABLE cities (id int)", Kind.SCHEMA),
        ("truncate cities", Kind.SCHEMA),
        ("CREATE TEMPORARY TABLE t (id int)", Kind.TEMPORARY),
        ("drop temporary table t", Kind.TEMPORARY),
        ("CREATE TABLE temporary_things (id int)", Kind.SCHEMA),
        ("SAVEPOINT sa_savepoint_1", Kind.CONTROL),
        ("begin", Kind.CONTROL),
        ("BEGIN NOT ATOMIC UPDATE cities SET n = 1; END", Kind.OPAQUE),
        ("call tidy()", Kind.OPAQUE),
        ("/*!50001 CREATE VIEW v AS SELECT 1 */", Kind.OPAQUE),
        ("", Kind.OPAQUE),
    ],
)
def test_kinds(statement: str, kind: Kind) -> None:
    assert kind_of(statement) is kind


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("CREATE TABLE cities (id int)", 1050),
        ("CREATE UNIQUE INDEX ix ON cities (n)", 1061),
        ("DROP INDEX ix ON cities", 1091),
        ("DROP TABLE cities", 1051),
        ("ALTER TABLE cities ADD COLUMN n int", 1060),
        ("ALTER TABLE cities ADD CONSTRAINT fk FOREIGN KEY (n) REFERENCES t (id)", 1826),
        ("ALTER TABLE cities DROP FOREIGN KEY fk", 1091),
        ("ALTER TABLE cities CHANGE n m int", 1054),
        ("ALTER TABLE cities RENAME TO towns", 1146),
        ("RENAME TABLE cities TO towns", 1146),
        ("CREATE TRIGGER t BEFORE INSERT ON cities FOR EACH ROW SET @x = 1", 1359),
        ("CREATE VIEW v AS SELECT 1", 1050),
    ],
)
def test_what_says_that_it_was_done(statement: str, code: int) -> None:
    assert code in done_already(statement)


def test_what_says_nothing_of_the_kind() -> None:
    assert done_already("ALTER TABLE cities MODIFY n bigint") == frozenset()
    assert 1050 not in done_already("DROP TABLE cities")
    assert 1060 not in done_already("ALTER TABLE cities DROP COLUMN n")


@pytest.mark.parametrize(
    ("statement", "repeatable"),
    [
        ("ALTER TABLE t ADD FOREIGN KEY(n) REFERENCES u (id)", False),
        ("ALTER TABLE t ADD UNIQUE (n)", False),
        ("ALTER TABLE t ADD INDEX USING BTREE (n)", False),
        ("ALTER TABLE t ADD CHECK (n > 0)", False),
        ("ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY(n) REFERENCES u (id)", True),
        ("ALTER TABLE t ADD INDEX ix (n)", True),
        ("ALTER TABLE t ADD COLUMN n int", True),
    ],
)
def test_a_name_that_the_server_makes_up_is_another_each_time(statement: str, repeatable: bool) -> None:
    assert can_be_repeated(statement) is repeatable


@pytest.mark.parametrize(
    ("statement", "needs"),
    [
        ("insert into t values (last_insert_id())", True),
        ("update t set n = @number", True),
        ("insert into t values (@@identity)", True),
        ("insert into t values ('somebody@example.org')", False),
        ("select @@version", False),
    ],
)
def test_what_needs_its_session(statement: str, needs: bool) -> None:
    assert needs_session(statement) is needs
